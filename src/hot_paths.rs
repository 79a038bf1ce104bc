//! Access to the code that runs once per event or per delivery, for `cargo bench` (`benches/hot_paths`) only. The
//! modules of this code stay private otherwise. Not a part of the interface of this library.

use std::sync::Arc;

use crate::event_log::codec;
use crate::lobby::{Event, Record, SessionId};
use crate::log_thread::batch_builder::{self, BatchBuilder};
use crate::session::fan_out::{Command, DetachedThread, FanOut};
use crate::session::outbox::Piece;
use crate::session::protocol;

/// Appends the frame of an event to `out`.
pub fn put_event(event: &Event, record: &Record, out: &mut Vec<u8>) {
    protocol::put_event(event, record, out);
}

/// Decodes a record of the event log.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Record> {
    codec::decode(bytes).ok()
}

/// The `users_online` frame of a list, in parts.
#[must_use]
pub fn users_online(sent_at: &str, names: &[Arc<[u8]>]) -> Vec<Piece> {
    batch_builder::users_online(sent_at, None, names)
}

/// The batches of the log thread, without a fan-out thread that receives them.
pub struct Batches {
    builder: BatchBuilder,
    fan_out: FanOut,
    threads: Vec<DetachedThread>,
}

impl Batches {
    /// Batches for so many fan-out threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let (fan_out, detached) = FanOut::detached(threads);
        Batches { builder: BatchBuilder::new(threads), fan_out, threads: detached }
    }

    /// Adds an event of `record`.
    pub fn put(&mut self, event: &Event, record: &Record) {
        self.builder.put(event, record);
    }

    /// Makes a session live.
    pub fn admit(&mut self, session: SessionId, first_frames: Vec<Piece>) {
        self.builder.admit(self.fan_out.thread_of(session), session, first_frames);
    }

    /// Sends the batch. Returns the bytes that all threads got.
    pub fn flush(&mut self) -> usize {
        self.builder.flush(&self.fan_out, None);
        let commands = self.threads.iter().flat_map(DetachedThread::receive);
        commands.map(|command| if let Command::Events(batch) = command { batch.frames.len() } else { 0 }).sum()
    }
}
