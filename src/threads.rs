//! Threads, as this server starts them: named, with a stack of a known size, and a lock that a panic does not spoil.
//! Threads that live as long as the server are started by the [`Supervisor`](crate::supervisor::Supervisor).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// How much address space a thread's stack has. Only what was touched is memory.
#[derive(Debug, Clone, Copy)]
pub enum Stack {
    /// For the thread of one connection, of which there are thousands: what is deep runs on workers.
    Connection,
    /// For the few others.
    Normal,
}

impl Stack {
    /// How large it is.
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
/// The system has no room for it: shed load, do not give up.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack: Stack,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(format!("ich-{name}")).stack_size(stack.bytes()).spawn(body)
}

/// Locks, whether or not a thread panicked while it held the lock: each update here leaves the value whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
