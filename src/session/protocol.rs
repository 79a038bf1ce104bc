//! The JSON in the frames: the contract with clients, version 1 (`doc/api.md`). Pure: no I/O, no clock.
//!
//! Session threads parse messages and encode errors; the log thread encodes events, once for all clients.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::client_error::{ClientError, ErrorCode};
use super::wire;
use crate::config::Secret;
use crate::limits::MESSAGE_ID_CHARS_MAX;
use crate::lobby::{Event, EventId, Record};
use crate::text;

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientMessage {
    pub(crate) content: Content,
    /// The client's id for the message; the answer to the message has it too.
    pub(crate) id: Option<Arc<str>>,
}

/// What a client can send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A chat message. All clients get its text, and the id of the message.
    Say(Arc<str>),
    /// A new token for this session.
    Token(Secret),
    /// A ping of a web page, which cannot send the pings of websockets (RFC 6455, section 5.5.2).
    Ping,
}

/// The JSON of a message of a client. Unknown fields are skipped, not stored.
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

#[derive(Deserialize)]
struct IncomingToken {
    token: Option<String>,
}

/// Parses a text frame of a client. `msg.text` may have at most `text_chars_max` characters.
///
/// # Errors
/// What is wrong with the message, for its `error` frame. The session continues.
pub(crate) fn parse(frame: &str, text_chars_max: usize) -> Result<ClientMessage, ClientError> {
    let incoming: Incoming<'_> = serde_json::from_str(frame)
        .map_err(|error| ErrorCode::BadJson.with_text(format!("{}: {error}", ErrorCode::BadJson.row().text)))?;
    let id = incoming.id.as_deref().map(Arc::<str>::from);
    if id.as_ref().is_some_and(|id| id.chars().count() > MESSAGE_ID_CHARS_MAX) {
        return Err(ErrorCode::BadId.with_text(format!("id is longer than {MESSAGE_ID_CHARS_MAX} characters")));
    }
    let content = match incoming.kind.as_deref() {
        Some("chat_message") => text_of(&incoming, text_chars_max).map(Content::Say),
        Some("token") => token_of(&incoming).map(Content::Token),
        Some("ping") => Ok(Content::Ping),
        Some(_) => Err(ErrorCode::UnknownType.into()),
        None => Err(ErrorCode::NoType.into()),
    };
    match content {
        Ok(content) => Ok(ClientMessage { content, id }),
        Err(error) => Err(error.about(id)),
    }
}

/// The error does not quote the library's text: that can contain a part of the token.
fn token_of(incoming: &Incoming<'_>) -> Result<Secret, ClientError> {
    let msg = incoming.msg.ok_or(ErrorCode::NoToken)?;
    let IncomingToken { token } = serde_json::from_str(msg.get()).map_err(|_| ErrorCode::BadMsg)?;
    Ok(Secret(token.ok_or(ErrorCode::NoToken)?))
}

fn text_of(incoming: &Incoming<'_>, text_chars_max: usize) -> Result<Arc<str>, ClientError> {
    let msg = incoming.msg.ok_or(ErrorCode::NoText)?;
    let IncomingText { text } = serde_json::from_str(msg.get())
        .map_err(|error| ErrorCode::BadMsg.with_text(format!("{}: {error}", ErrorCode::BadMsg.row().text)))?;
    let text = text.ok_or(ErrorCode::NoText)?;
    if text::is_blank(&text) {
        return Err(ErrorCode::EmptyText.into());
    }
    if text.chars().count() > text_chars_max {
        return Err(ErrorCode::TextTooLong.with_text(format!("msg.text is longer than {text_chars_max} characters")));
    }
    Ok(text.into())
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
struct TokenMsg {
    expires_in: u64,
}

#[derive(Serialize)]
struct NoMsg {}

#[derive(Serialize)]
struct ErrorMsg<'a> {
    code: &'a str,
    text: &'a str,
}

/// Appends the frame of an event of `record` to `out`: a complete websocket frame, the same for all clients.
pub(crate) fn put_event(event: &Event, record: &Record, out: &mut Vec<u8>) {
    match event {
        Event::UserJoined { username } => put(&Outgoing::new("user_joined", &record.at, UserMsg { username }), out),
        Event::UserLeft { username } => put(&Outgoing::new("user_left", &record.at, UserMsg { username }), out),
        Event::Said { user, text, id } => {
            let message = Outgoing::new("chat_message", &record.at, ChatMsg { from_user: &user.username, text });
            put(&Outgoing { event_id: Some(record.event_id()), id: id.as_deref(), ..message }, out);
        }
    }
}

/// A complete websocket frame with this error. `sent_at` is the present time (RFC 3339).
pub(crate) fn error_frame(error: &ClientError, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(256);
    let message = Outgoing::new("error", sent_at, ErrorMsg { code: error.code.row().code, text: &error.text });
    put(&Outgoing { id: error.id.as_deref(), ..message }, &mut frame);
    frame
}

/// The answer to a token that continues the session, which ends after `expires_in` seconds. `id`: that of the client's
/// message.
pub(crate) fn token_frame(expires_in: u64, id: Option<&str>, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    put(&Outgoing { id, ..Outgoing::new("token", sent_at, TokenMsg { expires_in }) }, &mut frame);
    frame
}

/// The answer to a ping with this id.
pub(crate) fn pong_frame(id: Option<&str>, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    put(&Outgoing { id, ..Outgoing::new("pong", sent_at, NoMsg {}) }, &mut frame);
    frame
}

/// A chat message as clients get it.
#[derive(Debug, Deserialize)]
pub(crate) struct PublishedMessage<'a> {
    #[serde(borrow)]
    pub(crate) event_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) sent_at: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) msg: PublishedText<'a>,
}

/// See [`PublishedMessage`].
#[derive(Debug, Deserialize)]
pub(crate) struct PublishedText<'a> {
    #[serde(borrow)]
    pub(crate) from_user: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) text: Cow<'a, str>,
}

/// Reads the frame of a chat message that [`put_event`] has written.
pub(crate) fn published_message(frame: &[u8]) -> Option<PublishedMessage<'_>> {
    serde_json::from_slice(wire::payload(frame)?).ok()
}

/// The frame after the messages that a client had missed. `messages` is their number.
pub(crate) fn caught_up_frame(is_complete: bool, messages: usize, sent_at: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    put(&Outgoing::new("caught_up", sent_at, CaughtUpMsg { complete: is_complete, messages }), &mut frame);
    frame
}

/// The JSON of a `users_online` frame up to the names, which [`USERS_ONLINE_TAIL`] follows. `last_message` is the id of
/// the last message before the list.
pub(crate) fn users_online_head(sent_at: &str, last_message: Option<EventId>) -> String {
    let event_id = last_message.map(|id| format!(r#""event_id":"{id}","#)).unwrap_or_default();
    format!(r#"{{"type":"users_online","sent_at":"{sent_at}",{event_id}"msg":{{"list":["#)
}

/// The JSON of a `users_online` frame after the names.
pub(crate) const USERS_ONLINE_TAIL: &[u8] = b"]}}";

/// Appends a name to `out` as a JSON string, with quotes.
pub(crate) fn put_name(name: &str, out: &mut Vec<u8>) {
    put_json(&name, out);
}

fn put(message: &Outgoing<'_, impl Serialize>, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(256);
    put_json(message, &mut payload);
    wire::put_text(&payload, out);
}

/// Cannot fail: structs of strings always serialize, and writing to a vector always succeeds.
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
    fn frames_have_the_form_of_the_contract() {
        let user = User { id: "4".into(), username: "Bob".into() };
        let record = Record { from: InstanceId(0x2a), seq: 7, at: AT.into(), body: Body::Heartbeat { n: 1 } };
        let frame = |event| {
            let mut frame = Vec::new();
            put_event(&event, &record, &mut frame);
            payload(&frame).to_owned()
        };
        assert_eq!(
            frame(Event::UserJoined { username: user.username.clone() }),
            format!(r#"{{"type":"user_joined","sent_at":"{AT}","msg":{{"username":"Bob"}}}}"#)
        );
        assert_eq!(
            frame(Event::UserLeft { username: user.username.clone() }),
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
            payload(&error_frame(&ErrorCode::NoText.into(), AT)),
            format!(r#"{{"type":"error","sent_at":"{AT}","msg":{{"code":"no_text","text":"msg.text is missing"}}}}"#)
        );
        assert_eq!(
            payload(&caught_up_frame(true, 12, AT)),
            format!(r#"{{"type":"caught_up","sent_at":"{AT}","msg":{{"complete":true,"messages":12}}}}"#)
        );
        assert_eq!(
            payload(&token_frame(3600, Some("t1"), AT)),
            format!(r#"{{"type":"token","sent_at":"{AT}","id":"t1","msg":{{"expires_in":3600}}}}"#)
        );
        assert_eq!(payload(&pong_frame(None, AT)), format!(r#"{{"type":"pong","sent_at":"{AT}","msg":{{}}}}"#));
        let head = users_online_head(AT, Some(record.event_id()));
        assert_eq!(head, format!(r#"{{"type":"users_online","sent_at":"{AT}","event_id":"{ID}","msg":{{"list":["#));
        assert_eq!(
            users_online_head(AT, None),
            format!(r#"{{"type":"users_online","sent_at":"{AT}","msg":{{"list":["#)
        );
    }

    #[test]
    fn a_published_message_is_read_from_its_frame() {
        let record = Record { from: InstanceId(0x2a), seq: 7, at: AT.into(), body: Body::Heartbeat { n: 1 } };
        for text in ["a\"b", &"x".repeat(200), &"x".repeat(70_000)] {
            let user = User { id: "4".into(), username: "Bob".into() };
            let mut frame = Vec::new();
            put_event(&Event::Said { user, text: text.into(), id: Some("7".into()) }, &record, &mut frame);
            let read = published_message(&frame).unwrap();
            assert_eq!((&*read.event_id, &*read.sent_at), (ID, AT));
            assert_eq!((&*read.msg.from_user, &*read.msg.text), ("Bob", text));
        }
    }

    #[test]
    fn unknown_fields_of_a_message_are_ignored() {
        let frame = r#"{"type":"chat_message","sent_at":"no","id":"c1","more":{"a":[1,{}]},
            "msg":{"text":"Hello!","from_user":"Eve","x":null}}"#;
        assert_eq!(
            parse(frame, 6),
            Ok(ClientMessage { content: Content::Say("Hello!".into()), id: Some("c1".into()) })
        );
        let ping = parse(r#"{"type":"ping","msg":[1],"x":2}"#, 6);
        assert_eq!(ping, Ok(ClientMessage { content: Content::Ping, id: None }));
    }

    #[test]
    fn an_error_frame_is_short_for_every_message() {
        let long = "\u{1}\u{10ffff}\\\"".repeat(4_000);
        let texts = [serde_json::to_string(&long).unwrap(), format!(r#"{{"type":"chat_message","msg":{long:?}}}"#)];
        for text in &texts {
            let error = parse(text, 10).unwrap_err();
            let frame = error_frame(&error.about(Some("\u{1}".repeat(MESSAGE_ID_CHARS_MAX).into())), AT);
            assert!(frame.len() <= ERROR_FRAME_BYTES_MAX, "{} bytes", frame.len());
        }
    }

    #[test]
    fn no_error_or_debug_text_contains_a_token() {
        for msg in [r#""hunter2""#, r#"{"token":["hunter2"]}"#, r#"{"token":{"hunter2":1}}"#] {
            let error = parse(&format!(r#"{{"type":"token","msg":{msg}}}"#), 10).unwrap_err();
            assert!(error.code == ErrorCode::BadMsg && !error.text.contains("hunter2"), "{error:?}");
        }
        let message = parse(r#"{"type":"token","msg":{"token":"hunter2"}}"#, 10);
        assert!(message.is_ok() && !format!("{message:?}").contains("hunter2"));
    }

    #[test]
    fn each_invalid_message_has_its_code() {
        let code = |frame: &str| parse(frame, 3).unwrap_err().code.row().code;
        assert_eq!(code("hello"), "bad_json");
        assert_eq!(code("[]"), "bad_json");
        assert_eq!(code("\"chat_message\""), "bad_json");
        assert_eq!(code(r#"{"msg":{"text":"a"}}"#), "no_type");
        assert_eq!(code(r#"{"type":"dance","msg":[1]}"#), "unknown_type");
        assert_eq!(code(r#"{"type":"chat_message"}"#), "no_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{}}"#), "no_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":5}}"#), "bad_msg");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":""}}"#), "empty_text");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":" \u200b\n"}}"#), "empty_text");
        assert_eq!(code(r#"{"type":"token"}"#), "no_token");
        assert_eq!(code(r#"{"type":"token","msg":{"text":"a"}}"#), "no_token");
        assert_eq!(code(r#"{"type":"token","msg":"a"}"#), "bad_msg");
        assert_eq!(code(r#"{"type":"chat_message","msg":{"text":"abcd"}}"#), "text_too_long");
        assert!(parse(r#"{"type":"chat_message","msg":{"text":"äöü"}}"#, 3).is_ok());
        let deep = format!("{{\"x\":{}", "[".repeat(10_000));
        assert_eq!(code(&deep), "bad_json");
        let long_id = format!(r#"{{"type":"chat_message","id":"{}","msg":{{"text":"a"}}}}"#, "x".repeat(65));
        assert_eq!(code(&long_id), "bad_id");
    }
}
