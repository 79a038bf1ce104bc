//! [`World`]: one run: the processes, the log, the clock, and the order of events.

use std::collections::BTreeMap;
use std::time::Duration;

use ich::lobby::{Action, Health, InstanceId, Moderation, SessionId, User};
use ich::moderation::{Sanction, SanctionKind};
use ich::session::history::Request;

use super::archive::Archive;
use super::client::{Memory, Message};
use super::faults::Faults;
use super::log::VirtualLog;
use super::oracle::{Liveness, Oracle, Seen};
use super::process::{Process, ReadResult};
use super::rng::Rng;
use super::slot::Slot;
use super::trace::Trace;
use super::{HISTORY_MESSAGES, Millis, STEP, Violation, ensure};

/// A small number, so that most users have several sessions.
const USERS: u64 = 8;
const SESSIONS_PER_PROCESS: usize = 7;
/// Users whose session has ended and who may return.
const AWAY_MAX: usize = 20;
/// The time without faults and without clients' actions before the final state is checked.
const QUIET_TIME: Millis = 30_000;
/// The longest time that a process takes to stop.
const DRAIN: Millis = 12_000;

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub log: VirtualLog,
    pub log_down_until: Millis,
    pub slots: Vec<Slot>,
    pub oracle: Oracle,
    archive: Archive,
    pub trace: Trace,
    next_instance: u64,
    activity: Activity,
    are_clients_active: bool,
    away: Vec<(User, Memory)>,
    /// The bans and mutes that the database has, and those before them.
    stored: Vec<Sanction>,
}

/// How often clients act.
struct Activity {
    /// At each process, a client joins on average once in this many steps. In some runs the lobby is mostly empty.
    join_one_in: u64,
    next_message: u64,
    next_action: u64,
}

impl World {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let slots = (0..rng.between(2, 5)).map(|_| Slot::default()).collect();
        let join_one_in = if rng.one_in(4) { 400 } else { 8 };
        World {
            rng,
            now: 1_000,
            log: VirtualLog::default(),
            log_down_until: 0,
            slots,
            oracle: Oracle::default(),
            archive: Archive::new(seed),
            trace,
            next_instance: 0,
            activity: Activity { join_one_in, next_message: 0, next_action: 0 },
            are_clients_active: true,
            away: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// The whole run: a time with faults, a time without, and in half of the runs a stop of all processes.
    pub fn run(&mut self) -> Result<(), Violation> {
        let faults = Faults::random(&mut self.rng);
        let faults_end_at = self.now + self.rng.between(20_000, 90_000);
        while self.now < faults_end_at {
            faults.inject(self);
            self.step()?;
        }
        self.end_faults();
        // The stopping processes exit, and another one starts.
        self.step_for(DRAIN)?;
        if let Some(empty) = self.slots.iter().position(|slot| slot.process.is_none()) {
            self.start(empty);
        }
        self.step_for(DRAIN)?;
        self.are_clients_active = false;
        self.step_for(QUIET_TIME)?;
        self.check_final_state()?;
        if self.rng.one_in(3) {
            self.leave_one_alone()?;
        }
        if self.rng.one_in(2) {
            self.stop_all()?;
        }
        Ok(())
    }

    pub fn step_for(&mut self, duration: Millis) -> Result<(), Violation> {
        let end = self.now + duration;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    /// One step. Records are appended, then delivered, then read. The order of the processes is random.
    fn step(&mut self) -> Result<(), Violation> {
        self.now += STEP;
        let is_log_down = self.log_down_until > self.now;
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        self.rng.shuffle(&mut order);
        for index in &order {
            self.slots[*index].observe(is_log_down, self.now);
            self.act(*index)?;
        }
        for index in &order {
            self.deliver(*index, is_log_down);
        }
        let liveness = self.liveness();
        self.oracle.read(&self.log, &liveness, self.now, &mut self.trace)?;
        for index in &order {
            self.read(*index, is_log_down)?;
        }
        self.archive.step(&self.log, is_log_down, &self.oracle, self.now, &mut self.trace)
    }

    /// Runs the clients, the session threads and the log thread of one process.
    fn act(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let slot = &mut self.slots[index];
        let (is_paused, refuses, is_stopping) = (slot.is_paused(now), slot.refuses(now), slot.is_stopping());
        let Some(process) = slot.process.as_mut().filter(|_| !is_paused) else { return Ok(()) };
        if !is_stopping {
            process.check_undisturbed(slot.undisturbed_since, now)?;
        }
        let rng = &mut self.rng;
        let sessions: Vec<_> = process.clients.keys().copied().collect();
        let mut refuse = || refuses && rng.one_in(2);

        let health = process.instance.health(Duration::from_millis(now));
        if health == Health::Down {
            ensure(
                slot.disconnected_for > 25_000,
                "an instance is down only after a long time without the log",
                || format!("{} was disconnected for {} ms", process.instance.id(), slot.disconnected_for),
            )?;
            for session in &sessions {
                self.away.extend(process.close(*session, !refuse(), now, &self.oracle)?);
            }
        }
        process.tick(now, &mut refuse)?;
        if is_stopping {
            for session in sessions.iter().filter(|_| rng.one_in(4)) {
                self.away.extend(process.close(*session, true, now, &self.oracle)?);
            }
        } else if self.are_clients_active && process.is_ready(now) {
            self.act_clients(index, &sessions)?;
        }
        self.away.truncate(AWAY_MAX);
        Ok(())
    }

    /// The actions of the users of one process in one step: join, send messages, leave.
    fn act_clients(&mut self, index: usize, sessions: &[SessionId]) -> Result<(), Violation> {
        let (now, rng, slot) = (self.now, &mut self.rng, &mut self.slots[index]);
        let refuses = slot.refuses(now);
        let Some(process) = slot.process.as_mut() else { return Ok(()) };
        if process.clients.len() < SESSIONS_PER_PROCESS && rng.one_in(self.activity.join_one_in) {
            let is_accepted = !(refuses && rng.one_in(2));
            if !self.away.is_empty() && rng.one_in(2) {
                let (user, memory) = self.away.swap_remove(rng.index(self.away.len()));
                let request = memory.last_id().map(|id| Request::After(Some(id)));
                process.open(user, memory, request, is_accepted, now);
            } else {
                let last = 1 + rng.index(HISTORY_MESSAGES + 4);
                let request = rng.one_in(3).then_some(Request::Last(last));
                process.open(user(rng.below(USERS)), Memory::default(), request, is_accepted, now);
            }
        }
        if rng.one_in(200) {
            self.activity.next_action += 1;
            let moderation = new_action(self.activity.next_action, rng);
            // A kick is over at once, so the database never has one.
            self.stored.extend(Sanction::of(&moderation).into_iter().filter(|it| it.kind != SanctionKind::Kick));
            self.oracle.on_action(&moderation);
            process.moderate(moderation, !refuses, now);
        }
        for session in sessions {
            let is_accepted = !(refuses && rng.one_in(2));
            let Some(client) = process.clients.get_mut(session) else { continue };
            if client.is_admitted() && rng.one_in(60) {
                self.activity.next_message += 1;
                process.say(*session, new_message(self.activity.next_message, rng), is_accepted, now);
            } else if client.is_admitted() && rng.one_in(20) && !client.memory.unclear.is_empty() {
                let message = client.memory.unclear.remove(0);
                process.say(*session, message, is_accepted, now);
            } else if rng.one_in(100)
                && let Some(message) = client.last_said.clone().filter(|said| said.id.is_some())
            {
                process.say(*session, message, is_accepted, now);
            } else if rng.one_in(80) {
                let left = process.close(*session, is_accepted, now, &self.oracle)?;
                self.away.extend(left.map(|(user, mut memory)| {
                    memory.lose_last(rng.index(3));
                    (user, memory)
                }));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, index: usize, is_log_down: bool) {
        let slot = &mut self.slots[index];
        let (is_paused, reaches_log) = (slot.is_paused(self.now), slot.can_append(self.now) && !is_log_down);
        let Some(process) = slot.process.as_mut().filter(|_| !is_paused) else { return };
        process.producer.time_out(&mut self.log, self.now, !is_log_down, &mut self.rng);
        if reaches_log {
            process.producer.deliver(&mut self.log, self.now, &mut self.rng);
        }
    }

    fn read(&mut self, index: usize, is_log_down: bool) -> Result<(), Violation> {
        let now = self.now;
        let slot = &mut self.slots[index];
        let can_read = slot.can_read(now) && !is_log_down && !slot.is_paused(now);
        let Some(process) = slot.process.as_mut().filter(|_| can_read) else { return Ok(()) };
        if process.read(&self.log, &self.oracle, now, &mut self.rng)? == ReadResult::Truncated {
            self.crash(index);
            self.start(index);
            return Ok(());
        }
        if process.wants_stored {
            process.load(&self.stored);
        }
        self.away.append(&mut process.ended);
        self.away.truncate(AWAY_MAX);
        let is_stopped = process.instance.is_stopped();
        if is_stopped || self.slots[index].exits_at.is_some_and(|deadline| deadline < now) {
            self.trace.note(now, || format!("slot {index}: exits, stopped: {is_stopped}"));
            self.crash(index);
        }
        Ok(())
    }

    fn liveness(&self) -> BTreeMap<InstanceId, Liveness> {
        let running = self.slots.iter().filter(|slot| !slot.is_stopping());
        running
            .filter_map(|slot| {
                let id = slot.process.as_ref()?.instance.id();
                Some((id, Liveness { undisturbed_since: slot.undisturbed_since }))
            })
            .collect()
    }

    /// Starts a new incarnation. The ids are not in the order of time.
    pub fn start(&mut self, index: usize) {
        self.next_instance += 1;
        let id = InstanceId((self.rng.below(1 << 20) << 20) + self.next_instance);
        self.trace.note(self.now, || format!("slot {index}: {id} starts"));
        let process = Process::new(id, &self.log, &self.stored, self.now);
        self.slots[index].start(process, self.now);
    }

    pub fn crash(&mut self, index: usize) {
        let is_log_down = self.log_down_until > self.now;
        let slot = std::mem::take(&mut self.slots[index]);
        let reaches_log = slot.can_append(self.now) && !is_log_down;
        if let Some(process) = slot.process {
            let id = process.instance.id();
            self.trace.note(self.now, || format!("slot {index}: {id} ends"));
            self.oracle.on_crash(id, self.now);
            process.add_to(&mut self.oracle.seen);
            for (_, client) in process.clients {
                let (user, mut memory) = client.into_memory();
                memory.lose_last(self.rng.index(4));
                self.away.push((user, memory));
            }
            self.away.truncate(AWAY_MAX);
            process.producer.crash(&mut self.log, reaches_log, &mut self.rng);
        }
    }

    /// The counts of hard cases in this run.
    pub fn seen(&self) -> Seen {
        let mut seen = self.oracle.seen;
        seen.archive = self.archive.seen;
        self.slots.iter().filter_map(|slot| slot.process.as_ref()).for_each(|process| process.add_to(&mut seen));
        seen
    }

    pub fn stop(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let Some(process) = &mut slot.process {
            self.trace.note(self.now, || format!("slot {index}: {} stops", process.instance.id()));
            process.stop();
            slot.exits_at = Some(self.now + DRAIN);
        }
    }

    fn end_faults(&mut self) {
        self.trace.note(self.now, || "all faults end".into());
        self.log_down_until = 0;
        self.slots.iter_mut().for_each(Slot::end_faults);
        self.archive.end_faults();
    }

    pub fn check_final_state(&mut self) -> Result<(), Violation> {
        let processes = || self.slots.iter().filter_map(|slot| slot.process.as_ref());
        processes().try_for_each(|process| process.check_final_state(&self.oracle))?;
        self.oracle.check_kicks()?;
        self.archive.check_final_state(&self.oracle)?;
        let connected =
            processes().flat_map(|process| process.clients.values().map(|client| client.user.username.clone()));
        let (connected, online) = (connected.collect(), self.oracle.online_now());
        ensure(online == connected, "a user without a session is not in the list", || {
            format!("online {online:?}, connected {connected:?}")
        })
    }

    /// Stops all processes. Afterwards the list is empty.
    fn stop_all(&mut self) -> Result<(), Violation> {
        for index in 0..self.slots.len() {
            self.stop(index);
            let pause = self.rng.below(1_500);
            self.step_for(pause)?;
        }
        self.step_for(DRAIN)?;
        let online = self.oracle.online_now();
        ensure(online.is_empty(), "the last bye removes all users", || format!("online {online:?}"))
    }
}

/// Most messages have an id. Two accounts may use the same one.
fn new_message(number: u64, rng: &mut Rng) -> Message {
    let id = (!rng.one_in(4)).then(|| format!("id {}", number / 2).into());
    Message { id, text: format!("message {number}").into() }
}

/// An administrator kicks or mutes a user, or ends a mute. Each action is later than those before it.
fn new_action(number: u64, rng: &mut Rng) -> Moderation {
    let action = [Action::Kick, Action::Mute, Action::Unban, Action::Unban][rng.index(4)];
    let username = user(rng.below(USERS)).username;
    Moderation { action, username, by: "".into(), reason: "".into(), at_ms: number, until_ms: None }
}

/// Two accounts have the same name.
pub fn user(number: u64) -> User {
    User { id: number.to_string().into(), username: format!("User {}", number.max(1)).into() }
}
