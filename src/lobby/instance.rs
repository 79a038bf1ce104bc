//! [`Instance`]: which records one process has to append, and when.
//!
//! The publisher owns it behind a mutex; session threads and the log thread call it. The caller appends the returned
//! records in their order, **under the same lock**: this module gives each record its `seq`, and the log must have the
//! records in the order of `seq`. If the log refuses a record, the caller calls [`Instance::on_undelivered`]. The `seq`
//! of that record is not used again, so the log may have gaps in `seq`. An instance must never do I/O or read a clock.
//!
//! `now` is the time since any fixed moment; it never goes backwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::awake::AwakeClock;
use super::bootstrap::HEARTBEATS_NEEDED;
use super::record::{Body, InstanceId, Moderation, Record, SessionId, User};
use super::roster::{self, Sessions};
use super::state::{LEASE_HEARTBEATS, Lobby};

/// The largest record of a roster, in encoded bytes. Kafka accepts records of 1 MB by default.
pub const ROSTER_BYTES_MAX: usize = 256 * 1024;

/// The least time between two heartbeats, between two rosters, and between two attempts to append a `bye`.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time between two heartbeats of an idle instance, which must not write to the disk every second.
const IDLE_INTERVAL: Duration = Duration::from_secs(12);
const STALLED_AFTER: Duration = Duration::from_secs(3);
const DOWN_AFTER: Duration = Duration::from_secs(30);
/// An instance appends a roster with every tenth heartbeat even if nothing is known to be wrong: the roster repairs
/// differences that nothing has noticed.
const HEARTBEATS_PER_ROSTER: u64 = LEASE_HEARTBEATS as u64;

/// Whether this instance can serve, judged by its own heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its first roster and heartbeat were not read back yet.
    Starting,
    /// It is a member, and reads back what it appends.
    Ready,
    /// No heartbeat was read back for 3 s, or the instance was lost and is not a member again yet: joins are refused,
    /// and messages are answered with an error.
    Stalled,
    /// No heartbeat was read back for 30 s: its sessions are closed, so that the clients join another instance.
    Down,
}

/// The phases of a graceful stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// [`Instance::stop`] was called, and sessions are still open. The instance still appends heartbeats, so that the
    /// users of these sessions stay in the lobby.
    Draining,
    /// A `bye` has to be appended; or it is in flight, with this `seq`.
    Bye {
        last: bool,
        in_flight: Option<u64>,
    },
    Stopped,
}

/// Creates the records of one incarnation: gives them their `seq`, and decides which records are due.
#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    roster_bytes_max: usize,
    clock: AwakeClock,
    next_seq: u64,
    sessions: Sessions,
    phase: Phase,

    /// The `seq` of each part of the roster in flight.
    roster_in_flight: BTreeSet<u64>,
    is_roster_due: bool,
    roster_not_before: Duration,

    heartbeats: u64,
    /// The `seq` of the heartbeat in flight, and when it was appended.
    heartbeat_in_flight: Option<(u64, Duration)>,
    heartbeat_not_before: Duration,
    /// When the first heartbeat was appended since a heartbeat was last read back; `None` if none was appended since.
    unanswered_since: Option<Duration>,
    bye_not_before: Duration,

    /// Whether the instance was a member at the last call of [`Instance::observe`].
    is_member: bool,
    has_been_member: bool,
    has_read_heartbeat: bool,
    /// Whether the lobby had no other instance at the last call of [`Instance::observe`].
    is_alone: bool,
}

impl Instance {
    /// A new incarnation. It is necessary also when the log has to be read anew: records of the old incarnation that
    /// are in flight may have been skipped, and the old incarnation would wait for them for ever.
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
            is_alone: false,
        }
    }

    /// Sets the largest size of one part of a roster, in bytes of its sessions. A part has at least one session.
    pub fn limit_roster_bytes(&mut self, bytes_max: usize) {
        self.roster_bytes_max = bytes_max;
    }

    /// The id of this incarnation.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// A session opened. Returns the record to append; `None` when the instance stops. `session` must be a new id.
    ///
    /// While the instance is not a member, the lobby ignores the record, and the next roster reports the session. In
    /// both cases the session is effective when [`Lobby::sessions_of`] has it.
    pub fn open_session(&mut self, session: SessionId, user: User, at: Arc<str>) -> Option<Record> {
        if self.phase != Phase::Serving {
            return None;
        }
        self.sessions.insert(session, user.clone());
        Some(self.record(at, Body::Joined { session, user }))
    }

    /// A session closed. Returns the record to append; `None` when the session is unknown or the instance stops.
    pub fn close_session(&mut self, session: SessionId, at: Arc<str>) -> Option<Record> {
        self.sessions.remove(&session)?;
        (self.phase == Phase::Serving).then(|| self.record(at, Body::Left { session }))
    }

    /// A client sent a message. Returns the record to append; `None` when the session is unknown.
    ///
    /// If the instance is lost while the record is in flight, the lobby ignores the record
    /// ([`super::Outcome::UnknownSession`]). The caller then has to send the client an error, as for an undelivered
    /// record.
    pub fn say(&mut self, session: SessionId, text: Arc<str>, id: Option<Arc<str>>, at: Arc<str>) -> Option<Record> {
        let is_open = self.sessions.contains_key(&session);
        is_open.then(|| self.record(at, Body::Said { session, text, id }))
    }

    /// An administrator acted on a user. Returns the record to append; `None` when the instance stops.
    pub fn moderate(&mut self, moderation: Moderation, at: Arc<str>) -> Option<Record> {
        (self.phase == Phase::Serving).then(|| self.record(at, Body::Moderated(moderation)))
    }

    /// The open sessions, whether they are effective or not.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &User)> + '_ {
        self.sessions.iter().map(|(session, user)| (*session, user))
    }

    /// The user of an open session.
    #[must_use]
    pub fn user_of(&self, session: SessionId) -> Option<&User> {
        self.sessions.get(&session)
    }

    /// A record of this incarnation was read from the log and applied to `lobby`.
    pub fn on_own_record(&mut self, record: &Record, lobby: &Lobby, now: Duration) {
        self.clock.advance(now);
        self.observe(lobby);
        match record.body {
            Body::Roster { .. } => {
                self.roster_in_flight.remove(&record.seq);
            }
            Body::Heartbeat { .. } => self.on_heartbeat_read(record.seq),
            Body::Bye { last } => self.on_bye_read(last, lobby),
            Body::Joined { .. } | Body::Left { .. } | Body::Said { .. } | Body::Moderated(_) => {}
        }
    }

    fn on_heartbeat_read(&mut self, seq: u64) {
        self.has_read_heartbeat = true;
        if self.heartbeat_in_flight.is_some_and(|(in_flight, _)| in_flight == seq) {
            self.heartbeat_in_flight = None;
        }
        // A heartbeat that was reported undelivered but is in the log acknowledges only the time before it.
        self.unanswered_since = self.heartbeat_in_flight.map(|(_, sent)| sent);
    }

    fn on_bye_read(&mut self, last: bool, lobby: &Lobby) {
        let Phase::Bye { last: awaited, .. } = self.phase else { return };
        if last {
            self.phase = Phase::Stopped;
        } else if !awaited {
            // True only for the last `bye` in the log, when several instances stop at once.
            let is_alone = lobby.every_member_said_bye();
            self.phase = if is_alone { Phase::Bye { last: true, in_flight: None } } else { Phase::Stopped };
            self.bye_not_before = Duration::ZERO;
        }
    }

    /// The log refused a record, or reported it undelivered. A record of an earlier incarnation is ignored: its
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
            // The caller reports it. The state is not affected.
            Body::Said { .. } | Body::Moderated(_) => {}
        }
    }

    /// Returns the records that are due now, to be appended in this order. `lobby` is the state at the offset that was
    /// read so far.
    ///
    /// The log thread calls this after every poll of the log, and not later than [`Instance::next_tick`] says. It must
    /// not call this while it replays old records at a start: `lobby` is not up to date then.
    pub fn tick(&mut self, lobby: &Lobby, at: &Arc<str>, now: Duration) -> Vec<Record> {
        self.clock.advance(now);
        self.observe(lobby);
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
            self.add_roster(at, &mut records);
        }
        if is_heartbeat_due {
            self.add_heartbeat(at, &mut records);
        }
        if is_due(self.bye_at()) {
            self.add_bye(at, &mut records);
        }
        records
    }

    fn observe(&mut self, lobby: &Lobby) {
        self.is_member = lobby.is_member(self.id);
        self.has_been_member |= self.is_member;
        self.is_alone = lobby.is_alone(self.id);
    }

    /// When a roster has to be appended; `None` while one is in flight or none is due. While the instance drains, no
    /// roster is due: it would remove the users whose sessions were closed without a `left`.
    fn roster_at(&self) -> Option<Duration> {
        let is_due = self.phase == Phase::Serving && (self.is_roster_due || !self.is_member);
        (is_due && self.roster_in_flight.is_empty()).then_some(self.roster_not_before)
    }

    /// When a heartbeat has to be appended; `None` while one is in flight, and when a stopping instance has no
    /// sessions.
    fn heartbeat_at(&self) -> Option<Duration> {
        let is_alive = matches!(self.phase, Phase::Serving | Phase::Draining);
        let extra = if self.is_idle() { IDLE_INTERVAL - INTERVAL } else { Duration::ZERO };
        (is_alive && self.heartbeat_in_flight.is_none()).then_some(self.heartbeat_not_before + extra)
    }

    /// Whether the instance is alone and has no sessions, so that no other instance needs its heartbeats. An idle
    /// instance appends a heartbeat every [`IDLE_INTERVAL`]. It is no longer idle, and its next heartbeat is due at
    /// once, when a session opens or the log has a record of another instance.
    ///
    /// The lease and the bootstrap count heartbeats and not time, so they work with any interval. The first
    /// [`HEARTBEATS_NEEDED`] heartbeats are always [`INTERVAL`] apart: they make the state exact if the log alone does
    /// not, and remove the sessions that an earlier incarnation left in the log. An instance with an unanswered
    /// heartbeat is not idle either, because its health depends on the answer.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Serving
            && self.sessions.is_empty()
            && self.is_member
            && self.is_alone
            && self.unanswered_since.is_none()
            && self.heartbeats >= u64::from(HEARTBEATS_NEEDED)
    }

    /// When a `bye` has to be appended; `None` while one is in flight, and before the last session was closed.
    fn bye_at(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Bye { in_flight: None, .. }).then_some(self.bye_not_before)
    }

    /// Whether the instance is draining and its last session has closed, so that the next tick appends the `bye`.
    fn is_drained(&self) -> bool {
        self.phase == Phase::Draining && self.sessions.is_empty()
    }

    fn add_roster(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
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

    fn add_heartbeat(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
        let record = self.record(at.clone(), Body::Heartbeat { n: self.heartbeats });
        self.heartbeat_in_flight = Some((record.seq, self.clock.now()));
        self.heartbeat_not_before = self.clock.now() + INTERVAL;
        self.unanswered_since.get_or_insert(self.clock.now());
        records.push(record);
    }

    fn add_bye(&mut self, at: &Arc<str>, records: &mut Vec<Record>) {
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

    /// The health of this instance.
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

    /// Begins the graceful stop: from now on no session is opened and no `left` is appended. When the last session was
    /// closed with [`Instance::close_session`], the `bye` is due. An undelivered `bye` is followed by another one,
    /// until the caller gives up.
    ///
    /// An instance that has appended nothing is stopped at once: no other instance knows of it.
    pub fn stop(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = if self.next_seq == 1 { Phase::Stopped } else { Phase::Draining };
        }
    }

    /// Returns the `bye` if it is due: the last session has closed after [`Instance::stop`]. For a caller that does not
    /// wait for the next tick. Returns it only once; [`Instance::tick`] returns everything else that is due.
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

    /// True when the graceful stop is complete: the `bye` was read back, or there was nothing to append.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// The time from `now` until [`Instance::tick`] has to be called: at most one second, because [`AwakeClock`] needs
    /// a reading that often. Zero only if a tick would append something, so a loop that waits this long between two
    /// ticks never spins.
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Duration {
        if self.is_drained() {
            return Duration::ZERO;
        }
        let now = self.clock.at(now);
        let due = [self.roster_at(), self.heartbeat_at(), self.bye_at()].into_iter().flatten().min();
        due.map_or(INTERVAL, |at| at.saturating_sub(now).min(INTERVAL))
    }

    /// The number of open sessions, whether they are effective or not.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests;
