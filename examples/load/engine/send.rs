//! The messages of the senders: each when it is due, and again when it has not come back after a restart.

use super::Engine;
use super::returns::Message;
use crate::clock::now_ns;
use crate::events::Stamp;
use crate::wire::{self, Opcode};

impl Engine {
    /// Sends the messages that are due.
    pub(super) fn send_due(&mut self) {
        let now = now_ns();
        while let Some((number, due_ns)) = self.pacer.as_mut().and_then(|pacer| pacer.take_due(now)) {
            let sender = (number % self.load.senders.max(1) as u64) as usize;
            if self.returns.is_some() {
                self.send_until_it_returns(sender, due_ns);
            } else {
                self.send_once(sender, due_ns);
            }
        }
    }

    /// A sender that is not connected does not send.
    fn send_once(&mut self, sender: usize, due_ns: u64) {
        if !self.is_open(sender) {
            self.unsent += 1;
            return;
        }
        let message = Message { counter: self.ledger.next_counter(sender), due_ns };
        if !self.send(sender, message, "") {
            self.ledger.undo_send(sender);
            self.unsent += 1;
        }
    }

    /// A sender that is away sends when it is back.
    fn send_until_it_returns(&mut self, sender: usize, due_ns: u64) {
        let Some(returns) = &mut self.returns else { return };
        let message = Message { counter: self.ledger.next_counter(sender), due_ns };
        if !returns.add(sender, message) {
            self.ledger.undo_send(sender);
            self.unsent += 1;
        } else if !returns.is_away(sender) {
            self.send_with_id(sender, message);
        }
    }

    /// Sends the messages again that have not come back.
    pub(super) fn repeat(&mut self, sender: usize) {
        let messages = self.returns.as_mut().map_or(Vec::new(), |returns| returns.repeat_unconfirmed(sender));
        messages.into_iter().for_each(|message| self.send_with_id(sender, message));
    }

    /// A message that does not fit into the output buffer is sent with the next repetition.
    fn send_with_id(&mut self, sender: usize, message: Message) {
        let id = format!(r#""id":"{}-{sender}-{}","#, String::from_utf8_lossy(&self.load.run_id), message.counter);
        if !self.send(sender, message, &id)
            && let Some(returns) = &mut self.returns
        {
            returns.on_refused(sender, now_ns());
        }
    }

    /// Queues a message with these additional fields. False: the output buffer is full.
    fn send(&mut self, sender: usize, message: Message, fields: &str) -> bool {
        let Message { counter, due_ns } = message;
        let text = self.reader.text(Stamp { sender: sender as u32, counter, due_ns }, self.load.bytes);
        let payload = format!(r#"{{"type":"chat_message",{fields}"msg":{{"text":"{text}"}}}}"#);
        let mut frame = Vec::with_capacity(payload.len() + 8);
        wire::push_masked(&mut frame, Opcode::Text, payload.as_bytes());
        self.lag_ns = self.lag_ns.max(now_ns().saturating_sub(due_ns));
        self.clients[sender].send(&frame)
    }
}
