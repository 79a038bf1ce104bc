//! [`ErrorCode`]: the one table of `error` frames. Each row has the code for programs and the default text for the
//! user. `doc/api.md` has the same codes; a test compares both.

use std::borrow::Cow;
use std::sync::Arc;

use crate::limits::ERROR_TEXT_CHARS_MAX;

/// What is wrong with one message of a client. Codes are part of the contract with clients and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is not one JSON object with fields of the right types.
    BadJson,
    /// `type` is missing.
    NoType,
    /// `type` is none that clients send.
    UnknownType,
    /// `msg.text` is missing.
    NoText,
    /// `msg` is not an object, or a field of it has the wrong type.
    BadMsg,
    /// The text is empty, or nothing of it can be seen.
    EmptyText,
    /// The text has more characters than allowed.
    TextTooLong,
    /// `id` is too long.
    BadId,
    /// The message is binary.
    Binary,
    /// The client sends too many messages; the server dropped this one.
    RateLimited,
    /// `msg.token` is missing.
    NoToken,
    /// The new token is refused.
    BadToken,
    /// The new token names another user.
    OtherUser,
    /// An administrator has muted the user.
    Muted,
    /// The message repeats one that was published.
    Duplicate,
    /// The event log did not accept the message, or the lobby ignored it.
    Unavailable,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stable code, for programs.
    pub code: &'static str,
    /// The default text, for the user: what is wrong, and what to do if that is not obvious.
    pub text: &'static str,
}

impl ErrorCode {
    /// All errors, in the order of `doc/api.md`.
    pub const ALL: [ErrorCode; 16] = [
        ErrorCode::BadJson,
        ErrorCode::NoType,
        ErrorCode::UnknownType,
        ErrorCode::NoText,
        ErrorCode::BadMsg,
        ErrorCode::EmptyText,
        ErrorCode::TextTooLong,
        ErrorCode::BadId,
        ErrorCode::Binary,
        ErrorCode::RateLimited,
        ErrorCode::NoToken,
        ErrorCode::BadToken,
        ErrorCode::OtherUser,
        ErrorCode::Muted,
        ErrorCode::Duplicate,
        ErrorCode::Unavailable,
    ];

    /// The row of this error.
    #[must_use]
    pub const fn row(self) -> Row {
        let (code, text) = match self {
            ErrorCode::BadJson => ("bad_json", "not a JSON object of the expected form"),
            ErrorCode::NoType => {
                ("no_type", "type is missing: send {\"type\":\"chat_message\",\"msg\":{\"text\":\"...\"}}")
            }
            ErrorCode::UnknownType => ("unknown_type", "clients can send only the types chat_message, token and ping"),
            ErrorCode::NoText => ("no_text", "msg.text is missing"),
            ErrorCode::BadMsg => ("bad_msg", "msg is not of the form {\"text\":\"...\"} or {\"token\":\"...\"}"),
            ErrorCode::EmptyText => ("empty_text", "msg.text is empty or blank"),
            ErrorCode::TextTooLong => ("text_too_long", "msg.text is too long"),
            ErrorCode::BadId => ("bad_id", "id is too long"),
            ErrorCode::Binary => ("binary", "the server does not accept binary messages: send JSON as text"),
            ErrorCode::RateLimited => (
                "rate_limited",
                "too many messages: this one was not sent; wait a second, or the server closes the connection",
            ),
            ErrorCode::NoToken => ("no_token", "msg.token is missing"),
            ErrorCode::BadToken => ("bad_token", "the token is not valid"),
            ErrorCode::OtherUser => ("other_user", "the token is for another user: join with it instead"),
            ErrorCode::Muted => ("muted", "an administrator has muted you"),
            ErrorCode::Duplicate => ("duplicate", "a message of this account with this id was published already"),
            ErrorCode::Unavailable => ("unavailable", "the lobby did not accept this message: send it again later"),
        };
        Row { code, text }
    }

    /// This error with a text that says more than the table. Truncates it to [`ERROR_TEXT_CHARS_MAX`] characters.
    pub(crate) fn with_text(self, text: String) -> ClientError {
        ClientError { code: self, text: shortened(text).into(), id: None }
    }
}

/// The content of an `error` frame: an error about one message of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientError {
    pub(crate) code: ErrorCode,
    /// What happened and what to do, for the user: at most [`ERROR_TEXT_CHARS_MAX`] characters.
    pub(crate) text: Cow<'static, str>,
    /// The id that the client gave the message.
    pub(crate) id: Option<Arc<str>>,
}

impl ClientError {
    /// The same error, about the message with this id.
    pub(crate) fn about(mut self, id: Option<Arc<str>>) -> Self {
        self.id = id;
        self
    }
}

impl From<ErrorCode> for ClientError {
    /// The error with the text of the table, about no particular message.
    fn from(code: ErrorCode) -> Self {
        ClientError { code, text: code.row().text.into(), id: None }
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(ERROR_TEXT_CHARS_MAX) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_different_code_and_a_short_text() {
        let mut codes: Vec<_> = ErrorCode::ALL.iter().map(|error| error.row().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|error| error.row().text.chars().count() <= ERROR_TEXT_CHARS_MAX));
    }
}
