//! Websocket frames as bytes (RFC 6455): the answer to the handshake, frames to send, and received messages. Only this
//! module uses `tungstenite`.
//!
//! `tungstenite` only reads from the socket. It also writes replies of its own (pong, close); `Inbound::write` drops
//! them, because the fan-out threads order and write all frames.

use std::io::{self, Cursor, Read, Write};

use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, UPGRADE};
use tungstenite::error::{CapacityError, Error as LibraryError};
use tungstenite::handshake::server as handshake;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Message, error::ProtocolError};

use super::end::End;
use super::socket::Socket;

/// The size of the read buffer in bytes. It is small, because each connection keeps its buffer until it ends.
const READ_BUFFER_BYTES: usize = 512;

/// The bytes of the answer to a websocket handshake, with this subprotocol selected.
///
/// # Errors
/// The request is not a valid handshake (RFC 6455, section 4.2.1).
pub(crate) fn accept(request: &http::Request<()>, subprotocol: Option<&str>) -> Result<Vec<u8>, HandshakeError> {
    if request.headers().get_all(SEC_WEBSOCKET_KEY).iter().count() > 1 {
        return Err(HandshakeError::Malformed);
    }
    let mut request = request.clone();
    keep_member(request.headers_mut(), CONNECTION, "upgrade");
    keep_member(request.headers_mut(), UPGRADE, "websocket");
    let mut response = handshake::create_response(&request).map_err(|error| match error {
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

/// Replaces a field that is a list by one of its members, if it has the member. `tungstenite` reads only the first line of
/// a list, and knows no list in `Upgrade`.
fn keep_member(fields: &mut http::HeaderMap, name: HeaderName, member: &'static str) {
    let lines = fields.get_all(&name).iter().filter_map(|line| line.to_str().ok());
    let is_member = |text: &str| text.trim().eq_ignore_ascii_case(member);
    if lines.flat_map(|line| line.split(',')).any(is_member) {
        fields.insert(name, http::HeaderValue::from_static(member));
    }
}

/// Whether a frame that begins with this byte is a close frame (RFC 6455, section 5.2).
pub(super) fn begins_close(first: u8) -> bool {
    first & 0x0f == u8::from(OpCode::Control(Control::Close))
}

/// Why a request cannot open a websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// The request does not ask for a websocket.
    NoUpgrade,
    /// The request asks for another version than 13, or for none.
    Version,
    /// The handshake is invalid, for example its key.
    Malformed,
}

/// Appends a text frame to `out`. The frames of a server are not masked, so all clients get the same bytes.
pub(crate) fn put_text(payload: &[u8], out: &mut Vec<u8>) {
    put_text_header(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Appends the header of a text frame with this payload length to `out`. The caller appends the payload.
pub(crate) fn put_text_header(payload_bytes: u64, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    infallible(header.format(payload_bytes, out));
}

/// A ping frame without payload.
pub(crate) fn ping() -> Vec<u8> {
    formatted(Frame::ping(Vec::new()))
}

/// The pong frame that answers a ping with this payload.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    formatted(Frame::pong(payload.to_vec()))
}

/// A close frame. `reason` has at most 123 bytes (RFC 6455, section 5.5).
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    formatted(Frame::close(Some(CloseFrame { code: code.into(), reason: reason.into() })))
}

/// The reply to a client's close frame: the client's code, or no code if the client sent none (RFC 6455, section
/// 5.5.1).
pub(crate) fn close_reply(code: Option<u16>) -> Vec<u8> {
    formatted(Frame::close(code.map(|code| CloseFrame { code: code.into(), reason: "".into() })))
}

fn formatted(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frame.len());
    infallible(frame.format(&mut bytes));
    bytes
}

/// Formatting fails only if writing fails, and writing to a vector always succeeds.
fn infallible(result: Result<(), LibraryError>) {
    debug_assert!(result.is_ok());
}

/// The first boundary between frames at or after `position`. `bytes` are complete unmasked frames, and the first
/// `position` bytes were sent: the caller can remove the frames after the boundary without splitting a frame.
pub(crate) fn frame_boundary(bytes: &[u8], position: usize) -> usize {
    let mut cursor = Cursor::new(bytes);
    let mut boundary = 0;
    while boundary < position {
        let Ok(Some((_, payload_bytes))) = FrameHeader::parse(&mut cursor) else { return bytes.len() };
        let end = cursor.position().saturating_add(payload_bytes);
        cursor.set_position(end);
        boundary = usize::try_from(end).unwrap_or(usize::MAX);
    }
    boundary.min(bytes.len())
}

/// The payload of the first of these unmasked frames.
pub(crate) fn payload(frames: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(frames);
    let (_, payload_bytes) = FrameHeader::parse(&mut cursor).ok()??;
    let start = usize::try_from(cursor.position()).ok()?;
    frames.get(start..start.checked_add(usize::try_from(payload_bytes).ok()?)?)
}

/// A message or a control frame from a client.
#[derive(Debug)]
pub(crate) enum Received {
    /// A complete text message.
    Text(String),
    /// A complete binary message.
    Binary,
    /// A ping with its payload.
    Ping(Vec<u8>),
    Pong,
    /// A close frame with the code for the reply: the client's code, or 1002 if that code is invalid.
    Close(Option<u16>),
}

/// The reading side of one connection. The session thread owns it.
pub(crate) struct Receiver<'a, S> {
    socket: WebSocket<Inbound<'a, S>>,
}

impl<'a, S: Socket> Receiver<'a, S> {
    /// Reads first from `after_head`, the bytes that followed the head of the handshake, and then from `socket`. A
    /// message or a frame may have at most `max_bytes`.
    pub(crate) fn new(socket: &'a S, after_head: Vec<u8>, max_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(1024)
            .max_message_size(Some(max_bytes))
            .max_frame_size(Some(max_bytes))
            .accept_unmasked_frames(false);
        // A masked frame with one byte of payload has seven bytes, so eight bytes for each byte of payload are enough,
        // unless the message consists mostly of empty frames.
        let budget_bytes = max_bytes.saturating_mul(8) + 4096;
        let inbound = Inbound { socket, budget_bytes, left_bytes: budget_bytes };
        Receiver { socket: WebSocket::from_partially_read(inbound, after_head, Role::Server, Some(config)) }
    }

    /// Blocks until the next message or control frame. Called by the session thread only.
    ///
    /// # Errors
    /// The reason why the session ends.
    pub(crate) fn receive(&mut self) -> Result<Received, End> {
        let message = self.socket.read();
        let inbound = self.socket.get_mut();
        let flooded = inbound.left_bytes == 0;
        inbound.left_bytes = inbound.budget_bytes;
        match message {
            Ok(Message::Text(text)) => Ok(Received::Text(text.as_str().to_owned())),
            Ok(Message::Binary(_)) => Ok(Received::Binary),
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

/// The socket, as `tungstenite` uses it: reads are counted against a budget per message, and writes are dropped.
struct Inbound<'a, S> {
    socket: &'a S,
    budget_bytes: usize,
    left_bytes: usize,
}

impl<S: Socket> Read for Inbound<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left_bytes == 0 {
            return Err(io::Error::other("the message has too many frames"));
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
    fn frames_are_encoded_as_in_the_rfc() {
        let mut bytes = Vec::new();
        put_text(b"Hello", &mut bytes);
        // RFC 6455, section 5.7: a single-frame unmasked text message.
        assert_eq!(bytes, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(ping(), [0x89, 0x00]);
        assert_eq!(pong(b"x"), [0x8a, 0x01, b'x']);
        assert!(begins_close(close(1013, "no")[0]) && !begins_close(ping()[0]));
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
