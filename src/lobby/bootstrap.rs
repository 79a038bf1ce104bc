//! [`Bootstrap`]: how far back an instance must read before its state is exact.
//!
//! The log thread of a starting instance owns one for each span that it reads. It decides nothing itself: whoever
//! reads asks [`Bootstrap::is_exact`] at the end of the span, and widens the span when the answer is no. When the
//! whole log has been read and the answer is still no (retention has cut it), the instance goes on live: it beats, so
//! the answer becomes yes some beats later. Once yes it stays so, and the `Bootstrap` can be dropped.
//!
//! Why it is exact then: an instance that was heard before the span only would have been lost to the beats in it, so
//! all that count were heard in it; and since each has had a roster in it, all its sessions are known. What two
//! replicas know of each instance follows from what was heard of it, so the two agree.

use std::collections::BTreeMap;

use super::record::{Body, InstanceId, Record};
use super::state::{LEASE_HEARTBEATS, Lobby};

/// How many records before the end are read at first.
pub const FIRST_SPAN_RECORDS: u64 = 4096;
/// How many times wider the next span is when one was not enough.
pub const WIDEN_TIMES: u64 = 4;

/// The beats of one instance that a span needs. Two more than the lease, because a producer's retry can put a record
/// twice into the log, the first time before the span: such a beat seems new to one who did not read the first. Two
/// beats later, all that it was counted against have either been heard again or are being lost to real beats.
const HEARTBEATS_NEEDED: u32 = LEASE_HEARTBEATS + 2;

/// Watches one span of the log being replayed into an empty [`Lobby`].
#[derive(Debug, Clone)]
pub struct Bootstrap {
    from_the_beginning: bool,
    heartbeats: BTreeMap<InstanceId, Heartbeats>,
    is_long_enough: bool,
}

#[derive(Debug, Clone, Default)]
struct Heartbeats {
    last_n: u64,
    count: u32,
}

impl Bootstrap {
    /// A new span. `from_the_beginning`: it starts at the first record there ever was.
    #[must_use]
    pub fn new(from_the_beginning: bool) -> Self {
        Bootstrap { from_the_beginning, heartbeats: BTreeMap::new(), is_long_enough: false }
    }

    /// The next record of the span, after it was applied to the lobby.
    pub fn on_record(&mut self, record: &Record) {
        let Body::Heartbeat { n } = record.body else { return };
        let heartbeats = self.heartbeats.entry(record.from).or_default();
        if n > heartbeats.last_n {
            heartbeats.last_n = n;
            heartbeats.count += 1;
            self.is_long_enough |= heartbeats.count >= HEARTBEATS_NEEDED;
        }
    }

    /// Whether the state built from this span is the state that all of the log would have given.
    #[must_use]
    pub fn is_exact(&self, lobby: &Lobby) -> bool {
        self.from_the_beginning || (self.is_long_enough && lobby.is_every_instance_member())
    }
}

#[cfg(test)]
mod tests;
