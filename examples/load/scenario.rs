//! What happens to one target, part by part, and what is measured in each part.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{nanos, now_ns, seconds};
use crate::engine::{Engine, Load};
use crate::events::Reader;
use crate::figures::{Phase, Run};
use crate::logins;
use crate::options::Options;
use crate::process::{Usage, kernel_memory_kib};
use crate::progress::Progress;
use crate::target::{Target, random_hex};
use crate::window::Window;

/// Joins under way at once when it is not a storm: people arrive without jostling.
const GENTLE_OUTSTANDING: usize = 16;
/// Presence is quiet when this long nobody was told anything.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_DEADLINE: Duration = Duration::from_secs(120);
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// How long the last look may take when the target could not cope before.
const GIVEN_UP_DEADLINE: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_millis(1500);
/// Connections dropped before those who chat have their turn.
const DROPS_A_TURN: usize = 64;
const LOOK: Duration = Duration::from_millis(10);
/// How long somebody who left stays away, in a trickle.
const AWAY: Duration = Duration::from_millis(500);

/// One target going through the scenario.
pub struct Scenario<'a> {
    options: &'a Options,
    target: Target,
    engine: Engine,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
    before: Usage,
    kernel_before_kib: f64,
    phases: Vec<Phase>,
    faults: Vec<String>,
    remarks: Vec<String>,
    /// The target could not cope: what would follow says nothing and takes for ever.
    given_up: bool,
}

impl<'a> Scenario<'a> {
    /// Gets everything ready for `target`; nobody has joined yet.
    pub fn new(options: &'a Options, target: Target, interrupted: Arc<AtomicBool>) -> Result<Self, String> {
        let mut run = *b"0000";
        run.copy_from_slice(random_hex(2)?.as_bytes());
        let reader = Reader::new(run);
        let tokens = (0..options.people()).map(|person| target.token(person, &reader.name(person)));
        let engine = Engine::new(Load {
            readers: options.clients,
            slow: options.slow,
            senders: options.senders,
            bytes: options.bytes,
            addresses: target.addresses.clone(),
            tokens: tokens.collect::<Result<_, _>>()?,
            run,
        })?;
        Ok(Self {
            before: Usage::of(&target.pids),
            kernel_before_kib: kernel_memory_kib(),
            options,
            target,
            engine,
            progress: Progress::new(),
            interrupted,
            phases: Vec::new(),
            faults: Vec::new(),
            remarks: Vec::new(),
            given_up: false,
        })
    }

    /// Goes through all that the options ask for.
    pub fn run(mut self) -> Result<Run, String> {
        let options = self.options;
        if let Some(ready_after) = self.target.ready_after {
            let mut phase = Phase::new("start");
            phase.note("ready_seconds", "from start to ready s", 2, ready_after.as_secs_f64());
            self.phases.push(phase);
        }
        if options.storm {
            self.join("first joins", (0..options.senders).chain(options.clients..options.people()).collect(), false)?;
            self.join("storm", (options.senders..options.clients).collect(), true)?;
        } else {
            self.join("joins", (0..options.people()).collect(), false)?;
        }
        self.memory()?;
        if options.idle > 0.0 && !self.given_up {
            self.idle()?;
        }
        if options.seconds > 0.0 && options.rate > 0.0 && !self.given_up {
            self.chat()?;
        }
        if options.logins > 0 && self.target.name == "ich" && !self.given_up {
            self.logins()?;
        }
        if options.drop_and_return && !self.given_up {
            self.join("drop and return", (options.senders..options.clients).collect(), true)?;
        }
        self.end()?;
        let Self { target, phases, faults, remarks, .. } = self;
        Ok(Run { name: target.name, phases, faults, remarks })
    }

    /// `people` join, or come back; with `storm` as fast as they can, while those who are there chat.
    fn join(&mut self, name: &'static str, people: Vec<usize>, storm: bool) -> Result<(), String> {
        let window = Window::begin(&mut self.engine, &self.target);
        let chats = storm && self.options.rate > 0.0 && self.options.senders > 0;
        self.engine.outstanding = if storm { self.options.outstanding } else { GENTLE_OUTSTANDING };
        if chats {
            self.engine.start_chat(self.options.rate)?;
        }
        let begun_ns = now_ns();
        for some in people.chunks(DROPS_A_TURN) {
            some.iter().for_each(|&person| self.engine.leave(person, false));
            self.engine.turn(Duration::ZERO)?;
        }
        self.engine.join(people.into_iter());
        let mut all_in_ns = None;
        let is_complete = self.completeness();
        let quiet = self.until(name, QUIET_DEADLINE, |engine, now| {
            if engine.joining() > 0 {
                return false;
            }
            all_in_ns.get_or_insert(now);
            now > engine.last_presence_ns + nanos(QUIET) && is_complete(engine)
        })?;
        let quiet_ns = self.engine.last_presence_ns.saturating_sub(begun_ns);
        if chats {
            self.stop_chat(name)?;
        }
        if !quiet {
            self.given_up = true;
            self.faults.push(format!("{name}: not everyone had everyone within {} s", QUIET_DEADLINE.as_secs()));
        }
        let mut phase = Phase::new(name);
        let all_in = all_in_ns.map_or(f64::NAN, |ns| seconds(ns - begun_ns));
        phase.add("all_in_seconds", "all upgraded after s", 2, all_in);
        phase.add("quiet_seconds", "quiet after s", 2, if quiet { seconds(quiet_ns) } else { f64::NAN });
        window.presence(&self.engine, &self.target, &mut phase);
        if chats {
            window.latency(&self.engine, &mut phase);
        }
        self.phases.push(phase);
        Ok(())
    }

    /// What tells that everybody has come, as far as the target lets one know.
    fn completeness(&self) -> fn(&Engine) -> bool {
        if self.target.tells_presence {
            |engine| engine.ledger.everyone_has_everyone()
        } else {
            |engine| engine.ledger.everyone_is_live()
        }
    }

    /// What a connection takes when nothing happens any more.
    fn memory(&mut self) -> Result<(), String> {
        self.until("settling", SETTLE, |_, _| false)?;
        let mut phase = Phase::new("memory");
        self.per_connection(&mut phase);
        self.phases.push(phase);
        Ok(())
    }

    fn per_connection(&self, phase: &mut Phase) {
        let connections = self.engine.open.max(1) as f64;
        if !self.target.pids.is_empty() {
            let now = Usage::of(&self.target.pids);
            let grown = |now: f64, before: f64| (now - before) / connections;
            phase.add(
                "rss_kib_per_connection",
                "resident KiB a connection",
                1,
                grown(now.rss_kib, self.before.rss_kib),
            );
            phase.add("threads_per_connection", "threads a connection", 3, grown(now.threads, self.before.threads));
            phase.add("rss_mib", "resident MiB", 1, now.rss_kib / 1024.0);
            phase.add("peak_rss_mib", "resident MiB at most so far", 1, now.peak_rss_kib / 1024.0);
        }
        let kernel_kib = (kernel_memory_kib() - self.kernel_before_kib) / connections;
        phase.add("kernel_kib_per_connection", "kernel KiB a connection (with the client's end)", 1, kernel_kib);
    }

    fn idle(&mut self) -> Result<(), String> {
        let window = Window::begin(&mut self.engine, &self.target);
        self.until("idle", Duration::from_secs_f64(self.options.idle), |_, _| false)?;
        let mut phase = Phase::new("idle");
        window.idle(&self.target, &mut phase);
        self.per_connection(&mut phase);
        self.phases.push(phase);
        Ok(())
    }

    fn chat(&mut self) -> Result<(), String> {
        let window = Window::begin(&mut self.engine, &self.target);
        self.engine.outstanding = self.options.outstanding;
        self.engine.start_chat(self.options.rate)?;
        let mut trickle = Trickle::new(self.options);
        self.until("chat", self.options.chat(), |engine, now| {
            trickle.step(engine, now);
            false
        })?;
        self.stop_chat("chat")?;
        let mut phase = Phase::new("chat");
        window.chat(&self.engine, &self.target, &mut phase);
        window.latency(&self.engine, &mut phase);
        if self.options.trickle > 0.0 {
            phase.note("left_and_came_back", "left and came back", 0, trickle.done as f64);
            self.engine.join(trickle.away.into_iter().map(|(_, person)| person));
        }
        self.per_connection(&mut phase);
        self.phases.push(phase);
        Ok(())
    }

    fn logins(&mut self) -> Result<(), String> {
        let bare = logins::bare_hashes(self.options.logins)?;
        let window = Window::begin(&mut self.engine, &self.target);
        if self.options.senders > 0 && self.options.rate > 0.0 {
            self.engine.start_chat(self.options.rate)?;
        }
        let thread = logins::start(self.target.addresses.clone(), self.options.logins)?;
        let limit = Duration::from_secs(60 + self.options.logins as u64);
        let ended = self.until("logins", limit, |_, _| thread.is_finished())?;
        self.stop_chat("logins")?;
        if !ended {
            return Err(format!("{} logins did not end within {limit:?}", self.options.logins));
        }
        let outcome = thread.join().map_err(|_| "the logins failed".to_owned())??;
        if outcome.failed > 0 {
            self.faults.push(format!("{} logins failed", outcome.failed));
        }
        let mut phase = Phase::new("logins");
        phase.note("logins_per_second", "logins a second", 1, outcome.a_second);
        phase.note("bare_hashes_per_second", "bare argon2id hashes a second", 1, bare);
        phase.note("share_of_bare", "share of that", 2, outcome.a_second / bare);
        window.latency(&self.engine, &mut phase);
        self.phases.push(phase);
        Ok(())
    }

    /// No more messages; waits until all that were sent have come.
    fn stop_chat(&mut self, part: &str) -> Result<(), String> {
        self.engine.stop_chat(false);
        let arrived =
            self.until("arrival", ARRIVAL_DEADLINE, |engine, _| engine.ledger.lost_and_outstanding().1 == 0)?;
        self.engine.stop_chat(arrived);
        if !arrived {
            self.given_up = true;
            let (_, outstanding) = self.engine.ledger.lost_and_outstanding();
            let waited = ARRIVAL_DEADLINE.as_secs();
            self.faults
                .push(format!("{part}: {outstanding} deliveries had not come {waited} s after the last was sent"));
        }
        Ok(())
    }

    /// Looks whether all is as it should be, and lets everybody go.
    fn end(&mut self) -> Result<(), String> {
        self.engine.wake_slow();
        let limit = if self.given_up { GIVEN_UP_DEADLINE } else { QUIET_DEADLINE };
        let is_complete = self.completeness();
        let quiet = self.until("last look", limit, |engine, now| {
            engine.joining() == 0 && now > engine.last_event_ns + nanos(QUIET) && is_complete(engine)
        })?;
        let counts = self.engine.ledger.counts;
        let (lost, outstanding) = self.engine.ledger.lost_and_outstanding();
        let wrong = if self.target.tells_presence { self.engine.ledger.wrong_lists() } else { 0 };
        let cut: u64 = self.engine.cut.values().sum();
        let mut phase = Phase::new("the whole run");
        phase.note("messages_sent", "messages sent", 0, self.engine.ledger.sent() as f64);
        phase.note("deliveries", "deliveries", 0, counts.deliveries as f64);
        phase.note("presence_events", "joins and leaves delivered", 0, counts.presence_events as f64);
        let faults = [
            ("lost", "lost", lost + outstanding),
            ("doubled", "doubled", counts.doubled),
            ("reordered", "out of order", counts.reordered),
            ("presence_faults", "wrong joins and leaves", counts.presence_faults),
            ("wrong_lists", "people with a wrong list at the end", wrong),
            ("cut", "cut, or not let in", cut),
            ("not_sent", "not sent by this tool", self.engine.unsent),
        ];
        for (key, label, count) in faults {
            phase.note(key, label, 0, count as f64);
            if count > 0 {
                self.faults.push(format!("{label}: {count}"));
            }
        }
        if self.options.slow > 0 {
            phase.note(
                "slow_cut",
                "of those who never read, cut",
                0,
                self.engine.slow_cut.values().sum::<u64>() as f64,
            );
        }
        if !quiet {
            self.faults.push("at the end not everyone had everyone".to_owned());
        }
        let described = |book: &BTreeMap<String, u64>| {
            book.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>().join(", ")
        };
        let books =
            [("cut", &self.engine.cut), ("cut, never read", &self.engine.slow_cut), ("refused", &self.engine.refusals)];
        let lines = books
            .iter()
            .filter(|(_, book)| !book.is_empty())
            .map(|(what, book)| format!("{what}: {}", described(book)));
        self.remarks.extend(lines);
        if counts.foreign > 0 {
            self.remarks.push(format!("{} events were about people who are not of this run", counts.foreign));
        }
        (0..self.options.people()).for_each(|person| self.engine.leave(person, true));
        self.until("leaving", SETTLE, |_, _| false)?;
        if !self.target.pids.is_empty() {
            let left = Usage::of(&self.target.pids);
            phase.add("rss_mib_after_all_left", "resident MiB after all left", 1, left.rss_kib / 1024.0);
        }
        self.phases.push(phase);
        Ok(())
    }

    /// Lets the engine run until `done`, which is asked every few milliseconds, or for `limit`. Whether it was done.
    fn until(
        &mut self,
        part: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Engine, u64) -> bool,
    ) -> Result<bool, String> {
        let (begun_ns, mut looked_ns, mut checked_ns) = (now_ns(), 0, now_ns());
        loop {
            self.engine.turn(LOOK)?;
            let now = now_ns();
            if now < looked_ns + nanos(LOOK) {
                continue;
            }
            looked_ns = now;
            if done(&mut self.engine, now) {
                return Ok(true);
            }
            if now > begun_ns + nanos(limit) {
                return Ok(false);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if now > checked_ns + 1_000_000_000 {
                checked_ns = now;
                self.target.check_alive()?;
            }
            let (engine, name) = (&self.engine, self.target.name);
            self.progress.show(|| {
                let p99 = engine.latency.quantile(0.99) as f64 / 1e6;
                let (counts, cut) = (engine.ledger.counts, engine.cut.values().sum::<u64>());
                format!(
                    "{name}, {part}: {} in, {} deliveries, {} joins and leaves delivered, p99 {p99:.1} ms, {cut} cut",
                    engine.open, counts.deliveries, counts.presence_events
                )
            });
        }
    }
}

/// People who leave and come back while others chat.
struct Trickle {
    begun_ns: u64,
    rate: f64,
    first: usize,
    last: usize,
    done: u64,
    away: VecDeque<(u64, usize)>,
}

impl Trickle {
    fn new(options: &Options) -> Self {
        let (first, last) = (options.senders, options.clients);
        Self { begun_ns: now_ns(), rate: options.trickle, first, last, done: 0, away: VecDeque::new() }
    }

    fn step(&mut self, engine: &mut Engine, now: u64) {
        let due = (seconds(now - self.begun_ns) * self.rate) as u64;
        while self.done < due {
            let person = self.first + self.done as usize % (self.last - self.first);
            self.done += 1;
            if engine.is_open(person) {
                engine.leave(person, true);
                self.away.push_back((now, person));
            }
        }
        while self.away.front().is_some_and(|(left_ns, _)| now > left_ns + nanos(AWAY)) {
            engine.join(self.away.pop_front().map(|(_, person)| person).into_iter());
        }
    }
}
