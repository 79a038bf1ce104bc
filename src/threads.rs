//! Starts threads with a name and a stack of a fixed size, and locks mutexes. The only user of
//! [`std::thread::Builder`]. Threads that live as long as the server are started by the
//! [`Supervisor`](crate::supervisor::Supervisor).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The size of a thread's stack, in address space. Only pages that were used take memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stack {
    /// 256 KiB, for the thousands of connection threads, which use little stack.
    Connection,
    /// 2 MiB, for all other threads.
    Normal,
}

impl Stack {
    /// The size of the stack in bytes.
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

/// Locks `mutex`, also after a thread panicked while it held the lock. That is safe, because a panic under a lock of
/// this crate never leaves the value half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
