//! The event log: one ordered sequence of [`Record`]s that every instance appends to and reads all of.
//!
//! This file is the contract; [`memory`] keeps it within one process, [`kafka`] between many. Nothing above this module
//! knows which one it has.
//!
//! The contract, which the tests of both hold them to:
//! - **Order.** Records come out in one order, the same for every reader. Those of one [`Appender`] come out in the
//!   order of its calls of [`Appender::append`].
//! - **No silence.** A record for which `append` returned `Ok` comes back out of the [`Reader`], or is handed back
//!   through [`EventLog::undelivered`]. (In a broker's worst moments it can be both: handed back as undelivered after
//!   a time-out, and yet in the log.)
//! - **Bounds.** `append` never blocks: a full queue is an error, and waiting for room is the caller's business, who
//!   may be holding a lock that the reader needs.

pub mod codec;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use thiserror::Error;

use crate::lobby::Record;

/// One record as it stands in the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place: every later entry has a greater one. There may be gaps.
    pub offset: u64,
    /// What was appended there.
    pub record: Arc<Record>,
}

/// Why a record was not taken. It is in no log, and nothing else will be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AppendError {
    /// Too much waits to be taken already.
    #[error("the queue to the event log is full; try again in a moment")]
    Full,
    /// The record is larger than the log takes.
    #[error("the record is larger than the event log takes")]
    TooLarge,
    /// The log cannot be reached, or is closed.
    #[error("the event log takes no records; try again later")]
    Unavailable,
}

/// Why reading did not go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The log does not answer: try again.
    #[error("the event log cannot be read: {0}")]
    Unavailable(String),
    /// What would have to be read next is gone (cut by retention, or the log was made anew): the state built so far
    /// cannot be carried on, and has to be built again from [`Reader::rewind`].
    #[error("the event log no longer has the records that come next: {0}")]
    Truncated(String),
    /// The log can never be used as it is; the text says what an operator has to change.
    #[error("{0}")]
    Unusable(String),
}

/// Where [`Reader::rewind`] has put the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The offset that is read next.
    pub start: u64,
    /// The end of the log at this moment: the span is read when every entry below it has been.
    pub end: u64,
    /// True when `start` is where the first record there ever was stands or stood: nothing came before.
    pub from_the_beginning: bool,
}

/// The writing end. Shared by all session threads and the log thread.
pub trait Appender: Send + Sync {
    /// Hands `record` to the log. Never blocks.
    ///
    /// # Errors
    /// The record was not taken: see [`AppendError`].
    fn append(&self, record: Record) -> Result<(), AppendError>;

    /// The size of the largest record that the log takes, encoded by [`codec`]. May change while the log is open.
    fn record_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Waits until everything appended so far is in the log or was handed back, or the deadline has come.
    fn flush(&self, deadline: Instant);
}

/// The reading end. Owned by the log thread.
pub trait Reader: Send {
    /// Makes the reader give up waiting within about 100 ms once `flag` is true: [`Reader::rewind`] then fails with
    /// [`ReadError::Unavailable`], and [`Reader::poll`] returns without waiting. A reader that never waits for another
    /// process may ignore it.
    fn give_up_when(&mut self, flag: Arc<AtomicBool>) {
        drop(flag);
    }

    /// Moves to `records` before the present end of the log, or to its start if that is nearer.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] or [`ReadError::Unusable`].
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError>;

    /// The offset of the next entry to be read: all below it have come out, or will never (gaps, skipped records).
    fn position(&self) -> u64;

    /// Waits up to `timeout` for the next entry, then adds it and those that are already here to `entries`, at most
    /// `max` in all. Adds nothing when the time is over. Records that cannot be read (garbage, a later version) are
    /// skipped, counted and logged here.
    ///
    /// # Errors
    /// See [`ReadError`]. After `Unavailable` the reader goes on where it was.
    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError>;
}

/// An open event log, as [`memory::open`] makes it.
pub struct EventLog {
    /// For whoever appends.
    pub appender: Arc<dyn Appender>,
    /// For the log thread.
    pub reader: Box<dyn Reader>,
    /// Records that were taken and could not be delivered after all. The log thread drains it.
    pub undelivered: Receiver<Record>,
    /// How many records of the log [`Reader::poll`] could not read and has skipped. For the metrics.
    pub skipped: Arc<AtomicU64>,
}
