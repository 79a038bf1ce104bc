//! The query of a request: its parameters, and the kinds of values that they have. Called on a worker thread.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::api_error::ApiError;
use super::response::Response;
use crate::limits::EVENT_ID_CHARS_MAX;
use crate::lobby::EventId;

/// The names and values of a query, decoded as browsers encode a form: `%3A` is `:`, and `+` is a space. A parameter
/// without `=` has an empty value. What is no valid encoding stays as it is, and bytes that are not UTF-8 become U+FFFD: so
/// an unknown parameter can be ignored, and no valid value has them.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    query.unwrap_or_default().split('&').map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// The id of a message. `None`: the text has the characters and the length of an id, but is not an id of this version. It
/// may be one of a later version: no message here has it.
///
/// # Errors
/// 400: the value cannot be an id.
pub(crate) fn event_id(name: &str, value: &str) -> Result<Option<EventId>, Response> {
    let is_id = (1..=EVENT_ID_CHARS_MAX).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if is_id {
        return Ok(value.parse().ok());
    }
    Err(ApiError::BadQuery.with_text(&format!("{name} is not the event_id of a message")))
}

/// A whole number from 1 to `max`, in digits only.
///
/// # Errors
/// 400: the value is anything else.
pub(crate) fn count(name: &str, value: &str, max: usize) -> Result<usize, Response> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(count) if is_number && (1..=max).contains(&count) => Ok(count),
        _ => Err(ApiError::BadQuery.with_text(&format!("{name} is not a whole number from 1 to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let all = |query: &str| parameters(Some(query)).collect::<Vec<_>>();
        let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(all("after=00%2D1"), one("after", "00-1"));
        assert_eq!(all("%61fter=c%3a%E2%82%AC+x%2By"), one("after", "c:\u{20ac} x+y"));
        assert_eq!(all("a=b=c"), one("a", "b=c"));
        assert_eq!(all("a%3Db=%26"), one("a=b", "&"), "an encoded character separates nothing");
        assert_eq!(all("last"), one("last", ""));
        assert_eq!(all("a=%&b=%4&c=%zz&d=%ff").len(), 4);
        assert_eq!(all("d=%ff"), one("d", "\u{fffd}"));
        assert_eq!(all("d=%zz%4"), one("d", "%zz%4"));
    }
}
