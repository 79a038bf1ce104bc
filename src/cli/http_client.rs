//! One HTTP request to a server of this program, which answers with JSON and then closes the connection.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::server_url::ServerUrl;
use super::stream::{Stream, cause_within, timed_out};
use crate::text::terminal::printable;

/// For connecting, and for each read and write. The server answers an action within about 15 seconds.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most header fields of an answer, with those that proxies add.
const FIELDS_MAX: usize = 100;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `null` if the body is not JSON.
    pub(super) body: Value,
}

impl Answer {
    /// The error of an answer other than 200, for a terminal.
    pub(super) fn error(&self) -> String {
        let message = self.body["message"].as_str().unwrap_or("the answer has no message");
        format!("the server answers {}: {}", self.status, printable(message))
    }
}

/// Sends a request. `token` may be empty.
///
/// # Errors
/// A text with the reason: the server cannot be reached, or does not answer with HTTP.
pub(super) fn request(url: &ServerUrl, method: &str, path: &str, token: &str, body: &str) -> Result<Answer, String> {
    if !is_token(token) {
        return Err("the token contains a space or a control character".to_owned());
    }
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let request = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        url.target(path),
        url.authority,
        body.len()
    );
    let bytes = exchange(url, &request, TIMEOUT).map_err(|error| format!("no answer from {url}: {error}"))?;
    parse(&bytes).ok_or_else(|| format!("the answer from {url} is not that of this program"))
}

/// Whether a text can be sent as a token in a header field.
pub(super) fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `timeout`: for connecting, and for each read and write.
fn exchange(url: &ServerUrl, request: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let mut stream = Stream::connect(url, timeout)?;
    stream.write_all(request.as_bytes()).map_err(|error| cause_within(&error, timeout))?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(cause_within(&error, timeout)),
        }
        // A proxy may keep the connection open.
        if is_complete(&answer) {
            return Ok(answer);
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(format!("it is longer than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
        if Instant::now() > deadline {
            return Err(timed_out(ANSWER_TIMEOUT));
        }
    }
}

/// Whether the answer says that nothing follows. Otherwise it ends with the connection.
fn is_complete(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head_bytes)) = response.parse(bytes) else { return false };
    if is_chunked(&response) {
        return bytes.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() - head_bytes >= length)
}

fn is_chunked(response: &httparse::Response<'_, '_>) -> bool {
    response.headers.iter().any(|field| {
        field.name.eq_ignore_ascii_case("transfer-encoding") && field.value.eq_ignore_ascii_case(b"chunked")
    })
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes).ok()? else { return None };
    let body = bytes.get(head_bytes..)?;
    let data = if is_chunked(&response) { join_chunks(body)? } else { body.to_vec() };
    Some(Answer { status: response.code?, body: serde_json::from_slice(&data).unwrap_or(Value::Null) })
}

/// The data of a body in chunks, which a proxy may send. `None`: it is not complete.
fn join_chunks(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let httparse::Status::Complete((line_bytes, size)) = httparse::parse_chunk_size(body).ok()? else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        body = body.get(line_bytes..)?;
        data.extend_from_slice(body.get(..size)?);
        if size == 0 {
            return Some(data);
        }
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_does_not_answer_is_reported_with_the_time() {
        // The system accepts the connection, and nobody reads from it.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{}", silent.local_addr().unwrap()).parse().unwrap();
            let error = exchange(&url, "GET / HTTP/1.1\r\n\r\n", Duration::from_secs(1)).unwrap_err();
            assert!(error.starts_with("it took longer than 1 seconds; check the address"), "{scheme}: {error}");
        }
    }

    #[test]
    fn an_answer_has_a_status_and_json() {
        let answer = parse(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!((answer.status, answer.body["a"].as_u64()), (403, Some(1)));
        assert!(parse(b"HTTP/1.1 200").is_none());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none());
    }

    #[test]
    fn an_error_contains_nothing_that_a_terminal_obeys() {
        let body = serde_json::json!({"message": "no\u{1b}]0;owned\u{7}\n\u{202E}"});
        assert_eq!(Answer { status: 403, body }.error(), "the server answers 403: no␛]0;owned␇␊");
    }

    #[test]
    fn an_answer_can_be_in_chunks() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
        let answer = parse(format!("{head}3\r\n{{\"a\r\n4;x=y\r\n\":1}}\r\n0\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(answer.body["a"].as_u64(), Some(1));
        for part in ["", "3", "3\r\n{\"a", "ffffffffffffffff\r\n", "x\r\n", "1\r\nab\r\n0\r\n\r\n"] {
            assert!(parse(format!("{head}{part}").as_bytes()).is_none(), "{part}");
        }
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        let head = "HTTP/1.1 200 OK\r\n";
        for (rest, complete) in [
            ("Content-Length: 2\r\n\r\n{", false),
            ("Content-Length: 2\r\n\r\n{}", true),
            ("content-length: 2\r\n", false),
            ("\r\n{}", false),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", false),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", true),
        ] {
            assert_eq!(is_complete(format!("{head}{rest}").as_bytes()), complete, "{rest}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_reported() {
        let url = "http://localhost:1".parse().unwrap();
        assert!(request(&url, "GET", "/", "a\r\nb", "").is_err_and(|error| !error.contains("a\r\nb")));
    }
}
