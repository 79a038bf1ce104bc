//! [`PendingBatches`]: the batches that some session of a fan-out thread has not got yet.
//!
//! The thread passes over its sessions again and again, and takes new batches also in the middle of a round. The sessions
//! after that place get them in this round, and those before it in the next one. So all sessions have got a batch when the
//! thread comes to the same place again.
//!
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Batch;
use crate::limits::{COALESCING_DELAY_MAX, PRESENCE_COALESCING_DELAY_MAX, ROUND_BYTES_MAX};
use crate::session::outbox::EventBytes;

pub(super) struct PendingBatches {
    batches: VecDeque<Pending>,
    /// The bytes of the frames of `batches`.
    bytes: usize,
    /// The position after the last event.
    end: u64,
    /// The session that the thread comes to next.
    place: Place,
    /// How many times a session got the pending events.
    receivers: u64,
    /// Whether the events of this round include a join or a leave.
    has_presence: bool,
    /// The events of `batches` in one piece, which are written to a socket in one call.
    events: EventBytes,
    /// Whether `batches` changed since `events` was made.
    is_changed: bool,
}

struct Pending {
    batch: Batch,
    taken_at: Place,
    /// [`PendingBatches::receivers`] when the batch was taken.
    receivers_before: u64,
}

/// A session in a round. Later ones are greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    round: u64,
    index: usize,
}

/// A batch that all sessions have got.
pub(super) struct Sent {
    pub(super) batch: Batch,
    /// The number of these sessions.
    pub(super) receivers: u64,
}

impl PendingBatches {
    pub(super) fn new() -> Self {
        PendingBatches {
            batches: VecDeque::new(),
            bytes: 0,
            end: 0,
            place: Place::default(),
            receivers: 0,
            has_presence: false,
            events: EventBytes::new(0, Arc::from([])),
            is_changed: false,
        }
    }

    /// The position after the last event.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether no batch is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether a session may have to get events.
    pub(super) fn has_events(&self) -> bool {
        self.bytes > 0
    }

    /// Whether further batches have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ROUND_BYTES_MAX
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch.frames.len();
        self.end += batch.frames.len() as u64;
        self.has_presence |= batch.has_presence;
        self.batches.push_back(Pending { batch, taken_at: self.place, receivers_before: self.receivers });
        self.is_changed = true;
    }

    /// The events of all pending batches.
    pub(super) fn events(&mut self) -> &EventBytes {
        if self.is_changed {
            self.is_changed = false;
            self.events = EventBytes::new(self.end - self.bytes as u64, self.frames());
        }
        &self.events
    }

    fn frames(&self) -> Arc<[u8]> {
        let mut with_events =
            self.batches.iter().map(|pending| &pending.batch.frames).filter(|frames| !frames.is_empty());
        match (with_events.next(), with_events.next()) {
            (None, _) => Arc::from([]),
            (Some(single), None) => single.clone(),
            (Some(_), Some(_)) => {
                let mut all = Vec::with_capacity(self.bytes);
                self.batches.iter().for_each(|pending| all.extend_from_slice(&pending.batch.frames));
                all.into()
            }
        }
    }

    /// The index of the session that gets the events next in this round.
    pub(super) fn index(&self) -> usize {
        self.place.index
    }

    /// The session at [`PendingBatches::index`] has got all pending events, or, if it is not live, gets none.
    pub(super) fn pass(&mut self, is_live: bool) {
        self.place.index += 1;
        self.receivers += u64::from(is_live);
    }

    /// The round is over. Returns the longest coalescing delay after it.
    pub(super) fn end_round(&mut self) -> Duration {
        self.place = Place { round: self.place.round + 1, index: 0 };
        let has_presence = |pending: &Pending| pending.batch.has_presence && !self.is_sent(pending);
        let next_has_presence = self.batches.iter().any(has_presence);
        let had_presence = std::mem::replace(&mut self.has_presence, next_has_presence);
        if had_presence { PRESENCE_COALESCING_DELAY_MAX } else { COALESCING_DELAY_MAX }
    }

    fn is_sent(&self, pending: &Pending) -> bool {
        let Place { round, index } = pending.taken_at;
        self.place >= Place { round: round + 1, index }
    }

    /// Removes and returns a batch that all sessions have got, if there is one.
    pub(super) fn next_sent(&mut self) -> Option<Sent> {
        self.batches.front().filter(|pending| self.is_sent(pending))?;
        let Pending { batch, receivers_before, .. } = self.batches.pop_front()?;
        self.bytes -= batch.frames.len();
        if self.batches.is_empty() {
            // Releases the memory of the events.
            self.is_changed = true;
        }
        Some(Sent { batch, receivers: self.receivers - receivers_before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(frames: &[u8], has_presence: bool) -> Batch {
        Batch {
            frames: frames.into(),
            events: 1,
            has_presence,
            oldest_append: None,
            on_sent: None,
            admissions: Vec::new(),
        }
    }

    /// Removes the batches that were sent. Returns their frames and the numbers of their receivers.
    fn sent(pending: &mut PendingBatches) -> Vec<(Vec<u8>, u64)> {
        std::iter::from_fn(|| pending.next_sent()).map(|sent| (sent.batch.frames.to_vec(), sent.receivers)).collect()
    }

    #[test]
    fn a_batch_is_sent_when_the_thread_comes_back_to_where_it_took_it() {
        let mut pending = PendingBatches::new();
        pending.push(batch(b"one", false));
        pending.pass(true);
        pending.pass(false);
        pending.push(batch(b"two", false));
        pending.pass(true);
        assert_eq!(sent(&mut pending), []);
        pending.end_round();
        assert_eq!(sent(&mut pending), [(b"one".to_vec(), 2)]);
        pending.pass(true);
        assert!(sent(&mut pending).is_empty() && pending.has_events());
        pending.pass(false);
        assert_eq!(sent(&mut pending), [(b"two".to_vec(), 2)]);
        assert!(pending.is_empty() && !pending.has_events());
    }

    #[test]
    fn a_batch_is_sent_at_the_end_of_the_next_round_if_fewer_sessions_are_left() {
        let mut pending = PendingBatches::new();
        pending.pass(true);
        pending.pass(true);
        pending.push(batch(b"one", false));
        pending.end_round();
        pending.pass(true);
        assert_eq!(sent(&mut pending), []);
        pending.end_round();
        assert_eq!(sent(&mut pending), [(b"one".to_vec(), 1)]);
    }

    #[test]
    fn the_events_are_those_of_all_pending_batches() {
        let mut pending = PendingBatches::new();
        assert_eq!((pending.events().end(), pending.events().frames().len()), (0, 0));
        for frames in [&b"one"[..], b"", b"two"] {
            pending.push(batch(frames, false));
        }
        assert_eq!((pending.events().end(), &pending.events().frames()[..]), (6, &b"onetwo"[..]));
        pending.pass(true);
        pending.push(batch(b"three", false));
        pending.end_round();
        assert_eq!(sent(&mut pending).len(), 3);
        pending.push(batch(b"four", false));
        assert_eq!((pending.events().end(), &pending.events().frames()[..]), (15, &b"threefour"[..]));
        assert_eq!(pending.end(), 15);
    }

    #[test]
    fn the_delay_is_long_after_each_round_that_sends_a_join_or_leave() {
        let mut pending = PendingBatches::new();
        pending.push(batch(b"message", false));
        assert_eq!(pending.end_round(), COALESCING_DELAY_MAX);
        pending.pass(true);
        pending.push(batch(b"join", true));
        for expected in [PRESENCE_COALESCING_DELAY_MAX, PRESENCE_COALESCING_DELAY_MAX, COALESCING_DELAY_MAX] {
            assert_eq!(pending.end_round(), expected);
            sent(&mut pending);
        }
    }

    #[test]
    fn pending_batches_are_bounded() {
        let mut pending = PendingBatches::new();
        while !pending.is_full() {
            pending.push(batch(&[0; 1000], false));
        }
        assert_eq!(pending.batches.len(), ROUND_BYTES_MAX / 1000 + 1);
        pending.end_round();
        sent(&mut pending);
        assert!(!pending.is_full());
    }
}
