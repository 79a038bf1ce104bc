//! [`Publisher`]: appends what this instance has to say. The order of its records in the log is the order in which the
//! one lock here was taken, so a roster and the `joined` and `left` around it never contradict each other.

mod pace;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use self::pace::PresencePace;
use crate::clock;
use crate::event_log::{AppendError, Appender};
use crate::lobby::instance::ROSTER_BYTES_MAX;
use crate::lobby::{Health, Instance, InstanceId, Lobby, Record, SessionId, User};
use crate::threads::lock;

/// How long a message waits for room in the queue to the log: its client is not read meanwhile.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// Between two looks for room.
const ROOM_LOOK: Duration = Duration::from_millis(5);
/// How long a newcomer waits for his turn in a crowd, at most: then he joins it all the same.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// What a roster record has besides its sessions, at most.
const ROSTER_OVERHEAD_BYTES: usize = 256;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SayError {
    /// The log does not take records now.
    #[error("the lobby is unavailable")]
    Unavailable,
}

/// The writing side of this instance. Shared by all session threads and the log thread.
pub struct Publisher {
    own: Mutex<Own>,
    /// Told when a newcomer may go on; goes with `own`.
    turn: Condvar,
    appender: Arc<dyn Appender>,
    started_at: Instant,
    next_session: AtomicU64,
    health: AtomicU8,
    draining: AtomicBool,
}

/// What the lock is for.
struct Own {
    instance: Instance,
    pace: PresencePace,
}

impl Publisher {
    /// A new incarnation with this id.
    #[must_use]
    pub fn new(id: InstanceId, appender: Arc<dyn Appender>) -> Self {
        Publisher {
            own: Mutex::new(Own {
                instance: Instance::new(id, ROSTER_BYTES_MAX, Duration::ZERO),
                pace: PresencePace::default(),
            }),
            turn: Condvar::new(),
            appender,
            started_at: Instant::now(),
            next_session: AtomicU64::new(1),
            health: AtomicU8::new(Health::Starting as u8),
            draining: AtomicBool::new(false),
        }
    }

    /// A number for a new session, never given twice.
    pub fn new_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether joins and messages are taken: the log thread says so.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_log_available() && !self.is_draining()
    }

    /// Whether the event log was read and takes records.
    #[must_use]
    pub fn is_log_available(&self) -> bool {
        self.health.load(Ordering::Acquire) == Health::Ready as u8
    }

    /// Whether the server is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A session opened. In a crowd it waits for its turn, a few seconds at most. Where the log does not take its
    /// `joined` now, the next roster carries it.
    ///
    /// # Errors
    /// The log does not answer, or the server is about to stop.
    pub fn open_session(&self, session: SessionId, user: User) -> Result<(), SayError> {
        let mut own = self.await_turn();
        if !self.is_ready() {
            return Err(SayError::Unavailable);
        }
        let Some(record) = own.instance.open_session(session, user, clock::rfc3339()) else {
            return Err(SayError::Unavailable);
        };
        own.pace.appended(record.seq);
        let _ = self.append(&mut own, record);
        self.pass_turn(&mut own);
        Ok(())
    }

    fn await_turn(&self) -> MutexGuard<'_, Own> {
        let is_early = |own: &mut Own| self.is_ready() && !own.pace.has_room();
        let waited = self.turn.wait_timeout_while(lock(&self.own), TURN_WAIT, is_early);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// A session closed: it is reported at once, or in its turn when a crowd leaves. While the server drains its person
    /// stays in the lobby: he has the time of a lease to come back elsewhere.
    pub fn close_session(&self, session: SessionId) {
        let mut own = lock(&self.own);
        own.pace.leave(session);
        self.pass_turn(&mut own);
    }

    /// Reports those who have gone, as many as may be under way, and lets the next newcomer go on where there is room left.
    fn pass_turn(&self, own: &mut Own) {
        while let Some(session) = own.pace.next_leaving() {
            if let Some(record) = own.instance.close_session(session, clock::rfc3339()) {
                own.pace.appended(record.seq);
                let _ = self.append(own, record);
            }
        }
        if own.pace.has_room() {
            self.turn.notify_one();
        }
        if self.is_draining() {
            self.append_bye(own);
        }
    }

    /// A client said something. Waits a little for room in the log's queue.
    ///
    /// # Errors
    /// It was not taken: tell the client.
    pub fn say(&self, session: SessionId, text: Arc<str>, id: Option<Arc<str>>) -> Result<(), SayError> {
        let until = Instant::now() + ROOM_WAIT;
        loop {
            if !self.is_log_available() {
                return Err(SayError::Unavailable);
            }
            let mut own = lock(&self.own);
            let Some(record) = own.instance.say(session, text.clone(), id.clone(), clock::rfc3339()) else {
                return Err(SayError::Unavailable);
            };
            let appended = self.append(&mut own, record);
            drop(own);
            match appended {
                Ok(()) => return Ok(()),
                Err(AppendError::Full) if Instant::now() < until => std::thread::sleep(ROOM_LOOK),
                Err(_) => return Err(SayError::Unavailable),
            }
        }
    }

    /// From now on no session is opened.
    pub fn announce_stop(&self) {
        self.draining.store(true, Ordering::Release);
        self.turn.notify_all();
    }

    /// The same, and a session that closes leaves its user in the lobby. When the last session has closed, the last
    /// record is appended at once: it wakes the log thread. False when this instance has appended nothing yet: then the
    /// event log does not know it, and there is nothing to wait for.
    pub fn begin_drain(&self) -> bool {
        self.announce_stop();
        let mut own = lock(&self.own);
        own.instance.stop();
        self.append_bye(&mut own);
        !own.instance.is_stopped()
    }

    fn append_bye(&self, own: &mut Own) {
        if let Some(bye) = own.instance.bye(clock::rfc3339(), self.started_at.elapsed()) {
            let _ = self.append(own, bye);
        }
    }

    /// How many sessions this instance has in the lobby.
    #[must_use]
    pub fn session_count(&self) -> usize {
        lock(&self.own).instance.session_count()
    }

    /// This incarnation. For the log thread.
    pub(crate) fn id(&self) -> InstanceId {
        lock(&self.own).instance.id()
    }

    /// Begins a new incarnation: what the old one had under way may never come back. Its sessions are no more. For the
    /// log thread, when it has to read the log anew.
    pub(crate) fn reincarnate(&self, id: InstanceId) {
        let mut own = lock(&self.own);
        own.instance = Instance::new(id, ROSTER_BYTES_MAX, self.started_at.elapsed());
        own.pace = PresencePace::default();
        if self.is_draining() {
            own.instance.stop();
        }
    }

    /// A record of this instance came out of the log and was applied. For the log thread.
    pub(crate) fn on_own_record(&self, record: &Record, lobby: &Lobby) {
        let mut own = lock(&self.own);
        own.instance.on_own_record(record, lobby, self.started_at.elapsed());
        own.pace.came_back(record.seq);
        self.pass_turn(&mut own);
    }

    /// The log reported a record undelivered. A record of an earlier incarnation is ignored: its `seq` may be that of
    /// a record in flight of this one. For the log thread.
    pub(crate) fn on_undelivered(&self, record: &Record) {
        let mut own = lock(&self.own);
        if record.from != own.instance.id() {
            return;
        }
        Self::on_refused(&mut own, record);
        self.pass_turn(&mut own);
    }

    /// Appends what is due. For the log thread, between two polls.
    pub(crate) fn tick(&self, lobby: &Lobby) -> Ticked {
        let mut own = lock(&self.own);
        let now = self.started_at.elapsed();
        let record_bytes_max = self.appender.record_bytes_max();
        own.instance.limit_roster_bytes(ROSTER_BYTES_MAX.min(record_bytes_max.saturating_sub(ROSTER_OVERHEAD_BYTES)));
        for record in own.instance.tick(lobby, &clock::rfc3339(), now) {
            let _ = self.append(&mut own, record);
        }
        let instance = &own.instance;
        Ticked { health: instance.health(now), is_stopped: instance.is_stopped(), wait: instance.next_tick(now) }
    }

    /// Says how the instance is, for [`Publisher::is_ready`]. For the log thread.
    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    /// Appends under the lock, so that the log has the records in the order of their `seq`.
    fn append(&self, own: &mut Own, record: Record) -> Result<(), AppendError> {
        // The record goes into the log, and is still needed when the log refuses it.
        self.appender.append(record.clone()).inspect_err(|_| Self::on_refused(own, &record))
    }

    fn on_refused(own: &mut Own, record: &Record) {
        own.instance.on_undelivered(record);
        own.pace.undelivered(record.seq);
    }
}

/// What [`Publisher::tick`] found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticked {
    pub health: Health,
    pub is_stopped: bool,
    /// Until the next tick, at most.
    pub wait: Duration,
}

#[cfg(test)]
mod tests;
