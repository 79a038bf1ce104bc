//! Reads the events that a server sends, as cheaply as can be: a join storm of 10,000 is 100 million of them.
//!
//! The common shapes are recognised by their first bytes, and values are looked for where they were last time. What
//! is not recognised so goes through `serde_json`, so a server with another order of keys is measured right, only
//! slower.

use serde_json::Value;

/// Digits of a client's index in names and texts.
const INDEX_DIGITS: usize = 5;
const COUNTER_DIGITS: usize = 8;
const TIME_DIGITS: usize = 15;
const RUN_CHARS: usize = 4;
/// `run index counter time `, with a blank after each.
const STAMP_BYTES: usize = RUN_CHARS + 1 + INDEX_DIGITS + 1 + COUNTER_DIGITS + 1 + TIME_DIGITS + 1;

/// The shortest text that has room for its stamp.
pub const MIN_TEXT_BYTES: usize = STAMP_BYTES;

/// Sender, counter and due time of a message of this tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The index of the client that sent it.
    pub sender: u32,
    /// How many it had sent before.
    pub counter: u32,
    /// When it was due, on this tool's clock.
    pub due_ns: u64,
}

/// What a frame says. People are clients' indexes; `None` stands for somebody who is not of this run.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Who was there; the indexes are in the list that was passed in.
    UsersOnline,
    /// Somebody joined.
    Joined(Option<u32>),
    /// Somebody left.
    Left(Option<u32>),
    /// Somebody said something.
    Chat(Option<Stamp>),
    /// The server refused something; the code is its own.
    Error(String),
    /// Not an event of the contract.
    Unknown,
}

/// Reads frames of one run.
pub struct Reader {
    run: [u8; RUN_CHARS],
    name_hint: usize,
    text_hint: usize,
    last_stamp: ([u8; STAMP_BYTES], Stamp),
}

impl Reader {
    /// A reader that knows the people of the run `run` (four characters).
    pub fn new(run: [u8; 4]) -> Self {
        Self { run, name_hint: 0, text_hint: 0, last_stamp: ([0; STAMP_BYTES], Stamp::default()) }
    }

    /// The name of client `index`.
    pub fn name(&self, index: usize) -> String {
        format!("l{}-{index:05}", String::from_utf8_lossy(&self.run))
    }

    /// The text of a message, `bytes` long.
    pub fn text(&self, stamp: Stamp, bytes: usize) -> String {
        let Stamp { sender, counter, due_ns } = stamp;
        let mut text = format!("{} {sender:05} {counter:08} {due_ns:015} ", String::from_utf8_lossy(&self.run));
        while text.len() < bytes {
            text.push('x');
        }
        text
    }

    /// What `payload` says; the people of a `users_online` go into `list`.
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

    /// All names of a list that holds nobody but this run's people; `None` if it is not so.
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
                    rest = rest.get(1 + RUN_CHARS + 1 + INDEX_DIGITS + 1..)?;
                }
                _ => return None,
            }
        }
    }

    fn read_slow(&self, payload: &[u8], list: &mut Vec<u32>) -> Event {
        let Ok(frame) = serde_json::from_slice::<Value>(payload) else { return Event::Unknown };
        let msg = &frame["msg"];
        let person = || msg["username"].as_str().and_then(|name| self.index_of(format!("{name}\"").as_bytes()));
        match frame["type"].as_str() {
            Some("user_joined") => Event::Joined(person()),
            Some("user_left") => Event::Left(person()),
            Some("chat_message") => {
                Event::Chat(msg["text"].as_str().and_then(|text| self.parse_stamp(text.as_bytes())))
            }
            Some("users_online") => {
                list.clear();
                let names = msg["list"].as_array().into_iter().flatten().filter_map(Value::as_str);
                list.extend(names.filter_map(|name| self.index_of(format!("{name}\"").as_bytes())));
                Event::UsersOnline
            }
            Some("error") => Event::Error(msg["code"].as_str().unwrap_or("without a code").to_owned()),
            _ => Event::Unknown,
        }
    }

    /// The index in a name of this run that ends with a quote.
    fn index_of(&self, name: &[u8]) -> Option<u32> {
        let rest = name.strip_prefix(b"l")?.strip_prefix(&self.run)?.strip_prefix(b"-")?;
        (*rest.get(INDEX_DIGITS)? == b'"').then(|| digits(&rest[..INDEX_DIGITS]))?.map(|index| index as u32)
    }

    /// The stamp of a text; the same message comes to everybody in turn, so the last one is remembered.
    fn stamp_of(&mut self, text: &[u8]) -> Option<Stamp> {
        let head = text.first_chunk::<STAMP_BYTES>()?;
        if *head != self.last_stamp.0 {
            self.last_stamp = (*head, self.parse_stamp(head)?);
        }
        Some(self.last_stamp.1)
    }

    fn parse_stamp(&self, text: &[u8]) -> Option<Stamp> {
        let rest = text.strip_prefix(&self.run)?.strip_prefix(b" ")?;
        let counter_at = INDEX_DIGITS + 1;
        let time_at = counter_at + COUNTER_DIGITS + 1;
        Some(Stamp {
            sender: digits(rest.get(..INDEX_DIGITS)?)? as u32,
            counter: digits(rest.get(counter_at..counter_at + COUNTER_DIGITS)?)? as u32,
            due_ns: digits(rest.get(time_at..time_at + TIME_DIGITS)?)?,
        })
    }
}

/// What follows `key` in `payload`, looked for first where it was last time.
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
    fn events_are_read_in_any_order_of_keys() {
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
    fn people_of_other_runs_are_told_apart_from_ours() {
        let mut reader = Reader::new(*b"r1u2");
        let name = reader.name(42);
        assert_eq!(read(&mut reader, r#"{"type":"user_joined","msg":{"username":"Igor"}}"#).0, Event::Joined(None));
        assert_eq!(read(&mut reader, r#"{"type":"chat_message","msg":{"text":"Hello!"}}"#).0, Event::Chat(None));
        let online = format!(r#"{{"type":"users_online","msg":{{"list":["Igor","{name}"]}}}}"#);
        assert_eq!(read(&mut reader, &online), (Event::UsersOnline, vec![42]));
        assert_eq!(read(&mut reader, "not JSON").0, Event::Unknown);
    }
}
