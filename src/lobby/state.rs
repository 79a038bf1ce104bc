//! [`Lobby`]: who is there, folded from the log.

use super::record::{InstanceId, Record, SessionId, User};
use std::sync::Arc;

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

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lobby {}

impl Lobby {
    /// Applies one record; what people see of it is added to `events`, in order.
    pub fn apply(&mut self, _record: &Record, _events: &mut Vec<Event>) {}

    /// Whether this instance has a roster in force.
    #[must_use]
    pub fn is_member(&self, _instance: InstanceId) -> bool {
        false
    }

    /// The sessions in force of one instance, in order.
    pub fn sessions_of(&self, _instance: InstanceId) -> impl Iterator<Item = SessionId> + '_ {
        std::iter::empty()
    }

    /// Everybody who is there, once each, ordered by account id.
    pub fn users_online(&self) -> impl Iterator<Item = &User> + '_ {
        std::iter::empty()
    }
}
