//! The records of the event log: every fact that the instances share, and the only thing they share.
//!
//! Pure data. The names of fields and variants are the format on the log: [`crate::event_log::codec`] writes them as
//! JSON, so a change here must stay readable by instances of the version before.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One run of one process: drawn at random at its start and never used again (the *incarnation*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for InstanceId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(InstanceId)
    }
}

/// A session of one instance: one connection of one person. Unique within its instance, never reused by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// A person, as the token names him. Two sessions are of one person when all of this is the same: people know him by
/// his name only, so one who comes back under a new name, while the old one is still there, is shown as two. (Were he
/// shown under the name of whichever session was first, replicas that know a different past would differ.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User {
    /// The account's id.
    pub id: Arc<str>,
    /// The name that people see.
    pub username: Arc<str>,
}

/// One session in a [`Body::Roster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub user: User,
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The instance that appended it.
    pub from: InstanceId,
    /// 1 for the first record of that instance, one more for each that follows.
    pub seq: u64,
    /// The sender's wall clock, RFC 3339 with nanoseconds and offset. It is shown to people and never looked at.
    pub at: Arc<str>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What a [`Record`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// All sessions of the sender. One that is too large for one record comes in `parts` parts (`part` counts from 0),
    /// appended back to back; the last one puts it in force.
    Roster {
        /// Which part this is, from 0.
        part: u32,
        /// How many parts there are, at least 1.
        parts: u32,
        /// The sessions of this part.
        sessions: Vec<RosterEntry>,
    },
    /// The sender is alive, and reads what it appends: its `n`-th beat.
    #[serde(rename = "beat")]
    Heartbeat {
        /// 1 for the first beat of this instance.
        n: u64,
    },
    /// A session opened.
    Joined {
        /// Which.
        session: SessionId,
        /// Whose.
        user: User,
    },
    /// A session closed.
    Left {
        /// Which.
        session: SessionId,
    },
    /// A client said something.
    Said {
        /// In which session.
        session: SessionId,
        /// What, as it was sent.
        text: Arc<str>,
        /// The id that the client gave this message, if it gave one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
    },
    /// The sender stops.
    Bye {
        /// True when every member has said `bye`: nobody remains who could time them out.
        last: bool,
    },
}
