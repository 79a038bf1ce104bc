//! The archive: copies every published message from the event log into the database of the accounts, once.
//!
//! - [`archiver`]: decides which messages the archive gets. Pure.
//! - [`store`]: the contract of a store. [`sqlite`] and [`postgres`] implement it.
//! - `thread`: the archive thread, which reads the log and writes to the store. One instance archives at a time.
//! - `place`: which database it is. `reader`: reads the archive for `/history`. `export`: `ich export`.
//!
//! The archive is a reader of the event log like any instance: the chat does not know of it, and does not wait for it.

pub mod archiver;
pub(crate) mod export;
pub(crate) mod place;
pub mod postgres;
pub(crate) mod reader;
pub mod sqlite;
pub mod store;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

pub use self::store::ArchiveStore;
use self::thread::{ArchiveThread, StopSignal};
use crate::event_log::OpenReader;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The running archive thread.
pub(crate) struct RunningArchive {
    flag: Arc<AtomicBool>,
    stop: Sender<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Starts the archive thread. Messages are deleted after `days`; `None`: never.
///
/// # Errors
/// The system cannot start a thread.
pub(crate) fn start(
    store: Box<dyn ArchiveStore>,
    open_reader: OpenReader,
    days: Option<u32>,
    metrics: Arc<Metrics>,
    supervisor: &Supervisor,
) -> io::Result<RunningArchive> {
    let flag = Arc::new(AtomicBool::new(false));
    let (stop, closed) = bounded(0);
    let (alive, ended) = bounded(0);
    let signal = StopSignal { flag: flag.clone(), closed };
    let thread = ArchiveThread::new(store, open_reader, days, metrics, signal);
    supervisor.spawn("archiver", Stack::Normal, move || {
        thread.run();
        drop(alive);
        Ok(())
    })?;
    Ok(RunningArchive { flag, stop, ended })
}

impl RunningArchive {
    /// Makes the thread store what it has read, and end. Waits for that until `deadline`: while the database does not
    /// answer, the thread does not end either. The next archiver continues at the stored position.
    pub(crate) fn stop(self, deadline: Instant) {
        self.flag.store(true, Ordering::Release);
        drop(self.stop);
        // Nothing is ever sent.
        let _ = self.ended.recv_deadline(deadline);
    }
}
