//! Parses JSON bodies of requests. Called on a worker thread: parsing can use much stack.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::api_error::ApiError;
use super::response::Response;

/// Parses a body into the struct of an endpoint. Fields that the struct does not name are ignored; a named field that
/// occurs twice is an error.
///
/// # Errors
/// 400 `bad_json`: not one JSON object, nested too deeply, a number out of range, or a field that occurs twice.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    let bad_json =
        |error: serde_json::Error| ApiError::BadJson.with_text(&format!("the body must be a JSON object: {error}"));
    // serde_json skips the values of unknown fields without checking them; a `Value` checks everything.
    let checked: Value = serde_json::from_slice(body).map_err(bad_json)?;
    if !checked.is_object() {
        return Err(ApiError::BadJson.response());
    }
    serde_json::from_slice(body).map_err(bad_json)
}

/// A field that must be a string. Deserializing it never fails; [`TextField::text`] then returns an error that names
/// the field.
#[derive(Debug, Default)]
pub(crate) enum TextField {
    #[default]
    Missing,
    Text(String),
    OtherType,
}

impl<'de> Deserialize<'de> for TextField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => TextField::Text(text),
            _ => TextField::OtherType,
        })
    }
}

impl TextField {
    /// The string in the field called `name`.
    ///
    /// # Errors
    /// 400 `bad_field`, with the name of the field.
    pub(crate) fn text(self, name: &str) -> Result<String, Response> {
        let problem = match self {
            TextField::Text(text) => return Ok(text),
            TextField::OtherType => "must be a string",
            TextField::Missing => "is missing",
        };
        Err(ApiError::BadField.with_text(&format!("{name}: {problem}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Example {
        a: TextField,
        b: TextField,
    }

    #[test]
    fn fields_must_be_strings_and_errors_name_them() {
        let parsed: Example = parse(br#"{"a":"text","b":null,"more":[1]}"#).unwrap();
        let message = |response: Response| String::from_utf8(response.body).unwrap();
        assert_eq!(parsed.a.text("a").unwrap(), "text");
        assert!(message(parsed.b.text("b").unwrap_err()).contains("b: must be a string"));
        let parsed: Example = parse(b"{}").unwrap();
        assert!(message(parsed.a.text("a").unwrap_err()).contains("a: is missing"));
    }

    #[test]
    fn a_body_that_is_not_one_valid_object_is_refused() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in
            ["", "[]", "null", "5", "{", r#"{"a":"1","a":"1"}"#, r#"{"x":"\ud800"}"#, r#"{"x":1e400}"#, "{} x", &deep]
        {
            assert_eq!(parse::<Example>(bad.as_bytes()).unwrap_err().status, 400, "{}", &bad[..bad.len().min(20)]);
        }
    }
}
