//! A few long-lived threads for work that goes deep: parsing, tokens, handshakes.
//!
//! The stack that a connection's own thread has touched stays in memory as long as the connection. So the connections'
//! threads stay shallow, and hand what is deep to these.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Sender, bounded};
use thiserror::Error;

use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// Jobs that may wait; more callers than that wait for their turn to hand one in.
const QUEUE_JOBS: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Cheap to clone; they end when the last clone is dropped.
#[derive(Clone)]
pub struct Workers {
    jobs: Sender<Job>,
}

/// The job panicked, or the threads are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a defect of the server")]
pub struct JobFailed;

impl Workers {
    /// Starts `count` threads called `ich-{name}-N`.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(name: &str, count: usize, supervisor: &Supervisor) -> io::Result<Workers> {
        let (jobs, queue) = bounded::<Job>(QUEUE_JOBS);
        for number in 0..count.max(1) {
            let queue = queue.clone();
            supervisor.spawn(&format!("{name}-{number}"), Stack::Normal, move || {
                for job in queue {
                    // The panic hook has told about it; the caller sees that no answer comes.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
                Ok(())
            })?;
        }
        Ok(Workers { jobs })
    }

    /// Runs `job` on one of the threads and waits for what it gives. It must not block for long.
    ///
    /// # Errors
    /// See [`JobFailed`].
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobFailed> {
        let (answer, answers) = bounded(1);
        let job = Box::new(move || drop(answer.send(job())));
        self.jobs.send(job).map_err(|_| JobFailed)?;
        answers.recv().map_err(|_| JobFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_takes_nothing_with_it() {
        let workers = Workers::start("test", 1, &Supervisor::default()).unwrap();
        assert_eq!(workers.run(|| -> u32 { panic!("injected by a test") }), Err(JobFailed));
        assert_eq!(workers.run(|| 5), Ok(5));
    }
}
