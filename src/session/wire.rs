//! Websocket frames as bytes (RFC 6455), by `tungstenite`: the handshake's answer, frames to send, messages received.
//!
//! The library only reads. The replies that it makes by itself (pong, close) end in `Inbound::write`, which drops them:
//! the fan-out orders and writes all frames to a client.

use std::io::{self, Read, Write};

use tungstenite::error::{CapacityError, Error as LibraryError};
use tungstenite::handshake::server as handshake;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Message, error::ProtocolError};

use super::end::End;
use super::socket::Socket;

/// Bytes of one read. Each connection has such a buffer for its whole life, so it is small.
const READ_BUFFER_BYTES: usize = 1024;

/// The bytes of the answer to a websocket handshake.
///
/// # Errors
/// What is wrong with the request (RFC 6455, section 4.2.1).
pub fn accept(request: &http::Request<()>, subprotocol: Option<&str>) -> Result<Vec<u8>, HandshakeError> {
    let mut response = handshake::create_response(request).map_err(|error| match error {
        LibraryError::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => HandshakeError::Version,
        LibraryError::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader | ProtocolError::MissingUpgradeWebSocketHeader,
        ) => HandshakeError::NoUpgrade,
        _ => HandshakeError::Malformed,
    })?;
    if let Some(subprotocol) = subprotocol.and_then(|name| http::HeaderValue::from_str(name).ok()) {
        response.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let mut bytes = Vec::with_capacity(256);
    handshake::write_response(&mut bytes, &response).map_err(|_| HandshakeError::Malformed)?;
    Ok(bytes)
}

/// Why a request is not answered with a websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// It does not ask for one.
    NoUpgrade,
    /// It asks for another version than 13.
    Version,
    /// It asks, and not as it should (a bad key, say).
    Malformed,
}

/// Adds a text frame to `out`. All clients get the same bytes, as the frames of a server are not masked.
pub fn put_text(payload: &[u8], out: &mut Vec<u8>) {
    put_text_header(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Adds the header of a text frame whose payload follows in parts.
pub fn put_text_header(payload_bytes: u64, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    infallible(header.format(payload_bytes, out));
}

/// A ping without payload.
#[must_use]
pub fn ping() -> Vec<u8> {
    formatted(Frame::ping(Vec::new()))
}

/// The answer to a ping with this payload.
#[must_use]
pub fn pong(payload: &[u8]) -> Vec<u8> {
    formatted(Frame::pong(payload.to_vec()))
}

/// A close frame.
#[must_use]
pub fn close(code: u16, text: &str) -> Vec<u8> {
    formatted(Frame::close(Some(CloseFrame { code: code.into(), reason: text.into() })))
}

/// The reply to a client's close frame: its own code, or none if it gave none (RFC 6455, section 5.5.1).
#[must_use]
pub fn close_reply(code: Option<u16>) -> Vec<u8> {
    formatted(Frame::close(code.map(|code| CloseFrame { code: code.into(), reason: "".into() })))
}

fn formatted(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame.len());
    infallible(frame.format(&mut bytes));
    bytes
}

/// Formatting fails only when writing does, and a vector takes everything.
fn infallible(result: Result<(), LibraryError>) {
    debug_assert!(result.is_ok());
}

/// The first boundary between frames at or after `position`. `bytes` are whole unmasked frames, of which the first
/// `position` bytes were sent: the frames behind the boundary can be dropped without tearing one.
#[must_use]
pub fn frame_boundary(bytes: &[u8], position: usize) -> usize {
    let mut boundary = 0;
    while boundary < position {
        let length = match bytes.get(boundary + 1).map(|byte| byte & 0x7f) {
            Some(126) => match bytes.get(boundary + 2..boundary + 4) {
                Some(&[high, low]) => 4 + usize::from(u16::from_be_bytes([high, low])),
                _ => return bytes.len(),
            },
            Some(127) => match bytes.get(boundary + 2..boundary + 10).and_then(|eight| eight.try_into().ok()) {
                Some(eight) => usize::try_from(u64::from_be_bytes(eight)).unwrap_or(usize::MAX).saturating_add(10),
                None => return bytes.len(),
            },
            Some(short) => 2 + usize::from(short),
            None => return bytes.len(),
        };
        boundary = boundary.saturating_add(length);
    }
    boundary.min(bytes.len())
}

/// What a client sent.
#[derive(Debug)]
pub enum Received {
    /// A whole text message.
    Text(String),
    /// A whole binary message: its length.
    Binary(usize),
    /// A ping, with its payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close frame, with the code to echo: 1002 where the client's own is not a valid one.
    Close(Option<u16>),
}

/// The reading side of one connection. Owned by its session thread.
pub struct Receiver<'a, S> {
    socket: WebSocket<Inbound<'a, S>>,
}

impl<'a, S: Socket> Receiver<'a, S> {
    /// Reads first `after_head`, the bytes that followed the head of the handshake, then from `socket`. A message or a
    /// frame may have at most `max_bytes`.
    #[must_use]
    pub fn new(socket: &'a S, after_head: Vec<u8>, max_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(1024)
            .max_message_size(Some(max_bytes))
            .max_frame_size(Some(max_bytes))
            .accept_unmasked_frames(false);
        // A message in frames of one byte each takes seven bytes for a byte. More is a flood of empty frames.
        let budget_bytes = max_bytes.saturating_mul(8) + 4096;
        let inbound = Inbound { socket, budget_bytes, left_bytes: budget_bytes };
        Receiver { socket: WebSocket::from_partially_read(inbound, after_head, Role::Server, Some(config)) }
    }

    /// Blocks until the next message or control frame.
    ///
    /// # Errors
    /// Why the session has to end.
    pub fn receive(&mut self) -> Result<Received, End> {
        let message = self.socket.read();
        let inbound = self.socket.get_mut();
        let flooded = inbound.left_bytes == 0;
        inbound.left_bytes = inbound.budget_bytes;
        match message {
            Ok(Message::Text(text)) => Ok(Received::Text(text.as_str().to_owned())),
            Ok(Message::Binary(bytes)) => Ok(Received::Binary(bytes.len())),
            Ok(Message::Ping(payload)) => Ok(Received::Ping(payload.to_vec())),
            Ok(Message::Pong(_) | Message::Frame(_)) => Ok(Received::Pong),
            Ok(Message::Close(frame)) => Ok(Received::Close(frame.map(|frame| frame.code.into()))),
            Err(_) if flooded => Err(End::TooFast),
            Err(error) => Err(end_of(&error)),
        }
    }
}

fn end_of(error: &LibraryError) -> End {
    match error {
        LibraryError::ConnectionClosed | LibraryError::AlreadyClosed => End::ClosedByClient,
        LibraryError::Protocol(ProtocolError::ResetWithoutClosingHandshake) | LibraryError::Io(_) => End::Disconnected,
        LibraryError::Capacity(CapacityError::MessageTooLong { .. }) => End::TooBig,
        LibraryError::Utf8(_) => End::NotUtf8,
        _ => End::ProtocolError,
    }
}

/// The socket as the library sees it: reads count against a budget for each message, writes are dropped.
struct Inbound<'a, S> {
    socket: &'a S,
    budget_bytes: usize,
    left_bytes: usize,
}

impl<S: Socket> Read for Inbound<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left_bytes == 0 {
            return Err(io::Error::other("a message in too many frames"));
        }
        let read = loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.left_bytes = self.left_bytes.saturating_sub(read);
        Ok(read)
    }
}

impl<S> Write for Inbound<'_, S> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_the_rfc_has_them() {
        let mut bytes = Vec::new();
        put_text(b"Hello", &mut bytes);
        // RFC 6455, section 5.7: a single-frame unmasked text message.
        assert_eq!(bytes, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(ping(), [0x89, 0x00]);
        assert_eq!(pong(b"x"), [0x8a, 0x01, b'x']);
        assert_eq!(close(1013, "no"), [0x88, 0x04, 0x03, 0xf5, b'n', b'o']);
        assert_eq!(close_reply(None), [0x88, 0x00]);
    }

    #[test]
    fn a_boundary_is_never_inside_a_frame() {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for length in [0, 1, 125, 126, 300, 65_535, 65_536, 5] {
            put_text(&vec![b'x'; length], &mut bytes);
            starts.push(bytes.len());
        }
        for position in 0..=bytes.len() {
            let expected = *starts.iter().find(|start| **start >= position).unwrap();
            assert_eq!(frame_boundary(&bytes, position), expected);
        }
    }
}
