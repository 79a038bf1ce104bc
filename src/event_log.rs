//! The event log: one ordered sequence of [`Record`]s. Every instance appends to it and reads all of it.
//!
//! This file is the contract. [`sqlite`] implements it in a file, for the processes of one machine that share a folder,
//! [`kafka`] for many machines, and [`memory`] within one process. Callers do not know which implementation they use.
//!
//! The contract, which `tests/event_logs.rs` checks for all three:
//! - **Order.** Every reader gets all records in the same order. The records of one [`Appender`] are in the order of
//!   its calls of [`Appender::append`].
//! - **No silent loss.** A record for which `append` returned `Ok` is read back from the [`Reader`], or is reported
//!   through [`EventLog::undelivered`]. After a time-out of a broker it can be both: reported undelivered, and in the
//!   log.
//! - **Bounds.** `append` never blocks. A full queue is an error, and the caller decides whether to wait: it may hold a
//!   lock that the reader needs.

mod batch_timer;
pub mod codec;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
mod queue;
pub mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crossbeam_channel::Receiver;
use thiserror::Error;

use crate::lobby::Record;

/// One record in the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The position in the log. Later entries have greater offsets. There may be gaps.
    pub offset: u64,
    /// The record as it was appended.
    pub record: Arc<Record>,
}

/// Why the log did not accept a record. The record is not in the log, and is not reported undelivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The queue to the log is full. The record may nevertheless be too large.
    #[error("the queue to the event log is full; try again in a moment")]
    Full,
    /// The record is larger than the log accepts.
    #[error("the record is larger than the event log accepts")]
    TooLarge,
    /// The log is unreachable or closed.
    #[error("the event log accepts no records; try again later")]
    Unavailable,
}

/// Why a [`Reader`] could not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The log does not answer. The caller tries again.
    #[error("the event log cannot be read: {0}")]
    Unavailable(String),
    /// The next records are gone: retention removed them, or the log was deleted and created again. The caller must
    /// discard its state and build a new one, beginning with [`Reader::rewind`].
    #[error("the event log no longer has the records that come next: {0}")]
    Truncated(String),
    /// The log cannot be used as it is. The text says what an operator has to change.
    #[error("{0}")]
    Unusable(String),
}

/// The part of the log that a reader reads after [`Reader::rewind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The offset that is read next.
    pub start: u64,
    /// The end of the log at the time of the call: the offset after the last record of the span.
    pub end: u64,
    /// True if no record was ever before `start`.
    pub from_the_beginning: bool,
}

/// The writing end. All session threads and the log thread share it.
pub trait Appender: Send + Sync {
    /// Appends `record`. Never blocks.
    ///
    /// # Errors
    /// The log did not accept the record: see [`AppendError`].
    fn append(&self, record: Record) -> Result<(), AppendError>;

    /// The number of records that `append` has accepted and that the log has not written yet. For the metrics.
    fn queued_records(&self) -> usize {
        0
    }

    /// The size in bytes of the largest record that the log accepts, encoded by [`codec`]. May change while the log is
    /// open.
    fn record_bytes_max(&self) -> usize {
        usize::MAX
    }
}

/// The reading end. The log thread owns it and makes all calls.
pub trait Reader: Send {
    /// Makes the reader stop waiting within about 100 ms after `flag` became true: [`Reader::rewind`] then fails with
    /// [`ReadError::Unavailable`], and [`Reader::poll`] returns without waiting. A reader that never waits for another
    /// process may ignore the flag.
    fn give_up_when(&mut self, flag: Arc<AtomicBool>) {
        drop(flag);
    }

    /// Moves to `records` records before the present end of the log, or to its start if the log has fewer.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] or [`ReadError::Unusable`].
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError>;

    /// The offset of the next entry: the reader has returned or skipped all entries before it.
    fn position(&self) -> u64;

    /// Waits up to `timeout` for the next entry, and adds it and all other available entries to `entries`, until there
    /// are `max`. Adds nothing after a time-out. Records that cannot be decoded (invalid, or of a later version) are
    /// skipped, counted and logged.
    ///
    /// # Errors
    /// See [`ReadError`]. After `Unavailable` the reader continues at the same position.
    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError>;
}

/// A reader of its own for the archive, which begins where the archive ends.
pub trait SeekingReader: Reader {
    /// Moves to the entry at `offset`: to the start of the log if it begins later, and to its end if it ends before.
    ///
    /// # Errors
    /// As for [`Reader::rewind`].
    fn seek(&mut self, offset: u64) -> Result<Span, ReadError>;
}

/// Opens another reader of the same log. Any thread.
pub type OpenReader = Box<dyn Fn() -> Result<Box<dyn SeekingReader>, ReadError> + Send>;

/// An open event log, from [`sqlite::open`], [`memory::open`] or [`kafka::open`].
pub struct EventLog {
    /// The writing end.
    pub appender: Arc<dyn Appender>,
    /// The reading end, for the log thread.
    pub reader: Box<dyn Reader>,
    /// Records that `append` accepted and that could not be delivered. The log thread drains it.
    pub undelivered: Receiver<Record>,
    /// How many records [`Reader::poll`] has skipped, for the metrics.
    pub skipped: Arc<AtomicU64>,
    /// Opens a reader for the archive. `None` if the log can be read only once: [`memory`].
    pub open_reader: Option<OpenReader>,
}
