//! [`Jobs`]: the queues of the account threads. Logins have priority over registrations. In each queue, the addresses
//! take turns.
//!
//! Connection threads push and never block here; the account threads wait here for jobs.

use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};

use super::fair_queue::{FairQueue, Push};
use crate::net::address_key;
use crate::threads::lock;

/// The most logins in the queue, per thread: the work of about two seconds (a hash takes 30 to 40 ms).
const LOGINS_PER_THREAD: usize = 48;
/// The most registrations in the queue, per thread.
const REGISTRATIONS_PER_THREAD: usize = 24;
/// An address may use at most 1/N of each queue.
const ADDRESS_SHARE: usize = 2;

/// Selects the queue of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Has priority.
    Login,
    /// Runs when no login waits.
    Registration,
}

/// Two bounded queues and the means to wait for a job.
pub(super) struct Jobs<T> {
    state: Mutex<State<T>>,
    /// Signalled for each job, and by `close`.
    changed: Condvar,
}

struct State<T> {
    logins: FairQueue<IpAddr, T>,
    registrations: FairQueue<IpAddr, T>,
    closed: bool,
}

impl<T> Jobs<T> {
    /// `threads` determines the size of the queues.
    pub(super) fn new(threads: usize) -> Self {
        let queue = |per_thread: usize| FairQueue::new(per_thread * threads, per_thread * threads / ADDRESS_SHARE);
        let state =
            State { logins: queue(LOGINS_PER_THREAD), registrations: queue(REGISTRATIONS_PER_THREAD), closed: false };
        Jobs { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a job. Returns the job that is rejected, if any: this one, or one of another address.
    pub(super) fn push(&self, kind: Kind, address: IpAddr, job: T) -> Option<T> {
        let mut state = lock(&self.state);
        let queue = match kind {
            Kind::Login => &mut state.logins,
            Kind::Registration => &mut state.registrations,
        };
        match queue.push(address_key(address), job) {
            Push::Queued => {
                drop(state);
                self.changed.notify_one();
                None
            }
            // A displaced job was replaced: the number of jobs is the same as before, so no thread has to wake up.
            Push::Displaced(other) => Some(other),
            Push::Refused(job) => Some(job),
        }
    }

    /// Blocks until there is a job. Returns `None` after `close`, when the queues are empty.
    pub(super) fn next(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.logins.pop().or_else(|| state.registrations.pop()) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the threads end when the queues are empty.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn logins_have_priority_and_addresses_take_turns() {
        let jobs = Jobs::new(1);
        for number in 0..3 {
            assert_eq!(jobs.push(Kind::Registration, address(1), ("registration", number)), None);
        }
        for (last, number) in [(1, 10), (1, 11), (2, 20)] {
            assert_eq!(jobs.push(Kind::Login, address(last), ("login", number)), None);
        }
        jobs.close();
        let order: Vec<_> = std::iter::from_fn(|| jobs.next()).collect();
        let (login, registration) = ("login", "registration");
        assert_eq!(order[..3], [(login, 10), (login, 20), (login, 11)]);
        assert_eq!(order[3..], [(registration, 0), (registration, 1), (registration, 2)]);
    }

    #[test]
    fn a_full_queue_rejects_and_registrations_take_no_room_from_logins() {
        let jobs = Jobs::new(1);
        let refused = |kind, last| (0..100).filter(|_| jobs.push(kind, address(last), ()).is_some()).count();
        assert_eq!(refused(Kind::Registration, 1), 100 - REGISTRATIONS_PER_THREAD / 2);
        assert_eq!(refused(Kind::Login, 1), 100 - LOGINS_PER_THREAD / 2);
        assert_eq!(refused(Kind::Login, 2), 100 - LOGINS_PER_THREAD / 2);
        assert_eq!(jobs.push(Kind::Login, address(3), ()), Some(()), "a job of another address is displaced");
        jobs.close();
        let waiting = std::iter::from_fn(|| jobs.next()).count();
        assert_eq!(waiting, REGISTRATIONS_PER_THREAD / 2 + LOGINS_PER_THREAD);
    }
}
