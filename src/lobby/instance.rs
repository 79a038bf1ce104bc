//! [`Instance`]: what one running process has to append, and when.
//!
//! The server owns one behind a mutex; session threads and the log thread call it. Whoever calls appends the records
//! that come out of it in their order, **under the same lock**, for the numbers in them are given here and the order
//! of the log must be theirs. A record that the log refuses is reported with [`Instance::on_undelivered`] (its number
//! is used up all the same: gaps do no harm). It must never do I/O or look at a clock.
//!
//! `now` in these calls is the time since any fixed moment; it never goes backwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::awake::AwakeClock;
use super::record::{Body, InstanceId, Record, SessionId, User};
use super::roster::{self, Sessions};
use super::state::{LEASE_HEARTBEATS, Lobby};

/// The most that one record of a roster takes on the log, in production. Kafka takes 1 MB a record by default.
pub const ROSTER_BYTES_MAX: usize = 256 * 1024;

/// From one beat to the next, at least; and between two tries of anything else.
const INTERVAL: Duration = Duration::from_secs(1);
const STALLED_AFTER: Duration = Duration::from_secs(3);
const DOWN_AFTER: Duration = Duration::from_secs(30);
/// A roster goes out with every so many beats, whatever has been said before: it heals what nobody noticed.
const HEARTBEATS_PER_ROSTER: u64 = LEASE_HEARTBEATS as u64;

/// Whether this instance can serve, as its own beats tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its roster and first beat did not come back yet.
    Starting,
    /// It reads what it appends, and what it appends counts.
    Ready,
    /// Nothing came back for 3 s, or it has been lost and is not back yet: no new joins, and sends are answered with
    /// an error.
    Stalled,
    /// Nothing came back for 30 s: its sessions go elsewhere.
    Down,
}

/// How far a graceful stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// [`Instance::stop`] was called, and sessions are still open. It goes on beating, so that their people stay.
    Draining,
    /// A `bye` is to be appended, or, with the `seq` of it, to come back.
    Bye {
        last: bool,
        in_flight: Option<u64>,
    },
    Stopped,
}

/// The protocol's side of one process.
#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    roster_bytes_max: usize,
    clock: AwakeClock,
    next_seq: u64,
    sessions: Sessions,
    phase: Phase,

    /// The parts of the roster that is on its way.
    roster_in_flight: BTreeSet<u64>,
    is_roster_due: bool,
    roster_not_before: Duration,

    heartbeats: u64,
    /// The number of the beat that is on its way, and when it was sent.
    heartbeat_in_flight: Option<(u64, Duration)>,
    heartbeat_not_before: Duration,
    /// When the first beat was sent of those that are not answered by any that came back.
    unanswered_since: Option<Duration>,
    bye_not_before: Duration,

    /// As of the last call that showed the lobby.
    is_member: bool,
    has_been_member: bool,
    has_read_heartbeat: bool,
}

impl Instance {
    /// A new incarnation. When the reader had to begin anew, a new one is made too: what the old one has on its way
    /// may have been skipped, and would be waited for in vain.
    #[must_use]
    pub fn new(id: InstanceId, roster_bytes_max: usize, now: Duration) -> Self {
        Instance {
            id,
            roster_bytes_max,
            clock: AwakeClock::new(now),
            next_seq: 1,
            sessions: Sessions::new(),
            phase: Phase::Serving,
            roster_in_flight: BTreeSet::new(),
            is_roster_due: true,
            roster_not_before: Duration::ZERO,
            heartbeats: 0,
            heartbeat_in_flight: None,
            heartbeat_not_before: Duration::ZERO,
            unanswered_since: None,
            bye_not_before: Duration::ZERO,
            is_member: false,
            has_been_member: false,
            has_read_heartbeat: false,
        }
    }

    /// From now on each part of a roster has at most this many bytes of sessions, or one session.
    pub fn limit_roster_bytes(&mut self, bytes_max: usize) {
        self.roster_bytes_max = bytes_max;
    }

    /// This incarnation's id.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// A session opened: the record to append; none when the instance stops. The id must be a new one.
    ///
    /// While the instance is no member the record is void, and the roster that follows carries the session. Either
    /// way the session is in force once [`Lobby::sessions_of`] has it.
    pub fn open_session(&mut self, session: SessionId, user: User, at: Arc<str>) -> Option<Record> {
        if self.phase != Phase::Serving {
            return None;
        }
        self.sessions.insert(session, user.clone());
        Some(self.record(at, Body::Joined { session, user }))
    }

    /// A session closed: the record to append; none when the session is not known or the instance stops.
    pub fn close_session(&mut self, session: SessionId, at: Arc<str>) -> Option<Record> {
        self.sessions.remove(&session)?;
        (self.phase == Phase::Serving).then(|| self.record(at, Body::Left { session }))
    }

    /// A client said something: the record to append; none when the session is not known.
    ///
    /// It can come back void, without an [`super::Event`], when the instance was lost meanwhile. The client has to be
    /// told then, just as when it is undelivered.
    pub fn say(&mut self, session: SessionId, text: Arc<str>, id: Option<Arc<str>>, at: Arc<str>) -> Option<Record> {
        let is_open = self.sessions.contains_key(&session);
        is_open.then(|| self.record(at, Body::Said { session, text, id }))
    }

    /// A record of this instance came back out of the log and was applied to `lobby`.
    pub fn on_own_record(&mut self, record: &Record, lobby: &Lobby, now: Duration) {
        self.clock.advance(now);
        self.look_at(lobby);
        match record.body {
            Body::Roster { .. } => {
                self.roster_in_flight.remove(&record.seq);
            }
            Body::Heartbeat { .. } => self.on_heartbeat_read(record.seq),
            Body::Bye { last } => self.on_bye_read(last, lobby),
            Body::Joined { .. } | Body::Left { .. } | Body::Said { .. } => {}
        }
    }

    fn on_heartbeat_read(&mut self, seq: u64) {
        self.has_read_heartbeat = true;
        if self.heartbeat_in_flight.is_some_and(|(in_flight, _)| in_flight == seq) {
            self.heartbeat_in_flight = None;
        }
        // One that had been handed back as undelivered, and yet was in the log, answers for the time before it only.
        self.unanswered_since = self.heartbeat_in_flight.map(|(_, sent)| sent);
    }

    fn on_bye_read(&mut self, last: bool, lobby: &Lobby) {
        let Phase::Bye { last: awaited, .. } = self.phase else { return };
        if last {
            self.phase = Phase::Stopped;
        } else if !awaited {
            // Of several that stop at once, only the one whose `bye` is last in the log sees this.
            let is_alone = lobby.every_member_said_bye();
            self.phase = if is_alone { Phase::Bye { last: true, in_flight: None } } else { Phase::Stopped };
            self.bye_not_before = Duration::ZERO;
        }
    }

    /// The log did not take a record, or reported it undelivered. A record of an earlier incarnation is ignored: its
    /// `seq` says nothing about the records of this one.
    pub fn on_undelivered(&mut self, record: &Record) {
        if record.from != self.id {
            return;
        }
        match record.body {
            Body::Roster { .. } => {
                self.roster_in_flight.remove(&record.seq);
                self.is_roster_due = true;
            }
            Body::Joined { .. } | Body::Left { .. } => self.is_roster_due = true,
            Body::Heartbeat { .. } => {
                if self.heartbeat_in_flight.is_some_and(|(in_flight, _)| in_flight == record.seq) {
                    self.heartbeat_in_flight = None;
                }
            }
            Body::Bye { .. } => {
                if let Phase::Bye { in_flight, .. } = &mut self.phase
                    && *in_flight == Some(record.seq)
                {
                    *in_flight = None;
                }
            }
            // Its client is told; the state has nothing to heal.
            Body::Said { .. } => {}
        }
    }

    /// What is due now, to be appended in this order. `lobby`: the state at the offset read so far.
    ///
    /// Call it after every poll of the log, and at the latest when [`Instance::next_tick`] says; not while a span is
    /// replayed, when the lobby is not of the present.
    pub fn tick(&mut self, lobby: &Lobby, at: &Arc<str>, now: Duration) -> Vec<Record> {
        self.clock.advance(now);
        self.look_at(lobby);
        let now = self.clock.now();
        let is_due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        let mut records = Vec::new();
        if self.is_drained() {
            self.phase = Phase::Bye { last: false, in_flight: None };
        }
        let is_heartbeat_due = is_due(self.heartbeat_at());
        if is_heartbeat_due {
            self.heartbeats += 1;
            self.is_roster_due |= self.heartbeats.is_multiple_of(HEARTBEATS_PER_ROSTER);
        }
        if is_due(self.roster_at()) {
            self.append_roster(at, &mut records);
        }
        if is_heartbeat_due {
            self.append_heartbeat(at, &mut records);
        }
        if is_due(self.bye_at()) {
            self.append_bye(at, &mut records);
        }
        records
    }

    fn look_at(&mut self, lobby: &Lobby) {
        self.is_member = lobby.is_member(self.id);
        self.has_been_member |= self.is_member;
    }

    /// When a roster has to be appended; none while one is in flight or none is due. While the instance drains, no
    /// roster is due: it would report as gone the users whose sessions were closed without a `left`.
    fn roster_at(&self) -> Option<Duration> {
        let is_due = self.phase == Phase::Serving && (self.is_roster_due || !self.is_member);
        (is_due && self.roster_in_flight.is_empty()).then_some(self.roster_not_before)
    }

    /// When a heartbeat has to be appended; none while one is in flight, and after the last session was closed.
    fn heartbeat_at(&self) -> Option<Duration> {
        let is_alive = matches!(self.phase, Phase::Serving | Phase::Draining);
        (is_alive && self.heartbeat_in_flight.is_none()).then_some(self.heartbeat_not_before)
    }

    /// When a `bye` has to be appended; none while one is in flight, and before the last session was closed.
    fn bye_at(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Bye { in_flight: None, .. }).then_some(self.bye_not_before)
    }

    /// Whether the next tick begins with the `bye`.
    fn is_drained(&self) -> bool {
        self.phase == Phase::Draining && self.sessions.is_empty()
    }

    fn append_roster(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
        self.is_roster_due = false;
        self.roster_not_before = self.clock.now() + INTERVAL;
        let entries = roster::split(&self.sessions, self.roster_bytes_max);
        let parts = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        for (part, sessions) in (0..).zip(entries) {
            let record = self.record(at.clone(), Body::Roster { part, parts, sessions });
            self.roster_in_flight.insert(record.seq);
            records.push(record);
        }
    }

    fn append_heartbeat(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
        let record = self.record(at.clone(), Body::Heartbeat { n: self.heartbeats });
        self.heartbeat_in_flight = Some((record.seq, self.clock.now()));
        self.heartbeat_not_before = self.clock.now() + INTERVAL;
        self.unanswered_since.get_or_insert(self.clock.now());
        records.push(record);
    }

    fn append_bye(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
        let Phase::Bye { last, .. } = self.phase else { return };
        let bye = self.record(at.clone(), Body::Bye { last });
        self.phase = Phase::Bye { last, in_flight: Some(bye.seq) };
        self.bye_not_before = self.clock.now() + INTERVAL;
        records.push(bye);
    }

    fn record(&mut self, at: Arc<str>, body: Body) -> Record {
        let seq = self.next_seq;
        self.next_seq += 1;
        Record { from: self.id, seq, at, body }
    }

    /// How this instance is.
    #[must_use]
    pub fn health(&self, now: Duration) -> Health {
        let silence = self.unanswered_since.map_or(Duration::ZERO, |since| self.clock.at(now).saturating_sub(since));
        if !(self.has_been_member && self.has_read_heartbeat) {
            Health::Starting
        } else if silence > DOWN_AFTER {
            Health::Down
        } else if silence > STALLED_AFTER || !self.is_member {
            Health::Stalled
        } else {
            Health::Ready
        }
    }

    /// From now on: no new sessions, `left` no more, and `bye` as the last record, once the last session was closed
    /// with [`Instance::close_session`]. A `bye` that is undelivered is tried again: the deadline is the caller's.
    ///
    /// An instance that has appended nothing is stopped at once: nobody knows of it.
    pub fn stop(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = if self.next_seq == 1 { Phase::Stopped } else { Phase::Draining };
        }
    }

    /// The `bye`, as soon as the last session has closed after [`Instance::stop`]: for a caller that cannot wait for the
    /// next tick. It is returned once; what else is due comes out of [`Instance::tick`].
    pub fn bye(&mut self, at: Arc<str>, now: Duration) -> Option<Record> {
        if self.phase != Phase::Draining || !self.sessions.is_empty() {
            return None;
        }
        self.clock.advance(now);
        let bye = self.record(at, Body::Bye { last: false });
        self.phase = Phase::Bye { last: false, in_flight: Some(bye.seq) };
        self.bye_not_before = self.clock.now() + INTERVAL;
        Some(bye)
    }

    /// True when nothing of this instance is left to be waited for after [`Instance::stop`].
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// How long from `now` until [`Instance::tick`] has something to do; at most one second, as the clock of this
    /// instance has to be read that often. It is zero exactly when a tick with the lobby of the last call would append
    /// something, so a loop that waits this long between two ticks never spins.
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Duration {
        if self.is_drained() {
            return Duration::ZERO;
        }
        let now = self.clock.at(now);
        let due = [self.roster_at(), self.heartbeat_at(), self.bye_at()].into_iter().flatten().min();
        due.map_or(INTERVAL, |at| at.saturating_sub(now).min(INTERVAL))
    }

    /// The sessions that are open here, whether or not the log knows them yet.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests;
