//! [`Process`]: one server process, reduced to its replica of the state, its instance, its producer and its clients. It
//! calls them as the server does, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ich::lobby::{Body, Bootstrap, Health, Instance, InstanceId, Lobby, Record, SessionId, User};

use super::client::Client;
use super::log::{Producer, VirtualLog};
use super::oracle::Oracle;
use super::rng::Rng;
use super::{Millis, Violation, ensure};

/// Small, so that most starts have to read a longer span.
const FIRST_SPAN: usize = 40;
const WIDEN_TIMES: usize = 4;
/// The size of two users of this simulation.
const ROSTER_BYTES_MAX: usize = 160;

/// An instance is ready again within this time after the last fault.
const RECOVERY: Millis = 5_000;

pub struct Process {
    pub instance: Instance,
    pub producer: Producer,
    pub clients: BTreeMap<SessionId, Client>,
    next_session: u64,
    lobby: Lobby,
    bootstrap: Bootstrap,
    is_exact: bool,
    is_stopping: bool,
    /// The offset of the next record to read.
    position: usize,
    span: usize,
    /// The end of the span that is being read. `None`: the span was read.
    span_end: Option<usize>,
    /// The `seq` of each message that was appended, and neither read back nor reported undelivered.
    unanswered: BTreeSet<u64>,
    /// The time in the records, which no rule may use.
    at: Arc<str>,
    /// How many ticks appended something.
    pub appending_ticks: usize,
}

/// The result of [`Process::read`].
#[derive(PartialEq, Eq)]
pub enum ReadResult {
    Done,
    /// Retention has removed the next record.
    Truncated,
}

impl Process {
    pub fn new(id: InstanceId, log: &VirtualLog, now: Millis) -> Self {
        let mut process = Process {
            instance: Instance::new(id, ROSTER_BYTES_MAX, Duration::from_millis(now)),
            producer: Producer::default(),
            clients: BTreeMap::new(),
            next_session: 1,
            lobby: Lobby::default(),
            bootstrap: Bootstrap::new(true),
            is_exact: false,
            is_stopping: false,
            position: 0,
            span: FIRST_SPAN,
            span_end: None,
            unanswered: BTreeSet::new(),
            at: "".into(),
            appending_ticks: 0,
        };
        process.begin_span(log);
        process
    }

    fn begin_span(&mut self, log: &VirtualLog) {
        self.position = log.first.max(log.end().saturating_sub(self.span));
        self.lobby = Lobby::default();
        self.bootstrap = Bootstrap::new(self.position == 0);
        self.span_end = Some(log.end());
        self.end_span(log);
    }

    fn end_span(&mut self, log: &VirtualLog) {
        if self.span_end != Some(self.position) {
            return;
        }
        let is_all_there_is = log.end().saturating_sub(self.span) <= log.first;
        self.is_exact = self.bootstrap.is_exact(&self.lobby);
        if self.is_exact || is_all_there_is {
            self.span_end = None;
        } else {
            self.span *= WIDEN_TIMES;
            self.begin_span(log);
        }
    }

    pub fn is_ready(&self, now: Millis) -> bool {
        self.is_exact && self.instance.health(Duration::from_millis(now)) == Health::Ready
    }

    pub fn open(&mut self, user: User, is_accepted: bool, now: Millis) {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        if let Some(record) = self.instance.open_session(session, user.clone(), self.at.clone()) {
            self.clients.insert(session, Client::new(user, now));
            self.append(record, is_accepted, now);
        }
    }

    pub fn close(
        &mut self,
        session: SessionId,
        is_accepted: bool,
        now: Millis,
        oracle: &Oracle,
    ) -> Result<(), Violation> {
        if let Some(client) = self.clients.remove(&session) {
            client.check_received(self.position, oracle)?;
        }
        if let Some(record) = self.instance.close_session(session, self.at.clone()) {
            self.check_stopping(&record)?;
            self.append(record, is_accepted, now);
        }
        Ok(())
    }

    pub fn say(&mut self, session: SessionId, text: &str, is_accepted: bool, now: Millis) {
        let Some(record) = self.instance.say(session, text.into(), None, self.at.clone()) else { return };
        let seq = record.seq;
        if self.append(record, is_accepted, now) {
            self.unanswered.insert(seq);
        }
    }

    fn append(&mut self, record: Record, is_accepted: bool, now: Millis) -> bool {
        let copy = record.clone();
        let is_accepted = is_accepted && self.producer.append(record, now);
        if !is_accepted {
            self.instance.on_undelivered(&copy);
        }
        is_accepted
    }

    /// The work of the log thread besides reading. `refuses` decides for each record whether the queue is full.
    pub fn tick(&mut self, now: Millis, mut refuses: impl FnMut() -> bool) -> Result<(), Violation> {
        for record in std::mem::take(&mut self.producer.undelivered) {
            self.unanswered.remove(&record.seq);
            self.instance.on_undelivered(&record);
        }
        if self.span_end.is_some() {
            return Ok(());
        }
        let now_time = Duration::from_millis(now);
        let is_due = self.instance.next_tick(now_time).is_zero();
        let records = self.instance.tick(&self.lobby, &self.at, now_time);
        ensure(!is_due || !records.is_empty(), "a tick that is due appends a record", || {
            format!("{:?}", self.instance)
        })?;
        self.appending_ticks += usize::from(!records.is_empty());
        for record in records {
            self.check_stopping(&record)?;
            self.append(record, !refuses(), now);
        }
        ensure(!self.instance.next_tick(now_time).is_zero(), "no two ticks are due at the same time", || {
            format!("{:?}", self.instance)
        })
    }

    pub fn stop(&mut self) {
        self.instance.stop();
        self.is_stopping = true;
    }

    /// A stopping instance changes no sessions: its lease expires, or the last `bye` removes them.
    fn check_stopping(&self, record: &Record) -> Result<(), Violation> {
        let changes_sessions = matches!(record.body, Body::Joined { .. } | Body::Left { .. } | Body::Roster { .. });
        ensure(!(self.is_stopping && changes_sessions), "a stopping instance changes no sessions", || {
            format!("{record:?}")
        })
    }

    /// Reads some or all of the new records.
    pub fn read(
        &mut self,
        log: &VirtualLog,
        oracle: &Oracle,
        now: Millis,
        rng: &mut Rng,
    ) -> Result<ReadResult, Violation> {
        if self.position < log.first {
            return Ok(ReadResult::Truncated);
        }
        let available = oracle.position() - self.position;
        let end = self.position + if rng.one_in(3) { rng.index(available + 1) } else { available };
        while self.position < end {
            let Some(record) = log.read(self.position) else { return Ok(ReadResult::Truncated) };
            let was_exact = self.is_exact;
            self.apply(record, oracle, now)?;
            self.position += 1;
            self.end_span(log);
            // Equal states stay equal while the same records are applied: after the first check, some checks are enough.
            if self.is_exact && (!was_exact || rng.one_in(8)) {
                self.check_equal(oracle)?;
            }
        }
        Ok(ReadResult::Done)
    }

    fn check_equal(&self, oracle: &Oracle) -> Result<(), Violation> {
        let (id, lobby, expected) = (self.instance.id(), &self.lobby, oracle.state(self.position - 1));
        ensure(lobby == expected, "exact replicas have the same state", || {
            format!("{id} at offset {}: {lobby:?}\nis not {expected:?}", self.position - 1)
        })
    }

    fn apply(&mut self, record: &Record, oracle: &Oracle, now: Millis) -> Result<(), Violation> {
        let offset = self.position;
        let is_own = record.from == self.instance.id();
        let before: BTreeSet<User> =
            if is_own { self.lobby.users_online().cloned().collect() } else { BTreeSet::new() };
        let mut events = Vec::new();
        self.lobby.apply(record, &mut events);
        // The events of the record that makes the state exact start from an inexact state, so they may differ.
        if self.is_exact {
            oracle.check_events(offset, &events)?;
        }
        self.bootstrap.on_record(record);
        if self.span_end.is_none() && !self.is_exact {
            self.is_exact = self.bootstrap.is_exact(&self.lobby);
        }
        if is_own {
            self.on_own_record(record, now);
            for (session, client) in self.clients.iter_mut().filter(|(_, client)| !client.is_admitted()) {
                if self.lobby.user_of(record.from, *session).is_some() {
                    client.admit(offset, before.clone());
                }
            }
        }
        self.clients
            .values_mut()
            .filter(|client| client.is_admitted())
            .try_for_each(|client| client.on_events(offset, &events, oracle))
    }

    fn on_own_record(&mut self, record: &Record, now: Millis) {
        if let Body::Said { .. } = record.body {
            // The lobby may have ignored the message. The server then answers with an error.
            self.unanswered.remove(&record.seq);
        }
        self.instance.on_own_record(record, &self.lobby, Duration::from_millis(now));
    }

    /// Checks the rules for a process without a fault since `undisturbed_since`.
    pub fn check_undisturbed(&self, undisturbed_since: Millis, now: Millis) -> Result<(), Violation> {
        if undisturbed_since + RECOVERY > now {
            return Ok(());
        }
        let (id, health) = (self.instance.id(), self.instance.health(Duration::from_millis(now)));
        ensure(health == Health::Ready, "an instance recovers soon", || format!("{id} is {health:?}"))?;
        for (session, client) in self.clients.iter().filter(|(_, client)| client.opened_at + RECOVERY < now) {
            ensure(client.is_admitted(), "every session is admitted soon", || format!("{session:?} of {id}"))?;
        }
        Ok(())
    }

    /// Checks the rules for a process long after the last fault.
    pub fn check_final_state(&self, oracle: &Oracle) -> Result<(), Violation> {
        let id = self.instance.id();
        ensure(self.is_exact, "every replica is exact in the end", || format!("{id}: {:?}", self.lobby))?;
        ensure(self.unanswered.is_empty(), "no message is lost silently", || {
            format!("{id} got no answer to the messages {:?}", self.unanswered)
        })?;
        self.clients.values().try_for_each(|client| client.check_received(self.position, oracle))?;
        let is_known = self.lobby.sessions_of(id).eq(self.clients.keys().copied());
        ensure(is_known, "the state has the open sessions", || format!("{id}: {:?}", self.lobby))
    }
}
