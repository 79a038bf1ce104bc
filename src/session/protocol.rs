//! The JSON in the frames: the contract with clients, version 1 (`doc/api.md`). Pure.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire;
use crate::limits::{ERROR_TEXT_CHARS_MAX, MESSAGE_ID_CHARS_MAX};
use crate::lobby::{Event, EventId, Record};

/// A chat message of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Say {
    /// The text.
    pub text: Arc<str>,
    /// The client's id for the message. It is in the message that all clients get, and in an error about it.
    pub id: Option<Arc<str>>,
}

/// An error about something that one client sent: the `error` frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// The code, for programs. It is never changed.
    pub code: &'static str,
    /// What happened and what to do, for people.
    pub text: Cow<'static, str>,
    /// The id of the message that the error is about.
    pub id: Option<Arc<str>>,
}

impl ClientError {
    /// An error about no particular message.
    #[must_use]
    pub fn new(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        ClientError { code, text: shortened(text.into()), id: None }
    }

    /// The same, about the message with this id.
    #[must_use]
    pub fn about(mut self, id: Option<Arc<str>>) -> Self {
        self.id = id;
        self
    }
}

/// At most [`ERROR_TEXT_CHARS_MAX`] characters of this text.
fn shortened(text: Cow<'static, str>) -> Cow<'static, str> {
    match text.char_indices().nth(ERROR_TEXT_CHARS_MAX) {
        None => text,
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned().into(),
    }
}

/// The answer to a binary message.
#[must_use]
pub fn binary_refused() -> ClientError {
    ClientError::new("binary", "binary messages are not understood: send JSON as text")
}

/// The answer to the first message beyond the rate.
#[must_use]
pub fn rate_limited() -> ClientError {
    ClientError::new("rate_limited", "too many messages: this one was not sent; wait a second, or be disconnected")
}

/// The answer to a message that the log did not take.
#[must_use]
pub fn unavailable(id: Option<Arc<str>>) -> ClientError {
    ClientError::new("unavailable", "the lobby did not take this message: send it again later").about(id)
}

/// The answer to a message with an id that its author used already.
#[must_use]
pub fn duplicate(id: Option<Arc<str>>) -> ClientError {
    ClientError::new("duplicate", "a message of yours with this id was published already").about(id)
}

/// The frame of a client. Unknown fields are ignored without being parsed into memory.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct IncomingText<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// Parses a text frame of a client.
///
/// # Errors
/// The error to answer with; the session goes on.
pub fn parse(frame: &str, text_chars_max: usize) -> Result<Say, ClientError> {
    let incoming: Incoming<'_> = serde_json::from_str(frame).map_err(|error| {
        ClientError::new("bad_json", format!("not a JSON object of the form that is expected: {error}"))
    })?;
    let id = incoming.id.as_deref().map(Arc::<str>::from);
    if id.as_ref().is_some_and(|id| id.chars().count() > MESSAGE_ID_CHARS_MAX) {
        return Err(ClientError::new("bad_id", format!("id is longer than {MESSAGE_ID_CHARS_MAX} characters")));
    }
    let fail = |code, text: Cow<'static, str>| Err(ClientError::new(code, text).about(id.clone()));
    match incoming.kind.as_deref() {
        Some("chat_message") => {}
        Some(_) => return fail("unknown_type", "the only type that clients send is chat_message".into()),
        None => return fail("no_type", "type is missing: {\"type\":\"chat_message\",\"msg\":{\"text\":...}}".into()),
    }
    let text = match incoming.msg.map(|msg| serde_json::from_str::<IncomingText<'_>>(msg.get())) {
        Some(Ok(IncomingText { text: Some(text) })) => text,
        Some(Ok(IncomingText { text: None })) | None => return fail("no_text", "msg.text is missing".into()),
        Some(Err(error)) => return fail("bad_msg", format!("msg is not {{\"text\":\"...\"}}: {error}").into()),
    };
    if text.is_empty() {
        return fail("empty_text", "msg.text is empty".into());
    }
    if text.chars().count() > text_chars_max {
        return fail("text_too_long", format!("msg.text is longer than {text_chars_max} characters").into());
    }
    Ok(Say { text: text.into(), id })
}

#[derive(Serialize)]
struct Outgoing<'a, M: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    sent_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    msg: M,
}

impl<'a, M: Serialize> Outgoing<'a, M> {
    fn new(kind: &'static str, sent_at: &'a str, msg: M) -> Self {
        Outgoing { kind, sent_at, event_id: None, id: None, msg }
    }
}

#[derive(Serialize)]
struct UserMsg<'a> {
    username: &'a str,
}

#[derive(Serialize)]
struct ChatMsg<'a> {
    from_user: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct CaughtUpMsg {
    complete: bool,
    messages: usize,
}

#[derive(Serialize)]
struct ErrorMsg<'a> {
    code: &'a str,
    text: &'a str,
}

/// Adds the frame of an event of `record` to `out`: a whole websocket frame, the same for all clients.
pub fn put_event(event: &Event, record: &Record, out: &mut Vec<u8>) {
    match event {
        Event::UserJoined { user } => {
            put(&Outgoing::new("user_joined", &record.at, UserMsg { username: &user.username }), out);
        }
        Event::UserLeft { user } => {
            put(&Outgoing::new("user_left", &record.at, UserMsg { username: &user.username }), out);
        }
        Event::Said { user, text, id } => {
            let message = Outgoing::new("chat_message", &record.at, ChatMsg { from_user: &user.username, text });
            put(&Outgoing { event_id: Some(record.event_id()), id: id.as_deref(), ..message }, out);
        }
    }
}

/// The frame of an error.
#[must_use]
pub fn error_frame(error: &ClientError, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    let message = Outgoing::new("error", sent_at, ErrorMsg { code: error.code, text: &error.text });
    put(&Outgoing { id: error.id.as_deref(), ..message }, &mut frame);
    frame
}

/// The frame behind the messages that a client had missed.
#[must_use]
pub fn caught_up_frame(is_complete: bool, messages: usize, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    put(&Outgoing::new("caught_up", sent_at, CaughtUpMsg { complete: is_complete, messages }), &mut frame);
    frame
}

/// The JSON of a `users_online` frame before the names. [`USERS_ONLINE_TAIL`] follows them. `last_message`: the id of the
/// last message before the list.
#[must_use]
pub fn users_online_head(sent_at: &str, last_message: Option<EventId>) -> String {
    let event_id = last_message.map(|id| format!(r#""event_id":"{id}","#)).unwrap_or_default();
    format!(r#"{{"type":"users_online","sent_at":"{sent_at}",{event_id}"msg":{{"list":["#)
}

/// See [`users_online_head`].
pub const USERS_ONLINE_TAIL: &[u8] = b"]}}";

/// Adds a name as a JSON string, with its quotes.
pub fn put_name(name: &str, out: &mut Vec<u8>) {
    put_json(&name, out);
}

fn put(message: &Outgoing<'_, impl Serialize>, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(256);
    put_json(message, &mut payload);
    wire::put_text(&payload, out);
}

/// Strings in structs always serialize, and a vector takes everything.
fn put_json(value: &impl Serialize, out: &mut Vec<u8>) {
    let result = serde_json::to_writer(out, value);
    debug_assert!(result.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ERROR_FRAME_BYTES_MAX;
    use crate::lobby::{Body, InstanceId, User};

    const AT: &str = "2026-11-23T10:00:00.000000001+01:00";
    const ID: &str = "000000000000002a-7";

    fn payload(frame: &[u8]) -> &str {
        std::str::from_utf8(&frame[if frame[1] < 126 { 2 } else { 4 }..]).unwrap()
    }

    #[test]
    fn frames_are_those_of_the_contract() {
        let user = User { id: "4".into(), username: "Bob".into() };
        let record = Record { from: InstanceId(0x2a), seq: 7, at: AT.into(), body: Body::Heartbeat { n: 1 } };
        let frame = |event| {
            let mut frame = Vec::new();
            put_event(&event, &record, &mut frame);
            payload(&frame).to_owned()
        };
        assert_eq!(
            frame(Event::UserJoined { user: user.clone() }),
            format!(r#"{{"type":"user_joined","sent_at":"{AT}","msg":{{"username":"Bob"}}}}"#)
        );
        assert_eq!(
            frame(Event::UserLeft { user: user.clone() }),
            format!(r#"{{"type":"user_left","sent_at":"{AT}","msg":{{"username":"Bob"}}}}"#)
        );
        assert_eq!(
            frame(Event::Said { user: user.clone(), text: "Hello!".into(), id: None }),
            format!(
                r#"{{"type":"chat_message","sent_at":"{AT}","event_id":"{ID}","msg":{{"from_user":"Bob","text":"Hello!"}}}}"#
            )
        );
        assert_eq!(
            frame(Event::Said { user, text: "a\"b".into(), id: Some("7".into()) }),
            format!(
                r#"{{"type":"chat_message","sent_at":"{AT}","event_id":"{ID}","id":"7","msg":{{"from_user":"Bob","text":"a\"b"}}}}"#
            )
        );
        assert_eq!(
            payload(&error_frame(&ClientError::new("x", "y"), AT)),
            format!(r#"{{"type":"error","sent_at":"{AT}","msg":{{"code":"x","text":"y"}}}}"#)
        );
        assert_eq!(
            payload(&caught_up_frame(true, 12, AT)),
            format!(r#"{{"type":"caught_up","sent_at":"{AT}","msg":{{"complete":true,"messages":12}}}}"#)
        );
        let head = users_online_head(AT, Some(record.event_id()));
        assert_eq!(head, format!(r#"{{"type":"users_online","sent_at":"{AT}","event_id":"{ID}","msg":{{"list":["#));
        assert_eq!(
            users_online_head(AT, None),
            format!(r#"{{"type":"users_online","sent_at":"{AT}","msg":{{"list":["#)
        );
    }

    #[test]
    fn a_message_is_taken_whatever_else_stands_beside_it() {
        let frame = r#"{"type":"chat_message","sent_at":"no","id":"c1","more":{"a":[1,{}]},
            "msg":{"text":"Hello!","from_user":"Eve","x":null}}"#;
        assert_eq!(parse(frame, 6), Ok(Say { text: "Hello!".into(), id: Some("c1".into()) }));
    }

    #[test]
    fn an_error_frame_is_short_whatever_its_client_sent() {
        let long = "\u{1}\u{10ffff}\\\"".repeat(4_000);
        let texts = [serde_json::to_string(&long).unwrap(), format!(r#"{{"type":"chat_message","msg":{long:?}}}"#)];
        for text in &texts {
            let error = parse(text, 10).unwrap_err();
            let frame = error_frame(&error.about(Some("\u{1}".repeat(MESSAGE_ID_CHARS_MAX).into())), AT);
            assert!(frame.len() <= ERROR_FRAME_BYTES_MAX, "{} bytes", frame.len());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let code = |frame: &str| parse(frame, 3).unwrap_err().code;
        assert_eq!(code("hello"), "bad_json");
        assert_eq!(code("[]"), "bad_json");
        assert_eq!(code("\"chat_message\""), "bad_json");
        assert_eq!(code(r#"{"msg":{"text":"a"}}"#), "no_type");
        assert_eq!(code(r#"{"type":"dance","msg":[1]}"#), "unknown_type");
        assert_eq!(code(r#"{"type":"chat_message"}"#), "no_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{}}"#), "no_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":5}}"#), "bad_msg");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":""}}"#), "empty_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":"abcd"}}"#), "text_too_long");
        assert!(parse(r#"{"type":"chat_message","msg":{"text":"äöü"}}"#, 3).is_ok());
        let deep = format!("{{\"x\":{}", "[".repeat(10_000));
        assert_eq!(code(&deep), "bad_json");
        let long_id = format!(r#"{{"type":"chat_message","id":"{}","msg":{{"text":"a"}}}}"#, "x".repeat(65));
        assert_eq!(code(&long_id), "bad_id");
    }
}
