//! [`Link`]: the connection of one session. Shared by the session thread, which reads it, and its fan-out thread, which
//! writes it.

use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::end::End;
use super::socket::Socket;
use crate::lobby::SessionId;

/// One connection. Both threads share it in an `Arc`, so its descriptor is closed when both have dropped it.
#[derive(Debug)]
pub struct Link<S = TcpStream> {
    /// The session of the connection.
    pub session: SessionId,
    /// Read by the session thread, written by the fan-out thread, shut down by either.
    pub socket: S,
    opened_at: Instant,
    heard_ns: AtomicU64,
    end: OnceLock<End>,
}

impl<S: Socket> Link<S> {
    /// A connection whose handshake is done.
    #[must_use]
    pub fn new(session: SessionId, socket: S) -> Self {
        Link { session, socket, opened_at: Instant::now(), heard_ns: AtomicU64::new(0), end: OnceLock::new() }
    }

    /// Records that a whole message or control frame was read. A part of a frame does not count: a client that sends a
    /// frame byte by byte has to finish it within the pong timeout.
    pub fn heard(&self) {
        let passed = u64::try_from(self.opened_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_ns.store(passed, Ordering::Relaxed);
    }

    /// When [`Link::heard`] was called last, or when the connection opened.
    #[must_use]
    pub fn heard_at(&self) -> Instant {
        self.opened_at + Duration::from_nanos(self.heard_ns.load(Ordering::Relaxed))
    }

    /// Sets the reason for the end of the session, unless there is one already. Returns the first reason.
    pub fn end(&self, reason: End) -> End {
        *self.end.get_or_init(|| reason)
    }

    /// Ends both directions at once: a blocked read returns.
    pub fn disconnect(&self) {
        // It fails only when the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Ends the sending direction, after the close frame.
    pub fn finish_writing(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
