//! A socket in memory, for the unit tests of sessions.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::Mutex;
use std::time::Duration;

use super::socket::Socket;
use crate::threads::lock;

/// A socket in memory. A write accepts as many bytes as the test has granted for it. A read returns the input that the
/// test has set.
#[derive(Default)]
pub struct FakeSocket {
    state: Mutex<State>,
    /// Called before each write.
    on_write: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

#[derive(Default)]
struct State {
    /// The most bytes that each of the next writes accepts. 0, or no grant left: `WouldBlock`.
    grants: VecDeque<usize>,
    takes_everything: bool,
    is_broken: bool,
    taken: Vec<u8>,
    /// How many writes there were.
    writes: usize,
    /// How many writes found the socket full.
    full: usize,
    unread: VecDeque<u8>,
    shutdowns: Vec<Shutdown>,
}

impl FakeSocket {
    /// A socket that is never full.
    pub fn open() -> Self {
        let socket = FakeSocket::default();
        socket.take_everything();
        socket
    }

    /// A socket that is full from the beginning.
    pub fn full() -> Self {
        FakeSocket::default()
    }

    /// A socket whose client has sent these bytes and then closed.
    pub fn with_input(bytes: &[u8]) -> Self {
        let socket = FakeSocket::open();
        lock(&socket.state).unread.extend(bytes);
        socket
    }

    pub fn grant(&self, grants: impl IntoIterator<Item = usize>) {
        lock(&self.state).grants.extend(grants);
    }

    pub fn take_everything(&self) {
        lock(&self.state).takes_everything = true;
    }

    /// `call` runs before each of the next writes.
    pub fn on_write(&self, call: impl FnMut() + Send + 'static) {
        *lock(&self.on_write) = Some(Box::new(call));
    }

    pub fn break_connection(&self) {
        lock(&self.state).is_broken = true;
    }

    /// All bytes that were written so far.
    pub fn taken(&self) -> Vec<u8> {
        lock(&self.state).taken.clone()
    }

    pub fn writes(&self) -> usize {
        lock(&self.state).writes
    }

    pub fn times_full(&self) -> usize {
        lock(&self.state).full
    }

    pub fn shutdowns(&self) -> Vec<Shutdown> {
        lock(&self.state).shutdowns.clone()
    }
}

impl Socket for FakeSocket {
    fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(call) = lock(&self.on_write).as_mut() {
            call();
        }
        let mut state = lock(&self.state);
        state.writes += 1;
        if state.is_broken || !state.shutdowns.is_empty() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = if state.takes_everything { usize::MAX } else { state.grants.pop_front().unwrap_or(0) };
        if room == 0 {
            state.full += 1;
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = state.taken.len();
        for part in parts {
            let left = room - (state.taken.len() - before);
            state.taken.extend_from_slice(&part[..part.len().min(left)]);
        }
        Ok(state.taken.len() - before)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut lock(&self.state).unread, buffer)
    }

    fn peek_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(buffer.iter_mut().zip(&lock(&self.state).unread).map(|(to, from)| *to = *from).count())
    }

    fn set_read_timeout(&self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        lock(&self.state).shutdowns.push(how);
        Ok(())
    }
}

/// The whole frames at the beginning of `bytes`, each with its header, and how many bytes follow them.
///
/// # Panics
/// The bytes are not unmasked frames, as a server sends them.
pub fn frames(mut bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut frames = Vec::new();
    while let [first, second, ..] = *bytes {
        assert!(first & 0xf0 == 0x80 && second & 0x80 == 0, "not the beginning of a frame: {first:x} {second:x}");
        let length = match second {
            126 => bytes.get(2..4).map(|two| 4 + usize::from(u16::from_be_bytes(two.try_into().unwrap()))),
            127 => bytes.get(2..10).map(|eight| 10 + u64::from_be_bytes(eight.try_into().unwrap()) as usize),
            short => Some(2 + usize::from(short)),
        };
        let Some(frame) = length.and_then(|length| bytes.get(..length)) else { break };
        frames.push(frame.to_vec());
        bytes = &bytes[frame.len()..];
    }
    (frames, bytes.len())
}
