//! What the engine does with the bytes that a client receives: the answer to the join, and the frames.

use super::Engine;
use crate::client::Stage;
use crate::clock::now_ns;
use crate::events::{Event, Stamp};
use crate::wire::{self, Opcode};

impl Engine {
    pub(super) fn consume(&mut self, index: usize, bytes: &[u8]) {
        let now = now_ns();
        let mut at = 0;
        if self.clients[index].stage == Stage::Upgrading {
            let Some((status, end)) = wire::response_head(bytes) else { return self.clients[index].keep(bytes) };
            let accepted = bytes[..end].windows(self.accept.len()).any(|window| window == self.accept.as_bytes());
            if status != 101 || !accepted {
                return self.connection_lost(index, &format!("join rejected with {status}"));
            }
            self.upgrading -= 1;
            self.open += 1;
            let client = &mut self.clients[index];
            client.stage = Stage::Open;
            client.paused = index >= self.load.readers;
            at = end;
        }
        while let Some(frame) = wire::first_frame(&bytes[at..]) {
            at += frame.length;
            match frame.opcode {
                Opcode::Text if index < self.load.readers => self.handle_text(index, frame.payload, now),
                Opcode::Text | Opcode::Pong => {}
                Opcode::Ping => {
                    let mut pong = Vec::with_capacity(frame.payload.len() + 8);
                    wire::push_masked(&mut pong, Opcode::Pong, frame.payload);
                    self.clients[index].send(&pong);
                }
                Opcode::Close => {
                    return self.connection_lost(index, &format!("closed with {}", wire::close_code(frame.payload)));
                }
                Opcode::Unexpected => return self.connection_lost(index, "a frame outside the protocol"),
            }
        }
        self.clients[index].keep(&bytes[at..]);
    }

    fn handle_text(&mut self, index: usize, payload: &[u8], now: u64) {
        let event = self.reader.read(payload, &mut self.list);
        match event {
            Event::Chat(Some(stamp)) => {
                self.last_event_ns = now;
                self.remember(index, payload, stamp);
                if self.ledger.chat(index, stamp.sender, stamp.counter) {
                    self.latency.record(now.saturating_sub(stamp.due_ns));
                }
            }
            Event::Joined(Some(user)) => self.presence(index, user, true, now),
            Event::Left(Some(user)) => self.presence(index, user, false, now),
            Event::UsersOnline => {
                self.last_event_ns = now;
                self.last_presence_ns = now;
                if let (Some(returns), Some(id)) = (&mut self.returns, self.reader.event_id(payload)) {
                    returns.on_users_online(index, id);
                }
                self.ledger.users_online(index, &self.list, self.all_delivered);
            }
            Event::CaughtUp { is_complete } => self.caught_up(index, is_complete, now),
            Event::Chat(None) | Event::Joined(None) | Event::Left(None) => self.ledger.counts.foreign += 1,
            Event::Error(code) => self.error(index, code, now),
            Event::Unknown => *self.error_frames.entry("unknown frame".to_owned()).or_default() += 1,
        }
    }

    /// Remembers a message for the next return of the client, and for its sender.
    fn remember(&mut self, index: usize, payload: &[u8], stamp: Stamp) {
        let Some(returns) = &mut self.returns else { return };
        if let Some(id) = self.reader.event_id(payload) {
            returns.on_message(index, id);
        }
        if stamp.sender as usize == index {
            returns.confirm(index, stamp.counter);
        }
    }

    fn caught_up(&mut self, index: usize, is_complete: bool, now: u64) {
        if let Some(returns) = &mut self.returns {
            returns.on_caught_up(index, is_complete, now);
        }
        if index < self.load.senders {
            self.repeat(index);
        }
    }

    fn error(&mut self, index: usize, code: String, now: u64) {
        match (&mut self.returns, code.as_str()) {
            (Some(returns), "duplicate") => returns.counts.duplicates_refused += 1,
            (Some(returns), "unavailable") => returns.on_refused(index, now),
            _ => *self.error_frames.entry(code).or_default() += 1,
        }
    }

    fn presence(&mut self, index: usize, user: u32, online: bool, now: u64) {
        self.last_event_ns = now;
        self.last_presence_ns = now;
        self.ledger.presence(index, user, online);
    }
}
