//! [`Checkpoints`]: the thread that copies the write-ahead log into the main file.
//!
//! A checkpoint waits for the disk (two `fsync`), so neither the writer nor the reader runs one. A *passive* checkpoint
//! blocks neither commits nor reads. If nothing is committed while it runs, the next commit starts the write-ahead log
//! from the beginning. Under sustained load there is always such a commit, so the write-ahead log would grow without
//! end. So when it is too large, the writer waits after its commit while a second checkpoint (`RESTART`) copies the
//! remaining pages. SQLite's lock alone is not enough: a writer without pauses nearly always gets it first.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::file::{LogFile, Opened};
use crate::log_throttle::LogThrottle;
use crate::supervisor::Supervisor;
use crate::threads::{Stack, lock};

/// The time from the first commit after a checkpoint to the next checkpoint.
const INTERVAL: Duration = Duration::from_millis(400);
/// The size of the write-ahead log above which a checkpoint blocks commits, in frames (pages of 4 KiB): 32 MiB.
const WAL_FRAMES_MAX: i64 = 8192;

/// The handle with which the writer requests checkpoints. The thread ends when it is dropped.
pub(super) struct Checkpoints(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether there was a commit after the last checkpoint began.
    is_due: bool,
    /// Whether the writer has to wait before its next commit.
    is_writer_paused: bool,
    is_closed: bool,
}

impl Checkpoints {
    /// Starts the thread. `opened` is its connection; `None` if the file could not be opened yet.
    pub fn start(file: Arc<LogFile>, opened: Option<Opened>, supervisor: &Supervisor) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = Checkpointer::new(file, opened, shared.clone(), WAL_FRAMES_MAX);
        supervisor.spawn("log-checkpoint", Stack::Normal, move || {
            thread.run();
            Ok(())
        })?;
        Ok(Checkpoints(shared))
    }

    /// Requests a checkpoint. The writer calls this after each commit. Blocks while a checkpoint needs that no commit
    /// begins.
    pub fn on_committed(&self) {
        let mut state = lock(&self.0.state);
        if !state.is_due {
            state.is_due = true;
            self.0.changed.notify_one();
        }
        drop(self.0.changed.wait_while(state, |state| state.is_writer_paused));
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        lock(&self.0.state).is_closed = true;
        self.0.changed.notify_one();
    }
}

/// While this exists, the writer waits before its next commit.
struct WriterPause<'a>(&'a Shared);

impl<'a> WriterPause<'a> {
    fn new(shared: &'a Shared) -> Self {
        lock(&shared.state).is_writer_paused = true;
        WriterPause(shared)
    }
}

impl Drop for WriterPause<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).is_writer_paused = false;
        self.0.changed.notify_all();
    }
}

struct Checkpointer {
    file: Arc<LogFile>,
    shared: Arc<Shared>,
    opened: Option<Opened>,
    wal_frames_max: i64,
    throttle: LogThrottle,
}

impl Checkpointer {
    fn new(file: Arc<LogFile>, opened: Option<Opened>, shared: Arc<Shared>, wal_frames_max: i64) -> Self {
        Checkpointer { file, shared, opened, wal_frames_max, throttle: LogThrottle::default() }
    }

    fn run(mut self) {
        while self.wait_until_due() {
            if let Err(text) = self.checkpoint() {
                // No record is lost: the write-ahead log grows, and the next checkpoint copies more.
                self.opened = None;
                if let Some(more) = self.throttle.may_log("checkpoint", Instant::now()) {
                    log::warn!("event log: a checkpoint of {} failed: {text}{more}", self.file.path().display());
                }
            }
        }
    }

    /// Waits for a commit, and then for [`INTERVAL`]. False when the log is closed.
    fn wait_until_due(&self) -> bool {
        let Shared { state, changed } = &*self.shared;
        let is_idle = |state: &mut State| !state.is_due && !state.is_closed;
        let state = changed.wait_while(lock(state), is_idle).unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(state, INTERVAL, |state| !state.is_closed);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_due = false;
        !state.is_closed
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        if self.opened.as_ref().is_some_and(|opened| Some(opened.identity) != self.file.identity()) {
            self.opened = None;
        }
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.file.open().map_err(|error| error.to_string())?,
        };
        let connection = &self.opened.insert(opened).connection;
        let frames = run_checkpoint(connection, "PASSIVE").map_err(|error| error.to_string())?;
        if frames > self.wal_frames_max {
            let _pause = WriterPause::new(&self.shared);
            run_checkpoint(connection, "RESTART").map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Runs a checkpoint. Returns the number of frames in the write-ahead log.
fn run_checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    const FRAMES_MAX: i64 = 50;
    const COMMITS: i64 = 16_000;

    /// Commits follow each other without a pause, so that a passive checkpoint never covers all of them.
    #[test]
    fn the_write_ahead_log_is_bounded_under_sustained_load() {
        let folder = std::env::temp_dir().join(format!("ich-checkpoint-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = Arc::new(LogFile::new(folder.join("log")));
        let connection = file.open().unwrap().connection;
        let is_done = AtomicBool::new(false);
        let shared = Arc::new(Shared::default());
        let checkpoints = Checkpoints(shared.clone());
        let mut checkpointer = Checkpointer::new(file, None, shared, FRAMES_MAX);
        let is_done = &is_done;
        // The writer returns its connection, because closing the last connection would remove the write-ahead log.
        let _connection = thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let insert = "INSERT INTO records (offset, appended_at, record) VALUES (?1, 0, 'x')";
                for offset in 0..COMMITS {
                    connection.execute(insert, [offset]).unwrap();
                    checkpoints.on_committed();
                }
                is_done.store(true, Ordering::Release);
                connection
            });
            while !is_done.load(Ordering::Acquire) {
                checkpointer.checkpoint().unwrap();
            }
            writer.join().unwrap()
        });
        let bytes = fs::metadata(folder.join("log-wal")).unwrap().len();
        fs::remove_dir_all(&folder).unwrap();
        assert!(bytes < 4096 * COMMITS as u64 / 4, "{bytes} bytes");
    }
}
