//! Runs the parts of a load test (joins, idle, chat, logins, join burst) on one target and measures each part.

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

/// Most joins in flight at once outside a join burst.
const GRADUAL_OUTSTANDING: usize = 16;
/// Presence has settled when no client received a presence event for this long.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
const SETTLE_DEADLINE: Duration = Duration::from_secs(120);
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// As [`SETTLE_DEADLINE`], when the target could not handle the load before.
const OVERLOADED_DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1500);
/// Connections dropped before the chatting clients are served.
const DROPS_PER_POLL: usize = 64;
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// With `--trickle`: the time between leaving and rejoining.
const OFFLINE_TIME: Duration = Duration::from_millis(500);

/// The state of a load test on one target.
pub struct Scenario<'a> {
    options: &'a Options,
    target: Target,
    engine: Engine,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
    before: Usage,
    kernel_before_kib: f64,
    phases: Vec<Phase>,
    failures: Vec<String>,
    remarks: Vec<String>,
    /// The target could not handle the load. The remaining parts are skipped.
    overloaded: bool,
}

impl<'a> Scenario<'a> {
    /// Prepares the clients for `target`. No client joins yet.
    pub fn new(options: &'a Options, target: Target, interrupted: Arc<AtomicBool>) -> Result<Self, String> {
        let mut run_id = *b"0000";
        run_id.copy_from_slice(random_hex(2)?.as_bytes());
        let reader = Reader::new(run_id);
        let tokens = (0..options.total_clients()).map(|client| target.token(client, &reader.name(client)));
        let engine = Engine::new(Load {
            readers: options.clients,
            slow: options.slow,
            senders: options.senders,
            bytes: options.bytes,
            addresses: target.addresses.clone(),
            tokens: tokens.collect(),
            run_id,
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
            failures: Vec::new(),
            remarks: Vec::new(),
            overloaded: false,
        })
    }

    /// Runs all parts that the options request.
    pub fn run(mut self) -> Result<Run, String> {
        let options = self.options;
        if let Some(ready_after) = self.target.ready_after {
            let mut phase = Phase::new("start");
            phase.note("ready_seconds", "from start to ready s", 2, ready_after.as_secs_f64());
            self.phases.push(phase);
        }
        if options.storm {
            self.join(
                "first joins",
                (0..options.senders).chain(options.clients..options.total_clients()).collect(),
                false,
            )?;
            self.join("storm", (options.senders..options.clients).collect(), true)?;
        } else {
            self.join("joins", (0..options.total_clients()).collect(), false)?;
        }
        self.memory()?;
        if options.idle > 0.0 && !self.overloaded {
            self.idle()?;
        }
        if options.seconds > 0.0 && options.rate > 0.0 && !self.overloaded {
            self.chat()?;
        }
        if options.logins > 0 && self.target.name == "ich" && !self.overloaded {
            self.logins()?;
        }
        if options.drop_and_return && !self.overloaded {
            self.join("drop and return", (options.senders..options.clients).collect(), true)?;
        }
        self.end()?;
        let Self { target, phases, failures, remarks, .. } = self;
        Ok(Run { name: target.name, phases, failures, remarks })
    }

    /// `clients` join or rejoin; with `storm` as fast as they can, while the senders chat.
    fn join(&mut self, name: &'static str, clients: Vec<usize>, storm: bool) -> Result<(), String> {
        let window = Window::begin(&mut self.engine, &self.target);
        let chats = storm && self.options.rate > 0.0 && self.options.senders > 0;
        self.engine.outstanding = if storm { self.options.outstanding } else { GRADUAL_OUTSTANDING };
        if chats {
            self.engine.start_chat(self.options.rate)?;
        }
        let begun_ns = now_ns();
        for chunk in clients.chunks(DROPS_PER_POLL) {
            chunk.iter().for_each(|&client| self.engine.leave(client, false));
            self.engine.poll_once(Duration::ZERO)?;
        }
        self.engine.join(clients.into_iter());
        let mut all_in_ns = None;
        let is_complete = self.completeness();
        let settled = self.run_until(name, SETTLE_DEADLINE, |engine, now| {
            if engine.joining() > 0 {
                return false;
            }
            all_in_ns.get_or_insert(now);
            now > engine.last_presence_ns + nanos(SETTLED_AFTER) && is_complete(engine)
        })?;
        let settled_ns = self.engine.last_presence_ns.saturating_sub(begun_ns);
        if chats {
            self.stop_chat(name)?;
        }
        if !settled {
            self.overloaded = true;
            self.failures.push(format!(
                "{name}: not every client had all users in its list within {} s",
                SETTLE_DEADLINE.as_secs()
            ));
        }
        let mut phase = Phase::new(name);
        let all_in = all_in_ns.map_or(f64::NAN, |ns| seconds(ns - begun_ns));
        phase.add("all_in_seconds", "all joined after s", 2, all_in);
        phase.add("quiet_seconds", "presence settled after s", 2, if settled { seconds(settled_ns) } else { f64::NAN });
        window.presence(&self.engine, &self.target, &mut phase);
        if chats {
            window.latency(&self.engine, &mut phase);
        }
        self.phases.push(phase);
        Ok(())
    }

    /// The condition for "all have joined". A target without presence events shows only `users_online`.
    fn completeness(&self) -> fn(&Engine) -> bool {
        if self.target.sends_presence {
            |engine| engine.ledger.all_lists_complete()
        } else {
            |engine| engine.ledger.all_live()
        }
    }

    /// Measures the memory per connection while all clients are idle.
    fn memory(&mut self) -> Result<(), String> {
        self.run_until("settling", PAUSE, |_, _| false)?;
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
                "resident KiB per connection",
                1,
                grown(now.rss_kib, self.before.rss_kib),
            );
            phase.add("threads_per_connection", "threads per connection", 3, grown(now.threads, self.before.threads));
            phase.add("rss_mib", "resident MiB", 1, now.rss_kib / 1024.0);
            phase.add("peak_rss_mib", "peak resident MiB so far", 1, now.peak_rss_kib / 1024.0);
        }
        let kernel_kib = (kernel_memory_kib() - self.kernel_before_kib) / connections;
        phase.add("kernel_kib_per_connection", "kernel KiB per connection (both ends)", 1, kernel_kib);
    }

    fn idle(&mut self) -> Result<(), String> {
        let window = Window::begin(&mut self.engine, &self.target);
        self.run_until("idle", Duration::from_secs_f64(self.options.idle), |_, _| false)?;
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
        self.run_until("chat", self.options.chat_length(), |engine, now| {
            trickle.step(engine, now);
            false
        })?;
        self.stop_chat("chat")?;
        let mut phase = Phase::new("chat");
        window.chat(&self.engine, &self.target, &mut phase);
        window.latency(&self.engine, &mut phase);
        if self.options.trickle > 0.0 {
            phase.note("rejoined", "left and rejoined", 0, trickle.done as f64);
            self.engine.join(trickle.away.into_iter().map(|(_, client)| client));
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
        let ended = self.run_until("logins", limit, |_, _| thread.is_finished())?;
        self.stop_chat("logins")?;
        if !ended {
            return Err(format!("{} logins did not end within {limit:?}", self.options.logins));
        }
        let outcome = thread.join().map_err(|_| "the thread of the logins panicked".to_owned())??;
        if outcome.failed > 0 {
            self.failures.push(format!("{} logins failed", outcome.failed));
        }
        let mut phase = Phase::new("logins");
        phase.note("logins_per_second", "logins per second", 1, outcome.per_second);
        phase.note("bare_hashes_per_second", "bare argon2id hashes per second", 1, bare);
        phase.note("ratio_to_bare_hashes", "ratio of logins to hashes", 2, outcome.per_second / bare);
        window.latency(&self.engine, &mut phase);
        self.phases.push(phase);
        Ok(())
    }

    /// Stops the chat and waits until every message has been received by every client.
    fn stop_chat(&mut self, part: &str) -> Result<(), String> {
        self.engine.stop_chat(false);
        let arrived =
            self.run_until("arrival", ARRIVAL_DEADLINE, |engine, _| engine.ledger.lost_and_outstanding().1 == 0)?;
        self.engine.stop_chat(arrived);
        if !arrived {
            self.overloaded = true;
            let (_, outstanding) = self.engine.ledger.lost_and_outstanding();
            let waited = ARRIVAL_DEADLINE.as_secs();
            self.failures.push(format!(
                "{part}: {outstanding} deliveries were missing {waited} s after the last message was sent"
            ));
        }
        Ok(())
    }

    /// Checks all counts, then disconnects all clients.
    fn end(&mut self) -> Result<(), String> {
        self.engine.wake_slow();
        let limit = if self.overloaded { OVERLOADED_DEADLINE } else { SETTLE_DEADLINE };
        let is_complete = self.completeness();
        let settled = self.run_until("final check", limit, |engine, now| {
            engine.joining() == 0 && now > engine.last_event_ns + nanos(SETTLED_AFTER) && is_complete(engine)
        })?;
        let counts = self.engine.ledger.counts;
        let (lost, outstanding) = self.engine.ledger.lost_and_outstanding();
        let wrong = if self.target.sends_presence { self.engine.ledger.wrong_lists() } else { 0 };
        let disconnected: u64 = self.engine.disconnects.values().sum();
        let mut phase = Phase::new("whole run");
        phase.note("messages_sent", "messages sent", 0, self.engine.ledger.sent() as f64);
        phase.note("deliveries", "deliveries", 0, counts.deliveries as f64);
        phase.note("presence_events", "joins and leaves delivered", 0, counts.presence_events as f64);
        let failures = [
            ("lost", "lost", lost + outstanding),
            ("duplicated", "duplicated", counts.duplicated),
            ("reordered", "out of order", counts.reordered),
            ("presence_errors", "wrong joins or leaves", counts.presence_errors),
            ("wrong_lists", "clients with a wrong list at the end", wrong),
            ("disconnected", "disconnected, or could not join", disconnected),
            ("not_sent", "not sent by this tool", self.engine.unsent),
        ];
        for (key, label, count) in failures {
            phase.note(key, label, 0, count as f64);
            if count > 0 {
                self.failures.push(format!("{label}: {count}"));
            }
        }
        if self.options.slow > 0 {
            phase.note(
                "slow_disconnects",
                "clients that never read, disconnected",
                0,
                self.engine.slow_disconnects.values().sum::<u64>() as f64,
            );
        }
        if !settled {
            self.failures.push("at the end not every client had all users in its list".to_owned());
        }
        let described = |reasons: &BTreeMap<String, u64>| {
            reasons.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>().join(", ")
        };
        let lines = [
            ("disconnected", &self.engine.disconnects),
            ("never read, disconnected", &self.engine.slow_disconnects),
            ("error frames", &self.engine.error_frames),
        ]
        .into_iter()
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(what, reasons)| format!("{what}: {}", described(reasons)));
        self.remarks.extend(lines);
        if counts.foreign > 0 {
            self.remarks.push(format!("{} events were about users that this run did not create", counts.foreign));
        }
        (0..self.options.total_clients()).for_each(|client| self.engine.leave(client, true));
        self.run_until("leaving", PAUSE, |_, _| false)?;
        if !self.target.pids.is_empty() {
            let left = Usage::of(&self.target.pids);
            phase.add("rss_mib_after_all_left", "resident MiB after all left", 1, left.rss_kib / 1024.0);
        }
        self.phases.push(phase);
        Ok(())
    }

    /// Runs the engine until `done` returns true (checked every 10 ms) or `limit` has passed. Returns whether it was
    /// done.
    fn run_until(
        &mut self,
        part: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Engine, u64) -> bool,
    ) -> Result<bool, String> {
        let (begun_ns, mut done_checked_ns, mut alive_checked_ns) = (now_ns(), 0, now_ns());
        loop {
            self.engine.poll_once(CHECK_INTERVAL)?;
            let now = now_ns();
            if now < done_checked_ns + nanos(CHECK_INTERVAL) {
                continue;
            }
            done_checked_ns = now;
            if done(&mut self.engine, now) {
                return Ok(true);
            }
            if now > begun_ns + nanos(limit) {
                return Ok(false);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if now > alive_checked_ns + 1_000_000_000 {
                alive_checked_ns = now;
                self.target.check_alive()?;
            }
            let (engine, name) = (&self.engine, self.target.name);
            self.progress.show(|| {
                let p99 = engine.latency.quantile(0.99) as f64 / 1e6;
                let (counts, disconnected) = (engine.ledger.counts, engine.disconnects.values().sum::<u64>());
                format!(
                    "{name}, {part}: {} joined, {} deliveries, {} joins and leaves delivered, p99 {p99:.1} ms, \
                     {disconnected} disconnected",
                    engine.open, counts.deliveries, counts.presence_events
                )
            });
        }
    }
}

/// The clients that leave and rejoin during a chat (`--trickle`).
struct Trickle {
    begun_ns: u64,
    rate: f64,
    first: usize,
    last: usize,
    /// Leaves so far.
    done: u64,
    /// The time of leaving and the client, oldest first.
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
            let client = self.first + self.done as usize % (self.last - self.first);
            self.done += 1;
            if engine.is_open(client) {
                engine.leave(client, true);
                self.away.push_back((now, client));
            }
        }
        while self.away.front().is_some_and(|(left_ns, _)| now > left_ns + nanos(OFFLINE_TIME)) {
            engine.join(self.away.pop_front().map(|(_, client)| client).into_iter());
        }
    }
}
