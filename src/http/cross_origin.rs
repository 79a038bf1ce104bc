//! Pages of other origins: which of them may join (RFC 6455, section 10.2), and the CORS header fields that let them read
//! answers (the Fetch standard, "HTTP extensions"). Called on a worker thread.
//!
//! A browser sends the origin of a page in `Origin`. Other programs send none, and are not restricted: no request is
//! authorized by cookies, so a page gains nothing that its user does not give it.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};

use super::api_error::ApiError;
use super::request::Request;
use super::response::Response;
use crate::origin::Origin;

/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE_SECONDS: &str = "600";
/// How many characters of an origin are logged.
const SHOWN_CHARS_MAX: usize = 100;

/// The page that sent a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// The `Origin` of the request. `None`: the client is not a page.
    origin: Option<String>,
    /// Whether the page has the origin of this server, or one of the settings.
    is_allowed: bool,
}

impl Page {
    /// The page of this request.
    pub(crate) fn of(request: &Request, allowed_origins: &[Origin]) -> Page {
        let mut fields = request.head.headers().get_all(ORIGIN).iter();
        let Some(first) = fields.next() else { return Page::default() };
        let text = String::from_utf8_lossy(first.as_bytes()).into_owned();
        let is_own = |origin: &Origin| request.header(HOST).is_some_and(|host| origin.is_of_host(host));
        let origin = Origin::parse(&text).filter(|_| fields.next().is_none());
        let is_allowed = origin.is_some_and(|origin| is_own(&origin) || allowed_origins.contains(&origin));
        Page { origin: Some(text), is_allowed }
    }

    /// # Errors
    /// 403: the client is a page that may not use this server.
    pub(crate) fn check(&self) -> Result<(), Response> {
        if self.origin.is_none() || self.is_allowed { Ok(()) } else { Err(ApiError::OriginNotAllowed.response()) }
    }

    /// The answer to a preflight: a browser asks whether a page may send a request with `method`. `None` if the request is
    /// not a preflight.
    pub(crate) fn preflight(&self, request: &Request, method: &'static str) -> Option<Response> {
        let is_preflight = request.head.method() == http::Method::OPTIONS
            && self.origin.is_some()
            && request.head.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then(|| match self.check() {
            Err(refusal) => refusal,
            Ok(()) => Response::no_content()
                .with("Access-Control-Allow-Methods", method)
                .with("Access-Control-Allow-Headers", "Authorization, Content-Type")
                .with("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_SECONDS),
        })
    }

    /// Lets the page read this answer, if it may use this server.
    pub(crate) fn share(&self, response: Response) -> Response {
        let Some(origin) = &self.origin else { return response };
        let response = response.with("Vary", "Origin");
        if !self.is_allowed {
            return response;
        }
        response
            .with("Access-Control-Allow-Origin", origin.as_str())
            .with("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
    }

    /// The origin for the log, without control characters and not longer than any real one.
    pub(crate) fn shown(&self) -> Option<String> {
        let origin = self.origin.as_ref()?;
        Some(origin.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fields: &str) -> Page {
        let head = format!("GET /join HTTP/1.1\r\nHost: chat.example\r\n{fields}\r\n");
        Page::of(&Request::parse(head.as_bytes()).unwrap(), &[Origin::parse("tauri://localhost").unwrap()])
    }

    #[test]
    fn the_own_and_the_allowed_origins_may_use_the_server() {
        for good in
            ["", "Origin: https://chat.example\r\n", "Origin: ws://CHAT.example\r\n", "Origin: tauri://localhost\r\n"]
        {
            assert!(page(good).check().is_ok(), "{good}");
        }
        for bad in ["null", "", "https://evil.example", "https://chat.example, https://chat.example", "\u{e9}"] {
            assert!(page(&format!("Origin: {bad}\r\n")).check().is_err(), "{bad}");
        }
        assert!(page("Origin: https://chat.example\r\nOrigin: https://chat.example\r\n").check().is_err());
    }

    #[test]
    fn an_answer_is_shared_with_allowed_pages_only() {
        let fields = |origin: &str| page(origin).share(Response::no_content()).headers;
        assert_eq!(fields(""), []);
        assert_eq!(fields("Origin: https://evil.example\r\n"), [("Vary", "Origin".to_owned())]);
        assert!(
            fields("Origin: tauri://localhost\r\n")
                .contains(&("Access-Control-Allow-Origin", "tauri://localhost".to_owned()))
        );
    }

    #[test]
    fn the_log_shows_a_short_origin_without_control_characters() {
        let page = Page { origin: Some(format!("a\u{1b}[31m{}", "x".repeat(500))), is_allowed: false };
        let shown = page.shown().unwrap();
        assert!(shown.starts_with("a\\u{1b}[31mxxx") && shown.len() < 120, "{shown}");
    }
}
