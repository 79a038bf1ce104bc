//! [`Wake`]: how the writer wakes the reader of the same process, without a look at the file.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::threads::lock;

#[derive(Default)]
pub(super) struct Wake {
    /// How often the writer has committed, or found another file in the place of the log.
    changes: Mutex<u64>,
    changed: Condvar,
    /// Why the log can never be used as it is.
    unusable: OnceLock<String>,
}

impl Wake {
    /// The file has changed.
    pub fn notify(&self) {
        *lock(&self.changes) += 1;
        self.changed.notify_one();
    }

    /// How many changes there were so far.
    pub fn changes(&self) -> u64 {
        *lock(&self.changes)
    }

    /// Waits for a change beyond the first `seen`, at most for `timeout`. False when the time is over.
    pub fn wait(&self, seen: u64, timeout: Duration) -> bool {
        let changes = lock(&self.changes);
        let waited = self.changed.wait_timeout_while(changes, timeout, |changes| *changes == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0 != seen
    }

    /// Ends reading with this text, the first one that is given.
    pub fn make_unusable(&self, text: String) {
        let _ = self.unusable.set(text);
        self.notify();
    }

    pub fn unusable(&self) -> Option<String> {
        self.unusable.get().cloned()
    }
}
