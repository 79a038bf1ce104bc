//! The JSON object in the body of a request: its fields by name, strictly. Called on a worker, as it may go deep.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::response::Response;

/// The fields of an object; each name is there once.
#[derive(Debug)]
pub struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// The object that `body` is.
    ///
    /// # Errors
    /// 400: not JSON, not an object, nested too deeply, or a name that is there twice.
    pub fn parse(body: &[u8]) -> Result<Fields, Response> {
        serde_json::from_slice(body)
            .map_err(|error| Response::error(400, "bad_json", &format!("the body has to be a JSON object: {error}")))
    }

    /// Takes out the text in this field.
    ///
    /// # Errors
    /// 400, naming the field: it is missing, or not a string.
    pub fn text(&mut self, name: &'static str) -> Result<String, Response> {
        match self.0.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(bad_field(name, "has to be a string")),
            None => Err(bad_field(name, "is missing")),
        }
    }
}

/// 400 for one field.
fn bad_field(name: &str, what: &str) -> Response {
    Response::error(400, "bad_field", &format!("{name}: {what}"))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.contains_key(&name) {
                return Err(serde::de::Error::custom("a name is there twice"));
            }
            fields.insert(name, value);
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_by_name() {
        let mut fields = Fields::parse(br#"{"email":"a@b","more":[1],"n":5}"#).unwrap();
        assert_eq!(fields.text("email").unwrap(), "a@b");
        let message = |response: Response| String::from_utf8(response.body).unwrap();
        assert!(message(fields.text("n").unwrap_err()).contains("n: has to be a string"));
        assert!(message(fields.text("password").unwrap_err()).contains("password: is missing"));
    }

    #[test]
    fn what_is_not_one_sound_object_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in
            ["", "[]", "null", "5", "{", r#"{"a":1,"a":1}"#, r#"{"a":"\ud800"}"#, r#"{"a":1e400}"#, "{} x", &deep]
        {
            assert_eq!(Fields::parse(bad.as_bytes()).unwrap_err().status, 400, "{}", &bad[..bad.len().min(20)]);
        }
    }
}
