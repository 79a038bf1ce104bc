//! [`SendQueue`]: the bytes that the socket of one client has not accepted yet. It writes them again after a growing
//! pause.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use super::piece::Piece;
use crate::limits::{RETRY_PAUSE_FIRST, RETRY_PAUSE_MAX};
use crate::session::socket::Socket;

/// The most parts of one write. Linux allows 1,024.
const PARTS_PER_WRITE: usize = 256;

#[derive(Debug)]
pub(super) struct SendQueue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// How many of `bytes` belong to the first frames (the list of users, and the messages that the client had missed),
    /// which are always at the head of the queue. They do not count against the limit of a slow client: all of them are
    /// queued at once, however fast the client reads, and other sessions share their bytes.
    first_bytes: usize,
    retry_pause: Duration,
    retry_at: Instant,
    /// When the socket last accepted bytes, or the queue was last empty.
    progress_at: Instant,
}

impl SendQueue {
    pub(super) fn new(now: Instant) -> Self {
        SendQueue {
            pieces: VecDeque::new(),
            bytes: 0,
            first_bytes: 0,
            retry_pause: RETRY_PAUSE_FIRST,
            retry_at: now,
            progress_at: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of the first frames that wait.
    pub(super) fn first_bytes(&self) -> usize {
        self.first_bytes
    }

    /// The bytes that wait behind the first frames.
    pub(super) fn bytes_behind(&self) -> usize {
        self.bytes - self.first_bytes
    }

    /// The end of the pause after a write that the socket did not accept as a whole.
    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }

    pub(super) fn progress_at(&self) -> Instant {
        self.progress_at
    }

    pub(super) fn push(&mut self, piece: Piece, now: Instant) {
        if self.pieces.is_empty() {
            self.progress_at = now;
        }
        self.bytes += piece.rest().len();
        self.pieces.push_back(piece);
    }

    /// Adds the first frames of the session to the empty queue.
    pub(super) fn push_first_frames(&mut self, pieces: Vec<Piece>, now: Instant) {
        pieces.into_iter().for_each(|piece| self.push(piece, now));
        self.first_bytes = self.bytes;
    }

    /// Adds a piece, of which the socket has accepted `sent` bytes, to the empty queue.
    pub(super) fn push_rest(&mut self, mut piece: Piece, sent: usize, now: Instant) {
        piece.advance(sent);
        self.push(piece, now);
        self.pause(sent > 0, now);
    }

    /// Writes until the queue is empty or the socket is full. True when the queue is empty.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn write(&mut self, socket: &impl Socket, now: Instant) -> io::Result<bool> {
        let mut progress = false;
        while !self.pieces.is_empty() {
            let parts: Vec<IoSlice<'_>> =
                self.pieces.iter().take(PARTS_PER_WRITE).map(|piece| IoSlice::new(piece.rest())).collect();
            match socket.send_now(&parts) {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pause(progress, now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            progress = true;
            self.progress_at = now;
        }
        // Releases the memory that the queue used during a burst.
        self.pieces = VecDeque::new();
        self.retry_pause = RETRY_PAUSE_FIRST;
        Ok(true)
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes = self.bytes.saturating_sub(sent);
        self.first_bytes = self.first_bytes.saturating_sub(sent);
        while let Some(front) = self.pieces.front_mut() {
            let rest = front.rest().len();
            if sent < rest {
                front.advance(sent);
                return;
            }
            sent -= rest;
            self.pieces.pop_front();
        }
    }

    fn pause(&mut self, progress: bool, now: Instant) {
        self.retry_pause = if progress { RETRY_PAUSE_FIRST } else { (self.retry_pause * 2).min(RETRY_PAUSE_MAX) };
        self.retry_at = now + self.retry_pause;
    }

    /// Drops all frames after the first, of which the socket may have accepted a part. If the first frame is in several
    /// pieces, all of these are kept.
    pub(super) fn drop_unsent_frames(&mut self) {
        let is_end = |piece: &mut Piece| piece.keep_begun_frame();
        let kept = self.pieces.iter_mut().position(is_end).map_or(self.pieces.len(), |last| last + 1);
        self.pieces.truncate(kept);
        self.bytes = self.pieces.iter().map(|piece| piece.rest().len()).sum();
        self.first_bytes = self.first_bytes.min(self.bytes);
    }

    pub(super) fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.bytes = 0;
        self.first_bytes = 0;
    }
}
