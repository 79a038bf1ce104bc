//! [`certain_from`]: from which offset on the sessions are known to a reader that begins in the middle of the log. Written
//! from the rules in `doc/architecture.md`, without the code under test.

use std::collections::{BTreeMap, BTreeSet};

use ich::lobby::{Body, InstanceId, Record};

use super::log::VirtualLog;
use super::oracle::Oracle;

/// The heartbeats that make the sessions exact.
const HEARTBEATS_NEEDED: usize = 12;
const LEASE_HEARTBEATS: usize = 10;

/// The offset at which, for a reader that has read the log from `first` on, the sessions are known for certain: one
/// instance had heartbeats enough to end all leases from before, and every instance has shown a whole roster.
pub fn certain_from(first: usize, log: &VirtualLog, oracle: &Oracle) -> usize {
    if first == 0 {
        return 0;
    }
    let mut view = View::default();
    for offset in first..oracle.position() {
        let record = log.record(offset);
        if matches!(record.body, Body::Moderated(_)) {
            continue;
        }
        view.read(record);
        view.seen.retain(|id, _| oracle.knows(offset, *id));
        let has_shown = |id: InstanceId| view.seen.get(&id).is_some_and(|seen| seen.has_shown);
        if view.is_long_enough() && oracle.known(offset).all(has_shown) {
            return offset + 1;
        }
    }
    oracle.position()
}

/// What a reader has seen.
#[derive(Default)]
struct View {
    heartbeats: BTreeMap<InstanceId, BTreeSet<u64>>,
    seen: BTreeMap<InstanceId, Seen>,
}

/// What a reader has seen of one instance since its lease ended last.
#[derive(Default)]
struct Seen {
    /// The highest number. The records up to it are second copies.
    last_seq: u64,
    /// The part of the roster that comes next, and its number.
    next_part: Option<(u32, u64)>,
    /// Whether a roster was whole.
    has_shown: bool,
    /// The heartbeats of each other instance since the last record.
    silence: BTreeMap<InstanceId, BTreeSet<u64>>,
}

impl View {
    fn read(&mut self, record: &Record) {
        let Record { from, seq, body, .. } = record;
        let seen = self.seen.entry(*from).or_default();
        seen.silence.clear();
        if *seq <= seen.last_seq {
            return;
        }
        seen.last_seq = *seq;
        match body {
            Body::Heartbeat { n } => {
                self.heartbeats.entry(*from).or_default().insert(*n);
                self.count_against_others(*from, *n);
            }
            Body::Roster { part, parts, .. } if *part == 0 || seen.next_part == Some((*part, *seq)) => {
                seen.next_part = Some((part + 1, seq + 1));
                seen.has_shown |= part + 1 == *parts;
            }
            _ => {}
        }
    }

    /// If the first copy of a heartbeat is before the beginning, the reader takes the second one for new, and may end a
    /// lease that has not ended. It then needs another roster of that instance.
    fn count_against_others(&mut self, from: InstanceId, n: u64) {
        self.seen.retain(|id, seen| {
            *id == from || {
                let heartbeats = seen.silence.entry(from).or_default();
                heartbeats.insert(n);
                heartbeats.len() < LEASE_HEARTBEATS
            }
        });
    }

    fn is_long_enough(&self) -> bool {
        self.heartbeats.values().any(|numbers| numbers.len() >= HEARTBEATS_NEEDED)
    }
}
