//! [`Session`]: one user in the lobby, over as many connections as it takes. Takes the frames of the server, decides what to
//! do next, and reports what happens as [`Update`]s. A refused token and the close code 1008 end it, unless a new token
//! helps. Pure: time, randomness and the network are arguments. `network.rs` runs it.

mod filling;

use std::time::{Duration, Instant};

use super::connection::{Connection, Need, Refusal};
use super::gap::Gap;
use super::outgoing::{Outcome, Outgoing, Pending};
use super::protocol::{self, Frame};
use super::renewal::{Renewal, Token};
use super::resume::{Received, Resume};
use super::update::{State, Update};

/// The close codes of `doc/api.md` that the client has to know.
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;
/// The text of [`POLICY`] begins with this if the token is the reason.
const TOKEN_EXPIRED: &str = "token expired";

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    LogIn,
    /// Load the page of `/history` before the message with this id, or the newest one.
    LoadPage(Option<String>),
    Send(String),
    Ping,
    /// Close the connection: the network does not answer.
    GiveUp,
    /// Nothing, until something happens or this time has come.
    Wait(Option<Instant>),
    End,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    resume: Resume,
    /// The gap that is being filled.
    gap: Option<Gap>,
    /// A page was asked for and has not come yet, so there is one request at a time.
    is_loading: bool,
    outgoing: Outgoing,
    renewal: Renewal,
    /// The token has to be sent to the server.
    sends_token: bool,
    username: Option<String>,
    shown: Option<State>,
    updates: Vec<Update>,
}

impl Session {
    /// `first`: how many earlier messages to ask for.
    pub(super) fn new(token: Token, can_log_in: bool, first: u32, now: Instant) -> Self {
        let username = token.username.clone();
        Session {
            connection: Connection::new(now),
            resume: Resume::new(first),
            gap: None,
            is_loading: false,
            outgoing: Outgoing::default(),
            renewal: Renewal::new(token, can_log_in),
            sends_token: false,
            username,
            shown: None,
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

    /// What to do now. [`Step::Connect`], [`Step::LogIn`] and [`Step::LoadPage`] are returned once; the caller reports how
    /// they end. `random` is from 0 to 1.
    pub(super) fn next_step(&mut self, now: Instant, random: f64) -> Step {
        if self.connection.has_ended() {
            return Step::End;
        }
        if self.renewal.begin(now) {
            return Step::LogIn;
        }
        if let Some(step) = self.gap_step(now) {
            return step;
        }
        match self.connection.next_need(now) {
            Need::Open if self.renewal.is_waiting(now) => self.wait(None),
            Need::Open => {
                self.connection.opening();
                self.renewal.joining();
                Step::Connect
            }
            Need::GiveUp(reason) => {
                self.lost(reason, Duration::ZERO, now, random);
                Step::GiveUp
            }
            Need::Ping => Step::Ping,
            Need::Nothing(until) if !self.connection.is_online() => self.wait(until),
            Need::Nothing(_) if std::mem::take(&mut self.sends_token) => Step::Send(protocol::renew(self.token())),
            Need::Nothing(until) => match self.outgoing.next_frame(now) {
                Some(frame) => Step::Send(frame),
                None => self.wait(earliest([until, self.outgoing.due()])),
            },
        }
    }

    fn wait(&self, until: Option<Instant>) -> Step {
        Step::Wait(earliest([until, self.renewal.due(), self.gap.as_ref().map(Gap::deadline)]))
    }

    /// The websocket is open.
    pub(super) fn opened(&mut self, now: Instant) {
        self.connection.opened(now);
    }

    /// Anything was received, a part of a frame at least.
    pub(super) fn received(&mut self, now: Instant) {
        self.connection.received(now);
    }

    /// A text frame was received. `random` is from 0 to 1.
    pub(super) fn frame(&mut self, text: &str, now: Instant, random: f64) {
        match Frame::parse(text) {
            Frame::UsersOnline { sent_at, names, id_before } => {
                self.connection.joined(now);
                // A login may have ended since this join began.
                self.sends_token = !self.renewal.is_sent();
                self.updates.push(Update::Users(names));
                if self.resume.joined(id_before, sent_at) {
                    self.outgoing.connected();
                }
            }
            Frame::Joined(change) => self.report(Update::Joined(change)),
            Frame::Left(change) => self.report(Update::Left(change)),
            Frame::Message { message, id } => {
                if let Some(received) = self.resume.message((message, id)) {
                    self.report_message(received);
                }
            }
            Frame::CaughtUp { is_complete } => {
                let (gap, messages) = self.resume.caught_up(is_complete);
                if let Some(edges) = gap {
                    self.begin_gap(edges, now);
                }
                messages.into_iter().for_each(|received| self.report_message(received));
                self.outgoing.connected();
            }
            Frame::Token => self.renewal.joining(),
            Frame::Error { id, code, text } => {
                if matches!(code.as_str(), "no_token" | "bad_token" | "other_user") {
                    self.updates.push(Update::Note(format!("The login could not be renewed: {text}")));
                }
                let outcome = self.outgoing.refused(id.as_deref(), &code, &text, now, random);
                self.report_outcome(outcome);
            }
            Frame::Unknown => {}
        }
    }

    fn report_message(&mut self, (message, id): Received) {
        let is_by_this_user = self.username.as_ref().is_none_or(|name| *name == message.from_user);
        let outcome = id.filter(|_| is_by_this_user).map_or(Outcome::Nothing, |id| self.outgoing.published(&id));
        if outcome != Outcome::Nothing {
            // The ids are random, so a message with one of them is from this user.
            self.username = Some(message.from_user.clone());
        }
        let is_own = self.username.as_ref() == Some(&message.from_user);
        self.report(Update::Message { message, is_own });
        self.report_outcome(outcome);
    }

    fn report_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Published(message) => self.report(Update::Confirmed(message)),
            Outcome::Refused(message, reason) => self.report(Update::NotSent(message, reason)),
            Outcome::Nothing => {}
        }
    }

    /// The connection has ended. `code`: of the close frame, if there was one.
    pub(super) fn closed(&mut self, code: Option<u16>, reason: &str, now: Instant, random: f64) {
        if code == Some(POLICY) && !(reason.starts_with(TOKEN_EXPIRED) && self.renewal.refused(now)) {
            return self.end(reason);
        }
        if code == Some(TOO_BIG) {
            let outcome = self.outgoing.last_refused("the message is too long");
            self.report_outcome(outcome);
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

    /// `pause_min`: how long to wait at least. `random` is from 0 to 1.
    fn lost(&mut self, reason: &str, pause_min: Duration, now: Instant, random: f64) {
        // What comes after the next join would be held, too.
        self.end_gap(false);
        self.resume.disconnected();
        self.outgoing.disconnected();
        self.sends_token = false;
        self.connection.lost(reason, pause_min, now, random);
    }

    fn end(&mut self, reason: &str) {
        self.end_gap(false);
        self.connection.end();
        self.updates.push(Update::Ended(reason.to_owned()));
    }

    /// A login has succeeded.
    pub(super) fn logged_in(&mut self, token: Token) {
        self.renewal.logged_in(token);
        self.sends_token = self.connection.is_online();
    }

    /// A login has failed. `is_final`: the password is wrong, for example.
    pub(super) fn login_failed(&mut self, is_final: bool, reason: &str, now: Instant) {
        self.renewal.failed(is_final, now);
        if self.connection.is_online() {
            self.updates.push(Update::Note(format!("The login could not be renewed: {reason}")));
        } else if is_final {
            self.end(reason);
        } else {
            self.connection.explain(reason);
        }
    }

    fn show_state(&mut self) {
        let Some(mut state) = self.connection.state() else { return };
        if state == State::Online {
            state = match self.outgoing.muted() {
                Some(reason) => State::Muted(reason.to_owned()),
                None if self.outgoing.is_slowed_down() => State::SlowedDown,
                None => State::Online,
            };
        }
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
