//! [`ChunkedBody`]: decodes a body in chunks (RFC 9112, section 7.1), strictly. Pure.
//!
//! Proxies and clients that do not know the length of a body in advance send it in chunks.

/// What a body may have beside its data: for each byte of data (the lines of a chunk of one byte have five) and at least.
const OVERHEAD_PER_BYTE: usize = 8;
const OVERHEAD_MIN: usize = 8 * 1024;
/// The most digits of the size of a chunk: those of 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadChunk {
    /// Not valid; the text is for the client.
    Malformed(&'static str),
    /// More data than allowed, or too much beside the data.
    TooLarge,
}

const BAD_SIZE: BadChunk = BadChunk::Malformed("the size of a chunk is not a hexadecimal number");
const BAD_LINE_END: BadChunk = BadChunk::Malformed("each line of a chunked body must end with CR LF");
const BAD_TRAILER: BadChunk = BadChunk::Malformed("the fields after the last chunk are not valid");

/// A body that arrives in parts.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    state: State,
    data: Vec<u8>,
    data_bytes_max: usize,
    overhead_left: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
        size: u64,
    },
    /// Ignored, as every server may do.
    Extension {
        size: u64,
    },
    SizeLineEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataLineEnd,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineEnd,
    LastLineEnd,
    Complete,
}

impl ChunkedBody {
    /// The data may have at most `data_bytes_max` bytes.
    pub(crate) fn new(data_bytes_max: usize) -> Self {
        ChunkedBody {
            state: State::Size { digits: 0, size: 0 },
            data: Vec::new(),
            data_bytes_max,
            overhead_left: data_bytes_max.saturating_mul(OVERHEAD_PER_BYTE).max(OVERHEAD_MIN),
        }
    }

    /// Decodes the next bytes. Bytes after the end of the body are ignored. True when the body is complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<bool, BadChunk> {
        while let (false, [byte, rest @ ..]) = (self.is_complete(), bytes) {
            if let State::Data { left } = self.state {
                bytes = self.take_data(left, bytes);
                continue;
            }
            self.overhead_left = self.overhead_left.checked_sub(1).ok_or(BadChunk::TooLarge)?;
            self.state = self.next_state(*byte)?;
            bytes = rest;
        }
        Ok(self.is_complete())
    }

    /// The data so far.
    pub(crate) fn into_data(self) -> Vec<u8> {
        self.data
    }

    fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Takes at most `left` bytes of data, and returns the bytes behind them.
    fn take_data<'a>(&mut self, left: u64, bytes: &'a [u8]) -> &'a [u8] {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (data, rest) = bytes.split_at(count);
        self.data.extend_from_slice(data);
        let left = left - count as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
        rest
    }

    fn next_state(&self, byte: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, byte) {
            (State::Size { digits, size }, digit) if digit.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(BAD_SIZE);
                }
                let value = char::from(digit).to_digit(16).unwrap_or(0);
                State::Size { digits: digits + 1, size: size << 4 | u64::from(value) }
            }
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Size { digits: 1.., size } | State::Extension { size }, b'\r') => State::SizeLineEnd { size },
            (State::Size { .. }, _) => return Err(BAD_SIZE),
            (State::Extension { size }, byte) if is_text(byte) => State::Extension { size },
            (State::SizeLineEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineEnd { size }, b'\n') => {
                if size > self.data_bytes_max.saturating_sub(self.data.len()) as u64 {
                    return Err(BadChunk::TooLarge);
                }
                State::Data { left: size }
            }
            (State::DataEnd, b'\r') => State::DataLineEnd,
            (State::DataLineEnd, b'\n') => State::Size { digits: 0, size: 0 },
            (State::DataEnd, _) => return Err(BadChunk::Malformed("a chunk is longer than its size")),
            (State::TrailerStart, b'\r') => State::LastLineEnd,
            (State::TrailerStart | State::TrailerName, byte) if is_name(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) => return Err(BAD_TRAILER),
            (State::TrailerValue, b'\r') => State::TrailerLineEnd,
            (State::TrailerValue, byte) if is_text(byte) => State::TrailerValue,
            (State::TrailerLineEnd, b'\n') => State::TrailerStart,
            (State::LastLineEnd, b'\n') => State::Complete,
            _ => return Err(BAD_LINE_END),
        })
    }
}

/// A character of a field value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A character of a field name (RFC 9110, section 5.6.2).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<Vec<u8>>, BadChunk> {
        let mut body = ChunkedBody::new(100);
        Ok(body.push(bytes)?.then(|| body.into_data()))
    }

    #[test]
    fn chunks_are_joined_and_extensions_and_trailers_ignored() {
        for good in [
            "5\r\nHello\r\n0\r\n\r\n",
            "3\r\nHel\r\n2\r\nlo\r\n0\r\n\r\n",
            "0005;a=b;c=\"d e\"\r\nHello\r\n000;x\r\n\r\n",
            "5\r\nHello\r\n0\r\nETag: x\r\nX-Y:\tz\r\n\r\n",
            "5\r\nHello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(decode(good.as_bytes()), Ok(Some(b"Hello".to_vec())), "{good:?}");
        }
        assert_eq!(decode(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n").map(|data| data.unwrap().len()), Ok(20));
        assert_eq!(decode(b"0\r\n\r\n"), Ok(Some(Vec::new())));
        assert_eq!(decode(b"5\r\nHel"), Ok(None));
    }

    #[test]
    fn what_proxies_read_differently_is_refused() {
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\nHello\r\n",
            "5\nHello",
            ";x\r\n",
            "5;a\nb\r\nHello\r\n",
            "5;a\rb",
            "5\r\rHello",
            "5\r\nHelloX",
            "5\r\nHello\n",
            "5\r\nHello\r5",
            "11111111111111111\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: \0\r\n\r\n",
            "0\r\n\rX",
        ] {
            assert!(matches!(decode(bad.as_bytes()), Err(BadChunk::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn data_and_overhead_are_bounded() {
        assert_eq!(decode(b"65\r\n"), Err(BadChunk::TooLarge));
        assert_eq!(decode(b"ffffffffffffffff\r\n"), Err(BadChunk::TooLarge));
        assert_eq!(decode(format!("40\r\n{}\r\n25\r\n", "x".repeat(0x40)).as_bytes()), Err(BadChunk::TooLarge));
        assert_eq!(decode(format!("5;{}", "x".repeat(OVERHEAD_MIN)).as_bytes()), Err(BadChunk::TooLarge));
        assert_eq!(decode(format!("0\r\n{}", "a: b\r\n".repeat(OVERHEAD_MIN)).as_bytes()), Err(BadChunk::TooLarge));
        let bytewise = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(100));
        assert_eq!(decode(bytewise.as_bytes()), Ok(Some(vec![b'x'; 100])));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
            parts in proptest::collection::vec(1..9_usize, 1..9),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            let mut body = ChunkedBody::new(100);
            let (mut rest, mut parts) = (bytes.as_slice(), parts.iter().cycle());
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(rest.len().min(*parts.next().unwrap()));
                prop_assert_eq!(body.push(part), Ok(behind.is_empty()));
                rest = behind;
            }
            prop_assert_eq!(body.into_data(), chunks.concat());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
