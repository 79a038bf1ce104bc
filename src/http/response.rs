//! [`Response`]: an HTTP answer and its encoding (RFC 9112, section 4). Every answer closes the connection.

use serde::Serialize;

use super::api_error::ApiError;
use super::chunked::BadChunk;
use super::request::BadHead;
use crate::clock;

/// An HTTP answer with a body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Header fields besides those that every answer has.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// The error that it reports.
    pub(crate) error: Option<ApiError>,
    /// The answer to `HEAD`: has the length of the body, but not the body (RFC 9110, section 9.3.2).
    pub(crate) head_only: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
}

impl Response {
    /// An answer with status 200.
    #[must_use]
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status: 200, headers: Vec::new(), content_type, body: body.into(), error: None, head_only: false }
    }

    /// 204: there is nothing to say beside the header fields.
    #[must_use]
    pub(crate) fn no_content() -> Self {
        Response { status: 204, ..Response::ok("", "") }
    }

    /// 200 with `value` as JSON. The newline at the end keeps the prompt of a shell off the last line.
    #[must_use]
    pub(crate) fn json(value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Response::ok("application/json", body)
    }

    /// An error answer. Only [`ApiError`] calls this.
    #[must_use]
    pub(crate) fn error(error: ApiError, message: &str) -> Self {
        let row = error.row();
        let body = ErrorBody { error: row.code, message };
        Response { status: row.status, error: Some(error), ..Response::json(&body) }
    }

    /// Replaces the body by `value` as JSON.
    #[must_use]
    pub(crate) fn with_json(self, value: &impl Serialize) -> Self {
        Response { body: Response::json(value).body, ..self }
    }

    /// Sets a header field; replaces a field of the same name.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value.into()));
        self
    }

    /// Sets `Retry-After` (RFC 9110, section 10.2.3), in seconds, at least 1.
    #[must_use]
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.with("Retry-After", seconds.max(1).to_string())
    }

    /// The answer as bytes, with `Date`, `Content-Length` and the other fields of every answer.
    #[must_use]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n",
            self.status,
            http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or(""),
            clock::http_date(),
        );
        // RFC 9110, section 8.6: a 204 has no Content-Length.
        if self.status != 204 {
            head.push_str(&format!("Content-Type: {}\r\nContent-Length: {}\r\n", self.content_type, self.body.len()));
        }
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

impl From<BadChunk> for Response {
    fn from(bad: BadChunk) -> Response {
        match bad {
            BadChunk::Malformed(text) => ApiError::BadRequest.with_text(text),
            BadChunk::TooLarge => ApiError::BodyTooLarge.response(),
        }
    }
}

impl From<BadHead> for Response {
    fn from(bad: BadHead) -> Response {
        match bad {
            BadHead::Malformed(text) => ApiError::BadRequest.with_text(text),
            BadHead::Version => ApiError::HttpVersion.response(),
            BadHead::LengthRequired => ApiError::LengthRequired.response(),
            BadHead::BodyTooLarge => ApiError::BodyTooLarge.response(),
            BadHead::TooLarge => ApiError::HeadTooLarge.response(),
            BadHead::TargetTooLong => ApiError::TargetTooLong.response(),
        }
    }
}
