//! The frames of the lobby, as `doc/api.md` describes them. Unknown frames and fields are ignored. Pure.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::times;

/// What a query may not contain: all but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An id as the value of a parameter in a query.
pub(super) fn parameter(id: &str) -> String {
    utf8_percent_encode(id, RESERVED).to_string()
}

/// A message of the lobby. The texts are as other users wrote them: not for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChatMessage {
    pub(super) event_id: String,
    pub(super) sent_at: String,
    pub(super) from_user: String,
    pub(super) text: String,
}

/// A page of `GET /history`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Page {
    /// The newest message first.
    pub(super) messages: Vec<ChatMessage>,
    /// The server has messages before these.
    #[serde(rename = "more", default)]
    pub(super) has_more: bool,
}

/// A page, or why there is none.
pub(super) type PageResult = Result<Page, String>;

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Everybody who is online, and the id of the last message before this join.
    UsersOnline {
        sent_at: Option<Timestamp>,
        names: Vec<String>,
        id_before: Option<String>,
    },
    Joined(Change),
    Left(Change),
    /// `id`: what its sender gave it.
    Message {
        message: ChatMessage,
        id: Option<String>,
    },
    CaughtUp {
        is_complete: bool,
    },
    /// The server has accepted a new token.
    Token,
    Error {
        id: Option<String>,
        code: String,
        text: String,
    },
    Unknown,
}

/// A user who came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) username: String,
    pub(super) sent_at: String,
}

impl Frame {
    pub(super) fn parse(text: &str) -> Frame {
        let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let (text, msg) = (|name: &str| string(&value[name]), &value["msg"]);
        let change = || Change {
            username: string(&msg["username"]).unwrap_or_default(),
            sent_at: text("sent_at").unwrap_or_default(),
        };
        match value["type"].as_str() {
            Some("users_online") => {
                let names = msg["list"].as_array().into_iter().flatten().filter_map(string).collect();
                let sent_at = text("sent_at").and_then(|sent_at| times::parse(&sent_at));
                Frame::UsersOnline { sent_at, names, id_before: text("event_id") }
            }
            Some("user_joined") => Frame::Joined(change()),
            Some("user_left") => Frame::Left(change()),
            Some("chat_message") => {
                let message = || {
                    let (from_user, said) = (string(&msg["from_user"])?, string(&msg["text"])?);
                    Some(ChatMessage { event_id: text("event_id")?, sent_at: text("sent_at")?, from_user, text: said })
                };
                message().map_or(Frame::Unknown, |message| Frame::Message { message, id: text("id") })
            }
            Some("caught_up") => Frame::CaughtUp { is_complete: msg["complete"] != Value::Bool(false) },
            Some("token") => Frame::Token,
            Some("error") => {
                let [code, reason] = ["code", "text"].map(|name| string(&msg[name]).unwrap_or_default());
                Frame::Error { id: text("id"), code, text: reason }
            }
            _ => Frame::Unknown,
        }
    }
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A message to the lobby.
pub(super) fn say(id: &str, text: &str) -> String {
    json!({"type": "chat_message", "id": id, "msg": {"text": text}}).to_string()
}

/// Continues the session with this token.
pub(super) fn renew(token: &str) -> String {
    json!({"type": "token", "msg": {"token": token}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parsed() {
        let message = ChatMessage {
            event_id: "5f-7".into(),
            sent_at: "2026-11-23T10:00:09+01:00".into(),
            from_user: "Bob".into(),
            text: "Hello!".into(),
        };
        let text = r#"{"type":"chat_message","sent_at":"2026-11-23T10:00:09+01:00","event_id":"5f-7","id":"m1",
            "msg":{"from_user":"Bob","text":"Hello!","new":1}}"#;
        assert_eq!(Frame::parse(text), Frame::Message { message, id: Some("m1".into()) });
        let text = r#"{"type":"users_online","sent_at":"t","msg":{"list":["Ann",1,"Bob"]}}"#;
        let names = vec!["Ann".into(), "Bob".into()];
        assert_eq!(Frame::parse(text), Frame::UsersOnline { sent_at: None, names, id_before: None });
        assert_eq!(
            Frame::parse(r#"{"type":"caught_up","msg":{"complete":false}}"#),
            Frame::CaughtUp { is_complete: false }
        );
        for text in ["", "[]", "{}", r#"{"type":"new"}"#, r#"{"type":"chat_message","msg":{"text":"x"}}"#] {
            assert_eq!(Frame::parse(text), Frame::Unknown, "{text}");
        }
    }
}
