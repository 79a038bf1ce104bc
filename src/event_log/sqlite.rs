//! The event log in one SQLite file in the data folder: the log of all processes that share the folder.
//!
//! - **Appending** puts the record into a bounded queue (`queue`) and returns. One thread of this process, the writer,
//!   commits the queued records together in one transaction (`writer`), at a limited rate (`batch_timer`), and gives them
//!   to the reader of this process (`handover`).
//! - **Reading** returns committed records only (`reader`). So a message that a client got is in the file, and a crash
//!   or a kill of the process does not lose it. A power failure can undo the last commits, but never damages the file.
//! - **Checkpoints** wait for the disk. So that commits do not, a separate thread runs the checkpoints (`checkpoint`).
//! - **Retention**: the writer deletes the oldest records, a few in each transaction (`retention`).
//!
//! If the disk is full, or the file is locked or was removed, the log does not answer. The writer and the reader then
//! try again without end, and a record that waits too long is reported undelivered.

mod checkpoint;
mod file;
mod handover;
mod reader;
mod retention;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use thiserror::Error;

use self::checkpoint::Checkpoints;
use self::file::LogFile;
use self::handover::Handover;
use self::reader::{Interval, SqliteReader};
pub use self::retention::Retention;
use self::writer::Writer;
use super::queue::Queue;
use super::{AppendError, Appender, EventLog, OpenReader};
use crate::lobby::Record;
use crate::sqlite;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The name of the file in the data folder.
pub const FILE_NAME: &str = "events.sqlite3";
/// The maximum number of records that wait to be committed, and also of undelivered records that the log thread has not
/// received yet.
pub const QUEUE_RECORDS: usize = 8192;
/// The maximum size of the records that wait to be committed, in bytes of JSON.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The largest record in bytes of JSON, about as large as in Kafka.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// How long dropping the log waits for the last commit.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file or the folder cannot be used. The text says why, and what an operator has to do.
    #[error("{0}")]
    Unusable(String),
    /// The system cannot start a thread.
    #[error("a thread of the event log cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Opens the log in this folder. Creates the folder (mode 0700) and the file (mode 0600) if they are missing. Succeeds
/// also if the disk is full or another process keeps the file locked: then the log does not answer yet. `supervisor`
/// starts the threads.
///
/// # Errors
/// See [`OpenError`].
pub fn open(data_dir: &Path, retention: Retention, supervisor: &Supervisor) -> Result<EventLog, OpenError> {
    let file = Arc::new(LogFile::new(data_dir.join(FILE_NAME)));
    let opened = match sqlite::create_folder(data_dir).and_then(|()| file.open()) {
        Ok(opened) => Some(opened),
        Err(sqlite::OpenError::Unusable(text) | sqlite::OpenError::NotWritable(text)) => {
            return Err(OpenError::Unusable(text));
        }
        // The reader logs the reason.
        Err(sqlite::OpenError::Unavailable(_)) => None,
    };
    let queue = Arc::new(Queue::new(QUEUE_RECORDS, QUEUE_BYTES));
    let handover = Arc::new(Handover::default());
    let (report, undelivered) = unbounded();
    // Opened now and not at the first checkpoint, so that the number of open file descriptors does not change later.
    let checkpoints = Checkpoints::start(file.clone(), file.open().ok(), supervisor)?;
    let writer = Writer::new(file.clone(), opened, queue.clone(), handover.clone(), checkpoints, report, retention);
    let appender = SqliteAppender { queue, undelivered: undelivered.clone() };
    supervisor.spawn("log-writer", Stack::Normal, move || {
        writer.run();
        Ok(())
    })?;
    let skipped = Arc::new(AtomicU64::new(0));
    let reader = SqliteReader::new(file.clone(), handover, Interval::Live, skipped.clone());
    let open_reader: OpenReader = Box::new(move || {
        // No writer gives this reader records, and the reader of the log thread counts what it skips, too.
        let (handover, skipped) = (Arc::new(Handover::default()), Arc::default());
        Ok(Box::new(SqliteReader::new(file.clone(), handover, Interval::Unhurried, skipped)))
    });
    Ok(EventLog {
        appender: Arc::new(appender),
        reader: Box::new(reader),
        undelivered,
        skipped,
        open_reader: Some(open_reader),
    })
}

/// Checks the file in this folder like [`open`], as far as that is possible without a change.
///
/// # Errors
/// [`OpenError::Unusable`].
pub(crate) fn check(data_dir: &Path) -> Result<(), OpenError> {
    match file::check(&data_dir.join(FILE_NAME)) {
        Err(sqlite::OpenError::Unusable(text) | sqlite::OpenError::NotWritable(text)) => Err(OpenError::Unusable(text)),
        Ok(()) | Err(sqlite::OpenError::Unavailable(_)) => Ok(()),
    }
}

/// The [`Appender`]. Dropping it closes the queue: the writer commits the queued records and ends.
struct SqliteAppender {
    queue: Arc<Queue>,
    /// The receiving end of the channel of undelivered records, used only for its length. The channel is unbounded,
    /// because the writer must not wait for the log thread; `append` refuses records while it has [`QUEUE_RECORDS`].
    undelivered: Receiver<Record>,
}

impl Appender for SqliteAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        if self.undelivered.len() >= QUEUE_RECORDS {
            return Err(AppendError::Full);
        }
        let json = self.queue.encode(&record, RECORD_BYTES_MAX)?;
        self.queue.push(record, json)
    }

    fn queued_records(&self) -> usize {
        self.queue.unsettled()
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

impl Drop for SqliteAppender {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.wait_settled(Instant::now() + DROP_TIMEOUT);
    }
}
