//! [`Bootstrap`]: how far back an instance must read before its state is exact.
//!
//! A *span* is the last part of the log, from some offset to the end. The log thread of a starting instance reads a
//! span and creates a [`Bootstrap`] for it. At the end of the span, [`Bootstrap::next_span`] decides whether a longer
//! span has to be read. If the whole log was read and the state is still not exact, because retention has deleted the
//! beginning of the log, the instance continues with new records: its own heartbeats make the state exact some seconds
//! later.
//!
//! **Why the sessions are exact.** The span has more heartbeats of one instance than a lease allows. So an instance
//! whose last record is before the span is lost. Every other instance has a record in the span, and also a roster, so
//! all its sessions are known. The state of each instance follows from its records in the span, so two replicas agree.
//! Once exact, the sessions stay exact.
//!
//! **Why all replicas refuse the same repeated messages.** Whether a message is refused depends on the uses of its id
//! in the window of records before it ([`super::repetitions`]). A use is a message of an effective session, whether it
//! was published or refused. A replica knows every use after the offset at which its sessions became exact. So it
//! decides like all others from one window after that offset on: the span has to contain the records that make the
//! sessions exact, and a whole window after them.
//!
//! If retention has left less than that, the instance does not wait for a whole window of new records, which can take
//! hours. Until it has read them, it can publish a message whose first copy retention has deleted, while the other
//! instances refuse it.

use std::collections::BTreeMap;

use super::record::{Body, InstanceId, Record};
use super::state::{LEASE_HEARTBEATS, Lobby};

/// The lengths of the spans, in records before the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// The length of the first span.
    pub first: u64,
    /// Each span is this many times as long as the one before.
    pub widen_times: u64,
    /// The longest span that is read only to find more messages for the history.
    pub history_max: u64,
}

/// The spans of a server. The first one has room for the records that make the sessions exact and for a window of
/// repetitions after them. So a second span is rarely read.
pub const SPANS: Spans = Spans { first: 16_384, widen_times: 4, history_max: 262_144 };

/// The heartbeats of one instance that a span must contain: two more than the lease. A producer's retry can put a
/// heartbeat into the log twice. If the first copy is before the span, the second copy is wrongly counted as new. Two
/// heartbeats later this no longer matters: each instance against which it was counted has a newer record, or is
/// lost even if the second copy does not count.
pub(super) const HEARTBEATS_NEEDED: u32 = LEASE_HEARTBEATS + 2;

/// Observes the replay of one span of the log into an empty [`Lobby`].
#[derive(Debug, Clone)]
pub struct Bootstrap {
    from_the_beginning: bool,
    heartbeats: BTreeMap<InstanceId, Heartbeats>,
    is_long_enough: bool,
    /// From this offset on, the sessions are exact.
    exact_since: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Heartbeats {
    last_n: u64,
    count: u32,
}

impl Bootstrap {
    /// A new span that begins at the offset `start`. `from_the_beginning`: `start` is the first record that was ever
    /// appended.
    #[must_use]
    pub fn new(start: u64, from_the_beginning: bool) -> Self {
        Bootstrap {
            from_the_beginning,
            heartbeats: BTreeMap::new(),
            is_long_enough: false,
            exact_since: from_the_beginning.then_some(start),
        }
    }

    /// The caller calls this for each record of the span, after it has applied the record to `lobby`.
    pub fn on_record(&mut self, record: &Record, offset: u64, lobby: &Lobby) {
        if self.is_exact() {
            return;
        }
        self.count_heartbeat(record);
        if self.is_long_enough && lobby.is_every_instance_member() {
            self.exact_since = Some(offset + 1);
        }
    }

    fn count_heartbeat(&mut self, record: &Record) {
        let Body::Heartbeat { n } = record.body else { return };
        let heartbeats = self.heartbeats.entry(record.from).or_default();
        if n > heartbeats.last_n {
            heartbeats.last_n = n;
            heartbeats.count += 1;
            self.is_long_enough |= heartbeats.count >= HEARTBEATS_NEEDED;
        }
    }

    /// Whether the sessions of the lobby are those that follow from the whole log.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact_since.is_some()
    }

    /// Whether this replica knows all uses of message ids that count at the offset `position` and later. If so, it
    /// refuses the same repeated messages as all others.
    #[must_use]
    pub fn knows_repetitions(&self, lobby: &Lobby, position: u64) -> bool {
        let knows_from = |since: u64| since.saturating_add(lobby.repetition_window());
        self.from_the_beginning || self.exact_since.is_some_and(|since| knows_from(since) <= position)
    }

    /// The length of the span to be read next; `None` if this span is enough. `read` is the length of this span, and
    /// `position` the offset after its last record.
    #[must_use]
    pub fn next_span(
        &self,
        spans: &Spans,
        read: u64,
        lobby: &Lobby,
        position: u64,
        is_history_full: bool,
    ) -> Option<u64> {
        let longer = read.saturating_mul(spans.widen_times);
        if !self.knows_repetitions(lobby, position) {
            Some(longer)
        } else if !is_history_full && read < spans.history_max {
            Some(longer.min(spans.history_max))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
