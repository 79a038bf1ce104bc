//! [`Supervisor`]: starts all long-lived threads, and reports the first that fails. The threads of connections and a
//! few short-lived threads are started with [`threads::spawn`].
//!
//! The main thread waits for [`Supervisor::failures`]. Otherwise a server whose log thread has panicked would still
//! look ready. No thread is started again: the state of a thread that panicked may be inconsistent. So the process
//! ends, and systemd or Kubernetes starts a new one.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use thiserror::Error;

use crate::threads::{self, Stack};

/// Why the server cannot continue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// A thread panicked, which is a defect of the server.
    #[error("the thread {thread} panicked: {message} (a defect of the server)")]
    Panicked {
        /// The name of the thread.
        thread: String,
        /// The message of the panic.
        message: String,
    },
    /// A thread ended because it cannot do its work.
    #[error("{reason}")]
    Ended {
        /// The name of the thread.
        thread: String,
        /// The cause and what an operator has to change, as one sentence.
        reason: String,
    },
}

/// Starts threads and reports failures. Cheap to clone: all clones share one receiver. Any thread may use it.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    has_failed: AtomicBool,
    /// Has capacity 1: only the first failure is kept, because later failures are its consequences.
    report: Sender<Failure>,
    failures: Receiver<Failure>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let (report, failures) = bounded(1);
        Supervisor { shared: Arc::new(Shared { has_failed: AtomicBool::new(false), report, failures }) }
    }
}

impl Supervisor {
    /// Starts a thread called `ich-{name}`. The thread has failed if `body` panics or returns an error, which is the
    /// reason for the operator.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn spawn(
        &self,
        name: &str,
        stack: Stack,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (supervisor, thread) = (self.clone(), format!("ich-{name}"));
        threads::spawn(name, stack, move || match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => supervisor.fail(Failure::Ended { thread, reason }),
            Err(payload) => {
                supervisor.fail(Failure::Panicked { thread, message: message_of(payload.as_ref()) });
                // Dropping the payload may panic again. The process ends anyway.
                std::mem::forget(payload);
            }
        })
    }

    /// Receives the first failure.
    #[must_use]
    pub(crate) fn failures(&self) -> &Receiver<Failure> {
        &self.shared.failures
    }

    /// Whether a thread has failed.
    #[must_use]
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    fn fail(&self, failure: Failure) {
        self.shared.has_failed.store(true, Ordering::Release);
        let _ = self.shared.report.try_send(failure);
    }
}

/// The message of a panic: a literal or a formatted text.
fn message_of(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_reported_with_the_name_of_its_thread() {
        let supervisor = Supervisor::default();
        let spawn = |name: &str, body: fn() -> Result<(), String>| {
            supervisor.spawn(name, Stack::Normal, body).unwrap().join().unwrap();
        };
        spawn("a", || Ok(()));
        assert!(!supervisor.has_failed());
        spawn("b", || panic!("injected by {}", "a test"));
        spawn("c", || Err("a consequence".into()));
        assert!(supervisor.has_failed());
        let failure = supervisor.failures().try_recv().unwrap();
        assert_eq!(failure, Failure::Panicked { thread: "ich-b".into(), message: "injected by a test".into() });
        assert_eq!(failure.to_string(), "the thread ich-b panicked: injected by a test (a defect of the server)");
        assert!(supervisor.failures().try_recv().is_err());
    }

    #[test]
    fn a_thread_that_returns_an_error_is_reported_with_its_reason() {
        let supervisor = Supervisor::default();
        supervisor.spawn("a", Stack::Normal, || Err("set this".into())).unwrap().join().unwrap();
        assert_eq!(supervisor.failures().recv().unwrap().to_string(), "set this");
    }
}
