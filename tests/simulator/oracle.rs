//! [`Oracle`]: reads every record as soon as it is in the log, and knows the correct state and events at each offset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ich::lobby::{Action, Body, Event, EventId, InstanceId, Lobby, Moderation, Outcome, Record, User};

use super::archive::SeenArchive;
use super::log::VirtualLog;
use super::reference::{Change, Reference, Said};
use super::trace::Trace;
use super::{Millis, REPETITION_WINDOW, Violation, ensure};

/// The state of a running instance that is not stopping, as the simulation knows it.
pub struct Liveness {
    /// The time since which the instance has run, read and appended without a fault.
    pub undisturbed_since: Millis,
}

/// After this time without a fault, the lease of an instance cannot expire.
const LEASE_IS_SAFE_AFTER: Millis = 6_000;
/// After this time the users of a crashed instance have left.
const GONE_AFTER: Millis = 16_000;

/// The counts of hard cases in one run. A run without them proves little.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub records: usize,
    pub duplicates: usize,
    pub parts_of_rosters: usize,
    /// Actions of administrators in the log.
    pub actions: usize,
    pub ignored_messages: usize,
    pub expired_instances: usize,
    pub last_byes: usize,
    /// Runs in which an instance was alone and idle.
    pub idle_instances: usize,
    pub repeated_messages: usize,
    /// Ids that were used again after the window.
    pub reused_ids: usize,
    /// Clients that returned and got all that they had missed, and those that did not.
    pub complete_returns: usize,
    pub incomplete_returns: usize,
    /// Repeated messages that an instance published because the log no longer had the message before.
    pub unknown_repetitions: usize,
    pub archive: SeenArchive,
}

pub struct Oracle {
    pub seen: Seen,
    /// A replica that reads all records from the first on, and its state after each record.
    replica: Lobby,
    states: Vec<Lobby>,
    reference: Reference,
    /// The offset and the id of each message that was published.
    published: Vec<(usize, EventId)>,
    event_ids: BTreeSet<EventId>,
    /// The offset of the last message of each account with each id.
    published_at: BTreeMap<(Arc<str>, Arc<str>), usize>,
    texts_without_id: BTreeSet<Arc<str>>,
    /// The last time at which each user was unbanned.
    unbanned: BTreeMap<Arc<str>, u64>,
    /// The instances that ended, and when.
    crashed: Vec<(InstanceId, Millis)>,
}

impl Default for Oracle {
    fn default() -> Self {
        Oracle {
            seen: Seen::default(),
            replica: Lobby::with_repetition_window(REPETITION_WINDOW as u64),
            states: Vec::new(),
            reference: Reference::default(),
            published: Vec::new(),
            event_ids: BTreeSet::new(),
            published_at: BTreeMap::new(),
            texts_without_id: BTreeSet::new(),
            unbanned: BTreeMap::new(),
            crashed: Vec::new(),
        }
    }
}

impl Oracle {
    /// The next offset. No process reads ahead of the oracle.
    pub fn position(&self) -> usize {
        self.states.len()
    }

    pub fn state(&self, offset: usize) -> &Lobby {
        &self.states[offset]
    }

    pub fn online(&self, offset: usize) -> &BTreeSet<Arc<str>> {
        &self.reference.online[offset]
    }

    pub fn online_now(&self) -> BTreeSet<Arc<str>> {
        self.reference.online.last().cloned().unwrap_or_default()
    }

    /// The messages that were published below this offset.
    pub fn published_before(&self, offset: usize) -> &[(usize, EventId)] {
        &self.published[..self.published.partition_point(|(at, _)| *at < offset)]
    }

    /// Whether the record at this offset is a message that is refused as repeated.
    pub fn is_repeated(&self, offset: usize) -> bool {
        self.reference.changes[offset].is_repeated
    }

    /// The message that is published at this offset.
    pub fn said(&self, offset: usize) -> Option<&Said> {
        self.reference.changes[offset].said.as_ref()
    }

    /// The instances that are not forgotten after this offset.
    pub fn known(&self, offset: usize) -> impl Iterator<Item = InstanceId> + '_ {
        self.reference.known[offset].iter().copied()
    }

    pub fn knows(&self, offset: usize, instance: InstanceId) -> bool {
        self.reference.known[offset].contains(&instance)
    }

    /// Whether this account has published a message with this id.
    pub fn has_published(&self, user: &User, id: &Arc<str>) -> bool {
        self.published_at.contains_key(&(user.id.clone(), id.clone()))
    }

    /// An administrator acted: the action is in the database, and may come into the log.
    pub fn on_action(&mut self, moderation: &Moderation) {
        if moderation.action == Action::Unban {
            self.unbanned.insert(moderation.username.clone(), moderation.at_ms);
        }
    }

    /// Whether a user is muted for those who have read the records before this offset, and whatever the database has.
    pub fn is_muted_before(&self, offset: usize, username: &Arc<str>) -> bool {
        let unbanned_at = self.unbanned.get(username).copied().unwrap_or(0);
        self.reference.muted_at(offset, username) > unbanned_at
    }

    /// Checks, after all instances have read everything, that kicks have ended all earlier sessions of their users.
    pub fn check_kicks(&self) -> Result<(), Violation> {
        let survivor = self.reference.survivor_of_a_kick();
        ensure(survivor.is_none(), "a kick ends all sessions of the user", || format!("{survivor:?}"))
    }

    pub fn on_crash(&mut self, id: InstanceId, now: Millis) {
        self.crashed.push((id, now));
    }

    /// Reads the new records, and checks the rules at each.
    pub fn read(
        &mut self,
        log: &VirtualLog,
        liveness: &BTreeMap<InstanceId, Liveness>,
        now: Millis,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        while self.position() < log.end() {
            let offset = self.position();
            let record = log.record(offset);
            trace.note(now, || format!("offset {offset}: {} #{} {:?}", record.from, record.seq, record.body));
            let (is_fresh, forgotten) = self.reference.read(record.clone());
            self.note(offset, record, is_fresh);
            self.seen.expired_instances += forgotten.len();
            let mut events = Vec::new();
            let outcome = self.replica.apply(record, offset as u64, &mut events);
            self.states.push(self.replica.clone());

            ensure(
                self.replica.names_online().eq(self.online(offset)),
                "the state equals that of the reference",
                || format!("offset {offset}: {:?}, not {:?}", self.replica, self.online(offset)),
            )?;
            self.check_events(offset, &events)?;
            ensure(
                (outcome == Outcome::Repeated) == self.is_repeated(offset),
                "the reference agrees on repeated messages",
                || format!("offset {offset}: {outcome:?}"),
            )?;
            self.check_sent_once(offset)?;
            for id in forgotten {
                trace.note(now, || format!("offset {offset}: {id} is forgotten"));
                let is_healthy = liveness.get(&id).is_some_and(|it| it.undisturbed_since + LEASE_IS_SAFE_AFTER < now);
                ensure(!is_healthy, "the lease of a healthy instance does not expire", || {
                    format!("{id} at offset {offset}")
                })?;
            }
        }
        self.check_crashed(liveness, now)
    }

    fn note(&mut self, offset: usize, record: &Record, is_fresh: bool) {
        let seen = &mut self.seen;
        seen.records += 1;
        let is_action = matches!(record.body, Body::Moderated(_));
        seen.actions += usize::from(is_action);
        seen.duplicates += usize::from(!is_fresh && !is_action);
        match record.body {
            Body::Roster { parts: 2.., .. } => seen.parts_of_rosters += 1,
            Body::Bye { last: true } => seen.last_byes += 1,
            Body::Said { .. } if self.reference.changes[offset].is_repeated => seen.repeated_messages += 1,
            Body::Said { .. } if is_fresh && self.reference.changes[offset].said.is_none() => {
                seen.ignored_messages += 1
            }
            _ => {}
        }
    }

    /// Checks that `events` are those of the reference at `offset`, in the same order.
    pub fn check_events(&self, offset: usize, events: &[Event]) -> Result<(), Violation> {
        let Change { left, joined, said, .. } = &self.reference.changes[offset];
        let left = left.iter().map(|name| Event::UserLeft { username: name.clone() });
        let joined = joined.iter().map(|name| Event::UserJoined { username: name.clone() });
        let said = said.iter().map(|Said { user, text, id, .. }| Event::Said {
            user: user.clone(),
            text: text.clone(),
            id: id.clone(),
        });
        let expected: Vec<Event> = left.chain(joined).chain(said).collect();
        ensure(events == expected, "the events equal those of the reference", || {
            format!("offset {offset}: {events:?}, not {expected:?}")
        })
    }

    fn check_sent_once(&mut self, offset: usize) -> Result<(), Violation> {
        let Some(said) = self.reference.changes[offset].said.clone() else { return Ok(()) };
        self.published.push((offset, said.event_id));
        ensure(self.event_ids.insert(said.event_id), "no two messages have the same event id", || format!("{said:?}"))?;
        let Some(id) = said.id else {
            let is_new = self.texts_without_id.insert(said.text.clone());
            return ensure(is_new, "no message takes effect twice", || format!("{:?} at offset {offset}", said.text));
        };
        let Some(before) = self.published_at.insert((said.user.id, id), offset) else { return Ok(()) };
        self.seen.reused_ids += 1;
        ensure(offset - before >= REPETITION_WINDOW, "no id is published twice within the window", || {
            format!("offsets {before} and {offset}: {:?}", said.text)
        })
    }

    /// Checks that the users of crashed instances have left, if another instance was undisturbed since the crash.
    fn check_crashed(&mut self, liveness: &BTreeMap<InstanceId, Liveness>, now: Millis) -> Result<(), Violation> {
        let due = self.crashed.iter().take_while(|(_, since)| since + GONE_AFTER < now).count();
        for (id, since) in self.crashed.drain(..due).collect::<Vec<_>>() {
            let has_witness = liveness.values().any(|it| it.undisturbed_since < since);
            ensure(
                !has_witness || self.reference.sessions(id).is_empty(),
                "the users of a crashed instance leave in time",
                || format!("{id} crashed at {since} ms"),
            )?;
        }
        Ok(())
    }
}
