//! The log thread: polls the event log, applies each record to the lobby, encodes each event once and sends the events
//! to the fan-out in batches. It owns the lobby: no other thread reads or changes it.
//!
//! It must never wait for a client, a store or a lock that is held across I/O.

pub(crate) mod batch_builder;
mod start;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use log::{error, info, warn};
use thiserror::Error;

use self::batch_builder::{BatchBuilder, missed_messages, users_online};
use crate::clock;
use crate::event_log::{Entry, EventLog, ReadError};
use crate::limits::{BATCH_BYTES, POLL_RECORDS_MAX};
use crate::lobby::{Body, Bootstrap, Event, Health, InstanceId, Lobby, Moderation, Outcome, Record, SessionId};
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;
use crate::publisher::PublisherDriver;
use crate::random;
use crate::session::client_error::{ClientError, ErrorCode};
use crate::session::end::End;
use crate::session::fan_out::{Command, FanOut};
use crate::session::history::SharedHistory;
use crate::session::moderated;
use crate::session::online_list::OnlineList;
use crate::session::protocol;
use crate::threads::lock;

/// The longest wait for a record. The instance needs a tick at least once a second.
const POLL_WAIT: Duration = Duration::from_secs(1);

/// The log thread and its state.
pub struct LogThread {
    log: EventLog,
    driver: PublisherDriver,
    fan_out: FanOut,
    metrics: Arc<Metrics>,
    abandon: Arc<AtomicBool>,
    /// Gets a message when the state was built from the log. If it is full, the message that waits is enough.
    on_state_built: Sender<()>,
    me: InstanceId,
    lobby: Lobby,
    online: OnlineList,
    /// The newest messages that were published while the state was exact.
    history: SharedHistory,
    /// Decides whether the state is exact. `None` once it is exact.
    bootstrap: Option<Bootstrap>,
    /// Sessions of this instance that are live: their `users_online` frame was put into a batch, and they get all
    /// events.
    live: HashSet<SessionId>,
    batch: BatchBuilder,
    events: Vec<Event>,
    entries: Vec<Entry>,
    health: Health,
    read_errors: LogThrottle,
}

/// Why the thread ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogThreadEnd {
    /// The `bye` of this instance was read back: none of its records is in flight.
    #[error("this instance has stopped")]
    Stopped,
    /// The server gave up the event log: it set the flag `abandon` of [`LogThread::new`].
    #[error("the stop did not wait for the event log")]
    Abandoned,
    /// The log cannot be used as it is. The text says what an operator has to change.
    #[error("the event log cannot be used: {0}")]
    Unusable(String),
}

impl LogThread {
    /// When the caller sets `abandon`, the thread ends within about a second, whatever it waits for. `on_state_built`,
    /// with a capacity of 1, gets a message after each time that the state was built anew.
    #[must_use]
    pub fn new(
        mut log: EventLog,
        driver: PublisherDriver,
        fan_out: FanOut,
        history: SharedHistory,
        metrics: Arc<Metrics>,
        abandon: Arc<AtomicBool>,
        on_state_built: Sender<()>,
    ) -> Self {
        log.reader.give_up_when(abandon.clone());
        LogThread {
            me: driver.id(),
            log,
            driver,
            batch: BatchBuilder::new(fan_out.thread_count()),
            fan_out,
            metrics,
            abandon,
            on_state_built,
            lobby: Lobby::default(),
            online: OnlineList::default(),
            history,
            bootstrap: None,
            live: HashSet::new(),
            events: Vec::new(),
            entries: Vec::new(),
            health: Health::Starting,
            read_errors: LogThrottle::default(),
        }
    }

    /// Runs until the instance has stopped, or the log thread cannot continue.
    #[must_use]
    pub fn run(mut self) -> LogThreadEnd {
        match self.follow() {
            Ok(never) => match never {},
            // A graceful stop: all sessions are closed already.
            Err(LogThreadEnd::Stopped) => {
                self.driver.set_health(Health::Down);
                LogThreadEnd::Stopped
            }
            Err(end) => {
                self.driver.set_health(Health::Down);
                self.fan_out.send_to_all(|| Command::CloseAll(End::LogUnavailable));
                end
            }
        }
    }

    fn follow(&mut self) -> Result<std::convert::Infallible, LogThreadEnd> {
        self.build_state()?;
        let mut wait = Duration::ZERO;
        loop {
            if self.abandon.load(Ordering::Acquire) {
                return Err(LogThreadEnd::Abandoned);
            }
            if let Err(error) = self.poll(wait.min(POLL_WAIT)) {
                self.on_read_error(error)?;
            }
            self.report_undelivered();
            let ticked = self.driver.tick(&self.lobby);
            if ticked.is_stopped {
                return Err(LogThreadEnd::Stopped);
            }
            wait = ticked.wait;
            let is_exact = self.is_exact();
            self.set_health(if is_exact { ticked.health } else { Health::Starting });
        }
    }

    fn poll(&mut self, wait: Duration) -> Result<(), ReadError> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let polled = self.log.reader.poll(wait, POLL_RECORDS_MAX, &mut entries);
        for entry in &entries {
            self.apply(entry);
        }
        self.flush();
        self.metrics.applied(entries.len(), self.online.len());
        self.metrics.set_history(lock(&self.history).len());
        self.entries = entries;
        polled
    }

    /// Applies one record. Adds its events, and the sessions that become live with it, to the batch.
    fn apply(&mut self, entry: &Entry) {
        let Entry { offset, record } = entry;
        let own = record.from == self.me;
        let admits = own && matches!(record.body, Body::Joined { .. } | Body::Roster { .. });
        // The list before this record, for the `users_online` frame of a session that becomes live with this record.
        let before = if admits { self.online.snapshot() } else { Vec::new() };
        let outcome = self.lobby.apply(record, *offset, &mut self.events);
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.on_record(record, *offset, &self.lobby);
        }
        if admits {
            self.admit(record, &before);
        }
        match &record.body {
            Body::Left { session } if own => drop(self.live.remove(session)),
            Body::Said { session, id, .. } if own => self.on_own_message(*session, id.clone(), outcome),
            Body::Moderated(moderation) => self.moderate(moderation),
            _ => {}
        }
        self.send_events(*offset, record);
        if own {
            let appended_at = self.driver.on_own_record(record, &self.lobby);
            if outcome == Outcome::Applied && matches!(record.body, Body::Said { .. }) {
                appended_at.into_iter().for_each(|at| self.batch.set_append(at));
            }
        }
        if self.batch.len_bytes() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// An administrator acted on a user: ends the sessions of the user on this instance, if the action ends them. Does
    /// nothing if the action is known: the record is the second copy, or the database had the action.
    fn moderate(&mut self, moderation: &Moderation) {
        let publisher = self.driver.publisher();
        if publisher.sanctions().apply(moderation) {
            let ended = moderated::end_sessions(moderation, publisher, &self.fan_out);
            let Moderation { action, username, by, .. } = moderation;
            info!("{by:?} applied {action:?} to {username:?}: {ended} sessions of this instance end");
            self.metrics.moderated(action.name());
        }
    }

    /// Sends an error to the author of a message that was not published.
    fn on_own_message(&mut self, session: SessionId, id: Option<Arc<str>>, outcome: Outcome) {
        match outcome {
            Outcome::Applied | Outcome::Duplicate => {}
            // This instance was lost while the message was in flight, so the lobby ignored it.
            Outcome::UnknownSession => self.answer(session, ErrorCode::Unavailable, id),
            Outcome::Repeated => {
                self.metrics.duplicate_refused();
                self.answer(session, ErrorCode::Duplicate, id);
            }
        }
    }

    /// Adds the events of this record to the batch, and its message to the history.
    fn send_events(&mut self, offset: u64, record: &Record) {
        let is_exact = self.is_exact();
        for event in self.events.drain(..) {
            let frame = self.batch.put(&event, record);
            match &event {
                Event::UserJoined { username } => self.online.insert(username),
                Event::UserLeft { username } => self.online.remove(username),
                Event::Said { .. } if is_exact => lock(&self.history).push(record.event_id(), offset, frame),
                Event::Said { .. } => {}
            }
        }
    }

    /// Makes the sessions live that became effective with this record. Each gets `before`, the list as it was before
    /// this record, and then all events, beginning with those of this record.
    fn admit(&mut self, record: &Record, before: &[Arc<[u8]>]) {
        if !self.lobby.is_member(self.me) {
            return;
        }
        match &record.body {
            Body::Joined { session, .. } => self.admit_session(*session, record, before),
            _ => {
                // If the `left` of a session was undelivered, the session is removed here: the roster does not have it.
                self.live.retain(|session| self.lobby.user_of(self.me, *session).is_some());
                let sessions: Vec<SessionId> =
                    self.lobby.sessions_of(self.me).filter(|session| !self.live.contains(session)).collect();
                sessions.into_iter().for_each(|session| self.admit_session(session, record, before));
            }
        }
    }

    fn admit_session(&mut self, session: SessionId, record: &Record, before: &[Arc<[u8]>]) {
        if !self.live.insert(session) {
            return;
        }
        let mut first_frames = users_online(&record.at, lock(&self.history).last_id(), before);
        if let Some(request) = self.driver.take_request(session) {
            first_frames.extend(missed_messages(&record.at, lock(&self.history).missed(request)));
        }
        self.batch.admit(self.fan_out.thread_of(session), session, first_frames);
    }

    fn flush(&mut self) {
        self.batch.flush(&self.fan_out, self.driver.take_unsent());
    }

    /// Sends an error to each sender whose message the log reported undelivered. The sessions of an earlier
    /// incarnation were closed with it, so its records are ignored.
    fn report_undelivered(&mut self) {
        while let Ok(record) = self.log.undelivered.try_recv() {
            if record.from != self.me {
                continue;
            }
            self.driver.on_undelivered(&record);
            match record.body {
                Body::Said { session, id, .. } => {
                    self.answer(session, ErrorCode::Unavailable, id);
                    self.flush();
                }
                Body::Moderated(Moderation { action, username, .. }) => {
                    error!("the event log did not accept {action:?} of {username:?}: repeat it");
                }
                _ => {}
            }
        }
    }

    /// Adds an error frame for one client to the batch.
    fn answer(&mut self, session: SessionId, code: ErrorCode, id: Option<Arc<str>>) {
        self.metrics.error_frame_sent(code.row().code);
        let error = ClientError::from(code).about(id);
        self.batch.put_direct(session, protocol::error_frame(&error, &clock::rfc3339()));
    }

    fn on_read_error(&mut self, error: ReadError) -> Result<(), LogThreadEnd> {
        match error {
            ReadError::Unavailable(_) => Ok(()),
            ReadError::Unusable(text) => Err(LogThreadEnd::Unusable(text)),
            ReadError::Truncated(_) => {
                error!("{error}: closing all sessions and reading the log anew");
                self.set_health(Health::Starting);
                self.fan_out.send_to_all(|| Command::CloseAll(End::LogUnavailable));
                self.live.clear();
                self.me = InstanceId(random::u64().map_err(|error| LogThreadEnd::Unusable(error.to_string()))?);
                self.driver.reincarnate(self.me);
                self.build_state()
            }
        }
    }

    /// Whether the state is exact. Once exact, it stays exact.
    fn is_exact(&mut self) -> bool {
        if self.bootstrap.as_ref().is_some_and(Bootstrap::is_exact) {
            self.bootstrap = None;
        }
        self.bootstrap.is_none()
    }

    /// Why the instance is stalled.
    fn stall_cause(&self) -> &'static str {
        if self.lobby.is_member(self.me) {
            "the event log returns no heartbeats of this instance"
        } else {
            "the other instances have removed this one from the lobby, because it appended no heartbeats for too long"
        }
    }

    fn set_health(&mut self, health: Health) {
        if health == self.health {
            return;
        }
        match health {
            Health::Ready => info!("the event log was read and accepts records"),
            Health::Starting => info!("reading the event log to find out which users are online"),
            Health::Stalled => warn!("{}: refusing joins and messages", self.stall_cause()),
            Health::Down => {
                warn!("the event log does not answer: closing all sessions");
                self.fan_out.send_to_all(|| Command::CloseAll(End::LogUnavailable));
            }
        }
        self.health = health;
        self.driver.set_health(health);
    }
}

#[cfg(test)]
mod tests;
