//! Parses the head of a request, strictly (RFC 9112). `httparse` does the work; this file adds the checks that
//! `httparse` does not make. Pure.

use http::Method;

/// The most bytes of a head, with the request line and the empty line at its end. A token of an outside issuer that lists
/// the groups of its user has several KiB.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of the request line.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// The most header fields of a head.
const HEADERS_MAX: usize = 64;

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method, target and header fields, in the type that the websocket handshake needs.
    pub(crate) head: http::Request<()>,
    /// The path of the target, without the query. Not percent-decoded.
    pub(crate) path: String,
    pub(crate) body: BodyFraming,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub(crate) expects_continue: bool,
}

/// How the end of the body is found (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is no body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Not valid HTTP/1.1; the text is for the client.
    Malformed(&'static str),
    /// An HTTP version other than 1.0 and 1.1.
    Version,
    /// A `Transfer-Encoding` other than `chunked`.
    LengthRequired,
    /// A `Content-Length` that does not fit 64 bits.
    BodyTooLarge,
    /// Too many header fields, or too long ones.
    TooLarge,
    /// The request line alone is too long.
    TargetTooLong,
}

impl Request {
    /// Parses a head, which ends with an empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Request, BadHead> {
        check_line_ends(bytes)?;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(BadHead::Malformed("the head ends too early")),
            Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
            Err(httparse::Error::Version) => return Err(BadHead::Version),
            Err(_) => return Err(BadHead::Malformed("the head is not HTTP/1.1")),
        }
        let method = parsed.method.unwrap_or_default();
        if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(BadHead::Malformed("the method must be in upper case"));
        }
        let target = parsed.path.unwrap_or_default();
        if !target.starts_with('/') {
            return Err(BadHead::Malformed("the target must begin with '/'"));
        }
        let version = if parsed.version == Some(1) { http::Version::HTTP_11 } else { http::Version::HTTP_10 };
        let mut builder = http::Request::builder().method(method).uri(target).version(version);
        for header in parsed.headers.iter() {
            builder = builder.header(header.name, header.value);
        }
        let head = builder.body(()).map_err(|_| BadHead::Malformed("a header field or the target is not valid"))?;
        check_host(&head)?;
        Ok(Request {
            path: head.uri().path().to_owned(),
            body: body_framing(&head)?,
            expects_continue: expects_continue(&head)?,
            head,
        })
    }

    /// The value of a header field. `None` if the field is missing, occurs twice, or is not ASCII.
    #[must_use]
    pub(crate) fn header(&self, name: http::header::HeaderName) -> Option<&str> {
        let mut values = self.head.headers().get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// The members of a field that is a list, from all its lines (RFC 9110, sections 5.3 and 5.6.1). Lines that are not
    /// ASCII are left out.
    pub(crate) fn list(&self, name: http::header::HeaderName) -> impl Iterator<Item = &str> {
        let lines = self.head.headers().get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
    }

    /// The tokens in `Authorization: Bearer <token>`. Credentials of another scheme are for a proxy: a browser sends
    /// `Basic` with each request to a site behind a password.
    pub(crate) fn bearer_tokens(&self) -> impl Iterator<Item = &str> {
        let fields = self.head.headers().get_all(http::header::AUTHORIZATION).iter();
        let credentials = fields.filter_map(|value| value.to_str().ok()?.split_once(' '));
        credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim())
    }

    /// The token in `Authorization`. `None` if there are two different ones.
    pub(crate) fn bearer_token(&self) -> Option<&str> {
        let mut tokens = self.bearer_tokens();
        let first = tokens.next()?;
        tokens.all(|token| token == first).then_some(first)
    }

    /// Whether the head announces a body, which may be empty.
    #[must_use]
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.body, BodyFraming::None | BodyFraming::Length(0))
    }

    /// Whether the method is `GET`, or `HEAD`, whose answer is that of `GET` without the body.
    #[must_use]
    pub(crate) fn is_get(&self) -> bool {
        matches!(*self.head.method(), Method::GET | Method::HEAD)
    }
}

/// The number of bytes of the head, if `bytes` has all of it.
#[must_use]
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    // A bare LF ends a line here too: the server then refuses such a head at once and does not wait for more.
    let mut line_start = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if matches!(&bytes[line_start..at], b"" | b"\r") && line_start > 0 {
            return Some(at + 1);
        }
        line_start = at + 1;
    }
    None
}

/// Only CRLF ends a line (RFC 9112, section 2.2, allows a bare LF; proxies disagree about it).
fn check_line_ends(bytes: &[u8]) -> Result<(), BadHead> {
    if matches!(bytes.first(), Some(b'\r' | b'\n')) {
        return Err(BadHead::Malformed("the head begins with an empty line"));
    }
    let bare = |at: usize, byte: u8| match byte {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if bytes.iter().enumerate().any(|(at, byte)| bare(at, *byte)) {
        return Err(BadHead::Malformed("each line must end with CR LF"));
    }
    Ok(())
}

/// Exactly one `Host` (RFC 9112, section 3.2).
fn check_host(head: &http::Request<()>) -> Result<(), BadHead> {
    match head.headers().get_all(http::header::HOST).iter().count() {
        1 => Ok(()),
        0 if head.version() == http::Version::HTTP_10 => Ok(()),
        _ => Err(BadHead::Malformed("exactly one Host field is required")),
    }
}

/// Either one length, in digits, or chunks: a message with both may be an attempt at request smuggling (RFC 9112, section
/// 6.3).
fn body_framing(head: &http::Request<()>) -> Result<BodyFraming, BadHead> {
    let mut lengths = head.headers().get_all(http::header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(one), None) => Some(one.as_bytes()),
        (Some(_), Some(_)) => return Err(BadHead::Malformed("Content-Length occurs twice")),
    };
    let mut encodings = head.headers().get_all(http::header::TRANSFER_ENCODING).iter();
    match (length, encodings.next()) {
        (None, None) => Ok(BodyFraming::None),
        (None, Some(_)) if head.version() == http::Version::HTTP_10 => {
            Err(BadHead::Malformed("HTTP/1.0 has no Transfer-Encoding"))
        }
        (None, Some(encoding)) => {
            let is_chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked") && encodings.next().is_none();
            if is_chunked { Ok(BodyFraming::Chunked) } else { Err(BadHead::LengthRequired) }
        }
        (Some(_), Some(_)) => Err(BadHead::Malformed("Content-Length and Transfer-Encoding must not occur together")),
        (Some(digits), None) => {
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(BadHead::Malformed("Content-Length is not a number"));
            }
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            number.map(BodyFraming::Length).ok_or(BadHead::BodyTooLarge)
        }
    }
}

fn expects_continue(head: &http::Request<()>) -> Result<bool, BadHead> {
    match head.headers().get(http::header::EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            // A client of HTTP/1.0 does not know status 100 (RFC 9110, section 10.1.1).
            Ok(head.version() != http::Version::HTTP_10)
        }
        Some(_) => Err(BadHead::Malformed("Expect must be 100-continue")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(head: &str) -> Result<Request, BadHead> {
        Request::parse(head.as_bytes())
    }

    fn is_malformed(head: &str) -> bool {
        matches!(parse(head), Err(BadHead::Malformed(_)))
    }

    #[test]
    fn a_plain_request() {
        let request = parse("POST /login?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((request.path.as_str(), request.body), ("/login", BodyFraming::Length(5)));
        assert!(!request.is_get() && !request.expects_continue);
        assert!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().is_get());
    }

    #[test]
    fn a_body_has_one_length_or_chunks() {
        let with = |fields: &str| parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        for bad in ["5x", "+5", "-1", "5, 5", "", "0x5", "5\r\nContent-Length: 5", "5\r\nTransfer-Encoding: chunked"] {
            let result = with(&format!("Content-Length: {bad}"));
            assert!(matches!(result, Err(BadHead::Malformed(_))), "{bad}: {result:?}");
        }
        assert_eq!(with("Transfer-Encoding: Chunked").unwrap().body, BodyFraming::Chunked);
        for bad in ["gzip, chunked", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked", "identity", ""] {
            assert_eq!(with(&format!("Transfer-Encoding: {bad}")).unwrap_err(), BadHead::LengthRequired, "{bad}");
        }
        assert!(is_malformed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert_eq!(with("Content-Length: 99999999999999999999999").unwrap_err(), BadHead::BodyTooLarge);
        let largest = with("Content-Length: 18446744073709551615").unwrap();
        assert_eq!(largest.body, BodyFraming::Length(u64::MAX));
    }

    #[test]
    fn the_lines_of_a_list_are_joined() {
        let lines = "Connection: keep-alive ,\r\nUpgrade: h2c\r\nconnection: Upgrade, x\r\nConnection: \r\n";
        let request = parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap();
        assert_eq!(request.list(http::header::CONNECTION).collect::<Vec<_>>(), ["keep-alive", "Upgrade", "x"]);
    }

    #[test]
    fn a_head_that_httparse_accepts_can_be_refused() {
        assert!(is_malformed("GET / HTTP/1.1\nHost: a\n\n"));
        assert!(is_malformed("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(is_malformed("get / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(is_malformed("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(is_malformed("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"));
        assert!(is_malformed("GET / HTTP/1.1\r\n\r\n"));
        assert!(is_malformed("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"));
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), BadHead::Version);
        let many = "x: y\r\n".repeat(64);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).unwrap_err(), BadHead::TooLarge);
    }

    #[test]
    fn the_end_of_a_head_is_found() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"), Some(27));
        assert_eq!(head_end(b"GET / HTTP/1.1\nHost: a\n\nbody"), Some(24));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(end) = head_end(&bytes) {
                prop_assert!(end <= bytes.len());
            }
            let _ = Request::parse(&bytes);
        }
    }
}
