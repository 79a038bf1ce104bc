//! One connected person, who knows only what the server sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use ich::lobby::{Event, User};

use super::oracle::Oracle;
use super::{Violation, ensure};

pub struct Client {
    pub user: User,
    /// From where on it got events; none while it waits for its session to be in force.
    admitted_at: Option<usize>,
    view: BTreeSet<User>,
    heard: Vec<(User, Arc<str>)>,
}

impl Client {
    pub fn new(user: User) -> Self {
        Client { user, admitted_at: None, view: BTreeSet::new(), heard: Vec::new() }
    }

    pub fn is_admitted(&self) -> bool {
        self.admitted_at.is_some()
    }

    /// `users_online`: who was there just before `offset`.
    pub fn admit(&mut self, offset: usize, before: BTreeSet<User>) {
        self.admitted_at = Some(offset);
        self.view = before;
    }

    /// What the server sends it for the record at `offset`.
    pub fn on_events(&mut self, offset: usize, events: &[Event], oracle: &Oracle) -> Result<(), Violation> {
        for event in events {
            match event {
                Event::UserJoined { user } => {
                    ensure(self.view.insert(user.clone()), "joined and left alternate", || {
                        format!("{user:?} joined twice, as a client saw it at offset {offset}")
                    })?;
                }
                Event::UserLeft { user } => {
                    ensure(self.view.remove(user), "joined and left alternate", || {
                        format!("{user:?} left and was not there, as a client saw it at offset {offset}")
                    })?;
                }
                Event::Said { user, text, .. } => {
                    ensure(self.view.contains(user), "an author is online", || {
                        format!("{user:?} said {text:?} and is not in a client's list at offset {offset}")
                    })?;
                    self.heard.push((user.clone(), text.clone()));
                }
            }
        }
        ensure(self.view == *oracle.online(offset), "a client's snapshot and events are the state", || {
            format!("{:?} has {:?} at offset {offset}, online are {:?}", self.user, self.view, oracle.online(offset))
        })
    }

    /// Every message since it was admitted, once each, and in the order of the log. `position`: what it was sent up to.
    pub fn check_heard(&self, position: usize, oracle: &Oracle) -> Result<(), Violation> {
        let Some(admitted_at) = self.admitted_at else { return Ok(()) };
        let said = (admitted_at..position).filter_map(|offset| oracle.said(offset));
        ensure(said.eq(&self.heard), "every message reaches every client once and in order", || {
            format!("{:?}, admitted at {admitted_at} and now at {position}, heard {:?}", self.user, self.heard)
        })
    }
}
