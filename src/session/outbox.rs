//! [`Outbox`]: the outgoing side of one session. Owned by one fan-out thread. It never blocks, and its queue is
//! bounded.
//!
//! It writes directly to the socket. It queues only bytes that the socket does not accept, and writes them again after
//! a growing pause. So a client that reads slowly costs a system call from time to time, and no thread.

mod event_bytes;
mod piece;
mod send_queue;

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::event_bytes::EventBytes;
pub use self::piece::Piece;
use self::send_queue::SendQueue;
use super::end::End;
use super::link::Link;
use super::socket::Socket;
use super::wire;
use crate::limits::{FIRST_FRAMES_BYTES_PER_SECOND_MIN, FIRST_FRAMES_GRACE};

/// The time that a client has to read the close frame and to answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The stage of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The `joined` of the session was not read back yet: the client gets no events.
    Waiting,
    /// The client gets all events.
    Live,
    /// The close frame is sent or queued, and nothing follows it. At `deadline` the connection is closed.
    Closing { deadline: Instant },
    /// The connection is closed. The session thread notices at its next read and removes the outbox.
    Gone,
}

/// The outgoing side of one session.
#[derive(Debug)]
pub struct Outbox<S = TcpStream> {
    /// The connection, shared with the session thread.
    pub link: Arc<Link<S>>,
    /// When the token expires, and the session ends.
    token_expires_at: Instant,
    stage: Stage,
    queue: SendQueue,
    /// When the socket must have accepted the first frames.
    first_deadline: Instant,
    /// Direct frames (pongs, errors), which are sent after the next events.
    direct: Vec<u8>,
    /// The position after the last event that a live session has got.
    position: u64,
    ping_at: Instant,
    ping: Ping,
}

/// The ping that is not answered yet. Any message or control frame of the client is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    None,
    /// Queued since this time. The client cannot answer yet.
    Queued(Instant),
    /// Accepted by the socket at this time.
    Sent(Instant),
}

impl<S: Socket> Outbox<S> {
    /// An outbox for a connection whose handshake is done. The first ping is sent at `ping_at`.
    #[must_use]
    pub fn new(link: Arc<Link<S>>, token_expires_at: Instant, ping_at: Instant, now: Instant) -> Self {
        Outbox {
            link,
            token_expires_at,
            stage: Stage::Waiting,
            queue: SendQueue::new(now),
            first_deadline: now,
            direct: Vec::new(),
            position: 0,
            ping_at,
            ping: Ping::None,
        }
    }

    /// Sets when the session ends, after its client has sent a new token.
    pub fn renew(&mut self, token_expires_at: Instant) {
        self.token_expires_at = token_expires_at;
    }

    /// Whether the session is neither closing nor closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Live)
    }

    /// Whether the session gets events.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// When to call [`Outbox::retry`]; `None` while nothing is queued.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        (!self.queue.is_empty() && self.stage != Stage::Gone).then_some(self.queue.retry_at())
    }

    /// Makes the session live: it gets `first_frames`, then the events from `position` on.
    pub fn admit(&mut self, first_frames: Vec<Piece>, position: u64, now: Instant) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::Live;
            self.position = position;
            self.queue.push_first_frames(first_frames, now);
            let seconds = self.queue.first_bytes() as u64 / FIRST_FRAMES_BYTES_PER_SECOND_MIN;
            self.first_deadline = now + FIRST_FRAMES_GRACE + Duration::from_secs(seconds);
        }
    }

    /// Adds a direct frame. The next [`Outbox::send`] sends it, but never before the list of users, which has to be the
    /// first frame. Ignored after a close frame, which is the last frame.
    ///
    /// # Errors
    /// More than `outbox_bytes_max` bytes of direct frames wait. The error is the reason why the session ends.
    pub fn add_direct(&mut self, frame: &[u8], outbox_bytes_max: usize) -> Result<(), End> {
        if !self.is_open() {
            return Ok(());
        }
        if self.direct.len() + frame.len() > outbox_bytes_max {
            return Err(if self.is_live() { End::TooSlow } else { End::TooFast });
        }
        self.direct.extend_from_slice(frame);
        Ok(())
    }

    /// The bytes that wait for the socket. Bytes that several outboxes share count in each of them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes() + self.direct.len()
    }

    /// The bytes of the direct frames that wait for [`Outbox::send`].
    #[must_use]
    pub fn direct_bytes(&self) -> usize {
        self.direct.len()
    }

    /// Sends those of `events` that the session has not got yet, then the direct frames. Returns the bytes of these
    /// events.
    ///
    /// # Errors
    /// Why the session ends.
    pub fn send(&mut self, events: &EventBytes, outbox_bytes_max: usize, now: Instant) -> Result<usize, End> {
        if self.stage != Stage::Live {
            return Ok(0);
        }
        let offset = self.advance(events);
        let bytes = events.frames().len() - offset;
        let nothing_waits = self.queue.is_empty();
        if nothing_waits && self.direct.is_empty() {
            return self.send_directly(events.frames(), offset, now).map(|()| bytes);
        }
        self.queue_next(events.frames(), offset, now);
        // The socket of a lagging client is retried after its pause, not in every round.
        if nothing_waits || now >= self.queue.retry_at() {
            self.write_queue(now)?;
        }
        if self.queue.bytes_behind() > outbox_bytes_max { Err(End::TooSlow) } else { Ok(bytes) }
    }

    /// Returns where in `events` those begin that the session has not got yet. Now it has got all of them.
    fn advance(&mut self, events: &EventBytes) -> usize {
        let offset = events.offset(self.position);
        self.position = events.end();
        offset
    }

    /// Queues the events from `offset` on, and the direct frames.
    fn queue_next(&mut self, frames: &Arc<[u8]>, offset: usize, now: Instant) {
        if offset < frames.len() {
            self.queue.push(Piece::frames(frames.clone(), offset), now);
        }
        if !self.direct.is_empty() {
            let direct = std::mem::take(&mut self.direct);
            self.queue.push(Piece::frames(direct.into(), 0), now);
        }
    }

    /// The common case: one write, and nothing is queued.
    fn send_directly(&mut self, frames: &Arc<[u8]>, offset: usize, now: Instant) -> Result<(), End> {
        let Some(bytes) = frames.get(offset..).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let sent = match self.link.socket.send_now(&[IoSlice::new(bytes)]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(End::Disconnected),
        };
        if sent < bytes.len() {
            self.queue.push_rest(Piece::frames(frames.clone(), offset), sent, now);
        }
        Ok(())
    }

    /// Tries again to write the queued bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn retry(&mut self, now: Instant) -> Result<(), End> {
        if self.queue.is_empty() || self.stage == Stage::Gone { Ok(()) } else { self.write_queue(now) }
    }

    /// Sends those of `events` that a live session has not got yet, the direct frames, and the close frame `frame` as the
    /// last frame. Does nothing if the session is closing already.
    pub fn close(&mut self, events: &EventBytes, frame: &[u8], now: Instant) {
        if self.is_live() {
            let offset = self.advance(events);
            self.queue_next(events.frames(), offset, now);
        }
        self.finish(frame, now);
    }

    fn finish(&mut self, close_frame: &[u8], now: Instant) {
        if !self.is_open() {
            return;
        }
        let mut last = std::mem::take(&mut self.direct);
        last.extend_from_slice(close_frame);
        self.queue.push(Piece::frames(last.into(), 0), now);
        self.stage = Stage::Closing { deadline: now + CLOSE_TIMEOUT };
        if self.write_queue(now).is_err() {
            self.disconnect();
        }
    }

    /// Closes the session of a client that reads too slowly. Drops the queued frames, except a frame of which the
    /// socket has accepted a part, so that the client can parse the close frame if it reads again.
    pub fn close_slow_client(&mut self, end: End, now: Instant) {
        self.queue.drop_unsent_frames();
        self.direct.clear();
        self.finish(&wire::close(end.row().code, end.row().text), now);
    }

    /// Closes the connection at once. The read of the session thread then returns.
    pub fn disconnect(&mut self) {
        self.stage = Stage::Gone;
        self.queue.clear();
        self.direct = Vec::new();
        self.link.disconnect();
    }

    /// Does what depends on time alone: sends pings, and checks for missing pongs, an expired token, a slow client and
    /// the deadline of a close. The fan-out thread calls this about once a second.
    ///
    /// # Errors
    /// Why the session ends now; the caller closes it.
    pub fn tick(&mut self, health: &HealthTimes, now: Instant) -> Result<(), End> {
        match self.stage {
            Stage::Gone => return Ok(()),
            Stage::Closing { deadline } => {
                if now >= deadline {
                    self.disconnect();
                }
                return Ok(());
            }
            Stage::Waiting | Stage::Live => {}
        }
        if now >= self.token_expires_at {
            return Err(End::TokenExpired);
        }
        match self.ping {
            Ping::Queued(since) | Ping::Sent(since) if self.link.heard_at() >= since => self.ping = Ping::None,
            Ping::Sent(since) if now >= since + health.pong_timeout => return Err(End::PingTimeout),
            _ => {}
        }
        if !self.queue.is_empty() {
            // No ping is sent: it would wait behind the queue. The progress of the queue shows whether the client
            // reads.
            let takes_nothing = now >= self.queue.progress_at() + health.ping_interval + health.pong_timeout;
            let are_first_frames_late = self.queue.first_bytes() > 0 && now >= self.first_deadline;
            return if takes_nothing || are_first_frames_late { Err(End::TooSlow) } else { Ok(()) };
        }
        if now >= self.ping_at && self.ping == Ping::None && self.stage == Stage::Live {
            self.ping_at = now + health.ping_interval;
            self.ping = Ping::Queued(now);
            self.queue.push(Piece::frames(wire::ping().into(), 0), now);
            return self.write_queue(now);
        }
        Ok(())
    }

    /// Writes until the queue is empty or the socket is full.
    fn write_queue(&mut self, now: Instant) -> Result<(), End> {
        let is_all_sent = self.queue.write(&self.link.socket, now).map_err(|_| End::Disconnected)?;
        if !is_all_sent {
            return Ok(());
        }
        if let Ping::Queued(since) = self.ping {
            self.ping = if self.link.heard_at() >= since { Ping::None } else { Ping::Sent(now) };
        }
        if matches!(self.stage, Stage::Closing { .. }) {
            self.link.finish_writing();
        }
        Ok(())
    }
}

/// When to ping a client, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct HealthTimes {
    /// The time between two pings.
    pub ping_interval: Duration,
    /// The time that the client has to answer a ping.
    pub pong_timeout: Duration,
}

#[cfg(test)]
mod tests;
