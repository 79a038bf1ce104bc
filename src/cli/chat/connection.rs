//! [`Connection`]: when to connect, when the network is dead, and how long to wait after a lost connection. Pure.
//!
//! ```text
//! waiting --pause--> connecting --first frame--> online --lost--> waiting
//! ```

use std::time::{Duration, Instant};

use super::update::State;

/// The first pause after a lost connection, and the longest one.
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(500);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(15);
/// After a connection of this length the pauses begin anew.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long the first frame may take after the websocket is open. When very many clients join at once, a join waits at the
/// server. A client that gives up too early leaves a join that the server works for in vain, and waits again from the start.
pub(super) const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// After this much silence the client sends a ping.
pub(super) const PING_AFTER: Duration = Duration::from_secs(15);
/// Without anything received for this long after a ping, the network is dead.
pub(super) const PONG_TIMEOUT: Duration = Duration::from_secs(8);

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
        received_at: Instant,
        pinged_at: Option<Instant>,
    },
    Ended,
}

/// What the connection needs now.
pub(super) enum Need {
    /// The pause is over.
    Open,
    Ping,
    /// The other side does not answer; the reason.
    GiveUp(&'static str),
    /// Nothing until this time, or until something is received.
    Nothing(Option<Instant>),
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
pub(super) struct Connection {
    phase: Phase,
    /// Connections in a row that failed or did not last.
    failures: u32,
    /// Why the last connection was lost. Empty: there was none.
    lost_because: String,
}

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Connection { phase: Phase::Waiting { until: now }, failures: 0, lost_because: String::new() }
    }

    pub(super) fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The state that the user sees. `None`: the session has ended.
    pub(super) fn state(&self) -> Option<State> {
        match self.phase {
            Phase::Ended => None,
            Phase::Online { .. } => Some(State::Online),
            Phase::Waiting { .. } if !self.lost_because.is_empty() => Some(State::Offline(self.lost_because.clone())),
            Phase::Waiting { .. } | Phase::Connecting { .. } => Some(State::Connecting),
        }
    }

    /// A returned [`Need::Ping`] counts as sent. The caller reports everything else that it does.
    pub(super) fn next_need(&mut self, now: Instant) -> Need {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => Need::Open,
            Phase::Waiting { until } => Need::Nothing(Some(*until)),
            Phase::Connecting { give_up_at: Some(at) } if *at <= now => Need::GiveUp("the server does not answer"),
            Phase::Connecting { give_up_at } => Need::Nothing(*give_up_at),
            Phase::Online { received_at, pinged_at, .. } => {
                let due = pinged_at.map_or(*received_at + PING_AFTER, |at| at + PONG_TIMEOUT);
                if due > now {
                    return Need::Nothing(Some(due));
                }
                if pinged_at.is_some() {
                    return Need::GiveUp("the network does not answer");
                }
                *pinged_at = Some(now);
                Need::Ping
            }
            Phase::Ended => Need::Nothing(None),
        }
    }

    /// The caller opens the websocket.
    pub(super) fn opening(&mut self) {
        self.phase = Phase::Connecting { give_up_at: None };
    }

    /// The websocket is open.
    pub(super) fn opened(&mut self, now: Instant) {
        self.phase = Phase::Connecting { give_up_at: Some(now + FIRST_FRAME_TIMEOUT) };
    }

    /// Anything was received, a part of a frame at least: the network works.
    pub(super) fn received(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Online { received_at, pinged_at, .. } => (*received_at, *pinged_at) = (now, None),
            // The first frame can be long, and arrive in many parts.
            Phase::Connecting { give_up_at: Some(at) } => *at = (*at).max(now + PING_AFTER),
            _ => {}
        }
    }

    /// The first frame of the lobby was received.
    pub(super) fn joined(&mut self, now: Instant) {
        self.phase = Phase::Online { since: now, received_at: now, pinged_at: None };
    }

    /// The pause before the next connection grows with each failure and each short connection, and has a random part: when
    /// a server restarts, all its clients lose their connections at once. `random` is from 0 to 1.
    pub(super) fn lost(&mut self, reason: &str, pause_min: Duration, now: Instant, random: f64) {
        if let Phase::Online { since, .. } = self.phase
            && since + STABLE_AFTER <= now
        {
            self.failures = 0;
        }
        let longest = (PAUSE_FIRST * 2u32.saturating_pow(self.failures.min(10))).min(PAUSE_MAX);
        self.failures += 1;
        let pause = longest.mul_f64(0.5 + random / 2.0).max(pause_min);
        self.phase = Phase::Waiting { until: now + pause };
        self.explain(reason);
    }

    /// Why the client is not connected.
    pub(super) fn explain(&mut self, reason: &str) {
        reason.clone_into(&mut self.lost_because);
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
    }
}
