//! [`Oracle`]: reads every record the moment it is in the log, and knows what everybody else has to find in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ich::lobby::{Body, Event, EventId, InstanceId, Lobby, Outcome, Record, User};

use super::log::VirtualLog;
use super::reference::{Change, Reference, Said};
use super::trace::Trace;
use super::{Millis, REPETITION_WINDOW, Violation, ensure};

/// What is known of one instance from outside, not from the log.
pub struct Vital {
    /// Since when it has been running, reading and appending without a break, and not stopping.
    pub sound_since: Millis,
}

/// An instance this long without any trouble has been heard within the lease, whatever was before.
const SOUND: Millis = 6_000;
/// After this long the people of a crashed instance are gone.
const GONE_AFTER: Millis = 16_000;

/// What there was in the log, for it proves little that nothing went wrong where nothing happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub records: usize,
    pub duplicates: usize,
    pub parts_of_rosters: usize,
    pub ignored_messages: usize,
    pub lost_instances: usize,
    pub last_byes: usize,
    pub repeated_messages: usize,
    /// Ids that were used again after the window.
    pub reused_ids: usize,
    /// Clients that returned and got all that they had missed, and those that did not.
    pub complete_returns: usize,
    pub incomplete_returns: usize,
    /// Repeated messages that an instance published because the log no longer had the message before.
    pub unknown_repetitions: usize,
}

pub struct Oracle {
    pub seen: Seen,
    /// A replica that reads everything from the first record on, and what it was after each.
    replica: Lobby,
    states: Vec<Lobby>,
    reference: Reference,
    /// The offset and the id of each message that was published.
    published: Vec<(usize, EventId)>,
    event_ids: BTreeSet<EventId>,
    /// The offset of the last message of each account with each id.
    published_at: BTreeMap<(Arc<str>, Arc<str>), usize>,
    texts_without_id: BTreeSet<Arc<str>>,
    /// Who was killed, and when.
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
            crashed: Vec::new(),
        }
    }
}

impl Oracle {
    /// The offset that it reads next. Nobody reads ahead of it.
    pub fn position(&self) -> usize {
        self.states.len()
    }

    pub fn state(&self, offset: usize) -> &Lobby {
        &self.states[offset]
    }

    pub fn online(&self, offset: usize) -> &BTreeSet<User> {
        &self.reference.online[offset]
    }

    pub fn online_now(&self) -> BTreeSet<User> {
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

    /// Whether this account has published a message with this id.
    pub fn has_published(&self, user: &User, id: &Arc<str>) -> bool {
        self.published_at.contains_key(&(user.id.clone(), id.clone()))
    }

    pub fn on_crash(&mut self, id: InstanceId, now: Millis) {
        self.crashed.push((id, now));
    }

    /// Reads what is new in the log.
    pub fn read(
        &mut self,
        log: &VirtualLog,
        vitals: &BTreeMap<InstanceId, Vital>,
        now: Millis,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        while self.position() < log.end() {
            let offset = self.position();
            let record = log.record(offset);
            trace.note(now, || format!("offset {offset}: {} #{} {:?}", record.from, record.seq, record.body));
            let (is_fresh, forgotten) = self.reference.read(record.clone());
            self.note(offset, record, is_fresh);
            self.seen.lost_instances += forgotten.len();
            let mut events = Vec::new();
            let outcome = self.replica.apply(record, offset as u64, &mut events);
            self.states.push(self.replica.clone());

            ensure(
                self.replica.users_online().eq(self.online(offset)),
                "the reference agrees on who is online",
                || format!("offset {offset}: {:?}, not {:?}", self.replica, self.online(offset)),
            )?;
            self.check_events(offset, &events)?;
            ensure(
                (outcome == Outcome::Repeated) == self.is_repeated(offset),
                "the reference agrees on repeated messages",
                || format!("offset {offset}: {outcome:?}"),
            )?;
            self.check_said_once(offset)?;
            for id in forgotten {
                trace.note(now, || format!("offset {offset}: {id} is no longer known"));
                let is_sound = vitals.get(&id).is_some_and(|vital| vital.sound_since + SOUND < now);
                ensure(!is_sound, "no live instance is lost", || format!("{id} at offset {offset}"))?;
            }
        }
        self.check_crashed(vitals, now)
    }

    fn note(&mut self, offset: usize, record: &Record, is_fresh: bool) {
        let seen = &mut self.seen;
        seen.records += 1;
        seen.duplicates += usize::from(!is_fresh);
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

    /// Whether these are the events of `offset`, in the order of the rules.
    pub fn check_events(&self, offset: usize, events: &[Event]) -> Result<(), Violation> {
        let Change { left, joined, said, .. } = &self.reference.changes[offset];
        let left = left.iter().map(|user| Event::UserLeft { user: user.clone() });
        let joined = joined.iter().map(|user| Event::UserJoined { user: user.clone() });
        let said = said.iter().map(|Said { user, text, id, .. }| Event::Said {
            user: user.clone(),
            text: text.clone(),
            id: id.clone(),
        });
        let expected: Vec<Event> = left.chain(joined).chain(said).collect();
        ensure(events == expected, "the reference agrees on the events", || {
            format!("offset {offset}: {events:?}, not {expected:?}")
        })
    }

    fn check_said_once(&mut self, offset: usize) -> Result<(), Violation> {
        let Some(said) = self.reference.changes[offset].said.clone() else { return Ok(()) };
        self.published.push((offset, said.event_id));
        ensure(self.event_ids.insert(said.event_id), "no two messages have the same event id", || format!("{said:?}"))?;
        let Some(id) = said.id else {
            let is_new = self.texts_without_id.insert(said.text.clone());
            return ensure(is_new, "no message counts twice", || format!("{:?} at offset {offset}", said.text));
        };
        let Some(before) = self.published_at.insert((said.user.id, id), offset) else { return Ok(()) };
        self.seen.reused_ids += 1;
        ensure(offset - before >= REPETITION_WINDOW, "no id is published twice within the window", || {
            format!("offsets {before} and {offset}: {:?}", said.text)
        })
    }

    /// Those who crashed are gone in time, if somebody was sound all the while.
    fn check_crashed(&mut self, vitals: &BTreeMap<InstanceId, Vital>, now: Millis) -> Result<(), Violation> {
        let due = self.crashed.iter().take_while(|(_, since)| since + GONE_AFTER < now).count();
        for (id, since) in self.crashed.drain(..due).collect::<Vec<_>>() {
            let has_witness = vitals.values().any(|vital| vital.sound_since < since);
            ensure(
                !has_witness || self.reference.sessions(id).is_empty(),
                "the people of a crashed instance are gone in time",
                || format!("{id} crashed at {since} ms"),
            )?;
        }
        Ok(())
    }
}
