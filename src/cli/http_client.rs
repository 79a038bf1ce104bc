//! One HTTP request to a server of this program, which answers with JSON and then closes the connection. Without TLS: for
//! a server behind a proxy with TLS, `ich kick` and the other commands run on the machine of an instance.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::proxies::{Proxies, protocol};

/// For connecting, and for each read and write. The server answers an action within about 15 seconds.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `null` if the body is not JSON.
    pub(super) body: Value,
}

/// Sends a request to the server at `url`, `http://host:port`. `proxies` are those of the server's settings: they may
/// require a PROXY header from this machine.
pub(super) fn request(
    url: &str,
    proxies: &Proxies,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> Result<Answer, String> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).filter(|host| !host.is_empty());
    let host = host.ok_or("--url must be http://host:port, an instance without TLS")?;
    if token.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("the token contains a space or a control character".to_owned());
    }
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = exchange(host, proxies, &(head + body)).map_err(|error| format!("no answer from {url}: {error}"))?;
    parse(&bytes).ok_or_else(|| format!("the answer from {url} is not that of this program"))
}

fn exchange(host: &str, proxies: &Proxies, request: &str) -> std::io::Result<Vec<u8>> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let addresses = if has_port { host.to_socket_addrs()? } else { format!("{host}:80").to_socket_addrs()? };
    let mut last = Err(std::io::Error::other("the host has no address"));
    for address in addresses {
        last = TcpStream::connect_timeout(&address, TIMEOUT);
        if last.is_ok() {
            break;
        }
    }
    let mut stream = last?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    if proxies.expects_proxy_header(stream.local_addr()?.ip()) {
        stream.write_all(protocol::HEADER_WITHOUT_CLIENT)?;
    }
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes).ok()? else { return None };
    let body = serde_json::from_slice(bytes.get(head_bytes..)?).unwrap_or(Value::Null);
    Some(Answer { status: response.code?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_json() {
        let answer = parse(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!((answer.status, answer.body["a"].as_u64()), (403, Some(1)));
        assert!(parse(b"HTTP/1.1 200").is_none());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none());
    }

    fn get(url: &str, token: &str) -> Result<Answer, String> {
        request(url, &Proxies::default(), "GET", "/", token, "")
    }

    #[test]
    fn an_address_or_token_that_cannot_be_used_is_reported() {
        for url in ["https://chat.example", "localhost:8080", "http://", ""] {
            assert!(get(url, "t").is_err_and(|error| error.contains("--url")), "{url}");
        }
        assert!(get("http://localhost:1", "a\r\nb").is_err_and(|error| !error.contains("a\r\nb")));
    }
}
