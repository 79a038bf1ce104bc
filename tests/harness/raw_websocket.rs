//! A websocket client that sends exactly the given bytes, including invalid frames, and reads all frames of the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;
use super::server::token;

/// First bytes of frames (RFC 6455, section 5.2).
pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

const MASK_BIT: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The header of a masked frame that announces `length` bytes of payload.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(MASK_BIT | length as u8),
        126..0x1_0000 => {
            bytes.push(MASK_BIT | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(MASK_BIT | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes
}

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [code.to_be_bytes().as_slice(), reason].concat()
}

/// A frame received from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The payload as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// An upgraded connection.
pub struct RawClient {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl RawClient {
    /// Joins as the user `name`.
    pub fn join(address: SocketAddr, name: &str) -> RawClient {
        Self::join_with(address, name, &[])
    }

    /// Joins, and sends `more` in the same packet as the request.
    pub fn join_with(address: SocketAddr, name: &str, more: &[u8]) -> RawClient {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true).expect("setting a socket option");
        Self::join_on(stream, name, more)
    }

    /// Joins on this connection.
    ///
    /// # Panics
    /// The server rejects the handshake.
    pub fn join_on(stream: TcpStream, name: &str, more: &[u8]) -> RawClient {
        Self::upgrade(stream, &[handshake(name).as_bytes(), more].concat())
    }

    /// Joins on this connection with this query.
    pub fn join_query_on(stream: TcpStream, name: &str, query: &str) -> RawClient {
        let request = handshake(name).replacen("/join", &format!("/join?{query}"), 1);
        Self::upgrade(stream, request.as_bytes())
    }

    /// Sends this handshake.
    ///
    /// # Panics
    /// The server rejects it.
    pub fn upgrade(stream: TcpStream, request: &[u8]) -> RawClient {
        stream.set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
        let mut client = RawClient { stream, unread: Vec::new() };
        client.send(request);
        let end = loop {
            if let Some(at) = client.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(client.read_more(), "no response to the handshake");
        };
        let head: Vec<u8> = client.unread.drain(..end).collect();
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        client
    }

    /// Sends these bytes. Errors are ignored: the server may have closed the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; none at the end of the connection.
    ///
    /// # Panics
    /// No bytes are received, a frame is not valid for a server, or the connection ends inside a frame.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, bytes)) = first_frame(&self.unread) {
                self.unread.drain(..bytes);
                return Some(frame);
            }
            if !self.read_more() {
                assert!(self.unread.is_empty(), "the connection ended inside a frame");
                return None;
            }
        }
    }

    /// All frames until the end of the connection.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Reads frames until a text frame of this type, and returns its `msg`.
    pub fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("closed while waiting for {kind}"));
            if frame.opcode == TEXT && frame.json()["type"] == kind {
                return frame.json()["msg"].clone();
            }
        }
    }

    /// Reads once. False: the connection has ended.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading: {error}"),
        }
    }
}

/// The handshake of the user `name`.
pub fn handshake(name: &str) -> String {
    handshake_with(&format!("Authorization: Bearer {}\r\n", token(name)))
}

/// A handshake with additional header fields, each of which ends with CR LF.
pub fn handshake_with(fields: &str) -> String {
    format!(
        "GET /join HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// The first frame in these bytes and its length including the header. None: it is incomplete.
pub fn first_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0xf0 == FIN && second & MASK_BIT == 0, "a server sends unfragmented, unmasked frames: {first:x}");
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, start + length))
}

/// The codes of all close frames among these frames; 0 for a close frame without a code.
pub fn close_codes(frames: &[Frame]) -> Vec<u16> {
    let closes = frames.iter().filter(|frame| frame.opcode == CLOSE);
    closes.map(|frame| frame.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))).collect()
}
