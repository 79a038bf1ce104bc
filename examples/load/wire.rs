//! The client side of the websocket wire format: upgrade request, masked frames to the server, unmasked frames from it.
//!
//! Written by hand and limited to what the load tool needs, because every received byte passes through it.

/// The key of every upgrade. It need not be random: there is no cache between this tool and the server.
pub const WEBSOCKET_KEY: &str = "bG9hZC1sb2FkLWxvYWQhIQ==";

const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x2e];

/// The kinds of frames that this tool handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// An unfragmented text message.
    Text,
    Close,
    Ping,
    Pong,
    /// A frame that the server should never send: binary, fragmented or reserved.
    Unexpected,
}

/// A frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
    /// Length of the whole frame in bytes.
    pub length: usize,
}

/// The first frame in `bytes`. `None`: it is incomplete.
pub fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[head, short], rest) = bytes.split_first_chunk::<2>()?;
    let (payload_at, payload_bytes) = match short & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        small => (2, usize::from(small)),
    };
    let length = payload_bytes.checked_add(payload_at)?;
    let payload = bytes.get(payload_at..length)?;
    let opcode = match (head, short & 0x80) {
        (0x81, 0) => Opcode::Text,
        (0x88, 0) => Opcode::Close,
        (0x89, 0) => Opcode::Ping,
        (0x8a, 0) => Opcode::Pong,
        _ => Opcode::Unexpected,
    };
    Some(Frame { opcode, payload, length })
}

/// The code in the payload of a close frame; 1005 if there is none.
pub fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}

/// Appends one masked frame to `out`. The payload is truncated to 65,535 bytes; this tool sends no longer ones.
pub fn push_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(match opcode {
        Opcode::Text | Opcode::Unexpected => 0x81,
        Opcode::Close => 0x88,
        Opcode::Ping => 0x89,
        Opcode::Pong => 0x8a,
    });
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    if length < 126 {
        out.push(0x80 | length as u8);
    } else {
        out.push(0x80 | 126);
        out.extend_from_slice(&length.to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    out.extend(payload[..usize::from(length)].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The HTTP request that joins the lobby, with this query: empty, or `?` and a parameter.
pub fn upgrade_request(host: &str, token: &str, query: &str) -> Vec<u8> {
    format!(
        "GET /join{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The status of an HTTP response and the length of its head. `None`: the head is incomplete.
pub fn response_head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let status =
        bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse().ok());
    Some((status.unwrap_or(0), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_encoding_are_parsed_only_when_complete() {
        for payload_bytes in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match payload_bytes {
                0..126 => bytes.push(payload_bytes as u8),
                126..=65_535 => {
                    bytes.push(126);
                    bytes.extend((payload_bytes as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((payload_bytes as u64).to_be_bytes());
                }
            }
            bytes.resize(bytes.len() + payload_bytes, b'a');
            let frame = first_frame(&bytes).expect("a complete frame");
            assert_eq!((frame.opcode, frame.payload.len(), frame.length), (Opcode::Text, payload_bytes, bytes.len()));
            assert_eq!(first_frame(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_response_is_parsed_once_its_head_is_complete() {
        let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nrest";
        assert_eq!(response_head(response), Some((101, response.len() - 4)));
        assert_eq!(response_head(&response[..30]), None);
    }
}
