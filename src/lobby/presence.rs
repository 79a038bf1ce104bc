//! [`Presence`]: the number of sessions of each user on all instances.
//!
//! Owned by [`super::Lobby`], which turns the beginning of a user's first session into a `UserJoined` event, and the
//! end of the last one into a `UserLeft` event.

use std::collections::BTreeMap;

use super::record::User;

/// The number of sessions of each user who has at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Presence {
    sessions: BTreeMap<User, usize>,
}

impl Presence {
    /// Adds a session. True if it is the user's only session.
    pub fn add(&mut self, user: &User) -> bool {
        if let Some(sessions) = self.sessions.get_mut(user) {
            *sessions += 1;
            return false;
        }
        self.sessions.insert(user.clone(), 1);
        true
    }

    /// Removes a session. True if the user has no other session.
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

    /// All users, once each, ordered by account id.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &User> + '_ {
        self.sessions.keys()
    }
}
