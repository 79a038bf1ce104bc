//! [`Process`]: one server process, reduced to its replica of the state, its instance, its producer and its clients. It
//! calls them as the server does, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ich::lobby::bootstrap::Spans;
use ich::lobby::{
    Action, Body, Bootstrap, Event, Health, Instance, InstanceId, Lobby, Moderation, Outcome, Record, SessionId, User,
};
use ich::moderation::{Sanction, SanctionKind, Sanctions};
use ich::session::history::{History, Request};

use super::client::{Client, Horizon, Memory, Message, frame, ids_of};
use super::log::{Producer, VirtualLog};
use super::oracle::{Oracle, Seen};
use super::rng::Rng;
use super::{HISTORY_MESSAGES, Millis, REPETITION_WINDOW, Violation, ensure};

/// The first span is small, so that most starts have to read a longer one.
const SPANS: Spans = Spans { first: 40, widen_times: 4, history_max: 640 };
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
    history: History,
    bootstrap: Bootstrap,
    is_stopping: bool,
    /// The first offset that was read.
    start: usize,
    /// The position at which it became ready. `None`: it was not ready yet.
    ready_at: Option<usize>,
    /// The offset of the next record to read.
    position: usize,
    span: u64,
    /// The end of the span that is being read. `None`: the span was read.
    span_end: Option<usize>,
    /// Each message that was appended, and neither read back nor reported undelivered, by `seq`.
    unanswered: BTreeMap<u64, (SessionId, Message)>,
    sanctions: Sanctions,
    /// A span was read since the stored sanctions were read: the database may have actions from before the span.
    pub wants_stored: bool,
    /// The position of this process when it appended each message that was not read back yet, by `seq`.
    said_at: BTreeMap<u64, usize>,
    /// The users of sessions that an administrator ended.
    pub ended: Vec<(User, Memory)>,
    /// Complete and incomplete answers to clients that asked for messages.
    returns: (usize, usize),
    /// Repeated messages that only this process published, because it did not know the first message.
    unknown_repetitions: usize,
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
    pub fn new(id: InstanceId, log: &VirtualLog, stored: &[Sanction], now: Millis) -> Self {
        let mut process = Process {
            instance: Instance::new(id, ROSTER_BYTES_MAX, Duration::from_millis(now)),
            producer: Producer::default(),
            clients: BTreeMap::new(),
            next_session: 1,
            lobby: Lobby::default(),
            history: History::new(HISTORY_MESSAGES),
            bootstrap: Bootstrap::new(0, true),
            is_stopping: false,
            start: 0,
            ready_at: None,
            position: 0,
            span: SPANS.first,
            span_end: None,
            unanswered: BTreeMap::new(),
            sanctions: Sanctions::default(),
            wants_stored: false,
            said_at: BTreeMap::new(),
            ended: Vec::new(),
            returns: (0, 0),
            unknown_repetitions: 0,
            at: "".into(),
            appending_ticks: 0,
        };
        process.load(stored);
        process.begin_span(log);
        process
    }

    fn begin_span(&mut self, log: &VirtualLog) {
        let span = usize::try_from(self.span).unwrap_or(usize::MAX);
        self.position = log.first.max(log.end().saturating_sub(span));
        self.start = self.position;
        self.lobby = Lobby::with_repetition_window(REPETITION_WINDOW as u64);
        self.history.restart(self.position == 0);
        self.bootstrap = Bootstrap::new(self.position as u64, self.position == 0);
        self.span_end = Some(log.end());
        self.end_span(log);
    }

    fn end_span(&mut self, log: &VirtualLog) {
        if self.span_end != Some(self.position) {
            return;
        }
        let is_all_there_is = (log.end() as u64).saturating_sub(self.span) <= log.first as u64;
        let (position, is_full) = (self.position as u64, self.history.is_full());
        let longer = self.bootstrap.next_span(&SPANS, self.span, &self.lobby, position, is_full);
        match longer.filter(|_| !is_all_there_is) {
            None => {
                self.span_end = None;
                self.wants_stored = true;
            }
            Some(longer) => {
                self.span = longer;
                self.begin_span(log);
            }
        }
    }

    pub fn is_ready(&self, now: Millis) -> bool {
        self.ready_at.is_some() && self.instance.health(Duration::from_millis(now)) == Health::Ready
    }

    pub fn open(&mut self, user: User, memory: Memory, request: Option<Request>, is_accepted: bool, now: Millis) {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        if let Some(record) = self.instance.open_session(session, user.clone(), self.at.clone()) {
            self.clients.insert(session, Client::new(user, memory, request, now));
            self.append(record, is_accepted, now);
        }
    }

    /// The session ends. Returns its user, who may return later.
    pub fn close(
        &mut self,
        session: SessionId,
        is_accepted: bool,
        now: Millis,
        oracle: &Oracle,
    ) -> Result<Option<(User, Memory)>, Violation> {
        let Some(client) = self.clients.remove(&session) else { return Ok(None) };
        client.check_received(self.position, oracle)?;
        if let Some(record) = self.instance.close_session(session, self.at.clone()) {
            self.check_stopping(&record)?;
            self.append(record, is_accepted, now);
        }
        Ok(Some(client.into_memory()))
    }

    pub fn say(&mut self, session: SessionId, message: Message, is_accepted: bool, now: Millis) {
        let is_muted = |user: &User| self.sanctions.active(SanctionKind::Mute, &name_key(user), 0).is_some();
        if self.instance.user_of(session).is_some_and(is_muted) {
            return;
        }
        let (text, id) = (message.text.clone(), message.id.clone());
        let Some(record) = self.instance.say(session, text, id, self.at.clone()) else { return };
        let seq = record.seq;
        self.said_at.insert(seq, self.position);
        let is_accepted = self.append(record, is_accepted, now);
        if let Some(client) = self.clients.get_mut(&session) {
            client.on_said(message.clone());
        }
        if is_accepted {
            self.unanswered.insert(seq, (session, message));
        } else {
            self.answer_unavailable(session, message);
        }
    }

    pub fn moderate(&mut self, moderation: Moderation, is_accepted: bool, now: Millis) {
        if let Some(record) = self.instance.moderate(moderation, self.at.clone()) {
            self.append(record, is_accepted, now);
        }
    }

    /// Adds the sanctions that the database has.
    pub fn load(&mut self, stored: &[Sanction]) {
        self.wants_stored = false;
        for sanction in stored {
            self.sanctions.add(sanction.clone());
        }
    }

    /// An administrator acted: ends the sessions of a kicked user, as the log thread does.
    fn on_moderated(&mut self, moderation: &Moderation, oracle: &Oracle, now: Millis) -> Result<(), Violation> {
        let mut is_new = false;
        for sanction in Sanction::of(moderation) {
            is_new |= self.sanctions.add(sanction);
        }
        if !is_new || moderation.action != Action::Kick {
            return Ok(());
        }
        let is_kicked = |client: &Client| client.user.username == moderation.username;
        let kicked: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_kicked(client)).map(|(session, _)| *session).collect();
        for session in kicked {
            let ended = self.close(session, true, now, oracle)?;
            self.ended.extend(ended);
        }
        Ok(())
    }

    fn answer_unavailable(&mut self, session: SessionId, message: Message) {
        if let Some(client) = self.clients.get_mut(&session) {
            client.on_unavailable(message);
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
            if let Some((session, message)) = self.unanswered.remove(&record.seq) {
                self.answer_unavailable(session, message);
            }
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
            let was_exact = self.is_exact();
            self.apply(record, oracle, now)?;
            self.position += 1;
            // Equal states stay equal while the same records are applied: after the first check, some checks are
            // enough.
            if self.is_exact() && (!was_exact || rng.one_in(8)) {
                self.check_equal(oracle)?;
            }
            self.end_span(log);
            if self.ready_at.is_none() && self.span_end.is_none() && self.is_exact() {
                self.ready_at = Some(self.position);
                self.check_at_start(log, oracle)?;
            }
        }
        Ok(ReadResult::Done)
    }

    fn is_exact(&self) -> bool {
        self.bootstrap.is_exact()
    }

    fn knows_repetitions(&self) -> bool {
        self.bootstrap.knows_repetitions(&self.lobby, self.position as u64)
    }

    fn check_equal(&self, oracle: &Oracle) -> Result<(), Violation> {
        let (id, lobby, expected) = (self.instance.id(), &self.lobby, oracle.state(self.position - 1));
        let is_equal = lobby == expected;
        let are_sessions_equal = || lobby.names_online().eq(expected.names_online());
        ensure(
            is_equal || (!self.knows_repetitions() && are_sessions_equal()),
            "exact replicas have the same state",
            || format!("{id} at offset {}: {lobby:?}\nis not {expected:?}", self.position - 1),
        )
    }

    /// Checks that a process knows enough when it becomes ready, as far as the log reaches back.
    fn check_at_start(&mut self, log: &VirtualLog, oracle: &Oracle) -> Result<(), Violation> {
        let (id, start) = (self.instance.id(), self.start);
        let has_read_all = start <= log.first;
        ensure(has_read_all || self.knows_repetitions(), "a process reads enough to know repeated messages", || {
            format!("{id} from offset {start}")
        })?;
        let known = ids_of(&self.history.missed(Request::Last(HISTORY_MESSAGES)));
        let published = oracle.published_before(self.position);
        let newest: Vec<_> = published.iter().rev().take(known.len()).rev().map(|(_, id)| *id).collect();
        ensure(known == newest, "the history has the newest messages", || format!("{known:?}, not {newest:?}"))?;
        let has_enough = known.len() == published.len().min(HISTORY_MESSAGES);
        let may_have_less = start > 0 && (has_read_all || self.span >= SPANS.history_max);
        ensure(has_enough || may_have_less, "the history is filled from the log", || {
            format!("{id} from offset {start}: {} of {} messages", known.len(), published.len())
        })
    }

    fn apply(&mut self, record: &Record, oracle: &Oracle, now: Millis) -> Result<(), Violation> {
        let offset = self.position;
        let is_own = record.from == self.instance.id();
        let before: BTreeSet<Arc<str>> =
            if is_own { self.lobby.names_online().cloned().collect() } else { BTreeSet::new() };
        let mut events = Vec::new();
        let mut outcome = self.lobby.apply(record, offset as u64, &mut events);
        if !self.knows_repetitions() && oracle.is_repeated(offset) && outcome == Outcome::Applied {
            // Only a process that found too short a log may not know this. The others refuse the message.
            self.unknown_repetitions += 1;
            events.clear();
            outcome = Outcome::Repeated;
        }
        // The events of the record that makes the state exact start from an inexact state, so they may differ.
        let is_exact = self.is_exact();
        if is_exact {
            oracle.check_events(offset, &events)?;
        }
        self.bootstrap.on_record(record, offset as u64, &self.lobby);
        if is_own {
            self.on_own_record(record, outcome, oracle, now)?;
            self.admit_clients(record, &before, oracle)?;
        }
        if is_exact && matches!(events[..], [Event::Said { .. }]) {
            self.history.push(record.event_id(), offset as u64, &frame(record.event_id()));
        }
        self.clients
            .values_mut()
            .filter(|client| client.is_admitted())
            .try_for_each(|client| client.on_events(offset, record.event_id(), &events, oracle))?;
        if let Body::Moderated(moderation) = &record.body {
            self.on_moderated(moderation, oracle, now)?;
        }
        Ok(())
    }

    fn admit_clients(
        &mut self,
        record: &Record,
        before: &BTreeSet<Arc<str>>,
        oracle: &Oracle,
    ) -> Result<(), Violation> {
        let horizon = Horizon(if self.start == 0 { 0 } else { self.ready_at.unwrap_or(usize::MAX) });
        for (session, client) in self.clients.iter_mut().filter(|(_, client)| !client.is_admitted()) {
            if self.lobby.user_of(record.from, *session).is_none() {
                continue;
            }
            match client.admit(self.position, before.clone(), &mut self.history, horizon, oracle)? {
                Some(true) => self.returns.0 += 1,
                Some(false) => self.returns.1 += 1,
                None => {}
            }
        }
        Ok(())
    }

    /// What the server does with a record of its own, in addition to applying it.
    fn on_own_record(
        &mut self,
        record: &Record,
        outcome: Outcome,
        oracle: &Oracle,
        now: Millis,
    ) -> Result<(), Violation> {
        self.instance.on_own_record(record, &self.lobby, Duration::from_millis(now));
        let Body::Said { session, text, id } = &record.body else { return Ok(()) };
        self.unanswered.remove(&record.seq);
        if let (Some(position), Outcome::Applied) = (self.said_at.remove(&record.seq), outcome)
            && let Some(user) = self.lobby.user_of(record.from, *session)
        {
            let is_muted = oracle.is_muted_before(position, &user.username);
            ensure(!is_muted, "an instance that has read a mute publishes no message of the user", || {
                format!("{record:?}, appended at position {position}")
            })?;
        }
        let Some(client) = self.clients.get_mut(session) else { return Ok(()) };
        match outcome {
            Outcome::Applied | Outcome::Duplicate => {}
            Outcome::UnknownSession => client.on_unavailable(Message { id: id.clone(), text: text.clone() }),
            Outcome::Repeated => {
                let is_published = id.as_ref().is_some_and(|id| oracle.has_published(&client.user, id));
                ensure(is_published, "only a published message is refused as repeated", || format!("{record:?}"))?;
                client.on_answer(id.as_ref());
            }
        }
        Ok(())
    }

    /// Adds the counts of this process.
    pub fn add_to(&self, seen: &mut Seen) {
        seen.complete_returns += self.returns.0;
        seen.incomplete_returns += self.returns.1;
        seen.unknown_repetitions += self.unknown_repetitions;
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
        ensure(self.is_exact(), "every replica is exact in the end", || format!("{id}: {:?}", self.lobby))?;
        ensure(self.unanswered.is_empty(), "no message is lost silently", || {
            format!("{id} got no answer to the messages {:?}", self.unanswered)
        })?;
        self.clients.values().try_for_each(|client| client.check_received(self.position, oracle))?;
        let is_known = self.lobby.sessions_of(id).eq(self.clients.keys().copied());
        ensure(is_known, "the state has the open sessions", || format!("{id}: {:?}", self.lobby))
    }
}

/// The names of this simulation differ in more than their case.
fn name_key(user: &User) -> String {
    user.username.to_lowercase()
}
