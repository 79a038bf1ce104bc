//! [`Response`]: an HTTP answer and its bytes. Every answer closes the connection.

use serde::Serialize;

use super::api_error::ApiError;
use super::request::BadHead;
use crate::clock;

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields besides those of every answer.
    pub headers: Vec<(&'static str, String)>,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// True for `HEAD`: the body is not sent, its length is.
    pub head_only: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
}

impl Response {
    /// 200 with this body.
    #[must_use]
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status: 200, headers: Vec::new(), content_type, body: body.into(), head_only: false }
    }

    /// 200 with this value as JSON.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        Response::ok("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// An error answer; [`ApiError`] has all of them.
    #[must_use]
    pub fn error(status: u16, code: &'static str, message: &str) -> Self {
        Response { status, ..Response::json(&ErrorBody { error: code, message }) }
    }

    /// The same, with this header field; it replaces one of the same name.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The same, with `Retry-After` in seconds (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with("Retry-After", seconds.max(1).to_string())
    }

    /// The bytes to send.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n",
            self.status,
            http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or(""),
            clock::http_date(),
            self.content_type,
            self.body.len(),
        );
        for (name, value) in &self.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !self.head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl From<BadHead> for Response {
    fn from(bad: BadHead) -> Response {
        match bad {
            BadHead::Malformed(what) => ApiError::BadRequest.with_text(what),
            BadHead::Version => ApiError::HttpVersion.response(),
            BadHead::LengthRequired => ApiError::LengthRequired.response(),
            BadHead::BodyTooLarge => ApiError::BodyTooLarge.response(),
            BadHead::TooLarge => ApiError::HeadTooLarge.response(),
            BadHead::TargetTooLong => ApiError::TargetTooLong.response(),
        }
    }
}
