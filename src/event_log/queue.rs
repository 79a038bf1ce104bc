//! [`Queue`]: the queue from the threads that append (session threads, the log thread) to the thread that writes the
//! log, in SQLite or in Kafka.
//!
//! Bounded in records and bytes. A record is *settled* when it is in the log or reported undelivered. It counts until
//! then, and not only until the writing thread has taken it. The lock is never held across I/O.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event_log::{AppendError, codec};
use crate::lobby::Record;
use crate::threads::lock;

/// A record in the queue, with its JSON.
pub(super) struct Queued {
    pub record: Record,
    pub json: String,
    pub queued_at: Instant,
}

pub(super) struct Queue {
    records_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    /// Signalled when the first record arrives in an empty queue, or the queue is closed.
    filled: Condvar,
    /// Signalled when records were settled.
    settled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Queued>,
    /// The records that are not settled: waiting, or taken by the writing thread.
    unsettled: usize,
    unsettled_bytes: usize,
    /// The number of records ever appended, and how many of them are settled.
    appended: u64,
    settled: u64,
    is_closed: bool,
}

impl Queue {
    pub fn new(records_max: usize, bytes_max: usize) -> Self {
        Queue { records_max, bytes_max, state: Mutex::default(), filled: Condvar::new(), settled: Condvar::new() }
    }

    /// Encodes a record for [`Queue::push`]. `bytes_max`: the size of the largest record that the log accepts. Fails also if
    /// the queue is full: then many threads try again and again, and none of them encodes its record for nothing.
    ///
    /// Not inlined, as `push`: connection threads call both, and their stack fits into two pages (doc/performance.md).
    #[inline(never)]
    pub fn encode(&self, record: &Record, bytes_max: usize) -> Result<String, AppendError> {
        self.check_room(&lock(&self.state), 1)?;
        match codec::encode(record) {
            Ok(json) if json.len() <= bytes_max => Ok(json),
            Ok(_) => Err(AppendError::TooLarge),
            Err(error) => Err(on_not_encoded(&error)),
        }
    }

    /// Adds a record at the end, with its JSON.
    #[inline(never)]
    pub fn push(&self, record: Record, json: String) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        self.check_room(&state, json.len())?;
        state.unsettled += 1;
        state.unsettled_bytes += json.len();
        state.appended += 1;
        state.waiting.push_back(Queued { record, json, queued_at: Instant::now() });
        if state.waiting.len() == 1 {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Fails if the queue is closed, or has no room for a record of this size.
    fn check_room(&self, state: &State, bytes: usize) -> Result<(), AppendError> {
        if state.is_closed {
            return Err(AppendError::Unavailable);
        }
        if state.unsettled >= self.records_max || state.unsettled_bytes + bytes > self.bytes_max {
            return Err(AppendError::Full);
        }
        Ok(())
    }

    /// Waits until the queue has a record or is closed, up to `timeout`. False when the queue is closed and empty.
    pub fn wait_filled(&self, timeout: Option<Duration>) -> bool {
        let is_empty = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let state = lock(&self.state);
        let state: MutexGuard<'_, State> = match timeout {
            None => self.filled.wait_while(state, is_empty).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.filled.wait_timeout_while(state, timeout, is_empty).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        !(state.is_closed && state.waiting.is_empty())
    }

    /// Moves waiting records to the end of `batch`, until the batch has `records` records or more than `bytes` bytes.
    pub fn take(&self, batch: &mut VecDeque<Queued>, records: usize, bytes: usize) {
        let mut state = lock(&self.state);
        let mut taken: usize = batch.iter().map(|queued| queued.json.len()).sum();
        while batch.len() < records && taken <= bytes {
            let Some(queued) = state.waiting.pop_front() else { break };
            taken += queued.json.len();
            batch.push_back(queued);
        }
    }

    /// Settles this number of taken records, with this number of bytes together: they are in the log or reported
    /// undelivered.
    pub fn settle(&self, records: usize, bytes: usize) {
        let mut state = lock(&self.state);
        state.unsettled -= records;
        state.unsettled_bytes -= bytes;
        state.settled += records as u64;
        self.settled.notify_all();
    }

    /// The number of records that are not settled.
    pub fn unsettled(&self) -> usize {
        lock(&self.state).unsettled
    }

    /// Waits until all records appended so far are settled, or until the deadline.
    pub fn wait_settled(&self, deadline: Instant) {
        let state = lock(&self.state);
        let appended = state.appended;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let _ = self.settled.wait_timeout_while(state, timeout, |state| state.settled < appended);
    }

    /// Closes the queue: it accepts no more records. The writer ends when it has settled the remaining ones.
    pub fn close(&self) {
        lock(&self.state).is_closed = true;
        self.filled.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }
}

#[cold]
#[inline(never)]
fn on_not_encoded(error: &serde_json::Error) -> AppendError {
    log::error!("a record cannot be encoded as JSON: {error}");
    AppendError::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lobby::{Body, InstanceId};

    fn push(queue: &Queue, bytes: usize) -> Result<(), AppendError> {
        let record = Record { from: InstanceId(1), seq: 1, at: "x".into(), body: Body::Bye { last: false } };
        queue.push(record, "x".repeat(bytes))
    }

    #[test]
    fn it_is_bounded_in_records_and_bytes_until_they_are_settled() {
        let queue = Queue::new(3, 100);
        assert_eq!(push(&queue, 60), Ok(()));
        assert_eq!(push(&queue, 41), Err(AppendError::Full));
        assert_eq!(push(&queue, 10), Ok(()));
        assert_eq!(push(&queue, 10), Ok(()));
        assert_eq!(push(&queue, 10), Err(AppendError::Full));
        let mut batch = VecDeque::new();
        queue.take(&mut batch, 1, 1000);
        assert_eq!((batch.len(), push(&queue, 10)), (1, Err(AppendError::Full)));
        assert_eq!(queue.unsettled(), 3);
        queue.settle(1, 60);
        assert_eq!(queue.unsettled(), 2);
        assert_eq!(push(&queue, 80), Ok(()));
    }

    #[test]
    fn after_closing_the_queued_records_are_taken_and_none_is_added() {
        let queue = Queue::new(3, 100);
        assert!(queue.wait_filled(Some(Duration::ZERO)));
        assert_eq!(push(&queue, 1), Ok(()));
        queue.close();
        assert_eq!(push(&queue, 1), Err(AppendError::Unavailable));
        assert!(queue.wait_filled(None));
        let mut batch = VecDeque::new();
        queue.take(&mut batch, 10, 100);
        queue.settle(1, 1);
        assert!(!queue.wait_filled(None));
        queue.wait_settled(Instant::now());
    }
}
