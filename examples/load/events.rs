//! Parses the events that a server sends. It must be fast: a join burst of 10,000 clients is 100 million events.
//!
//! Common events are recognised by their first bytes, and a value is first searched at the offset where it was last
//! time. All other events are parsed by `serde_json`, so a server with another order of keys is measured correctly, but
//! slower.

use serde_json::Value;

/// Digits of a client's index in names and texts.
const INDEX_DIGITS: usize = 5;
const COUNTER_DIGITS: usize = 8;
const TIME_DIGITS: usize = 15;
const RUN_ID_CHARS: usize = 4;
/// `run_id index counter time `, with a space after each.
const STAMP_BYTES: usize = RUN_ID_CHARS + 1 + INDEX_DIGITS + 1 + COUNTER_DIGITS + 1 + TIME_DIGITS + 1;

/// The shortest text that holds a stamp.
pub const MIN_TEXT_BYTES: usize = STAMP_BYTES;

/// The beginning of a message's text: sender, counter and due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The index of the sending client.
    pub sender: u32,
    /// How many messages the sender had sent before.
    pub counter: u32,
    /// The due time in nanoseconds of [`crate::clock`].
    pub due_ns: u64,
}

/// A parsed event. Users are given as the index of their client; `None`: a user that this run did not create.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The indexes of the users are in the `list` that was passed to [`Reader::read`].
    UsersOnline,
    Joined(Option<u32>),
    Left(Option<u32>),
    Chat(Option<Stamp>),
    /// The end of the messages that a client had missed, and whether they were all.
    CaughtUp {
        is_complete: bool,
    },
    /// An `error` frame with this code.
    Error(String),
    /// Not an event of the protocol.
    Unknown,
}

/// The parser for the events of one run.
pub struct Reader {
    run_id: [u8; RUN_ID_CHARS],
    name_hint: usize,
    text_hint: usize,
    id_hint: usize,
    last_stamp: ([u8; STAMP_BYTES], Stamp),
}

impl Reader {
    /// A parser for events about the users of the run `run_id`.
    pub fn new(run_id: [u8; RUN_ID_CHARS]) -> Self {
        Self { run_id, name_hint: 0, text_hint: 0, id_hint: 0, last_stamp: ([0; STAMP_BYTES], Stamp::default()) }
    }

    /// The username of client `index`.
    pub fn name(&self, index: usize) -> String {
        format!("l{}-{index:05}", String::from_utf8_lossy(&self.run_id))
    }

    /// A text of `bytes` bytes that begins with `stamp`.
    pub fn text(&self, stamp: Stamp, bytes: usize) -> String {
        let Stamp { sender, counter, due_ns } = stamp;
        let mut text = format!("{} {sender:05} {counter:08} {due_ns:015} ", String::from_utf8_lossy(&self.run_id));
        while text.len() < bytes {
            text.push('x');
        }
        text
    }

    /// Parses `payload`. The users of a `users_online` event are written to `list`.
    pub fn read(&mut self, payload: &[u8], list: &mut Vec<u32>) -> Event {
        self.read_fast(payload, list).unwrap_or_else(|| self.read_slow(payload, list))
    }

    fn read_fast(&mut self, payload: &[u8], list: &mut Vec<u32>) -> Option<Event> {
        let rest = payload.strip_prefix(br#"{"type":""#)?;
        if rest.starts_with(b"user_joined\"") {
            let name = value_of(payload, br#""username":""#, &mut self.name_hint)?;
            Some(Event::Joined(Some(self.index_of(name)?)))
        } else if rest.starts_with(b"chat_message\"") {
            let text = value_of(payload, br#""text":""#, &mut self.text_hint)?;
            Some(Event::Chat(Some(self.stamp_of(text)?)))
        } else if rest.starts_with(b"user_left\"") {
            let name = value_of(payload, br#""username":""#, &mut self.name_hint)?;
            Some(Event::Left(Some(self.index_of(name)?)))
        } else if rest.starts_with(b"users_online\"") {
            self.read_list(payload, list)
        } else {
            None
        }
    }

    /// Parses the names of `users_online`. `None` if one of them is not a user of this run.
    fn read_list(&self, payload: &[u8], list: &mut Vec<u32>) -> Option<Event> {
        let mut rest = value_of(payload, br#""list":["#, &mut 0)?;
        list.clear();
        loop {
            match rest.first()? {
                b']' => return Some(Event::UsersOnline),
                b',' => rest = &rest[1..],
                b'"' => {
                    rest = &rest[1..];
                    list.push(self.index_of(rest)?);
                    rest = rest.get(1 + RUN_ID_CHARS + 1 + INDEX_DIGITS + 1..)?;
                }
                _ => return None,
            }
        }
    }

    fn read_slow(&self, payload: &[u8], list: &mut Vec<u32>) -> Event {
        let Ok(frame) = serde_json::from_slice::<Value>(payload) else { return Event::Unknown };
        let msg = &frame["msg"];
        let user = || msg["username"].as_str().and_then(|name| self.index_of(format!("{name}\"").as_bytes()));
        match frame["type"].as_str() {
            Some("user_joined") => Event::Joined(user()),
            Some("user_left") => Event::Left(user()),
            Some("chat_message") => {
                Event::Chat(msg["text"].as_str().and_then(|text| self.parse_stamp(text.as_bytes())))
            }
            Some("users_online") => {
                list.clear();
                let names = msg["list"].as_array().into_iter().flatten().filter_map(Value::as_str);
                list.extend(names.filter_map(|name| self.index_of(format!("{name}\"").as_bytes())));
                Event::UsersOnline
            }
            Some("caught_up") => Event::CaughtUp { is_complete: msg["complete"] == true },
            Some("error") => Event::Error(msg["code"].as_str().unwrap_or("without a code").to_owned()),
            _ => Event::Unknown,
        }
    }

    /// The `event_id` of a `chat_message` or `users_online` frame, if it has one.
    pub fn event_id<'a>(&mut self, payload: &'a [u8]) -> Option<&'a str> {
        let rest = value_of(payload, br#""event_id":""#, &mut self.id_hint)?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// The index in a username of this run that is followed by a quote.
    fn index_of(&self, name: &[u8]) -> Option<u32> {
        let rest = name.strip_prefix(b"l")?.strip_prefix(&self.run_id)?.strip_prefix(b"-")?;
        (*rest.get(INDEX_DIGITS)? == b'"').then(|| digits(&rest[..INDEX_DIGITS]))?.map(|index| index as u32)
    }

    /// The stamp of a text. The last stamp is cached, because each message is received once per client.
    fn stamp_of(&mut self, text: &[u8]) -> Option<Stamp> {
        let head = text.first_chunk::<STAMP_BYTES>()?;
        if *head != self.last_stamp.0 {
            self.last_stamp = (*head, self.parse_stamp(head)?);
        }
        Some(self.last_stamp.1)
    }

    fn parse_stamp(&self, text: &[u8]) -> Option<Stamp> {
        let rest = text.strip_prefix(&self.run_id)?.strip_prefix(b" ")?;
        let counter_at = INDEX_DIGITS + 1;
        let time_at = counter_at + COUNTER_DIGITS + 1;
        Some(Stamp {
            sender: digits(rest.get(..INDEX_DIGITS)?)? as u32,
            counter: digits(rest.get(counter_at..counter_at + COUNTER_DIGITS)?)? as u32,
            due_ns: digits(rest.get(time_at..time_at + TIME_DIGITS)?)?,
        })
    }
}

/// The bytes after `key` in `payload`. The offset `hint`, where the key was last time, is tried first.
fn value_of<'a>(payload: &'a [u8], key: &[u8], hint: &mut usize) -> Option<&'a [u8]> {
    if let Some(rest) = payload.get(*hint..).and_then(|rest| rest.strip_prefix(key)) {
        return Some(rest);
    }
    *hint = payload.windows(key.len()).position(|window| window == key)?;
    Some(&payload[*hint + key.len()..])
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { sender: 7, counter: 12, due_ns: 1_234_567_890 };

    fn read(reader: &mut Reader, text: &str) -> (Event, Vec<u32>) {
        let mut list = Vec::new();
        (reader.read(text.as_bytes(), &mut list), list)
    }

    #[test]
    fn events_are_parsed_in_any_order_of_keys() {
        let mut reader = Reader::new(*b"r1u2");
        let (name, text) = (reader.name(42), reader.text(STAMP, 100));
        assert_eq!(text.len(), 100);
        for _ in 0..2 {
            let joined = format!(r#"{{"type":"user_joined","sent_at":"x","msg":{{"username":"{name}"}}}}"#);
            assert_eq!(read(&mut reader, &joined).0, Event::Joined(Some(42)));
            let left = format!(r#"{{"msg":{{"username":"{name}"}},"sent_at":"x","type":"user_left"}}"#);
            assert_eq!(read(&mut reader, &left).0, Event::Left(Some(42)));
            let chat = format!(r#"{{"type":"chat_message","msg":{{"from_user":"{name}","text":"{text}"}}}}"#);
            assert_eq!(read(&mut reader, &chat).0, Event::Chat(Some(STAMP)));
        }
        let online = format!(r#"{{"type":"users_online","msg":{{"list":["{name}","{}"]}}}}"#, reader.name(3));
        assert_eq!(read(&mut reader, &online), (Event::UsersOnline, vec![42, 3]));
    }

    #[test]
    fn what_a_client_that_returns_needs_is_parsed() {
        let mut reader = Reader::new(*b"r1u2");
        for frame in [
            r#"{"type":"chat_message","sent_at":"x","event_id":"ab-7","msg":{"from_user":"a","text":"b"}}"#,
            r#"{"type":"users_online","event_id":"ab-7","msg":{"list":[]}}"#,
        ] {
            assert_eq!(reader.event_id(frame.as_bytes()), Some("ab-7"));
        }
        assert_eq!(reader.event_id(br#"{"type":"users_online","msg":{"list":[]}}"#), None);
        let caught_up = r#"{"type":"caught_up","sent_at":"x","msg":{"complete":true,"messages":12}}"#;
        assert_eq!(read(&mut reader, caught_up).0, Event::CaughtUp { is_complete: true });
        assert_eq!(read(&mut reader, &caught_up.replace("true", "false")).0, Event::CaughtUp { is_complete: false });
    }

    #[test]
    fn users_of_other_runs_are_recognised() {
        let mut reader = Reader::new(*b"r1u2");
        let name = reader.name(42);
        assert_eq!(read(&mut reader, r#"{"type":"user_joined","msg":{"username":"Igor"}}"#).0, Event::Joined(None));
        assert_eq!(read(&mut reader, r#"{"type":"chat_message","msg":{"text":"Hello!"}}"#).0, Event::Chat(None));
        let online = format!(r#"{{"type":"users_online","msg":{{"list":["Igor","{name}"]}}}}"#);
        assert_eq!(read(&mut reader, &online), (Event::UsersOnline, vec![42]));
        assert_eq!(read(&mut reader, "not JSON").0, Event::Unknown);
    }
}
