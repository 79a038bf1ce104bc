//! [`Presence`]: the number of sessions of each username on all instances.
//!
//! Owned by [`super::Lobby`]: the first session of a name becomes a `UserJoined` event, and the end of the last a
//! `UserLeft`. Clients know users by their names only, so two accounts with one name (an outside issuer may have them)
//! are one entry of the list.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::User;

/// The number of sessions of each username that has at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Presence {
    sessions: BTreeMap<Arc<str>, usize>,
}

impl Presence {
    /// Adds a session. True when it is the first with this name.
    pub fn add(&mut self, user: &User) -> bool {
        if let Some(sessions) = self.sessions.get_mut(&user.username) {
            *sessions += 1;
            return false;
        }
        self.sessions.insert(user.username.clone(), 1);
        true
    }

    /// Removes a session. True when it was the last with this name.
    pub fn remove(&mut self, user: &User) -> bool {
        match self.sessions.get_mut(&user.username) {
            None => false,
            Some(1) => self.sessions.remove(&user.username).is_some(),
            Some(sessions) => {
                *sessions -= 1;
                false
            }
        }
    }

    /// All names, once each, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.sessions.keys()
    }
}
