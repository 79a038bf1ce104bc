//! [`Session`]: one user in the lobby, over as many connections as it takes. Decides when to connect, what to send, when
//! the network is dead and when to stop, and reports what happens as [`Update`]s. Pure: time, chance and the network are
//! arguments. `network.rs` runs it.
//!
//! ```text
//! waiting --pause--> connecting --first frame--> online --lost--> waiting
//! A refused token and the close code 1008 end the session for good, unless a new token helps.
//! ```

use std::time::{Duration, Instant};

use super::outgoing::{Outcome, Outgoing, Pending};
use super::protocol::{self, Change, ChatMessage, Frame};
use super::renewal::{Renewal, Token};
use super::resume::{Received, Resume};

/// The first pause after a lost connection, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// After a connection of this length the pauses begin anew.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// After this much silence the client sends a ping.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Without anything received for this long after a ping, the network is dead.
const PONG_TIMEOUT: Duration = Duration::from_secs(8);
/// The close codes of `doc/api.md` that the client has to know.
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;

/// The connection, as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Online,
    /// The reason.
    Offline(String),
    /// The server dropped a message because there were too many.
    SlowedDown,
    /// The reason.
    Muted(String),
}

/// What happens in the lobby. The texts are as other users wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Update {
    State(State),
    Users(Vec<String>),
    Joined(Change),
    Left(Change),
    /// Messages are missing before the next one.
    Gap,
    Message {
        message: ChatMessage,
        is_own: bool,
    },
    /// A message of the user waits.
    Queued(Pending),
    /// It was published.
    Confirmed(Pending),
    /// It will not be published, and why.
    NotSent(Pending, String),
    /// Something that the user should know.
    Note(String),
    /// A page of earlier messages, the newest first, and whether there are more; or why there is none.
    Earlier(Result<(Vec<ChatMessage>, bool), String>),
    /// The session has ended for good.
    Ended(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    LogIn,
    Send(String),
    Ping,
    /// Close the connection: the network does not answer.
    GiveUp,
    /// Nothing, until something happens or this time has come.
    Wait(Option<Instant>),
    End,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        until: Instant,
    },
    /// `give_up_at`: none before the websocket is open, because opening it has its own time limit.
    Connecting {
        give_up_at: Option<Instant>,
    },
    Online {
        since: Instant,
        heard_at: Instant,
        pinged_at: Option<Instant>,
    },
    Over,
}

/// How a connection could not be opened.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The status of HTTP, if the server answered.
    pub(super) status: Option<u16>,
    pub(super) reason: String,
    pub(super) retry_after: Duration,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    failures: u32,
    resume: Resume,
    outgoing: Outgoing,
    renewal: Renewal,
    /// The token has to be sent to the server.
    sends_token: bool,
    username: Option<String>,
    shown: Option<State>,
    lost_because: String,
    updates: Vec<Update>,
}

impl Session {
    /// `first`: how many earlier messages to ask for.
    pub(super) fn new(token: Token, can_log_in: bool, first: u32, now: Instant) -> Self {
        let username = token.username.clone();
        Session {
            phase: Phase::Waiting { until: now },
            failures: 0,
            resume: Resume::new(first),
            outgoing: Outgoing::default(),
            renewal: Renewal::new(token, can_log_in),
            sends_token: false,
            username,
            shown: None,
            lost_because: String::new(),
            updates: Vec::new(),
        }
    }

    /// What has happened since the last call.
    pub(super) fn take_updates(&mut self) -> Vec<Update> {
        self.show_state();
        std::mem::take(&mut self.updates)
    }

    pub(super) fn token(&self) -> &str {
        &self.renewal.token().text
    }

    /// The query of `/join` for the next connection.
    pub(super) fn query(&self) -> String {
        self.resume.query()
    }

    /// Whether [`Session::say`] may be called.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.has_room()
    }

    /// Sends a message, now or later. `id`: random, used once.
    pub(super) fn say(&mut self, id: String, text: String) {
        let message = Pending { id, text };
        self.updates.push(Update::Queued(message.clone()));
        self.outgoing.add(message);
    }

    /// What to do now. [`Step::Connect`] and [`Step::LogIn`] are returned once; the caller reports how they end.
    pub(super) fn next_step(&mut self, now: Instant) -> Step {
        if !matches!(self.phase, Phase::Over) && self.renewal.begin(now) {
            return Step::LogIn;
        }
        match self.phase {
            Phase::Waiting { until } if until <= now && !self.renewal.is_waiting(now) => {
                self.phase = Phase::Connecting { give_up_at: None };
                self.renewal.joining();
                Step::Connect
            }
            Phase::Waiting { until } => {
                Step::Wait(earliest([Some(until).filter(|until| *until > now), self.renewal.due()]))
            }
            Phase::Online { since, heard_at, pinged_at } => self.online_step(since, heard_at, pinged_at, now),
            Phase::Connecting { give_up_at: Some(at) } if at <= now => {
                self.lost("the server does not answer", Duration::ZERO, now, 0.5);
                Step::GiveUp
            }
            Phase::Connecting { give_up_at } => Step::Wait(earliest([give_up_at, self.renewal.due()])),
            Phase::Over => Step::End,
        }
    }

    fn online_step(&mut self, since: Instant, heard_at: Instant, pinged_at: Option<Instant>, now: Instant) -> Step {
        let due = pinged_at.map_or(heard_at + PING_AFTER, |at| at + PONG_TIMEOUT);
        if due <= now && pinged_at.is_some() {
            self.lost("the network does not answer", Duration::ZERO, now, 0.5);
            return Step::GiveUp;
        }
        if due <= now {
            self.phase = Phase::Online { since, heard_at, pinged_at: Some(now) };
            return Step::Ping;
        }
        if std::mem::take(&mut self.sends_token) {
            return Step::Send(protocol::renew(self.token()));
        }
        match self.outgoing.next_frame(now) {
            Some(frame) => Step::Send(frame),
            None => Step::Wait(earliest([Some(due), self.outgoing.due(), self.renewal.due()])),
        }
    }

    /// The websocket is open.
    pub(super) fn opened(&mut self, now: Instant) {
        self.phase = Phase::Connecting { give_up_at: Some(now + PING_AFTER) };
    }

    /// Anything was received, a part of a frame at least: the network works.
    pub(super) fn heard(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Online { heard_at, pinged_at, .. } => (*heard_at, *pinged_at) = (now, None),
            Phase::Connecting { give_up_at: Some(at) } => *at = now + PING_AFTER,
            _ => {}
        }
    }

    /// A text frame was received. `random` is from 0 to 1.
    pub(super) fn frame(&mut self, text: &str, now: Instant, random: f64) {
        match Frame::parse(text) {
            Frame::UsersOnline { names, id_before } => {
                self.phase = Phase::Online { since: now, heard_at: now, pinged_at: None };
                self.updates.push(Update::Users(names));
                if self.resume.joined(id_before) {
                    self.outgoing.connected();
                }
            }
            Frame::Joined(change) => self.updates.push(Update::Joined(change)),
            Frame::Left(change) => self.updates.push(Update::Left(change)),
            Frame::Message { message, id } => {
                if let Some(received) = self.resume.message((message, id)) {
                    self.show(received);
                }
            }
            Frame::CaughtUp { is_complete } => {
                let (is_gap, messages) = self.resume.caught_up(is_complete);
                if is_gap {
                    self.updates.push(Update::Gap);
                }
                messages.into_iter().for_each(|received| self.show(received));
                self.outgoing.connected();
            }
            Frame::Token => self.renewal.joining(),
            Frame::Error { id, code, text } => {
                if matches!(code.as_str(), "no_token" | "bad_token" | "other_user") {
                    self.updates.push(Update::Note(format!("The login could not be renewed: {text}")));
                }
                let outcome = self.outgoing.refused(id.as_deref(), &code, &text, now, random);
                self.settle(outcome);
            }
            Frame::Unknown => {}
        }
    }

    fn show(&mut self, (message, id): Received) {
        let is_by_this_user = self.username.as_ref().is_none_or(|name| *name == message.from_user);
        let outcome = id.filter(|_| is_by_this_user).map_or(Outcome::Nothing, |id| self.outgoing.published(&id));
        if outcome != Outcome::Nothing {
            // The ids are random, so a message with one of them is from this user.
            self.username = Some(message.from_user.clone());
        }
        let is_own = self.username.as_ref() == Some(&message.from_user);
        self.updates.push(Update::Message { message, is_own });
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Published(message) => self.updates.push(Update::Confirmed(message)),
            Outcome::Refused(message, reason) => self.updates.push(Update::NotSent(message, reason)),
            Outcome::Nothing => {}
        }
    }

    /// The connection has ended. `code`: of the close frame, if there was one.
    pub(super) fn closed(&mut self, code: Option<u16>, reason: &str, now: Instant, random: f64) {
        if code == Some(POLICY) && !self.renewal.refused(now) {
            return self.end(reason);
        }
        if code == Some(TOO_BIG) {
            let outcome = self.outgoing.last_refused("the message is too long");
            self.settle(outcome);
        }
        self.lost(reason, Duration::ZERO, now, random);
    }

    /// No connection could be opened.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant, random: f64) {
        let is_final = match refusal.status {
            Some(401) => !self.renewal.refused(now),
            Some(403) => true,
            None | Some(408 | 429) => false,
            // The address leads elsewhere. After a join it was right, and somebody works on the server.
            Some(status) => status < 500 && !self.resume.has_joined(),
        };
        if is_final {
            return self.end(&refusal.reason);
        }
        self.lost(&refusal.reason, refusal.retry_after, now, random);
    }

    /// The pause before the next connection grows with each failure and each short connection, and has a random part: when
    /// a server restarts, all its clients lose their connections at once.
    fn lost(&mut self, reason: &str, at_least: Duration, now: Instant, random: f64) {
        self.resume.disconnected();
        self.outgoing.disconnected();
        self.sends_token = false;
        if let Phase::Online { since, .. } = self.phase
            && since + STABLE_AFTER <= now
        {
            self.failures = 0;
        }
        let longest = (PAUSE_FIRST * 2u32.saturating_pow(self.failures.min(10))).min(PAUSE_MAX);
        self.failures += 1;
        let pause = longest.mul_f64(0.5 + random / 2.0).max(at_least);
        self.phase = Phase::Waiting { until: now + pause };
        reason.clone_into(&mut self.lost_because);
    }

    fn end(&mut self, reason: &str) {
        self.phase = Phase::Over;
        self.updates.push(Update::Ended(reason.to_owned()));
    }

    /// A login has succeeded.
    pub(super) fn logged_in(&mut self, token: Token) {
        self.renewal.logged_in(token);
        self.sends_token = matches!(self.phase, Phase::Online { .. });
    }

    /// A login has failed. `is_final`: the password is wrong, for example.
    pub(super) fn login_failed(&mut self, is_final: bool, reason: &str, now: Instant) {
        self.renewal.failed(is_final, now);
        match self.phase {
            Phase::Online { .. } => {
                self.updates.push(Update::Note(format!("The login could not be renewed: {reason}")))
            }
            _ if is_final => self.end(reason),
            _ => reason.clone_into(&mut self.lost_because),
        }
    }

    fn show_state(&mut self) {
        let state = match &self.phase {
            Phase::Over => return,
            Phase::Online { .. } => match self.outgoing.muted() {
                Some(reason) => State::Muted(reason.to_owned()),
                None if self.outgoing.is_slowed_down() => State::SlowedDown,
                None => State::Online,
            },
            _ if self.lost_because.is_empty() => State::Connecting,
            Phase::Waiting { .. } => State::Offline(self.lost_because.clone()),
            Phase::Connecting { .. } => State::Connecting,
        };
        if self.shown.as_ref() != Some(&state) {
            self.updates.push(Update::State(state.clone()));
            self.shown = Some(state);
        }
    }
}

fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
