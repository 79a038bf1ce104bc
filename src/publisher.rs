//! [`Publisher`]: appends the records of this instance to the event log, under one lock. The log has the records in the
//! order in which the lock was taken, so a roster and the `joined` and `left` around it never contradict each other.
//!
//! There are two handles. Session threads, the HTTP side and the server share a [`Publisher`]. The log thread owns the
//! only [`PublisherDriver`], so no other thread can call the methods that depend on what was read from the log.
//!
//! The lock is never held across I/O: appending only puts a record into a queue.

mod driver;
mod in_flight;
mod late_leaves;
mod window;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

pub use self::driver::PublisherDriver;
use self::in_flight::InFlight;
use self::late_leaves::LateLeaves;
use self::window::PresenceWindow;
use crate::clock;
use crate::event_log::{AppendError, Appender};
use crate::limits::WINDOW_WAIT_MAX;
use crate::lobby::instance::ROSTER_BYTES_MAX;
use crate::lobby::{Health, Instance, InstanceId, Moderation, Record, SessionId, User};
use crate::moderation::{Sanction, SharedSanctions};
use crate::session::history;
use crate::threads::lock;

/// How long a message waits for room in the queue to the log. Meanwhile the session thread does not read from its
/// client.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// The pause between two attempts to append a message that waits for room.
const ROOM_RETRY: Duration = Duration::from_millis(5);

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SayError {
    /// The log does not accept records now, or the server stops.
    #[error("the lobby is unavailable")]
    Unavailable,
    /// An administrator has muted the user.
    #[error("the user is muted")]
    Muted(Box<Sanction>),
}

/// Why a session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The log does not accept records now, or the server stops.
    #[error("the lobby is unavailable")]
    Unavailable,
    /// An administrator has banned the user.
    #[error("the user is banned")]
    Banned,
    /// The join waited for [`WINDOW_WAIT_MAX`].
    #[error("too many users join at once")]
    TooMany,
    /// The client has left while the join waited.
    #[error("the client has left")]
    Left,
}

/// The handle of session threads, the HTTP side and the server: opens and closes sessions, and appends messages.
pub struct Publisher {
    state: Mutex<State>,
    /// The condition variable of `state`: signalled when a waiting join may proceed.
    window_opened: Condvar,
    appender: Arc<dyn Appender>,
    started_at: Instant,
    next_session: AtomicU64,
    health: AtomicU8,
    draining: AtomicBool,
    sanctions: SharedSanctions,
}

/// The data behind the lock.
struct State {
    instance: Instance,
    window: PresenceWindow,
    in_flight: InFlight,
    late_leaves: LateLeaves,
    /// The sessions that an administrator has ended and whose `left` was not appended yet.
    ended: HashSet<SessionId>,
    /// The earlier messages that new sessions ask for, until the log thread admits the sessions.
    requests: HashMap<SessionId, history::Request>,
}

/// Creates the two handles and the first incarnation, with this id.
#[must_use]
pub fn open(id: InstanceId, appender: Arc<dyn Appender>) -> (Arc<Publisher>, PublisherDriver) {
    let instance = Instance::new(id, ROSTER_BYTES_MAX, Duration::ZERO);
    let publisher = Arc::new(Publisher {
        state: Mutex::new(State {
            instance,
            window: PresenceWindow::new(),
            in_flight: InFlight::default(),
            late_leaves: LateLeaves::default(),
            ended: HashSet::new(),
            requests: HashMap::new(),
        }),
        window_opened: Condvar::new(),
        appender,
        started_at: Instant::now(),
        next_session: AtomicU64::new(1),
        health: AtomicU8::new(Health::Starting as u8),
        draining: AtomicBool::new(false),
        sanctions: SharedSanctions::default(),
    });
    (publisher.clone(), PublisherDriver::new(publisher))
}

impl Publisher {
    /// The id for a new session. Never returns the same id twice, not even in different incarnations.
    pub fn new_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether joins and messages are accepted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_log_available() && !self.is_draining()
    }

    /// Whether the event log was read and accepts records.
    #[must_use]
    pub fn is_log_available(&self) -> bool {
        self.health.load(Ordering::Acquire) == Health::Ready as u8
    }

    /// Whether the stop has begun, after the drain delay.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Appends the `joined` of a new session. During a join burst it first waits until fewer joins are unsent,
    /// at most [`WINDOW_WAIT_MAX`]. If the log does not accept the record then, the next roster reports the session.
    /// `request`: the earlier messages that the client asks for. `has_left`: whether the client has left; called after a
    /// wait, with the lock. The users online do not see the join of a client that did not wait for its turn.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_session(
        &self,
        session: SessionId,
        user: User,
        request: Option<history::Request>,
        has_left: impl FnOnce() -> bool,
    ) -> Result<(), OpenError> {
        let (mut state, has_waited) = self.wait_for_window();
        let opened = if has_waited && has_left() {
            Err(OpenError::Left)
        } else {
            self.append_joined(&mut state, session, user, request)
        };
        // Also after an error: only one of the waiting joins was woken, and the next one waits for this call.
        self.advance_window(&mut state);
        opened
    }

    fn append_joined(
        &self,
        state: &mut State,
        session: SessionId,
        user: User,
        request: Option<history::Request>,
    ) -> Result<(), OpenError> {
        if !self.is_ready() {
            return Err(OpenError::Unavailable);
        }
        if !state.window.has_room() {
            return Err(OpenError::TooMany);
        }
        if self.sanctions.ban_of(&user.username).is_some() {
            return Err(OpenError::Banned);
        }
        let Some(record) = state.instance.open_session(session, user.clone(), clock::rfc3339()) else {
            return Err(OpenError::Unavailable);
        };
        if let Some(request) = request {
            state.requests.insert(session, request);
        }
        state.window.appended(record.seq);
        let is_appended = self.append(state, record).is_ok();
        // After the `joined`, so that the user does not leave.
        if is_appended && let Some(earlier) = state.late_leaves.take(&user) {
            state.window.leave(earlier);
        }
        Ok(())
    }

    /// Also returns whether it waited.
    fn wait_for_window(&self) -> (MutexGuard<'_, State>, bool) {
        let is_early = |state: &State| self.is_ready() && !state.window.has_room();
        let state = lock(&self.state);
        let waits = is_early(&state);
        let waited = self.window_opened.wait_timeout_while(state, WINDOW_WAIT_MAX, |state| is_early(state));
        (waited.unwrap_or_else(PoisonError::into_inner).0, waits)
    }

    /// Appends the `left` of a session: at once, or, during a leave burst, when fewer leaves are unsent. While the
    /// server drains, no `left` is appended: the user can join another instance until the lease expires.
    /// Does nothing while the `left` waits for the end of a grace period.
    pub fn close_session(&self, session: SessionId) {
        let mut state = lock(&self.state);
        if state.late_leaves.contains(session) {
            return;
        }
        state.requests.remove(&session);
        state.window.leave(session);
        self.advance_window(&mut state);
    }

    /// As [`Publisher::close_session`], for a session whose connection broke: its `left` follows after `grace`, or when
    /// the user joins this instance.
    pub(crate) fn close_broken_session(&self, session: SessionId, grace: Duration) {
        let mut state = lock(&self.state);
        let user = state.instance.user_of(session).cloned().filter(|_| !grace.is_zero() && !self.is_draining());
        let Some(user) = user else {
            drop(state);
            return self.close_session(session);
        };
        state.requests.remove(&session);
        let leaving = state.late_leaves.add(session, user, self.started_at.elapsed() + grace);
        leaving.into_iter().for_each(|session| state.window.leave(session));
        self.advance_window(&mut state);
    }

    /// Appends the `left` of the sessions whose grace period is over.
    fn close_late_sessions(&self, state: &mut State) {
        let due = state.late_leaves.take_due(self.started_at.elapsed());
        if !due.is_empty() {
            due.into_iter().for_each(|session| state.window.leave(session));
            self.advance_window(state);
        }
    }

    /// All fan-out threads have sent this many joins and leaves of this instance. Called on the last of these threads, or on
    /// the log thread if no client gets them.
    fn on_presence_sent(&self, count: usize) {
        let mut state = lock(&self.state);
        state.window.on_sent(count);
        self.advance_window(&mut state);
    }

    /// Appends as many waiting `left` records as the [`PresenceWindow`] has room for. Wakes the next waiting join.
    fn advance_window(&self, state: &mut State) {
        while let Some(session) = state.window.next_leaving(self.is_draining()) {
            state.ended.remove(&session);
            if let Some(record) = state.instance.close_session(session, clock::rfc3339()) {
                state.window.appended(record.seq);
                let _ = self.append(state, record);
            }
        }
        if state.window.has_room() {
            self.window_opened.notify_one();
        }
        if self.is_draining() {
            self.append_bye(state);
        }
    }

    /// Appends the `left` of every session for whose username `reason_for` returns a reason. Returns these sessions with
    /// their reasons. Their messages are refused from now on.
    pub(crate) fn end_sessions(&self, reason_for: impl Fn(&str) -> Option<Arc<str>>) -> Vec<(SessionId, Arc<str>)> {
        let mut state = lock(&self.state);
        let sessions = state.instance.sessions();
        let ended: Vec<_> =
            sessions.filter_map(|(session, user)| Some((session, reason_for(&user.username)?))).collect();
        for (session, _) in &ended {
            state.requests.remove(session);
            state.late_leaves.remove(*session);
            state.ended.insert(*session);
            state.window.leave(*session);
        }
        self.advance_window(&mut state);
        ended
    }

    /// Appends a message. Waits up to half a second for room in the queue to the log.
    ///
    /// # Errors
    /// The message was not appended; the caller has to send the client an error.
    pub fn say(&self, session: SessionId, text: Arc<str>, id: Option<Arc<str>>) -> Result<(), SayError> {
        self.append_waiting(|state| {
            if state.ended.contains(&session) {
                return Err(SayError::Unavailable);
            }
            if let Some(mute) = state.instance.user_of(session).and_then(|user| self.sanctions.mute_of(&user.username))
            {
                return Err(SayError::Muted(Box::new(mute)));
            }
            state.instance.say(session, text.clone(), id.clone(), clock::rfc3339()).ok_or(SayError::Unavailable)
        })
    }

    /// Appends an action of an administrator. Waits like [`Publisher::say`].
    ///
    /// # Errors
    /// The action was not appended.
    pub(crate) fn moderate(&self, moderation: &Moderation) -> Result<(), SayError> {
        self.append_waiting(|state| {
            state.instance.moderate(moderation.clone(), clock::rfc3339()).ok_or(SayError::Unavailable)
        })
    }

    /// Appends a record that `make` returns, under the lock.
    fn append_waiting(&self, make: impl Fn(&mut State) -> Result<Record, SayError>) -> Result<(), SayError> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            if !self.is_log_available() {
                return Err(SayError::Unavailable);
            }
            let mut state = lock(&self.state);
            let record = make(&mut state)?;
            let appended = self.append(&mut state, record);
            drop(state);
            match appended {
                Ok(()) => return Ok(()),
                Err(AppendError::Full) if Instant::now() < deadline => std::thread::sleep(ROOM_RETRY),
                Err(_) => return Err(SayError::Unavailable),
            }
        }
    }

    /// The bans and mutes that this process knows.
    pub(crate) fn sanctions(&self) -> &SharedSanctions {
        &self.sanctions
    }

    /// Refuses the joins that wait for their turn if the log does not answer.
    fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
        if health != Health::Ready {
            // With the lock, so that a join which has just found the instance ready waits already.
            let _state = lock(&self.state);
            self.window_opened.notify_all();
        }
    }

    /// Begins the stop: from now on no session is opened, and no `left` is appended. When the last session has closed,
    /// the `bye` is appended at once; when it is read back, it wakes the log thread. False when this instance has
    /// appended nothing yet: then there is no record to wait for.
    pub fn begin_drain(&self) -> bool {
        let mut state = lock(&self.state);
        // With the lock, so that a join which has just found the server running waits already.
        self.draining.store(true, Ordering::Release);
        self.window_opened.notify_all();
        state.instance.stop();
        for session in state.late_leaves.take_all() {
            state.instance.close_session(session, clock::rfc3339());
        }
        self.advance_window(&mut state);
        !state.instance.is_stopped()
    }

    fn append_bye(&self, state: &mut State) {
        if let Some(bye) = state.instance.bye(clock::rfc3339(), self.started_at.elapsed()) {
            let _ = self.append(state, bye);
        }
    }

    /// The number of open sessions of this instance.
    #[must_use]
    pub fn session_count(&self) -> usize {
        lock(&self.state).instance.session_count()
    }

    /// How far the records of this instance are from being read back, for the metrics.
    #[must_use]
    pub(crate) fn backlog(&self) -> Backlog {
        let state = lock(&self.state);
        let (in_flight, lag) = (state.in_flight.len(), state.in_flight.lag(Instant::now()));
        drop(state);
        Backlog { queued: self.appender.queued_records(), in_flight, lag }
    }

    /// Appends under the lock, so that the log has the records in the order of their `seq`.
    fn append(&self, state: &mut State, record: Record) -> Result<(), AppendError> {
        state.in_flight.appended(record.seq, Instant::now());
        // A copy: the log takes the record, and `on_undelivered` needs it if the log refuses it.
        self.appender.append(record.clone()).inspect_err(|_| state.on_undelivered(&record))
    }
}

/// The records of this instance between `append` and the log thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    /// The records that the event log has accepted into its queue and not written yet.
    pub(crate) queued: usize,
    /// The records in flight.
    pub(crate) in_flight: usize,
    /// How long the oldest of them has been in flight.
    pub(crate) lag: Duration,
}

impl State {
    /// The log refused this record, or reported it undelivered. A record of an earlier incarnation is ignored: its
    /// `seq` may be that of a record in flight of the present one.
    fn on_undelivered(&mut self, record: &Record) {
        if record.from == self.instance.id() {
            self.instance.on_undelivered(record);
            self.window.undelivered(record.seq);
            self.in_flight.undelivered(record.seq);
        }
    }
}

#[cfg(test)]
mod tests;
