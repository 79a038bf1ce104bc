//! [`Presence`]: how many sessions each person has, over all instances.
//!
//! Owned by [`super::Lobby`], which turns what is returned here into events.

use std::collections::BTreeMap;

use super::record::User;

/// A count of sessions for everybody who has at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Presence {
    sessions: BTreeMap<User, usize>,
}

impl Presence {
    /// One session more; true when it is this person's first.
    pub fn add(&mut self, user: &User) -> bool {
        if let Some(sessions) = self.sessions.get_mut(user) {
            *sessions += 1;
            return false;
        }
        self.sessions.insert(user.clone(), 1);
        true
    }

    /// One session less; true when it was this person's last.
    pub fn remove(&mut self, user: &User) -> bool {
        match self.sessions.get_mut(user) {
            None => false,
            Some(1) => self.sessions.remove(user).is_some(),
            Some(sessions) => {
                *sessions -= 1;
                false
            }
        }
    }

    /// Everybody, once each, ordered by account id.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &User> + '_ {
        self.sessions.keys()
    }
}
