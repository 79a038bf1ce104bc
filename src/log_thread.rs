//! The log thread: polls the event log, applies each record to the lobby, encodes each event once and sends the events
//! to the fan-out in batches. It owns the lobby: no other thread reads or changes it.
//!
//! It must never wait for a client, a store or a lock that is held across I/O.

mod batch_builder;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use thiserror::Error;

use self::batch_builder::{BatchBuilder, users_online};
use crate::clock;
use crate::event_log::{Entry, EventLog, ReadError, Span};
use crate::limits::{BATCH_BYTES, POLL_RECORDS_MAX};
use crate::lobby::bootstrap::{FIRST_SPAN_RECORDS, WIDEN_TIMES};
use crate::lobby::{Body, Bootstrap, Event, Health, InstanceId, Lobby, Record, SessionId};
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;
use crate::publisher::PublisherDriver;
use crate::random;
use crate::session::client_error::{ClientError, ErrorCode};
use crate::session::end::End;
use crate::session::fan_out::{Command, FanOut};
use crate::session::online_list::OnlineList;
use crate::session::protocol;

/// The longest wait for a record. The instance needs a tick at least once a second.
const POLL_WAIT: Duration = Duration::from_secs(1);
/// The pause between two attempts to reach a log that does not answer.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How often that wait checks whether the log was abandoned.
const ABANDON_CHECK: Duration = Duration::from_millis(50);

/// The log thread and its state.
pub struct LogThread {
    log: EventLog,
    driver: PublisherDriver,
    fan_out: FanOut,
    metrics: Arc<Metrics>,
    abandon: Arc<AtomicBool>,
    me: InstanceId,
    lobby: Lobby,
    online: OnlineList,
    /// Until the state is exact: tells whether enough of the log was read.
    bootstrap: Option<Bootstrap>,
    /// Sessions of this instance that are live: they have got the list of users, and get events.
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
    /// `abandon` was set.
    #[error("the stop did not wait for the event log")]
    Abandoned,
    /// The log cannot be used as it is. The text says what an operator has to change.
    #[error("the event log cannot be used: {0}")]
    Unusable(String),
}

impl LogThread {
    /// `abandon`: when it is set, the thread ends within about a second, whatever it waits for.
    #[must_use]
    pub fn new(
        mut log: EventLog,
        driver: PublisherDriver,
        fan_out: FanOut,
        metrics: Arc<Metrics>,
        abandon: Arc<AtomicBool>,
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
            lobby: Lobby::default(),
            online: OnlineList::default(),
            bootstrap: None,
            live: HashSet::new(),
            events: Vec::new(),
            entries: Vec::new(),
            health: Health::Starting,
            read_errors: LogThrottle::default(),
        }
    }

    /// The whole life of the thread.
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

    /// Reads enough of the log to know who is there.
    fn build_state(&mut self) -> Result<(), LogThreadEnd> {
        let started_at = Instant::now();
        let mut records = FIRST_SPAN_RECORDS;
        loop {
            let Some(span) = self.replay(records)? else { continue };
            let read_all = span.end.saturating_sub(span.start) < records;
            if self.is_exact() || read_all {
                let (users, took) = (self.online.len(), started_at.elapsed());
                info!("read the event log from {} to {}: {users} online, {took:.1?}", span.start, span.end);
                return Ok(());
            }
            info!("the last {records} records of the event log do not tell who is there: reading more");
            records = records.saturating_mul(WIDEN_TIMES);
        }
    }

    /// Folds the last `records` of the log into a new state. None: the log did not answer, try again.
    fn replay(&mut self, records: u64) -> Result<Option<Span>, LogThreadEnd> {
        let span = match self.log.reader.rewind(records) {
            Ok(span) => span,
            Err(error) => return self.wait_out(&error).map(|()| None),
        };
        self.lobby = Lobby::default();
        let mut bootstrap = Bootstrap::new(span.from_the_beginning);
        while self.log.reader.position() < span.end {
            if self.abandon.load(Ordering::Acquire) {
                return Err(LogThreadEnd::Abandoned);
            }
            self.entries.clear();
            if let Err(error) = self.log.reader.poll(POLL_WAIT, POLL_RECORDS_MAX, &mut self.entries) {
                return self.wait_out(&error).map(|()| None);
            }
            for entry in &self.entries {
                self.events.clear();
                self.lobby.apply(&entry.record, &mut self.events);
                bootstrap.on_record(&entry.record);
            }
        }
        self.events.clear();
        self.bootstrap = Some(bootstrap);
        self.online = OnlineList::default();
        self.lobby.users_online().for_each(|user| self.online.insert(user));
        self.metrics.set_online(self.online.len());
        Ok(Some(span))
    }

    fn wait_out(&self, error: &ReadError) -> Result<(), LogThreadEnd> {
        match error {
            ReadError::Unusable(text) => return Err(LogThreadEnd::Unusable(text.clone())),
            ReadError::Unavailable(_) | ReadError::Truncated(_) => {
                let text = error.to_string();
                if let Some(more) = self.read_errors.may_log(&text, Instant::now())
                    && !self.abandon.load(Ordering::Acquire)
                {
                    warn!("{text}; trying again{more}");
                }
            }
        }
        let until = Instant::now() + RETRY_WAIT;
        while Instant::now() < until {
            if self.abandon.load(Ordering::Acquire) {
                return Err(LogThreadEnd::Abandoned);
            }
            std::thread::sleep(ABANDON_CHECK);
        }
        Ok(())
    }

    /// Once exact, always exact.
    fn is_exact(&mut self) -> bool {
        if self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.is_exact(&self.lobby)) {
            self.bootstrap = None;
        }
        self.bootstrap.is_none()
    }

    fn poll(&mut self, wait: Duration) -> Result<(), ReadError> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let polled = self.log.reader.poll(wait, POLL_RECORDS_MAX, &mut entries);
        for entry in &entries {
            self.apply(&entry.record);
        }
        self.flush();
        self.metrics.applied(entries.len(), self.online.len());
        self.entries = entries;
        polled
    }

    /// Applies one record and adds its events, and the sessions that it makes live, to the batch.
    fn apply(&mut self, record: &Record) {
        let own = record.from == self.me;
        let admits = own && matches!(record.body, Body::Joined { .. } | Body::Roster { .. });
        // The list before this record: the first frame of a session that this record makes live.
        let before = if admits { self.online.snapshot() } else { Vec::new() };
        self.lobby.apply(record, &mut self.events);
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.on_record(record);
        }
        if admits {
            self.admit(record, &before);
        }
        match &record.body {
            Body::Left { session } if own => drop(self.live.remove(session)),
            // Ignored by the lobby: this instance was lost while the message was in flight. (A duplicate is ignored
            // too, but its author's session is known.)
            Body::Said { session, id, .. } if own && self.lobby.user_of(self.me, *session).is_none() => {
                self.answer_unavailable(*session, id.clone());
            }
            _ => {}
        }
        for event in self.events.drain(..) {
            match &event {
                Event::UserJoined { user } => self.online.insert(user),
                Event::UserLeft { user } => self.online.remove(user),
                Event::Said { .. } => {}
            }
            self.batch.put(&event, &record.at);
        }
        if own {
            self.driver.on_own_record(record, &self.lobby);
        }
        if self.batch.len_bytes() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Makes the sessions live that this record added to the lobby. Each gets `before`, the list of users before this
    /// record, and then all events from this record on.
    fn admit(&mut self, record: &Record, before: &[Arc<[u8]>]) {
        if !self.lobby.is_member(self.me) {
            return;
        }
        match &record.body {
            Body::Joined { session, .. } => self.admit_session(*session, record, before),
            _ => {
                // The `left` of a session may have been undelivered: then only the roster shows that the session is
                // closed.
                self.live.retain(|session| self.lobby.user_of(self.me, *session).is_some());
                let sessions: Vec<SessionId> =
                    self.lobby.sessions_of(self.me).filter(|session| !self.live.contains(session)).collect();
                sessions.into_iter().for_each(|session| self.admit_session(session, record, before));
            }
        }
    }

    fn admit_session(&mut self, session: SessionId, record: &Record, before: &[Arc<[u8]>]) {
        if self.live.insert(session) {
            self.batch.admit(self.fan_out.thread_of(session), session, users_online(&record.at, before));
        }
    }

    fn flush(&mut self) {
        self.batch.flush(&self.fan_out);
    }

    /// Sends an error to each sender whose message the log reported undelivered. The sessions of an earlier
    /// incarnation were closed with it, so its records are ignored.
    fn report_undelivered(&mut self) {
        while let Ok(record) = self.log.undelivered.try_recv() {
            if record.from != self.me {
                continue;
            }
            self.driver.on_undelivered(&record);
            if let Body::Said { session, id, .. } = record.body {
                self.answer_unavailable(session, id);
            }
        }
    }

    fn answer_unavailable(&self, session: SessionId, id: Option<Arc<str>>) {
        let error = ClientError::from(ErrorCode::Unavailable).about(id);
        let frame = protocol::error_frame(&error, &clock::rfc3339());
        self.fan_out.send(session, Command::Direct { session, frame });
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

    fn set_health(&mut self, health: Health) {
        if health == self.health {
            return;
        }
        match health {
            Health::Ready => info!("the event log was read and accepts records"),
            Health::Starting => info!("the event log is being read to find out who is online"),
            Health::Stalled => warn!("nothing comes back from the event log"),
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
