//! [`Workers`]: a few long-lived threads for work that uses much stack, such as parsing JSON and checking tokens and
//! handshakes.
//!
//! Stack that a connection thread has used stays in memory as long as the connection. So connection threads pass such
//! work to the workers and wait for the result.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Sender, bounded};
use thiserror::Error;

use crate::one_shot;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The maximum number of queued jobs. When the queue is full, the next caller blocks until it has room.
const QUEUE_JOBS: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The sending end of the queue of jobs. Cheap to clone; the threads end when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Workers {
    jobs: Sender<Job>,
}

/// The job panicked, or no worker thread is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a job of the server failed: see its log")]
pub(crate) struct JobFailed;

impl Workers {
    /// Starts `count` threads, at least one, called `ich-{name}-N`.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(name: &str, count: usize, supervisor: &Supervisor) -> io::Result<Workers> {
        let (jobs, queue) = bounded::<Job>(QUEUE_JOBS);
        for number in 0..count.max(1) {
            let queue = queue.clone();
            supervisor.spawn(&format!("{name}-{number}"), Stack::Normal, move || {
                for job in queue {
                    // The panic hook prints a panic; the caller gets `JobFailed`, because the sender is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
                Ok(())
            })?;
        }
        Ok(Workers { jobs })
    }

    /// Runs `job` on a worker thread and waits for its result. `job` must not block. Any thread except a worker may
    /// call this.
    ///
    /// # Errors
    /// See [`JobFailed`].
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobFailed> {
        let (sender, result) = one_shot::channel();
        let job = Box::new(move || sender.send(job()));
        self.jobs.send(job).map_err(|_| JobFailed)?;
        result.recv().map_err(|_| JobFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_does_not_end_its_thread() {
        let workers = Workers::start("test", 1, &Supervisor::default()).unwrap();
        assert_eq!(workers.run(|| -> u32 { panic!("injected by a test") }), Err(JobFailed));
        assert_eq!(workers.run(|| 5), Ok(5));
    }
}
