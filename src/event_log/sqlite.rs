//! The event log in one SQLite file in the data folder: the log of all processes that share the folder.
//!
//! - **Appending** puts the record into a bounded queue and returns. One thread of this process, the writer, commits
//!   everything that is queued in one transaction (`writer`), and wakes this process's reader (`wake`).
//! - **Reading** sees committed records only, so what a client was shown is in the file, and survives the end of the
//!   process at any moment. A power failure can undo the last commits, but never damages the file.
//! - **Checkpoints** wait for the disk, so the writer makes none: a thread of their own does (`checkpoint`).
//! - **Retention** deletes the oldest records in small steps, on the writer (`retention`).
//!
//! A full disk, a locked or a removed file is a log that does not answer: the writer and the reader try again for ever,
//! and what waits too long is reported undelivered.

mod checkpoint;
mod file;
mod queue;
mod reader;
mod retention;
mod wake;
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
use self::queue::Queue;
use self::reader::{Pace, SqliteReader};
pub use self::retention::Retention;
use self::wake::Wake;
use self::writer::Writer;
use super::{AppendError, Appender, EventLog, OpenReader, codec};
use crate::lobby::Record;
use crate::sqlite;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The file's name in the data folder.
pub const FILE_NAME: &str = "events.sqlite3";
/// How many records may wait to be committed, and as many again that were reported undelivered and not yet read.
pub const QUEUE_RECORDS: usize = 8192;
/// How large the waiting records may be together.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The largest record, as in Kafka.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// How long dropping the log waits for the last commit.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An operator has to do what the text says.
    #[error("{0}")]
    Unusable(String),
    /// The system has no room for a thread.
    #[error("no thread for the event log: {0}")]
    Thread(#[from] io::Error),
}

/// Opens the log in this folder. Creates the folder (mode 0700) and the file (mode 0600) if they are missing. A full disk
/// or a file that another process keeps locked is not an error here, but a log that does not answer yet. `supervisor`
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
    let wake = Arc::new(Wake::default());
    let (report, undelivered) = unbounded();
    // Opened now, so that the number of descriptors does not change later.
    let checkpoints = Checkpoints::start(file.clone(), file.open().ok(), supervisor)?;
    let writer = Writer::new(file.clone(), opened, queue.clone(), wake.clone(), checkpoints, report, retention);
    let appender = SqliteAppender { queue, undelivered: undelivered.clone() };
    supervisor.spawn("log-writer", Stack::Normal, move || {
        writer.run();
        Ok(())
    })?;
    let skipped = Arc::new(AtomicU64::new(0));
    let reader = SqliteReader::new(file.clone(), wake, Pace::Live, skipped.clone());
    let open_reader: OpenReader = Box::new(move || {
        // Nothing wakes this reader, and the reader of the log thread counts what it skips, too.
        let (wake, skipped) = (Arc::new(Wake::default()), Arc::default());
        Ok(Box::new(SqliteReader::new(file.clone(), wake, Pace::Unhurried, skipped)))
    });
    Ok(EventLog {
        appender: Arc::new(appender),
        reader: Box::new(reader),
        undelivered,
        skipped,
        open_reader: Some(open_reader),
    })
}

/// The [`Appender`]. The writer ends when it is dropped, after it has committed what is queued.
struct SqliteAppender {
    queue: Arc<Queue>,
    /// For its length only. The channel is unbounded, as the writer must not wait for the log thread; `append` refuses
    /// while [`QUEUE_RECORDS`] are in it.
    undelivered: Receiver<Record>,
}

impl Appender for SqliteAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        if self.undelivered.len() >= QUEUE_RECORDS {
            return Err(AppendError::Full);
        }
        let json = codec::encode_text(&record).map_err(|error| {
            log::error!("a record cannot be written as JSON: {error}");
            AppendError::Unavailable
        })?;
        if json.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        self.queue.push(record, json)
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
