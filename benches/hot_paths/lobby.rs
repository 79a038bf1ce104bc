//! Operations on records: applied to the lobby, encoded and decoded.

use std::hint::black_box;
use std::sync::Arc;

use ich::event_log::codec;
use ich::hot_paths;
use ich::lobby::state::REPETITION_WINDOW;
use ich::lobby::{Body, Event, Lobby, Outcome, Record, SessionId};

use crate::cases::{Operation, USERS, record, said, user};

/// A lobby with [`USERS`] users on one instance, and the records that follow.
struct FullLobby {
    lobby: Lobby,
    /// The number of the last record, which is also its offset.
    seq: u64,
    events: Vec<Event>,
}

impl FullLobby {
    fn new() -> Self {
        let mut full = Self { lobby: Lobby::default(), seq: 0, events: Vec::new() };
        full.apply(&mut record(0, Body::Roster { part: 0, parts: 1, sessions: Vec::new() }));
        for number in 0..USERS {
            full.apply(&mut record(0, Body::Joined { session: SessionId(number), user: user(number) }));
        }
        full
    }

    /// Applies `record` as the next one.
    fn apply(&mut self, record: &mut Record) {
        self.seq += 1;
        record.seq = self.seq;
        let outcome = self.lobby.apply(record, self.seq, &mut self.events);
        assert_eq!(outcome, Outcome::Applied);
        self.events.clear();
    }
}

pub fn apply_message() -> Operation {
    let mut full = FullLobby::new();
    let mut message = record(0, said(5_000, None));
    Box::new(move || full.apply(black_box(&mut message)))
}

/// The window of used ids is full: each message adds one and removes one.
pub fn apply_message_with_id() -> Operation {
    let mut full = FullLobby::new();
    let mut messages: Vec<Record> = (0..2 * REPETITION_WINDOW)
        .map(|number| record(0, said(number % USERS, Some(format!("{number:08}").into()))))
        .collect();
    messages.iter_mut().for_each(|message| full.apply(message));
    let mut next = 0;
    Box::new(move || {
        full.apply(black_box(&mut messages[next]));
        next = (next + 1) % messages.len();
    })
}

pub fn apply_join_and_leave() -> Operation {
    let mut full = FullLobby::new();
    let session = SessionId(USERS);
    let mut joined = record(0, Body::Joined { session, user: user(USERS) });
    let mut left = record(0, Body::Left { session });
    Box::new(move || {
        full.apply(black_box(&mut joined));
        full.apply(black_box(&mut left));
    })
}

pub fn encode_record() -> Operation {
    let message = record(7, said(5, Some(Arc::from("c1-7"))));
    Box::new(move || drop(black_box(codec::encode(black_box(&message)))))
}

pub fn decode_record() -> Operation {
    let json = codec::encode(&record(7, said(5, Some(Arc::from("c1-7"))))).expect("a record can be encoded");
    assert!(hot_paths::decode(json.as_bytes()).is_some());
    Box::new(move || drop(black_box(hot_paths::decode(black_box(json.as_bytes())))))
}
