//! [`Writer`]: the one thread of this process that appends to the file.
//!
//! It takes a batch of queued records, commits the batch in one transaction, and gives it to the reader. If the commit
//! fails, it tries again; records older than [`DELIVERY_TIMEOUT`] are reported undelivered, in order. It never waits for
//! the reader or the log thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rusqlite::{Connection, TransactionBehavior, params};

use super::checkpoint::Checkpoints;
use super::file::{LogFile, Opened};
use super::handover::{Committed, Handover};
use super::retention::{Cleaner, Retention};
use crate::clock;
use crate::event_log::Entry;
use crate::event_log::batch_timer::BatchTimer;
use crate::event_log::queue::{Queue, Queued};
use crate::lobby::Record;
use crate::log_throttle::LogThrottle;
use crate::sqlite::{self, OpenError};

/// The most records of one transaction.
const BATCH_RECORDS: usize = 1024;
/// No more records are added to a transaction that has more than this many bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The age at which a record that cannot be committed is reported undelivered.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts to commit.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The minimum time between two commits, on average. A commit takes 100 to 200 µs of CPU.
const COMMIT_INTERVAL: Duration = Duration::from_millis(1);
/// After this time without a commit, the next one waits for more records: an idle instance appends a roster and a
/// heartbeat one after the other, and they share a commit.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Why a commit failed. The texts say what to do.
enum Failure {
    /// Another attempt may succeed.
    Passing(String),
    /// The file cannot be used as it is: an operator has to act.
    Unusable(String),
}

pub(super) struct Writer {
    file: Arc<LogFile>,
    opened: Option<Opened>,
    queue: Arc<Queue>,
    handover: Arc<Handover>,
    checkpoints: Checkpoints,
    undelivered: Sender<Record>,
    cleaner: Cleaner,
    /// Records that were taken from the queue and are not settled.
    batch: VecDeque<Queued>,
    timer: BatchTimer,
    is_failing: bool,
    throttle: LogThrottle,
}

impl Writer {
    pub fn new(
        file: Arc<LogFile>,
        opened: Option<Opened>,
        queue: Arc<Queue>,
        handover: Arc<Handover>,
        checkpoints: Checkpoints,
        undelivered: Sender<Record>,
        retention: Retention,
    ) -> Self {
        Writer {
            file,
            opened,
            queue,
            handover,
            checkpoints,
            undelivered,
            cleaner: Cleaner::new(retention),
            batch: VecDeque::new(),
            timer: BatchTimer::new(COMMIT_INTERVAL, Some(IDLE_TIME), Instant::now()),
            is_failing: false,
            throttle: LogThrottle::default(),
        }
    }

    /// Runs until the queue is closed and empty.
    pub fn run(mut self) {
        while self.fill_batch() {
            match self.commit() {
                Ok(first_offset) => self.on_committed(first_offset),
                Err(failure) => self.on_failure(failure),
            }
        }
    }

    /// Waits until there are records to commit or to delete, and fills the batch. False when the queue is closed and
    /// empty.
    fn fill_batch(&mut self) -> bool {
        if self.batch.is_empty() {
            // Under load, records gather during this sleep, and none of them has to wake the thread.
            thread::sleep(self.timer.wait(Instant::now()));
            let due_in = if self.is_failing { None } else { self.cleaner.due_in() };
            if !self.queue.wait_filled(due_in) {
                return false;
            }
            // After an idle time, the first record waits here for those that follow it.
            thread::sleep(self.timer.wait(Instant::now()));
        }
        self.queue.take(&mut self.batch, BATCH_RECORDS, BATCH_BYTES);
        true
    }

    /// Commits the batch. Returns the offset of its first record.
    fn commit(&mut self) -> Result<u64, Failure> {
        let identity = self.file.identity();
        if self.opened.as_ref().is_some_and(|opened| Some(opened.identity) != identity) {
            log::warn!("event log: {} was removed or replaced: opening it again", self.file.path().display());
            self.opened = None;
        }
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.file.open().map_err(|error| match error {
                OpenError::Unusable(text) => Failure::Unusable(text),
                OpenError::NotWritable(text) | OpenError::Unavailable(text) => Failure::Passing(text),
            })?,
        };
        let connection = &mut self.opened.insert(opened).connection;
        let committed = append(connection, &self.batch, &mut self.cleaner);
        committed.map_err(|error| {
            let path = self.file.path().display();
            if sqlite::is_damaged(&error) {
                return Failure::Unusable(format!("{path} is damaged: {error}: move it away, or restore it"));
            }
            if !sqlite::is_locked(&error) {
                self.opened = None;
            }
            Failure::Passing(format!("cannot write {path}: {error}"))
        })
    }

    fn on_committed(&mut self, first_offset: u64) {
        self.timer.on_batch(Instant::now());
        if self.is_failing {
            self.is_failing = false;
            log::info!("event log: {} accepts records again", self.file.path().display());
        }
        if let Some(opened) = &self.opened
            && !self.batch.is_empty()
        {
            let committed = |(offset, queued): (u64, Queued)| Committed {
                entry: Entry { offset, record: Arc::new(queued.record) },
                bytes: queued.json.len(),
            };
            let batch: Vec<Committed> = (first_offset..).zip(self.batch.drain(..)).map(committed).collect();
            let (records, bytes) = (batch.len(), batch.iter().map(|committed| committed.bytes).sum());
            self.handover.give(opened.identity, batch);
            self.queue.settle(records, bytes);
        }
        self.checkpoints.on_committed();
    }

    fn on_failure(&mut self, failure: Failure) {
        self.is_failing = true;
        let (text, is_final) = match failure {
            Failure::Passing(text) => (text, self.queue.is_closed()),
            Failure::Unusable(text) => {
                self.handover.make_unusable(text.clone());
                (text, true)
            }
        };
        if let Some(more) = self.throttle.may_log(&text, Instant::now()) {
            let then = if is_final { "the waiting records are not delivered" } else { "trying again" };
            log::warn!("event log: {text}; {then}{more}");
        }
        let is_over = |queued: &Queued| is_final || queued.queued_at.elapsed() >= DELIVERY_TIMEOUT;
        let count = self.batch.iter().take_while(|queued| is_over(queued)).count();
        for queued in self.batch.drain(..count) {
            self.queue.settle(1, queued.json.len());
            // Sending fails only while the log is being dropped.
            let _ = self.undelivered.send(queued.record);
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Runs one transaction: appends the batch after the newest record, and makes a step of retention. Returns the offset of
/// the first record.
fn append(connection: &mut Connection, batch: &VecDeque<Queued>, cleaner: &mut Cleaner) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut first_offset: i64 = 0;
    if !batch.is_empty() {
        first_offset = transaction
            .prepare_cached("SELECT coalesce(max(offset) + 1, 0) FROM records")?
            .query_row([], |row| row.get(0))?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO records (offset, appended_at, record) VALUES (?1, ?2, ?3)")?;
        let now = clock::stored_unix_seconds();
        for (offset, queued) in (first_offset..).zip(batch) {
            insert.execute(params![offset, now, queued.json])?;
        }
    }
    cleaner.step(&transaction, batch.len())?;
    transaction.commit()?;
    Ok(u64::try_from(first_offset).unwrap_or_default())
}
