//! [`Wake`]: the writer wakes the reader of the same process, so that the reader need not ask the file.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::threads::lock;

#[derive(Default)]
pub(super) struct Wake {
    /// How many times [`Wake::notify`] was called.
    changes: Mutex<u64>,
    changed: Condvar,
    /// Why the log cannot be used, if the writer has found that out.
    unusable: OnceLock<String>,
}

impl Wake {
    /// Reports a change of the file.
    pub fn notify(&self) {
        *lock(&self.changes) += 1;
        self.changed.notify_one();
    }

    /// The number of changes reported so far.
    pub fn changes(&self) -> u64 {
        *lock(&self.changes)
    }

    /// Waits up to `timeout` until there are more changes than `seen`. False after a time-out.
    pub fn wait(&self, seen: u64, timeout: Duration) -> bool {
        let changes = lock(&self.changes);
        let waited = self.changed.wait_timeout_while(changes, timeout, |changes| *changes == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0 != seen
    }

    /// Makes the reader end with [`ReadError::Unusable`](crate::event_log::ReadError::Unusable) and this text. Only the
    /// first call has an effect.
    pub fn make_unusable(&self, text: String) {
        let _ = self.unusable.set(text);
        self.notify();
    }

    pub fn unusable(&self) -> Option<String> {
        self.unusable.get().cloned()
    }
}
