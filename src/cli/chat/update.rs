//! [`Update`]: what a [`Session`](super::session::Session) reports to the pipe or the screen.

use super::outgoing::Pending;
use super::protocol::{Change, ChatMessage, PageResult};

/// The connection, as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Online,
    /// The reason.
    Offline(String),
    /// The server dropped a message because there were too many.
    SlowedDown,
    /// The reason.
    Muted(String),
}

/// An event of the session or of the lobby. The texts are as other users wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Update {
    State(State),
    Users(Vec<String>),
    Joined(Change),
    Left(Change),
    /// Messages are missing before the next one.
    Gap,
    Message {
        message: ChatMessage,
        is_own: bool,
    },
    /// A message of the user waits.
    Queued(Pending),
    /// It was published.
    Confirmed(Pending),
    /// It will not be published, and why.
    NotSent(Pending, String),
    /// Something that the user should know.
    Note(String),
    /// The earlier messages that the user asked for.
    Earlier(PageResult),
    /// The session has ended for good.
    Ended(String),
}
