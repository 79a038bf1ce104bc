//! Starts threads with a name and a stack of a fixed size, and locks mutexes. The only user of
//! [`std::thread::Builder`]. Threads that live as long as the server are started by the
//! [`Supervisor`](crate::supervisor::Supervisor).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The size of a thread's stack, in address space. Only pages that were used take memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stack {
    /// For the thousands of connection threads, which use little stack: 256 KiB.
    Connection,
    /// For all other threads: 2 MiB.
    Normal,
}

impl Stack {
    /// The size in bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Stack::Connection => 256 * 1024,
            Stack::Normal => 2 * 1024 * 1024,
        }
    }
}

/// Starts a thread called `ich-{name}`.
///
/// # Errors
/// The system has no memory or no thread id for it.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    stack: Stack,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(format!("ich-{name}")).stack_size(stack.bytes()).spawn(body)
}

/// Locks `mutex`, also after a thread panicked while it held the lock. Each update under a lock of this crate leaves
/// the value valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
