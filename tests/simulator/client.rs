//! One client, which knows only what the server sent to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use ich::lobby::{Event, User};

use super::oracle::Oracle;
use super::{Millis, Violation, ensure};

pub struct Client {
    pub user: User,
    pub opened_at: Millis,
    /// The offset of the first record whose events the client gets. `None`: not admitted yet.
    admitted_at: Option<usize>,
    /// The list of users, as this client knows it.
    view: BTreeSet<User>,
    received: Vec<(User, Arc<str>)>,
}

impl Client {
    pub fn new(user: User, opened_at: Millis) -> Self {
        Client { user, opened_at, admitted_at: None, view: BTreeSet::new(), received: Vec::new() }
    }

    pub fn is_admitted(&self) -> bool {
        self.admitted_at.is_some()
    }

    /// Receives `users_online`: the users just before `offset`.
    pub fn admit(&mut self, offset: usize, before: BTreeSet<User>) {
        self.admitted_at = Some(offset);
        self.view = before;
    }

    /// Receives the events of the record at `offset`.
    pub fn on_events(&mut self, offset: usize, events: &[Event], oracle: &Oracle) -> Result<(), Violation> {
        for event in events {
            match event {
                Event::UserJoined { user } => {
                    ensure(self.view.insert(user.clone()), "user_joined and user_left alternate", || {
                        format!("{user:?} joined twice, as a client received it at offset {offset}")
                    })?;
                }
                Event::UserLeft { user } => {
                    ensure(self.view.remove(user), "user_joined and user_left alternate", || {
                        format!("{user:?} left without having joined, as a client received it at offset {offset}")
                    })?;
                }
                Event::Said { user, text, .. } => {
                    ensure(self.view.contains(user), "the sender of a message is online", || {
                        format!("{user:?} sent {text:?} and is not in a client's list at offset {offset}")
                    })?;
                    self.received.push((user.clone(), text.clone()));
                }
            }
        }
        if events.iter().all(|event| matches!(event, Event::Said { .. })) {
            return Ok(());
        }
        ensure(self.view == *oracle.online(offset), "a client's list and events add up to the state", || {
            format!("{:?} has {:?} at offset {offset}, online are {:?}", self.user, self.view, oracle.online(offset))
        })
    }

    /// Checks that the client received each message from its admission to `position` once, in the order of the log.
    pub fn check_received(&self, position: usize, oracle: &Oracle) -> Result<(), Violation> {
        let Some(admitted_at) = self.admitted_at else { return Ok(()) };
        let expected = (admitted_at..position).filter_map(|offset| oracle.message(offset));
        ensure(expected.eq(&self.received), "every client gets every message once and in order", || {
            format!("{:?}, admitted at {admitted_at} and now at {position}, received {:?}", self.user, self.received)
        })
    }
}
