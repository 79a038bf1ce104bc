//! [`SqliteReader`]: reads the records that this and other processes have committed.
//!
//! The log thread owns one reader, and the archive another. The writer of this process gives its records to the reader of
//! the log thread after each commit (`handover`). To notice other commits, a reader asks SQLite whether the file has
//! changed: that of the log thread every few milliseconds, that of the archive five times per second. This takes some
//! microseconds and reads no records. The reader reads the file after such a change, and if the next record of this
//! process does not follow the last one that was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

use super::file::{LogFile, Opened};
use super::handover::{Handover, Taken};
use crate::event_log::{Entry, ReadError, Reader, SeekingReader, Span, codec};
use crate::log_throttle::LogThrottle;
use crate::sqlite::{self, OpenError};

/// The interval at which the reader asks whether another process has committed, while it has seen such a commit within
/// [`BUSY_TIME`].
const BUSY_INTERVAL: Duration = Duration::from_millis(4);
/// The same interval otherwise. The first record of another process waits for it at most.
const IDLE_INTERVAL: Duration = Duration::from_millis(15);
/// The same interval for the reader of the archive.
const UNHURRIED_INTERVAL: Duration = Duration::from_millis(200);
/// After this time without a commit of another process, none is running: each appends a heartbeat every second.
const BUSY_TIME: Duration = Duration::from_secs(5);
/// The interval at which the reader checks whether the file was removed or replaced.
const FILE_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The time that a failed poll waits before it returns, so that a caller that polls in a loop uses little CPU.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// One poll stops reading after this many bytes.
const POLL_BYTES: usize = 8 * 1024 * 1024;

/// How soon a reader notices the records of other connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    /// Within some milliseconds: clients wait for the records.
    Live,
    /// Within [`UNHURRIED_INTERVAL`].
    Unhurried,
}

pub(super) struct SqliteReader {
    file: Arc<LogFile>,
    handover: Arc<Handover>,
    interval: Interval,
    opened: Option<Opened>,
    /// The value of `PRAGMA data_version` before the last read.
    data_version: i64,
    position: u64,
    /// The file may have records from the position on that were not handed over.
    is_file_due: bool,
    /// Another process may have appended them.
    is_change_of_others: bool,
    file_checked_at: Instant,
    /// When the reader last noticed a commit of another process.
    others_at: Option<Instant>,
    skipped: Arc<AtomicU64>,
    throttle: LogThrottle,
}

impl SqliteReader {
    /// `skipped` counts the rows that cannot be decoded.
    pub fn new(file: Arc<LogFile>, handover: Arc<Handover>, interval: Interval, skipped: Arc<AtomicU64>) -> Self {
        SqliteReader {
            file,
            handover,
            interval,
            opened: None,
            data_version: 0,
            position: 0,
            is_file_due: true,
            is_change_of_others: false,
            file_checked_at: Instant::now(),
            others_at: None,
            skipped,
            throttle: LogThrottle::default(),
        }
    }

    /// The connection. Opens a new one if there is none.
    fn connection(&mut self) -> Result<&Connection, ReadError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.file.open().map_err(|error| match error {
                OpenError::Unusable(text) => ReadError::Unusable(text),
                OpenError::NotWritable(text) | OpenError::Unavailable(text) => ReadError::Unavailable(text),
            })?,
        };
        Ok(&self.opened.insert(opened).connection)
    }

    fn failed(&mut self, error: &rusqlite::Error) -> ReadError {
        let path = self.file.path().display();
        if sqlite::is_damaged(error) {
            return ReadError::Unusable(format!("{path} is damaged: {error}: move it away, or restore it"));
        }
        let error = ReadError::Unavailable(format!("cannot read {path}: {error}"));
        self.opened = None;
        self.is_file_due = true;
        error
    }

    /// Fails with [`ReadError::Truncated`] if the file was removed or replaced since it was opened.
    fn check_file(&mut self) -> Result<(), ReadError> {
        self.file_checked_at = Instant::now();
        let Some(opened) = &self.opened else { return Ok(()) };
        if self.file.identity() == Some(opened.identity) {
            return Ok(());
        }
        Err(ReadError::Truncated(format!("{} was removed or replaced", self.file.path().display())))
    }

    /// Adds at most `max` entries from the position on. True if the file had any row there.
    fn read(&mut self, max: usize, entries: &mut Vec<Entry>) -> Result<bool, ReadError> {
        self.connection()?;
        let Some(Opened { connection, .. }) = &self.opened else { return Ok(false) };
        let before = self.position;
        let read = read_rows(connection, before, max);
        let (version, rows, end) = read.map_err(|error| self.failed(&error))?;
        self.data_version = version;
        let first = rows.first().map_or(end, |row| row.offset);
        if first > before && !rows.is_empty() {
            return Err(ReadError::Truncated(format!(
                "retention has deleted the records from {before} to {}",
                first - 1
            )));
        }
        if end < before {
            return Err(ReadError::Truncated(format!("it ends at offset {end}, but was already read up to {before}")));
        }
        let is_any = !rows.is_empty();
        self.is_file_due = is_any;
        if std::mem::take(&mut self.is_change_of_others) && is_any {
            self.others_at = Some(Instant::now());
        }
        for Row { offset, record } in rows {
            match record {
                Ok(record) => entries.push(Entry { offset, record: Arc::new(record) }),
                Err(reason) => self.on_skipped(offset, &reason),
            }
            self.position = offset + 1;
        }
        Ok(is_any)
    }

    /// Adds what the writer has handed over and follows the position, at most `max` entries. True when there was anything.
    fn take_handed_over(&mut self, max: usize, entries: &mut Vec<Entry>) -> bool {
        let file = self.opened.as_ref().map(|opened| opened.identity);
        match self.handover.take(file, self.position, max, entries) {
            Taken::UpTo(position) => {
                self.position = position;
                true
            }
            Taken::Nothing => false,
            Taken::InFile => {
                self.is_file_due = true;
                self.is_change_of_others = true;
                false
            }
        }
    }

    fn on_skipped(&self, offset: u64, reason: &codec::DecodeError) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.throttle.may_log("skipped", Instant::now()) {
            log::warn!("event log: skipped the record at offset {offset}: {reason}{more}");
        }
    }

    /// Waits until the file may have changed. False if it has not changed until the deadline.
    fn wait(&mut self, changes: u64, deadline: Instant) -> Result<bool, ReadError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let is_woken = self.handover.wait(changes, self.poll_interval().min(left));
            if self.file_checked_at.elapsed() >= FILE_CHECK_INTERVAL {
                self.check_file()?;
            }
            if is_woken {
                return Ok(true);
            }
            let Some(Opened { connection, .. }) = &self.opened else { return Ok(true) };
            let version = data_version(connection).map_err(|error| self.failed(&error))?;
            if version != self.data_version {
                // Perhaps by a commit of this process, whose records were handed over.
                self.is_file_due = true;
                self.is_change_of_others = true;
                return Ok(true);
            }
        }
    }

    fn poll_interval(&self) -> Duration {
        let is_busy = self.others_at.is_some_and(|at| at.elapsed() < BUSY_TIME);
        match self.interval {
            Interval::Unhurried => UNHURRIED_INTERVAL,
            Interval::Live if is_busy => BUSY_INTERVAL,
            Interval::Live => IDLE_INTERVAL,
        }
    }

    /// Moves to the offset that `start` chooses from the first offset of the log and the one after the last.
    fn move_to(&mut self, start: impl FnOnce(u64, u64) -> u64) -> Result<Span, ReadError> {
        if self.check_file().is_err() {
            self.opened = None;
        }
        let (first, end) = bounds(self.connection()?).map_err(|error| self.failed(&error))?;
        let start = start(first, end);
        self.position = start;
        self.handover.clear();
        self.is_file_due = true;
        Ok(Span { start, end, from_the_beginning: start == 0 })
    }

    fn poll_until(&mut self, deadline: Instant, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        loop {
            if let Some(text) = self.handover.unusable() {
                return Err(ReadError::Unusable(text));
            }
            let changes = self.handover.changes();
            if self.take_handed_over(max, entries) || (self.is_file_due && self.read(max, entries)?) {
                return Ok(());
            }
            if !self.wait(changes, deadline)? {
                return Ok(());
            }
        }
    }
}

impl Reader for SqliteReader {
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        self.move_to(|first, end| first.max(end.saturating_sub(records)))
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let deadline = Instant::now() + timeout;
        let max = max.saturating_sub(entries.len());
        if max == 0 {
            return Ok(());
        }
        self.poll_until(deadline, max, entries).inspect_err(|error| {
            if matches!(error, ReadError::Unavailable(_)) {
                thread::sleep(RETRY_INTERVAL.min(timeout));
            }
        })
    }
}

impl SeekingReader for SqliteReader {
    fn seek(&mut self, offset: u64) -> Result<Span, ReadError> {
        self.move_to(|first, end| offset.clamp(first, end))
    }
}

/// One row: a record, or why it cannot be decoded.
struct Row {
    offset: u64,
    record: Result<crate::lobby::Record, codec::DecodeError>,
}

/// The data version of the file, the rows from `position` on, and the offset after the last row.
fn read_rows(connection: &Connection, position: u64, max: usize) -> rusqlite::Result<(i64, Vec<Row>, u64)> {
    // Queried before the rows: a commit in between changes the version again, so its rows are read next.
    let version = data_version(connection)?;
    let mut select = select(connection)?;
    let mut selected = select.query([to_sql(position), i64::try_from(max).unwrap_or(i64::MAX)])?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < POLL_BYTES
        && let Some(row) = selected.next()?
    {
        let text = match row.get_ref(1)? {
            ValueRef::Text(text) | ValueRef::Blob(text) => text,
            _ => &[],
        };
        bytes += text.len();
        rows.push(Row { offset: from_sql(row.get(0)?), record: codec::decode(text) });
    }
    let end = match rows.last() {
        Some(row) => row.offset + 1,
        None => bounds(connection)?.1,
    };
    Ok((version, rows, end))
}

fn select(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached("SELECT offset, record FROM records WHERE offset >= ?1 ORDER BY offset LIMIT ?2")
}

/// A number that changes when another connection, of this or another process, commits.
fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The offset of the first record, and the offset after the last. Both are 0 for an empty log.
fn bounds(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    // One statement, so that both values come from one snapshot. Each subquery reads only one end of the table.
    connection
        .prepare_cached("SELECT (SELECT min(offset) FROM records), (SELECT max(offset) + 1 FROM records)")?
        .query_row([], |row| {
            let (first, end): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok((from_sql(first.unwrap_or(0)), from_sql(end.unwrap_or(0))))
        })
}

fn to_sql(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn from_sql(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
