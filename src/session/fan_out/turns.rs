//! [`Turns`]: how many fan-out threads send a round at the same time.
//!
//! The receivers of a round need CPU at the same moment: clients and proxies on the same machine read it, and session
//! threads read the answers. If all fan-out threads send at the same time, all cores are taken, and each round takes
//! longer. So a thread waits while half of the threads send. The wait is a part of the coalescing delay, and a thread
//! whose delay must not be longer sends without it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::threads::lock;

/// The turns that all fan-out threads share.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    sending_max: usize,
    /// The number of threads that send a round now.
    sending: Mutex<usize>,
    /// Signalled when a thread has sent its round.
    ended: Condvar,
}

/// The turn of one thread. It ends when it is dropped, also by a panic.
pub(super) struct Turn(Arc<Shared>);

impl Turns {
    /// The turns of this many threads.
    pub(super) fn new(threads: usize) -> Self {
        let sending_max = threads.div_ceil(2);
        Turns(Arc::new(Shared { sending_max, sending: Mutex::new(0), ended: Condvar::new() }))
    }

    /// Begins a turn when fewer than the allowed number of threads send. `None` if that takes longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Option<Turn> {
        let shared = &self.0;
        let is_full = |sending: &mut usize| *sending >= shared.sending_max;
        let waited = shared.ended.wait_timeout_while(lock(&shared.sending), timeout, is_full);
        let (mut sending, result) = waited.unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() {
            return None;
        }
        *sending += 1;
        Some(Turn(shared.clone()))
    }

    /// Begins a turn without a wait, however many threads send.
    pub(super) fn take(&self) -> Turn {
        *lock(&self.0.sending) += 1;
        Turn(self.0.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.sending) -= 1;
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn half_of_the_threads_send_at_a_time() {
        for (threads, sending_max) in [(1, 1), (2, 1), (3, 2), (8, 4)] {
            let turns = Turns::new(threads);
            let mut sending: Vec<Turn> = (0..sending_max).filter_map(|_| turns.wait(LONG)).collect();
            assert_eq!(sending.len(), sending_max);
            assert!(turns.wait(Duration::ZERO).is_none());
            sending.pop();
            assert!(turns.wait(Duration::ZERO).is_some());
        }
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let turns = Turns::new(2);
        let sending = turns.take();
        let (sender, woken) = crossbeam_channel::bounded(1);
        thread::scope(|scope| {
            scope.spawn(|| sender.send(turns.wait(Duration::MAX).is_some()));
            drop(sending);
            assert_eq!(woken.recv_timeout(LONG), Ok(true));
        });
    }

    #[test]
    fn a_turn_without_a_wait_counts_too() {
        let turns = Turns::new(2);
        let sending = (turns.take(), turns.take());
        drop(sending.0);
        assert!(turns.wait(Duration::ZERO).is_none());
        drop(sending.1);
        assert!(turns.wait(Duration::ZERO).is_some());
    }
}
