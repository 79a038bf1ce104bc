//! The records of the event log: everything that the instances share.
//!
//! Pure data. The names of fields and variants are the format on the log, unless `rename` gives another:
//! [`crate::event_log::codec`] writes them as JSON, and instances of the version before have to read it.

use std::str::FromStr;
use std::sync::Arc;
use std::{array, fmt};

use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};

/// The id of one incarnation. A process generates a random one when it starts, and when it has to read the log anew.
/// No id is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Serialize for InstanceId {
    /// The text of [`fmt::Display`]. Connection threads call this where they need the most stack, which fits into two pages
    /// (doc/performance.md). A `String` and the formatting take half a kilobyte more.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: [u8; 16] = array::from_fn(|index| b"0123456789abcdef"[(self.0 >> (60 - 4 * index)) as usize & 0xf]);
        serializer.serialize_str(str::from_utf8(&digits).map_err(S::Error::custom)?)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(InstanceId)
    }
}

/// The id of a session: one connection of one user. Unique within its process, and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// A user, as named by the token. Two sessions belong to the same user when both fields are equal. So a user who joins
/// under a new name, while a session with the old name is open, is online as two users. The lobby cannot use the name
/// of the oldest session instead: replicas that began to read at different offsets may know different oldest sessions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User {
    /// The id of the account, from the claim `id` of the token.
    pub id: Arc<str>,
    /// The name that clients show, from the claim `username` of the token.
    pub username: Arc<str>,
}

/// One session in a [`Body::Roster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// An open session of the instance that appended the roster.
    pub session: SessionId,
    /// The user of this session.
    pub user: User,
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The incarnation that appended the record: its *sender*.
    pub from: InstanceId,
    /// The number of the record: 1 for the first record of the sender, increasing.
    pub seq: u64,
    /// The sender's wall clock, RFC 3339 with nanoseconds and offset. Clients show it; nothing depends on it.
    pub at: Arc<str>,
    /// The kind of the record, with the fields of that kind.
    #[serde(flatten)]
    pub body: Body,
}

impl Record {
    /// The id of the message in this record, for clients.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId { from: self.from, seq: self.seq }
    }
}

/// The id of a message, for clients: the sender and the number of the record that published the message. No two
/// messages have the same id, not even in two logs, because no two incarnations have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// [`Record::from`] of the record that published the message.
    pub from: InstanceId,
    /// [`Record::seq`] of the same record.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.from, self.seq)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The error for a text that is not exactly what [`fmt::Display`] writes for some [`EventId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the event_id of a message")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (from, seq) = text.split_once('-').ok_or(InvalidEventId)?;
        let from = InstanceId(u64::from_str_radix(from, 16).map_err(|_| InvalidEventId)?);
        let id = EventId { from, seq: seq.parse().map_err(|_| InvalidEventId)? };
        // Upper case, a sign or missing zeros: no message has this id.
        if id.to_string() == text { Ok(id) } else { Err(InvalidEventId) }
    }
}

/// The kinds of records, with the fields of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// All sessions of the sender. A roster that is too large for one record is split into several parts, appended one
    /// after the other; the last part makes it effective.
    Roster {
        /// The number of this part, from 0.
        part: u32,
        /// The number of parts, at least 1.
        parts: u32,
        /// The sessions of this part.
        sessions: Vec<RosterEntry>,
    },
    /// The heartbeat: the sender is alive, and its last heartbeat was read back or reported undelivered.
    #[serde(rename = "beat")]
    Heartbeat {
        /// The number of the heartbeat: 1 for the first one of the sender.
        n: u64,
    },
    /// A session of the sender opened.
    Joined {
        /// The new session.
        session: SessionId,
        /// The user of this session, which never changes.
        user: User,
    },
    /// A session of the sender closed.
    Left {
        /// The closed session.
        session: SessionId,
    },
    /// A chat message.
    Said {
        /// The session of its author.
        session: SessionId,
        /// The text, as the client sent it.
        text: Arc<str>,
        /// The id that the client gave the message; `None` if it gave none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Arc<str>>,
    },
    /// The sender stops. It is the last record of the sender.
    Bye {
        /// True in a second `bye`, appended when every member has said `bye`: no instance remains whose heartbeats
        /// could expire their leases.
        last: bool,
    },
    /// An administrator acted on a user. The lobby ignores it: the instances that have sessions of the user act on it
    /// (`crate::moderation`). The version before skips it.
    Moderated(Moderation),
}

/// What an administrator can do to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ends the open sessions of the user. The user may join again.
    Kick,
    /// Refuses the messages of the user.
    Mute,
    /// Ends the open sessions of the user and refuses new ones.
    Ban,
    /// Ends a ban and a mute.
    Unban,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 4] = [Action::Kick, Action::Mute, Action::Ban, Action::Unban];

    /// The name in the log, in the paths of the API and in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Action::Kick => "kick",
            Action::Mute => "mute",
            Action::Ban => "ban",
            Action::Unban => "unban",
        }
    }
}

/// One action of an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moderation {
    /// What the administrator did.
    pub action: Action,
    /// The name of the user.
    pub username: Arc<str>,
    /// The name of the administrator.
    pub by: Arc<str>,
    /// The reason, for the user. May be empty.
    pub reason: Arc<str>,
    /// When, in milliseconds since 1970 UTC. Of two actions on one user, the later one applies.
    pub at_ms: u64,
    /// When a mute or a ban ends; `None`: when an administrator ends it.
    #[serde(default)]
    pub until_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EVENT_ID_CHARS_MAX;

    #[test]
    fn the_id_of_an_instance_is_the_same_text_in_the_log_and_in_messages() {
        for id in [0, 0x2a, 0x0123_4567_89ab_cdef, u64::MAX].map(InstanceId) {
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
            assert_eq!(InstanceId::try_from(id.to_string()), Ok(id));
        }
    }

    #[test]
    fn an_event_id_is_parsed_from_its_text_and_from_no_other() {
        for id in [EventId { from: InstanceId(0x2a), seq: 7 }, EventId { from: InstanceId(u64::MAX), seq: u64::MAX }] {
            let text = id.to_string();
            assert_eq!(text.parse(), Ok(id));
            assert!(text.len() <= EVENT_ID_CHARS_MAX, "{text}");
        }
        for text in ["", "-", "2a-7", "000000000000002A-7", "000000000000002a-07", "000000000000002a-+7", "0-0-0"] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
    }
}
