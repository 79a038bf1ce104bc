//! The archive thread: takes the lead, reads the event log, and stores what the [`Archiver`] decides.
//!
//! It may wait for the database and for the log as long as they do not answer; nobody waits for it, except a graceful
//! stop for a bounded time. After each error it begins again at the stored position. It must never panic because of the
//! database, and it keeps no more than one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{info, warn};
use thiserror::Error;

use super::archiver::{Archiver, GapCause, Next};
use super::store::{ArchiveError, ArchiveStore};
use crate::clock;
use crate::event_log::{Entry, OpenReader, ReadError, SeekingReader};
use crate::lobby::bootstrap::SPANS;
use crate::lobby::state::REPETITION_WINDOW;
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;

/// How many records one poll reads.
const POLL_RECORDS_MAX: usize = 256;
/// How long a poll waits for a record.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// The pause after a transaction, unless more records wait: few transactions have many messages each.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// While many records wait, a batch of this size is stored.
const BATCH_MESSAGES: usize = 512;
/// The same in bytes of text.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The position alone is stored after so long or so many records. If it were not, retention would overtake it in a lobby
/// in which nobody says anything, and the archive would record a gap.
const POSITION_INTERVAL: Duration = Duration::from_secs(60);
/// See [`POSITION_INTERVAL`].
const POSITION_RECORDS: u64 = 16_384;
/// How often an instance that does not archive tries to take the lead.
const LEAD_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after an error.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How many old messages one step deletes.
const DELETE_MESSAGES: u32 = 1000;
/// The time between two steps, if the last one found less than it may delete.
const DELETE_INTERVAL: Duration = Duration::from_secs(60);
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// Why the thread stops archiving, for now or for ever.
#[derive(Debug, Error)]
enum Interrupted {
    #[error("the server stops")]
    Stopping,
    #[error(transparent)]
    Store(#[from] ArchiveError),
    #[error(transparent)]
    Log(#[from] ReadError),
}

/// The thread and what it owns.
pub(crate) struct ArchiveThread {
    store: Box<dyn ArchiveStore>,
    open_reader: OpenReader,
    reader: Option<Box<dyn SeekingReader>>,
    /// Messages are deleted after so many days; `None`: never.
    days: Option<u32>,
    metrics: Arc<Metrics>,
    stop: StopSignal,
    is_leader: Option<bool>,
    errors: LogThrottle,
    has_failed: bool,
    stored_at: Instant,
    delete_at: Instant,
}

/// Ends the thread.
#[derive(Clone)]
pub(crate) struct StopSignal {
    /// Set before `closed` is disconnected. For the reader, which polls it.
    pub(crate) flag: Arc<AtomicBool>,
    /// Disconnected when the thread has to end.
    pub(crate) closed: Receiver<()>,
}

impl StopSignal {
    fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    fn wait(&self, timeout: Duration) -> Result<(), Interrupted> {
        match self.closed.recv_timeout(timeout) {
            Err(RecvTimeoutError::Disconnected) => Err(Interrupted::Stopping),
            _ if self.is_set() => Err(Interrupted::Stopping),
            _ => Ok(()),
        }
    }
}

impl ArchiveThread {
    /// Opens nothing yet.
    pub(crate) fn new(
        store: Box<dyn ArchiveStore>,
        open_reader: OpenReader,
        days: Option<u32>,
        metrics: Arc<Metrics>,
        stop: StopSignal,
    ) -> Self {
        let now = Instant::now();
        ArchiveThread {
            store,
            open_reader,
            reader: None,
            days,
            metrics,
            stop,
            is_leader: None,
            errors: LogThrottle::default(),
            has_failed: false,
            stored_at: now,
            delete_at: now,
        }
    }

    /// The whole life of the thread.
    pub(crate) fn run(mut self) {
        loop {
            let interrupted = match self.archive() {
                Ok(never) => match never {},
                Err(interrupted) => interrupted,
            };
            if matches!(interrupted, Interrupted::Stopping) || self.on_error(&interrupted).is_err() {
                self.metrics.set_archiver(false);
                return;
            }
        }
    }

    /// Logs the error and waits. The error of this method: the server stops.
    fn on_error(&mut self, error: &Interrupted) -> Result<(), Interrupted> {
        self.metrics.set_archiver(false);
        self.metrics.set_archive_up_to_date(false);
        self.has_failed = true;
        let text = error.to_string();
        if !self.stop.is_set()
            && let Some(more) = self.errors.may_log(&text, Instant::now())
        {
            warn!("the archive waits, the chat continues: {text}; trying again{more}");
        }
        self.stop.wait(RETRY_INTERVAL)
    }

    /// Archives until something fails.
    fn archive(&mut self) -> Result<std::convert::Infallible, Interrupted> {
        self.wait_for_lead()?;
        let mut archiver = Archiver::resume(self.store.position()?, REPETITION_WINDOW, SPANS);
        self.seek(&mut archiver)?;
        if self.is_leader.replace(true) != Some(true) || self.has_failed {
            self.has_failed = false;
            info!("this instance archives the messages, from offset {} of the event log on", archiver.first_offset());
        }
        self.metrics.set_archiver(true);
        let mut entries = Vec::new();
        loop {
            let is_behind = self.read(&mut archiver, &mut entries)?;
            let is_stored = self.store_if_due(&mut archiver, is_behind)?;
            self.metrics.set_archive_up_to_date(!is_behind && !archiver.has_news());
            self.delete_if_due()?;
            if self.stop.is_set() {
                // What was read in the last moment.
                self.store_batch(&mut archiver)?;
                return Err(Interrupted::Stopping);
            }
            if is_stored && !is_behind {
                // An early end of this wait leads to the batch above.
                let _ = self.stop.wait(COMMIT_INTERVAL);
            }
        }
    }

    fn wait_for_lead(&mut self) -> Result<(), Interrupted> {
        while !self.store.take_lead()? {
            if self.is_leader.replace(false) != Some(false) {
                info!("another instance archives the messages; this one takes over when it ends");
            }
            self.reader = None;
            self.metrics.set_archiver(false);
            self.metrics.set_archive_up_to_date(true);
            self.stop.wait(LEAD_INTERVAL)?;
        }
        self.stop.wait(Duration::ZERO)
    }

    fn seek(&mut self, archiver: &mut Archiver) -> Result<(), Interrupted> {
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let mut reader = (self.open_reader)()?;
                    reader.give_up_when(self.stop.flag.clone());
                    none.insert(reader)
                }
            };
            let span = reader.seek(archiver.first_offset())?;
            if archiver.begin(span) == Next::Record {
                return Ok(());
            }
        }
    }

    /// Reads the next records. True if there are probably more.
    fn read(&mut self, archiver: &mut Archiver, entries: &mut Vec<Entry>) -> Result<bool, Interrupted> {
        entries.clear();
        let Some(reader) = &mut self.reader else { return Ok(false) };
        reader.poll(POLL_WAIT, POLL_RECORDS_MAX, entries)?;
        for entry in entries.iter() {
            if archiver.apply(entry) == Next::Seek {
                self.seek(archiver)?;
                return Ok(true);
            }
        }
        Ok(entries.len() >= POLL_RECORDS_MAX)
    }

    /// Stores a batch when nothing more waits to be read, or when it is large. True if it did.
    fn store_if_due(&mut self, archiver: &mut Archiver, is_behind: bool) -> Result<bool, Interrupted> {
        let (messages, bytes) = archiver.waiting();
        let is_full = messages >= BATCH_MESSAGES || bytes >= BATCH_BYTES;
        let is_position_due = self.stored_at.elapsed() >= POSITION_INTERVAL;
        let has_read_many = archiver.records_read() >= POSITION_RECORDS;
        let is_due = is_full || has_read_many || (!is_behind && (archiver.has_news() || is_position_due));
        if is_due { self.store_batch(archiver) } else { Ok(false) }
    }

    fn store_batch(&mut self, archiver: &mut Archiver) -> Result<bool, Interrupted> {
        let Some(batch) = archiver.take_batch() else { return Ok(false) };
        let added = self.store.append(&batch, clock::stored_unix_seconds())?;
        self.stored_at = Instant::now();
        self.metrics.archived(added, u64::from(batch.gap.is_some()));
        if let Some(gap) = batch.gap {
            let cause = match gap.cause {
                GapCause::Retention => "retention has deleted records of the event log that the archive needed",
                GapCause::AnotherLog => "the event log is not the one that was archived: it was deleted or replaced",
            };
            warn!("the archive has a gap from offset {} to {}: {cause}", gap.from, gap.to);
        }
        Ok(true)
    }

    /// Deletes a few of the messages that are too old.
    fn delete_if_due(&mut self) -> Result<(), Interrupted> {
        let Some(days) = self.days.filter(|_| Instant::now() >= self.delete_at) else { return Ok(()) };
        let before = clock::stored_unix_seconds().saturating_sub(i64::from(days) * SECONDS_PER_DAY);
        let deleted = self.store.delete(before, DELETE_MESSAGES)?;
        // The next step follows after the next poll.
        if deleted < u64::from(DELETE_MESSAGES) {
            self.delete_at = Instant::now() + DELETE_INTERVAL;
        }
        Ok(())
    }
}
