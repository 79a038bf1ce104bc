//! Helpers that create records, for the tests of this module.

use std::sync::Arc;

use super::record::{Body, InstanceId, Record, RosterEntry, SessionId, User};
use super::state::{Event, Lobby};

pub const X: InstanceId = InstanceId(7);
pub const Y: InstanceId = InstanceId(3);
pub const Z: InstanceId = InstanceId(11);

pub fn user(name: &str) -> User {
    User { id: name.to_lowercase().into(), username: name.into() }
}

pub fn record(from: InstanceId, seq: u64, body: Body) -> Record {
    Record { from, seq, at: Arc::from("any time"), body }
}

pub fn part(part: u32, parts: u32, sessions: &[(u64, &str)]) -> Body {
    let entry = |(session, name): &(u64, &str)| RosterEntry { session: SessionId(*session), user: user(name) };
    Body::Roster { part, parts, sessions: sessions.iter().map(entry).collect() }
}

pub fn roster(sessions: &[(u64, &str)]) -> Body {
    part(0, 1, sessions)
}

pub fn joined(session: u64, name: &str) -> Body {
    Body::Joined { session: SessionId(session), user: user(name) }
}

pub fn left(session: u64) -> Body {
    Body::Left { session: SessionId(session) }
}

pub fn said(session: u64, text: &str) -> Body {
    Body::Said { session: SessionId(session), text: text.into(), id: None }
}

pub fn said_with_id(session: u64, id: &str) -> Body {
    Body::Said { session: SessionId(session), text: "text".into(), id: Some(id.into()) }
}

pub fn heartbeat(n: u64) -> Body {
    Body::Heartbeat { n }
}

/// A log and a lobby: each appended record gets the next `seq` of its sender and is applied at once.
#[derive(Default)]
pub struct Story {
    pub lobby: Lobby,
    pub log: Vec<Record>,
}

impl Story {
    /// Appends a record and returns its events, as `+Bob`, `-Bob` and `Bob: text`.
    pub fn append(&mut self, from: InstanceId, body: Body) -> Vec<String> {
        let seq = 1 + self.log.iter().filter(|record| record.from == from).map(|record| record.seq).max().unwrap_or(0);
        self.put(record(from, seq, body))
    }

    pub fn put(&mut self, record: Record) -> Vec<String> {
        let mut events = Vec::new();
        self.lobby.apply(&record, self.log.len() as u64, &mut events);
        self.log.push(record);
        events.iter().map(show).collect()
    }

    /// Appends `count` heartbeats of one instance and returns the events of all of them.
    pub fn heartbeats(&mut self, from: InstanceId, count: u64) -> Vec<String> {
        (0..count).flat_map(|n| self.append(from, heartbeat(n + 1))).collect()
    }

    pub fn online(&self) -> Vec<&str> {
        self.lobby.names_online().map(|name| &**name).collect()
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::UserJoined { username } => format!("+{username}"),
        Event::UserLeft { username } => format!("-{username}"),
        Event::Said { user, text, .. } => format!("{}: {text}", user.username),
    }
}
