//! [`Lobby`]: the users online, computed from the records of the log.
//!
//! The log thread of every instance owns one and applies every record to it, in the order of the log. The state must
//! never depend on a clock, on [`Record::at`], or on anything else that is not in the log: two replicas that have read
//! to the same offset are equal, even if one of them began to read much later (see [`super::Bootstrap`]).
//!
//! The log may have a record twice (a producer's retry), but the second copy must come before the lease of its sender
//! expires. When a lease expires, the lobby forgets the instance and its last `seq`. If it kept the `seq`, it would
//! differ from a replica that began to read later and never knew the instance.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::presence::Presence;
use super::record::{Body, InstanceId, Record, SessionId, User};
use super::repetitions::Repetitions;
pub use super::repetitions::WINDOW_RECORDS as REPETITION_WINDOW;
use super::roster::{self, Collecting, Sessions};

/// The lease of an instance expires when one other instance has appended this many heartbeats since the last record of
/// the instance.
pub const LEASE_HEARTBEATS: u32 = 10;

/// The effect of a record that clients get as a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first session with this name opened.
    UserJoined {
        /// The name.
        username: Arc<str>,
    },
    /// The last session with this name closed.
    UserLeft {
        /// The name.
        username: Arc<str>,
    },
    /// A user who is online sent a message.
    Said {
        /// The author of the message.
        user: User,
        /// The text of the message, as the client sent it.
        text: Arc<str>,
        /// The id that the author's client gave it.
        id: Option<Arc<str>>,
    },
}

/// How [`Lobby::apply`] treated a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The record was applied. It may have caused no event.
    Applied,
    /// The record is the second copy of one that the log has twice. It only renews the lease of its sender.
    Duplicate,
    /// A message of a session that is not effective: it is not published.
    UnknownSession,
    /// A message with an id that its author's account used within the window: it is not published.
    Repeated,
}

/// An instance from its first record on until it is lost, whether it is a member or not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instance {
    last_seq: u64,
    /// Whether the instance is a member: a roster of it is effective.
    admitted: bool,
    said_bye: bool,
    sessions: Sessions,
    collecting: Option<Collecting>,
    /// How many heartbeats each other instance has appended since the last record of this instance.
    silence: BTreeMap<InstanceId, u32>,
}

impl Instance {
    fn with_first_record(seq: u64) -> Self {
        Instance {
            last_seq: seq,
            admitted: false,
            said_bye: false,
            sessions: Sessions::new(),
            collecting: None,
            silence: BTreeMap::new(),
        }
    }
}

/// The state that follows from the records applied so far: instances, their sessions, users and used message ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lobby {
    instances: BTreeMap<InstanceId, Instance>,
    /// Always equal to the sessions of all `instances`, counted by user.
    presence: Presence,
    repetitions: Repetitions,
}

impl Default for Lobby {
    fn default() -> Self {
        Lobby::with_repetition_window(REPETITION_WINDOW)
    }
}

impl Lobby {
    /// An empty lobby in which a use of a message id counts for `records` records. All replicas need the same number.
    #[must_use]
    pub fn with_repetition_window(records: u64) -> Self {
        Lobby { instances: BTreeMap::new(), presence: Presence::default(), repetitions: Repetitions::new(records) }
    }

    /// Applies the record at this offset and adds its events to `events`, in order. Offsets must increase from call to
    /// call. They may have gaps, because every replica sees the same gaps.
    pub fn apply(&mut self, record: &Record, offset: u64, events: &mut Vec<Event>) -> Outcome {
        let from = record.from;
        self.repetitions.advance(offset);
        // Without renewing the lease of its sender: the version before skips this record, and the states must be equal.
        if matches!(record.body, Body::Moderated(_)) {
            return Outcome::Applied;
        }
        if !self.renew(from, record.seq) {
            return Outcome::Duplicate;
        }
        match &record.body {
            Body::Roster { part, parts, sessions } => {
                let whole = self
                    .instances
                    .get_mut(&from)
                    .and_then(|sender| roster::collect(&mut sender.collecting, record.seq, (*part, *parts), sessions));
                if let Some(sessions) = whole {
                    self.replace_sessions(from, sessions, events);
                }
            }
            Body::Heartbeat { .. } => self.tick_others(from, events),
            Body::Joined { session, user } => self.join(from, *session, user, events),
            Body::Left { session } => self.leave(from, *session, events),
            Body::Said { session, text, id } => {
                let Some(user) = self.user_of(from, *session).cloned() else { return Outcome::UnknownSession };
                return self.say(user, text, id.as_ref(), offset, events);
            }
            Body::Bye { last } => self.bye(from, *last, events),
            Body::Moderated(_) => {}
        }
        Outcome::Applied
    }

    /// Publishes a message, unless its author's account used its id within the window. A refused message is a use of
    /// the id too. If only published messages were uses, a decision would depend on decisions before the window, and
    /// these on still earlier ones.
    fn say(
        &mut self,
        user: User,
        text: &Arc<str>,
        id: Option<&Arc<str>>,
        offset: u64,
        events: &mut Vec<Event>,
    ) -> Outcome {
        if id.is_some_and(|id| self.repetitions.add(&user, id, offset)) {
            return Outcome::Repeated;
        }
        events.push(Event::Said { user, text: text.clone(), id: id.cloned() });
        Outcome::Applied
    }

    /// Renews the lease of a record's sender. Even a duplicate does that. False for a duplicate, which has no other
    /// effect.
    fn renew(&mut self, from: InstanceId, seq: u64) -> bool {
        let Some(sender) = self.instances.get_mut(&from) else {
            self.instances.insert(from, Instance::with_first_record(seq));
            return true;
        };
        sender.silence.clear();
        if seq <= sender.last_seq {
            return false;
        }
        sender.last_seq = seq;
        true
    }

    /// Makes a roster effective. A name in the old and in the new roster was online all the time, so all sessions of
    /// the new one are counted before those of the old one are removed.
    fn replace_sessions(&mut self, from: InstanceId, sessions: Sessions, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        sender.admitted = true;
        // The common case: the roster with every tenth heartbeat of a healthy instance changes nothing.
        if sender.sessions == sessions {
            return;
        }
        let joined: BTreeSet<Arc<str>> =
            sessions.values().filter(|user| self.presence.add(user)).map(|user| user.username.clone()).collect();
        let before = std::mem::replace(&mut sender.sessions, sessions);
        self.remove_all(before.values(), events);
        events.extend(joined.into_iter().map(|username| Event::UserJoined { username }));
    }

    /// Counts a heartbeat against every other instance, and removes the instances whose lease it expires. The heartbeat
    /// counts even if its sender is not a member, because a replica that began to read later may not yet know whether
    /// the sender is a member.
    fn tick_others(&mut self, from: InstanceId, events: &mut Vec<Event>) {
        let mut lost = Vec::new();
        for (id, instance) in self.instances.iter_mut().filter(|(id, _)| **id != from) {
            let heartbeats = instance.silence.entry(from).or_insert(0);
            *heartbeats += 1;
            if *heartbeats >= LEASE_HEARTBEATS {
                lost.push(*id);
            }
        }
        self.forget(&lost, events);
    }

    /// Adds a session. Does nothing if the sender is not a member, or if the session is known: its user never changes.
    fn join(&mut self, from: InstanceId, session: SessionId, user: &User, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        if !sender.admitted || sender.sessions.contains_key(&session) {
            return;
        }
        sender.sessions.insert(session, user.clone());
        if self.presence.add(user) {
            events.push(Event::UserJoined { username: user.username.clone() });
        }
    }

    /// Removes a session. Does nothing if the session is unknown.
    fn leave(&mut self, from: InstanceId, session: SessionId, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        if let Some(user) = sender.sessions.remove(&session) {
            self.remove_all([&user], events);
        }
    }

    /// Records that an instance stops. Its sessions stay until the lease expires, so that their users can join another
    /// instance. With `last`, no instance remains whose heartbeats could expire the leases, so this removes exactly the
    /// instances that said `bye`.
    ///
    /// A `bye` is the last record of an instance. If another record follows nevertheless, it is applied like any other,
    /// and the instance still counts as one that said `bye`.
    fn bye(&mut self, from: InstanceId, last: bool, events: &mut Vec<Event>) {
        if let Some(sender) = self.instances.get_mut(&from) {
            sender.said_bye = true;
        }
        if last {
            let stopped: Vec<_> = self.instances.iter().filter(|(_, i)| i.said_bye).map(|(id, _)| *id).collect();
            self.forget(&stopped, events);
        }
    }

    /// Removes instances and all their sessions.
    fn forget(&mut self, instances: &[InstanceId], events: &mut Vec<Event>) {
        let gone: Vec<_> = instances.iter().filter_map(|id| self.instances.remove(id)).collect();
        self.remove_all(gone.iter().flat_map(|instance| instance.sessions.values()), events);
    }

    /// Removes sessions of these users. The events are in the order of the names, whatever the order of the sessions.
    fn remove_all<'a>(&mut self, users: impl IntoIterator<Item = &'a User>, events: &mut Vec<Event>) {
        let left: BTreeSet<&Arc<str>> =
            users.into_iter().filter(|user| self.presence.remove(user)).map(|user| &user.username).collect();
        events.extend(left.into_iter().map(|username| Event::UserLeft { username: username.clone() }));
    }

    /// Whether this instance is a member: a roster of it is effective.
    #[must_use]
    pub fn is_member(&self, instance: InstanceId) -> bool {
        self.instances.get(&instance).is_some_and(|instance| instance.admitted)
    }

    /// Whether there is no other instance. An instance exists from its first record on until it is lost.
    #[must_use]
    pub fn is_alone(&self, instance: InstanceId) -> bool {
        self.instances.keys().all(|id| *id == instance)
    }

    /// The number of instances. An instance exists from its first record on until it is lost.
    #[must_use]
    pub fn instance_count(&self) -> usize {
        self.instances.len()
    }

    /// The number of effective sessions of all instances.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.instances.values().map(|instance| instance.sessions.len()).sum()
    }

    /// Whether every instance is a member. An instance exists from its first record on until it is lost.
    #[must_use]
    pub fn is_every_instance_member(&self) -> bool {
        self.instances.values().all(|instance| instance.admitted)
    }

    /// The number of records for which a use of a message id counts.
    #[must_use]
    pub fn repetition_window(&self) -> u64 {
        self.repetitions.window()
    }

    /// Whether every member has appended a `bye`.
    #[must_use]
    pub fn every_member_said_bye(&self) -> bool {
        self.instances.values().filter(|instance| instance.admitted).all(|instance| instance.said_bye)
    }

    /// The effective sessions of one instance, in order.
    pub fn sessions_of(&self, instance: InstanceId) -> impl Iterator<Item = SessionId> + '_ {
        self.instances.get(&instance).into_iter().flat_map(|instance| instance.sessions.keys().copied())
    }

    /// The user of this session; `None` if the session is not effective.
    #[must_use]
    pub fn user_of(&self, instance: InstanceId, session: SessionId) -> Option<&User> {
        self.instances.get(&instance)?.sessions.get(&session)
    }

    /// The names of the users online, once each, in order.
    pub fn names_online(&self) -> impl ExactSizeIterator<Item = &Arc<str>> + '_ {
        self.presence.names()
    }
}

#[cfg(test)]
mod tests;
