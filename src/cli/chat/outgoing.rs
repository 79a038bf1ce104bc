//! [`Outgoing`]: the user's own messages that the lobby has not confirmed yet. They are sent one at a time, in order, and
//! sent again with the same id when it is not known whether they arrived: the server publishes a message once for each id.
//! Pure; the web page has the same rules (`src/web/js/pending.js`).
//!
//! A message is confirmed when it comes back. One at a time, because the error `rate_limited` does not name its message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::protocol;

/// The pause after `rate_limited`. The server allows ten messages a second by default.
const SLOW_DOWN: Duration = Duration::from_secs(2);
/// The pause after `unavailable`, and at most as much again.
const UNAVAILABLE: Duration = Duration::from_secs(3);
/// A message that is neither confirmed nor refused after this time is sent again, with the same id: the server may still
/// publish the first one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// The most messages that wait.
const MESSAGES_MAX: usize = 100;
/// These errors have no id, so they are about the message that was sent last.
const CODES_WITHOUT_ID: [&str; 4] = ["bad_json", "bad_id", "binary", "rate_limited"];

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) text: String,
}

/// What an answer of the server did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This message was published.
    Published(Pending),
    /// This message will not be published; the server says why.
    Refused(Pending, String),
    /// The message will be sent again, or the answer is about no message that waits.
    Nothing,
}

/// The messages that wait.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Pending>,
    is_connected: bool,
    /// When the first message is sent again if there is no answer. `None`: it has not been sent.
    answer_due: Option<Instant>,
    paused_until: Option<Instant>,
    is_slowed_down: bool,
    muted: Option<String>,
}

impl Outgoing {
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < MESSAGES_MAX
    }

    /// The server dropped a message because there were too many.
    pub(super) fn is_slowed_down(&self) -> bool {
        self.is_slowed_down
    }

    /// Why the user may not write.
    pub(super) fn muted(&self) -> Option<&str> {
        self.muted.as_deref()
    }

    pub(super) fn add(&mut self, message: Pending) {
        self.messages.push_back(message);
    }

    /// All that this client had missed has been received, so messages that arrived earlier are confirmed.
    pub(super) fn connected(&mut self) {
        self.is_connected = true;
    }

    pub(super) fn disconnected(&mut self) {
        self.is_connected = false;
        self.answer_due = None;
    }

    /// The frame to send now, if there is one.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<String> {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.is_slowed_down = false;
        }
        let is_waiting = self.answer_due.is_some_and(|due| due > now) || self.paused_until.is_some();
        let message = self.messages.front().filter(|_| self.is_connected && !is_waiting)?;
        self.answer_due = Some(now + ANSWER_TIMEOUT);
        Some(protocol::say(&message.id, &message.text))
    }

    /// When [`Outgoing::next_frame`] has to be called again, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused_until.or(self.answer_due)
    }

    /// A message of this user was published. `id`: what its sender gave it.
    pub(super) fn published(&mut self, id: &str) -> Outcome {
        let Some(message) = self.remove(id) else { return Outcome::Nothing };
        self.muted = None;
        Outcome::Published(message)
    }

    /// The server answers with an error. `random` is from 0 to 1.
    pub(super) fn refused(&mut self, id: Option<&str>, code: &str, text: &str, now: Instant, random: f64) -> Outcome {
        let first = self.messages.front().filter(|_| self.answer_due.is_some()).map(|message| message.id.clone());
        let id = match id {
            Some(id) => id.to_owned(),
            None => match first {
                Some(first) if CODES_WITHOUT_ID.contains(&code) => first,
                _ => return Outcome::Nothing,
            },
        };
        if !self.messages.iter().any(|message| message.id == id) {
            return Outcome::Nothing;
        }
        match code {
            "rate_limited" => {
                self.is_slowed_down = true;
                self.pause(now + SLOW_DOWN)
            }
            "unavailable" => self.pause(now + UNAVAILABLE.mul_f64(1.0 + random)),
            "duplicate" => self.published(&id),
            _ => {
                if code == "muted" {
                    self.muted = Some(text.to_owned());
                }
                self.remove(&id).map_or(Outcome::Nothing, |message| Outcome::Refused(message, text.to_owned()))
            }
        }
    }

    /// The server closed the connection because of the message that was sent last.
    pub(super) fn last_refused(&mut self, reason: &str) -> Outcome {
        let Some(id) = self.messages.front().filter(|_| self.answer_due.is_some()).map(|message| message.id.clone())
        else {
            return Outcome::Nothing;
        };
        self.remove(&id).map_or(Outcome::Nothing, |message| Outcome::Refused(message, reason.to_owned()))
    }

    fn pause(&mut self, until: Instant) -> Outcome {
        self.paused_until = Some(until);
        self.answer_due = None;
        Outcome::Nothing
    }

    fn remove(&mut self, id: &str) -> Option<Pending> {
        let at = self.messages.iter().position(|message| message.id == id)?;
        if at == 0 {
            self.answer_due = None;
        }
        self.messages.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Pending {
        Pending { id: id.into(), text: format!("text of {id}") }
    }

    /// Two messages, the first of which was sent.
    fn sent(now: Instant) -> Outgoing {
        let mut outgoing = Outgoing::default();
        outgoing.add(message("a"));
        outgoing.add(message("b"));
        assert_eq!(outgoing.next_frame(now), None, "not connected");
        outgoing.connected();
        assert_eq!(outgoing.next_frame(now), Some(protocol::say("a", "text of a")));
        outgoing
    }

    #[test]
    fn messages_are_sent_one_at_a_time_and_in_order() {
        let now = Instant::now();
        let mut outgoing = sent(now);
        assert_eq!(outgoing.next_frame(now), None);
        assert_eq!(outgoing.published("x"), Outcome::Nothing);
        assert_eq!(outgoing.published("a"), Outcome::Published(message("a")));
        assert_eq!(outgoing.next_frame(now), Some(protocol::say("b", "text of b")));
    }

    #[test]
    fn a_message_without_an_answer_is_sent_again_with_its_id() {
        let now = Instant::now();
        let mut outgoing = sent(now);
        assert_eq!(outgoing.next_frame(now + ANSWER_TIMEOUT / 2), None);
        assert_eq!(outgoing.due(), Some(now + ANSWER_TIMEOUT));
        assert_eq!(outgoing.next_frame(now + ANSWER_TIMEOUT), Some(protocol::say("a", "text of a")));
        outgoing.disconnected();
        assert_eq!(outgoing.next_frame(now + ANSWER_TIMEOUT * 9), None);
        outgoing.connected();
        assert_eq!(outgoing.next_frame(now + ANSWER_TIMEOUT), Some(protocol::say("a", "text of a")));
        let again = outgoing.refused(Some("a"), "duplicate", "known", now, 0.0);
        assert_eq!(again, Outcome::Published(message("a")), "it had arrived");
    }

    #[test]
    fn errors_pause_or_remove_a_message() {
        let now = Instant::now();
        let mut outgoing = sent(now);
        assert_eq!(outgoing.refused(None, "rate_limited", "slow", now, 0.0), Outcome::Nothing);
        assert!(outgoing.is_slowed_down());
        assert_eq!(outgoing.next_frame(now), None);
        assert_eq!(outgoing.next_frame(now + SLOW_DOWN), Some(protocol::say("a", "text of a")));
        assert!(!outgoing.is_slowed_down());
        assert_eq!(outgoing.refused(Some("a"), "unavailable", "later", now, 0.5), Outcome::Nothing);
        assert_eq!(outgoing.due(), Some(now + UNAVAILABLE + UNAVAILABLE / 2));
        assert!(outgoing.next_frame(now + UNAVAILABLE * 2).is_some());
        let refused = outgoing.refused(Some("a"), "muted", "You are muted", now, 0.0);
        assert_eq!(refused, Outcome::Refused(message("a"), "You are muted".into()));
        assert_eq!(outgoing.muted(), Some("You are muted"));
        assert_eq!(outgoing.refused(None, "bad_token", "x", now, 0.0), Outcome::Nothing);
        assert!(outgoing.next_frame(now).is_some());
        assert_eq!(outgoing.last_refused("too long"), Outcome::Refused(message("b"), "too long".into()));
        assert_eq!(outgoing.last_refused("too long"), Outcome::Nothing);
    }
}
