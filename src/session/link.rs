//! [`Link`]: what the two sides of a connection share, the thread that reads it and the fan-out that writes it.

use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::end::End;
use super::socket::Socket;
use crate::lobby::SessionId;

/// One connection. Behind an `Arc`: one descriptor, closed when both sides are done with it.
#[derive(Debug)]
pub struct Link<S = TcpStream> {
    /// Which session it is.
    pub session: SessionId,
    /// The socket: read by the session thread, written by the fan-out, shut down by either.
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

    /// The reader got a whole message or control frame. (A frame that trickles in does not count: it has to be there
    /// within the time for an answer to a ping.)
    pub fn heard(&self) {
        let passed = u64::try_from(self.opened_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_ns.store(passed, Ordering::Relaxed);
    }

    /// When [`Link::heard`] was called last, or when the connection opened.
    #[must_use]
    pub fn heard_at(&self) -> Instant {
        self.opened_at + Duration::from_nanos(self.heard_ns.load(Ordering::Relaxed))
    }

    /// Says why the session ends. The first reason stands; it is given back.
    pub fn end(&self, reason: End) -> End {
        *self.end.get_or_init(|| reason)
    }

    /// Ends both directions at once: a blocked read returns.
    pub fn disconnect(&self) {
        // It fails only when the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Tells the peer that nothing more comes.
    pub fn finish_writing(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
