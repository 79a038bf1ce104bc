//! Reads one request from a socket: first the head, then the body; before it, the PROXY header, if there must be one.
//! Called on the connection's thread; uses little stack.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Instant;

use super::api_error::ApiError;
use super::chunked::ChunkedBody;
use super::request::{self, BadHead, HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use super::response::Response;
use crate::proxies::protocol::{self, BadProxyHeader, ProxyHeader};

/// Why there is no complete request.
pub(super) enum NoRequest {
    /// The request is refused with this answer.
    Refused(Response),
    /// The connection was closed before a request began.
    Closed,
    /// The connection was closed within a request.
    Incomplete,
}

/// A request head, with the empty line at its end, and the bytes that followed it.
pub(super) struct ReceivedHead {
    pub(super) head: Vec<u8>,
    pub(super) after_head: Vec<u8>,
}

/// A PROXY header, and the bytes that followed it.
pub(super) struct ReceivedProxyHeader {
    pub(super) header: ProxyHeader,
    pub(super) after_header: Vec<u8>,
}

/// Reads the PROXY header with which a connection begins. The inner error means that there is no valid one.
pub(super) fn proxy_header(
    stream: &TcpStream,
    deadline: Instant,
) -> Result<Result<ReceivedProxyHeader, BadProxyHeader>, NoRequest> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        read_part(stream, &mut bytes, deadline)?;
        match protocol::parse(&bytes) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let after_header = bytes.split_off(header.bytes);
                return Ok(Ok(ReceivedProxyHeader { header, after_header }));
            }
            Err(bad) => return Ok(Err(bad)),
        }
    }
}

/// Reads to the end of the head, which has at most [`HEAD_BYTES_MAX`] bytes. `bytes` has those that were read before.
pub(super) fn head(stream: &TcpStream, mut bytes: Vec<u8>, deadline: Instant) -> Result<ReceivedHead, NoRequest> {
    loop {
        if protocol::is_header_start(&bytes) {
            let text = "a PROXY header is not expected here: see ICH_PROXY_PROTOCOL and ICH_TRUSTED_PROXIES";
            return Err(refused(BadHead::Malformed(text)));
        }
        // No method begins like this; a TLS handshake or an empty line does.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            return Err(refused(BadHead::Malformed("this is not HTTP/1.1 (for TLS, use a proxy before this server)")));
        }
        let has_line_end = bytes.iter().take(REQUEST_LINE_BYTES_MAX).any(|byte| *byte == b'\n');
        if !has_line_end && bytes.len() > REQUEST_LINE_BYTES_MAX {
            return Err(refused(BadHead::TargetTooLong));
        }
        let end = request::head_end(&bytes);
        if end.unwrap_or(bytes.len()) > HEAD_BYTES_MAX {
            return Err(refused(BadHead::TooLarge));
        }
        if let Some(end) = end {
            let after_head = bytes.split_off(end);
            return Ok(ReceivedHead { head: bytes, after_head });
        }
        read_part(stream, &mut bytes, deadline)?;
    }
}

fn refused(bad: BadHead) -> NoRequest {
    NoRequest::Refused(bad.into())
}

/// Reads a body of exactly `length` bytes. `body` has the bytes that were read with the head; bytes after the body are
/// dropped.
pub(super) fn body(
    stream: &TcpStream,
    mut body: Vec<u8>,
    length: usize,
    deadline: Instant,
) -> Result<Vec<u8>, NoRequest> {
    while body.len() < length {
        read_part(stream, &mut body, deadline)?;
    }
    body.truncate(length);
    Ok(body)
}

/// Reads a body in chunks, with at most `bytes_max` bytes of data. `after_head` has the bytes that were read with the
/// head; bytes after the body are dropped.
pub(super) fn chunked_body(
    stream: &TcpStream,
    after_head: Vec<u8>,
    bytes_max: usize,
    deadline: Instant,
) -> Result<Vec<u8>, NoRequest> {
    let mut body = ChunkedBody::new(bytes_max);
    let mut part = after_head;
    while !body.push(&part).map_err(|bad| NoRequest::Refused(bad.into()))? {
        part.clear();
        match read_part(stream, &mut part, deadline) {
            Err(NoRequest::Closed) => return Err(NoRequest::Incomplete),
            other => other?,
        }
    }
    Ok(body.into_data())
}

/// Appends the next bytes to `bytes`, at most 1 KiB. Waits for them until the deadline.
fn read_part(mut stream: &TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<(), NoRequest> {
    let has_begun = !bytes.is_empty();
    let closed = || if has_begun { NoRequest::Incomplete } else { NoRequest::Closed };
    let too_late = || NoRequest::Refused(ApiError::TooLate.response());
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_late());
        }
        if stream.set_read_timeout(Some(left)).is_err() {
            return Err(closed());
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(closed()),
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(too_late()),
            Err(_) => return Err(closed()),
        }
    }
}
