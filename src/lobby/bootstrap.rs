//! [`Bootstrap`]: how far back an instance must read before its state is exact.
//!
//! The log thread of a starting instance has one for each span that it reads. At the end of the span it calls
//! [`Bootstrap::is_exact`], and reads a wider span if the answer is no. If the whole log was read and the answer is
//! still no, because retention has deleted its beginning, the instance begins to work all the same: its own heartbeats
//! make the state exact some seconds later. Once exact, the state stays exact, and the `Bootstrap` can be dropped.
//!
//! Why the state is exact: an instance with records before the span only was lost to the heartbeats in the span, so
//! every instance that counts has records in it; and since each has a roster in it, all its sessions are known. The
//! state of each instance follows from its records in the span, so two replicas agree.

use std::collections::BTreeMap;

use super::record::{Body, InstanceId, Record};
use super::state::{LEASE_HEARTBEATS, Lobby};

/// The length of the first span, in records before the end of the log.
pub const FIRST_SPAN_RECORDS: u64 = 4096;
/// Each span is so many times longer than the one before.
pub const WIDEN_TIMES: u64 = 4;

/// The heartbeats of one instance that a span has to have: two more than the lease. A producer's retry can put a
/// heartbeat into the log twice. If the first copy is before the span, the second copy is wrongly counted as new. Two
/// heartbeats later, each instance that it was counted against either has a newer record or is lost to other
/// heartbeats.
pub(super) const HEARTBEATS_NEEDED: u32 = LEASE_HEARTBEATS + 2;

/// Observes the replay of one span of the log into an empty [`Lobby`].
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
    /// A new span. `from_the_beginning`: it starts with the first record that was ever appended.
    #[must_use]
    pub fn new(from_the_beginning: bool) -> Self {
        Bootstrap { from_the_beginning, heartbeats: BTreeMap::new(), is_long_enough: false }
    }

    /// To be called with each record of the span, after it was applied to the lobby.
    pub fn on_record(&mut self, record: &Record) {
        let Body::Heartbeat { n } = record.body else { return };
        let heartbeats = self.heartbeats.entry(record.from).or_default();
        if n > heartbeats.last_n {
            heartbeats.last_n = n;
            heartbeats.count += 1;
            self.is_long_enough |= heartbeats.count >= HEARTBEATS_NEEDED;
        }
    }

    /// Whether the state of this span equals the state of the whole log.
    #[must_use]
    pub fn is_exact(&self, lobby: &Lobby) -> bool {
        self.from_the_beginning || (self.is_long_enough && lobby.is_every_instance_member())
    }
}

#[cfg(test)]
mod tests;
