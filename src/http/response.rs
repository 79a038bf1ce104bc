//! Answers: what they are and how they are written. Each closes the connection.

use serde::Serialize;

use super::request::BadHead;
use crate::clock;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Fields besides those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body's type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Send the head only.
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

    /// An error: a stable code for programs, and what to do about it for people.
    #[must_use]
    pub fn error(status: u16, code: &'static str, message: &str) -> Self {
        Response { status, ..Response::json(&ErrorBody { error: code, message }) }
    }

    /// 503: later.
    #[must_use]
    pub fn unavailable(code: &'static str, message: &str, retry_after_seconds: u64) -> Self {
        Response::error(503, code, message).retry_after(retry_after_seconds)
    }

    /// The same, with one more header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
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
            BadHead::Malformed(what) => Response::error(400, "bad_request", what),
            BadHead::Version => Response::error(505, "http_version", "this server speaks HTTP/1.1"),
            BadHead::LengthRequired => Response::error(411, "length_required", "send the body with a Content-Length"),
            BadHead::BodyTooLarge => body_too_large(),
            BadHead::TooLarge => Response::error(431, "head_too_large", "a head has 8 KiB and 64 fields at most"),
            BadHead::TargetTooLong => Response::error(414, "target_too_long", "a request line has 8 KiB at most"),
        }
    }
}

/// The answer to a body beyond the bound.
#[must_use]
pub fn body_too_large() -> Response {
    Response::error(413, "body_too_large", "a body has 16 KiB at most")
}
