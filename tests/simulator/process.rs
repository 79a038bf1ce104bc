//! [`Process`]: one server process, reduced to what matters for the log: a replica, an instance, a producer and the
//! clients. It does with them what the server does, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ich::lobby::{Body, Bootstrap, Health, Instance, InstanceId, Lobby, Record, SessionId, User};

use super::client::Client;
use super::log::{Producer, VirtualLog};
use super::oracle::Oracle;
use super::rng::Rng;
use super::{Millis, Violation, ensure};

/// Small, so that widening is the rule.
const FIRST_SPAN: usize = 40;
const WIDEN_TIMES: usize = 4;
/// Two people of this simulation.
const ROSTER_BYTES_MAX: usize = 160;

/// So soon after all trouble an instance serves again.
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
    /// The offset that is read next.
    position: usize,
    span: usize,
    /// Where the span ends that is being replayed; none once that is done.
    span_end: Option<usize>,
    /// The numbers of the messages that the log took, and of which nothing was heard since.
    unanswered: BTreeSet<u64>,
    /// The wall clock, which nobody may look at.
    at: Arc<str>,
    /// How many ticks appended something.
    pub appending_ticks: usize,
}

/// What reading came to.
#[derive(PartialEq, Eq)]
pub enum Reading {
    Goes,
    /// Retention has cut what would have to be read next.
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

    pub fn open(&mut self, user: User, is_taken: bool, now: Millis) {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        if let Some(record) = self.instance.open_session(session, user.clone(), self.at.clone()) {
            self.clients.insert(session, Client::new(user, now));
            self.append(record, is_taken, now);
        }
    }

    pub fn close(&mut self, session: SessionId, is_taken: bool, now: Millis, oracle: &Oracle) -> Result<(), Violation> {
        if let Some(client) = self.clients.remove(&session) {
            client.check_heard(self.position, oracle)?;
        }
        if let Some(record) = self.instance.close_session(session, self.at.clone()) {
            self.check_stopping(&record)?;
            self.append(record, is_taken, now);
        }
        Ok(())
    }

    pub fn say(&mut self, session: SessionId, text: &str, is_taken: bool, now: Millis) {
        let Some(record) = self.instance.say(session, text.into(), None, self.at.clone()) else { return };
        let seq = record.seq;
        if self.append(record, is_taken, now) {
            self.unanswered.insert(seq);
        }
    }

    fn append(&mut self, record: Record, is_taken: bool, now: Millis) -> bool {
        let copy = record.clone();
        let is_taken = is_taken && self.producer.append(record, now);
        if !is_taken {
            self.instance.on_undelivered(&copy);
        }
        is_taken
    }

    /// The log thread's work beside reading. `refuses` decides for each record whether the queue is full.
    pub fn tick(&mut self, now: Millis, mut refuses: impl FnMut() -> bool) -> Result<(), Violation> {
        for record in std::mem::take(&mut self.producer.handed_back) {
            self.unanswered.remove(&record.seq);
            self.instance.on_undelivered(&record);
        }
        if self.span_end.is_some() {
            return Ok(());
        }
        let now_time = Duration::from_millis(now);
        let is_due = self.instance.next_tick(now_time).is_zero();
        let records = self.instance.tick(&self.lobby, &self.at, now_time);
        ensure(!is_due || !records.is_empty(), "a tick that is due appends something", || {
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

    /// A stop reports nobody as gone: that is left to the lease, or to the last `bye`.
    fn check_stopping(&self, record: &Record) -> Result<(), Violation> {
        let reports = matches!(record.body, Body::Joined { .. } | Body::Left { .. } | Body::Roster { .. });
        ensure(!(self.is_stopping && reports), "a stop reports nobody as gone", || format!("{record:?}"))
    }

    /// Reads some or all of what is there.
    pub fn read(
        &mut self,
        log: &VirtualLog,
        oracle: &Oracle,
        now: Millis,
        rng: &mut Rng,
    ) -> Result<Reading, Violation> {
        if self.position < log.first {
            return Ok(Reading::Truncated);
        }
        let available = oracle.position() - self.position;
        let end = self.position + if rng.one_in(3) { rng.index(available + 1) } else { available };
        while self.position < end {
            let Some(record) = log.read(self.position) else { return Ok(Reading::Truncated) };
            let was_exact = self.is_exact;
            self.apply(record, oracle, now)?;
            self.position += 1;
            self.end_span(log);
            // Equals stay equal while the same is applied to both: after the first look, one now and then is enough.
            if self.is_exact && (!was_exact || rng.one_in(8)) {
                self.check_equal(oracle)?;
            }
        }
        Ok(Reading::Goes)
    }

    fn check_equal(&self, oracle: &Oracle) -> Result<(), Violation> {
        let (id, lobby, expected) = (self.instance.id(), &self.lobby, oracle.state(self.position - 1));
        ensure(lobby == expected, "exact replicas are equal", || {
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
        // The record that makes the state exact leads from an inexact one, so what it changes is not what others see.
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
            // It may have come back void, without an event: the server answers with an error then.
            self.unanswered.remove(&record.seq);
        }
        self.instance.on_own_record(record, &self.lobby, Duration::from_millis(now));
    }

    /// What must hold while nothing is wrong, and nothing was wrong since `sound_since`.
    pub fn check_sound(&self, sound_since: Millis, now: Millis) -> Result<(), Violation> {
        if sound_since + RECOVERY > now {
            return Ok(());
        }
        let (id, health) = (self.instance.id(), self.instance.health(Duration::from_millis(now)));
        ensure(health == Health::Ready, "an instance recovers soon", || format!("{id} is {health:?}"))?;
        for (session, client) in self.clients.iter().filter(|(_, client)| client.opened_at + RECOVERY < now) {
            ensure(client.is_admitted(), "every session is admitted soon", || format!("{session:?} of {id}"))?;
        }
        Ok(())
    }

    /// What must hold long after the last fault.
    pub fn check_at_rest(&self, oracle: &Oracle) -> Result<(), Violation> {
        let id = self.instance.id();
        ensure(self.is_exact, "every replica is exact in the end", || format!("{id}: {:?}", self.lobby))?;
        ensure(self.unanswered.is_empty(), "nothing is silently dropped", || {
            format!("{id} waits for messages {:?}", self.unanswered)
        })?;
        self.clients.values().try_for_each(|client| client.check_heard(self.position, oracle))?;
        let is_known = self.lobby.sessions_of(id).eq(self.clients.keys().copied());
        ensure(is_known, "the log knows the sessions that are open", || format!("{id}: {:?}", self.lobby))
    }
}
