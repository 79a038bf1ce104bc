//! [`Lobby`]: who is there, folded from the log.
//!
//! Every instance owns one and applies every record to it, in the order of the log; the log thread writes it, others
//! read. It must never look at a clock, at [`Record::at`], or at who is *not* in the log: two replicas that have read
//! to the same offset are equal, even when one of them began to read much later (see [`super::Bootstrap`]).
//!
//! One thing it asks of the log: a record may be in it twice (a producer's retry), but not a second time after its
//! instance was lost. What is lost is forgotten whole, or replicas that know a different past would differ.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::presence::Presence;
use super::record::{Body, InstanceId, Record, SessionId, User};
use super::roster::{self, Collecting, Sessions};

/// An instance is lost when another one has beaten this many times since it was last heard.
pub const LEASE_HEARTBEATS: u32 = 10;

/// What people see of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person came: his first session.
    UserJoined {
        /// Who.
        user: User,
    },
    /// A person went: his last session.
    UserLeft {
        /// Who.
        user: User,
    },
    /// A person who is there said something.
    Said {
        /// Who.
        user: User,
        /// What.
        text: Arc<str>,
        /// The id that his client gave it.
        id: Option<Arc<str>>,
    },
}

/// What the log says of one instance. It is kept for any that was heard, member or not, until that one is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instance {
    last_seq: u64,
    /// Whether a roster is in force: it is a member.
    admitted: bool,
    said_bye: bool,
    sessions: Sessions,
    collecting: Option<Collecting>,
    /// How often each other instance has beaten since this one was last heard.
    silence: BTreeMap<InstanceId, u32>,
}

impl Instance {
    fn heard_first(seq: u64) -> Self {
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

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lobby {
    instances: BTreeMap<InstanceId, Instance>,
    /// Counts exactly the sessions of all `instances`.
    presence: Presence,
}

impl Lobby {
    /// Applies one record; what people see of it is added to `events`, in order.
    pub fn apply(&mut self, record: &Record, events: &mut Vec<Event>) {
        let from = record.from;
        if !self.renew(from, record.seq) {
            return;
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
                if let Some(user) = self.user_of(from, *session) {
                    events.push(Event::Said { user: user.clone(), text: text.clone(), id: id.clone() });
                }
            }
            Body::Bye { last } => self.bye(from, *last, events),
        }
    }

    /// Any record renews its sender's lease, even a duplicate. False for a duplicate, which does nothing else.
    fn renew(&mut self, from: InstanceId, seq: u64) -> bool {
        let Some(sender) = self.instances.get_mut(&from) else {
            self.instances.insert(from, Instance::heard_first(seq));
            return true;
        };
        sender.silence.clear();
        if seq <= sender.last_seq {
            return false;
        }
        sender.last_seq = seq;
        true
    }

    /// A roster is in force. Someone who is in the old one and in the new one has not been away: hence first all that
    /// are added, then all that are removed.
    fn replace_sessions(&mut self, from: InstanceId, sessions: Sessions, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        sender.admitted = true;
        // The rule for a healthy instance, whose roster says every 10 beats what is known already.
        if sender.sessions == sessions {
            return;
        }
        let joined: BTreeSet<User> = sessions.values().filter(|user| self.presence.add(user)).cloned().collect();
        let before = std::mem::replace(&mut sender.sessions, sessions);
        self.remove_all(before.values(), events);
        events.extend(joined.into_iter().map(|user| Event::UserJoined { user }));
    }

    /// A beat counts against every other instance, whether or not its sender is a member: a replica that began to read
    /// later may not know yet that it is.
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

    /// Void when the sender is no member, or when the session is known: whose it is never changes.
    fn join(&mut self, from: InstanceId, session: SessionId, user: &User, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        if !sender.admitted || sender.sessions.contains_key(&session) {
            return;
        }
        sender.sessions.insert(session, user.clone());
        if self.presence.add(user) {
            events.push(Event::UserJoined { user: user.clone() });
        }
    }

    /// Void when the session is not in the roster.
    fn leave(&mut self, from: InstanceId, session: SessionId, events: &mut Vec<Event>) {
        let Some(sender) = self.instances.get_mut(&from) else { return };
        if let Some(user) = sender.sessions.remove(&session) {
            self.remove_all([&user], events);
        }
    }

    /// The sessions stay: their people have the rest of the lease to come back elsewhere. With `last` nobody remains
    /// who could time them out, so all go that have said `bye`; any other instance is left alone, known or not.
    ///
    /// A `bye` is the last thing an instance says. Should another record follow it nevertheless, it is applied like
    /// any other, and the `bye` stands.
    fn bye(&mut self, from: InstanceId, last: bool, events: &mut Vec<Event>) {
        if let Some(sender) = self.instances.get_mut(&from) {
            sender.said_bye = true;
        }
        if last {
            let stopped: Vec<_> = self.instances.iter().filter(|(_, i)| i.said_bye).map(|(id, _)| *id).collect();
            self.forget(&stopped, events);
        }
    }

    fn forget(&mut self, instances: &[InstanceId], events: &mut Vec<Event>) {
        let gone: Vec<_> = instances.iter().filter_map(|id| self.instances.remove(id)).collect();
        self.remove_all(gone.iter().flat_map(|instance| instance.sessions.values()), events);
    }

    /// These sessions are over. Their people are reported in the order of [`User`], whatever order they come in.
    fn remove_all<'a>(&mut self, users: impl IntoIterator<Item = &'a User>, events: &mut Vec<Event>) {
        let left: BTreeSet<&User> = users.into_iter().filter(|user| self.presence.remove(user)).collect();
        events.extend(left.into_iter().map(|user| Event::UserLeft { user: user.clone() }));
    }

    /// Whether this instance has a roster in force.
    #[must_use]
    pub fn is_member(&self, instance: InstanceId) -> bool {
        self.instances.get(&instance).is_some_and(|instance| instance.admitted)
    }

    /// Whether every instance that was heard, and is not lost, has a roster in force.
    #[must_use]
    pub fn is_every_instance_member(&self) -> bool {
        self.instances.values().all(|instance| instance.admitted)
    }

    /// Whether every member has said `bye`.
    #[must_use]
    pub fn every_member_said_bye(&self) -> bool {
        self.instances.values().filter(|instance| instance.admitted).all(|instance| instance.said_bye)
    }

    /// The sessions in force of one instance, in order.
    pub fn sessions_of(&self, instance: InstanceId) -> impl Iterator<Item = SessionId> + '_ {
        self.instances.get(&instance).into_iter().flat_map(|instance| instance.sessions.keys().copied())
    }

    /// Whose session this is; none when it is not in force.
    #[must_use]
    pub fn user_of(&self, instance: InstanceId, session: SessionId) -> Option<&User> {
        self.instances.get(&instance)?.sessions.get(&session)
    }

    /// Everybody who is there, once each, ordered by account id.
    pub fn users_online(&self) -> impl ExactSizeIterator<Item = &User> + '_ {
        self.presence.users()
    }
}

#[cfg(test)]
mod tests;
