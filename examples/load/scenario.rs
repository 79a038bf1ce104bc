//! Runs the parts of a load test (joins, idle, chat, logins, join burst) on one target and measures each part.

mod chat;
mod end;
mod joins;
mod trickle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{nanos, now_ns};
use crate::engine::{Load, Status};
use crate::engines::Engines;
use crate::events::Reader;
use crate::figures::{Phase, Run};
use crate::options::Options;
use crate::process::{Usage, kernel_memory_kib};
use crate::progress::Progress;
use crate::target::{Target, random_hex};
use crate::window::Window;

/// Presence has settled when no client received a presence event for this long.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
const SETTLE_DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(1500);
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The state of a load test on one target.
pub struct Scenario<'a> {
    options: &'a Options,
    target: Target,
    engines: Engines,
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
        let load = Load {
            readers: options.clients,
            own: 0..options.total_clients(),
            slow: options.slow,
            senders: options.senders,
            bytes: options.bytes,
            addresses: target.addresses.clone(),
            tokens: tokens.collect(),
            run_id,
            returns: options.restart_every > 0.0,
        };
        let engines = Engines::new(load, options.process_count())?;
        Ok(Self {
            before: Usage::of(&target.pids),
            kernel_before_kib: kernel_memory_kib(),
            options,
            target,
            engines,
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

    /// The condition for "all have joined". A target without presence events shows only `users_online`.
    fn completeness(&self) -> fn(&Status) -> bool {
        if self.target.sends_presence { |status| status.all_lists_complete } else { |status| status.all_live }
    }

    /// Measures the memory per connection while all clients are idle.
    fn memory(&mut self) -> Result<(), String> {
        self.run_until("settling", PAUSE, |_, _, _, _| Ok(false))?;
        let mut phase = Phase::new("memory");
        self.per_connection(&mut phase)?;
        self.phases.push(phase);
        Ok(())
    }

    fn per_connection(&mut self, phase: &mut Phase) -> Result<(), String> {
        let connections = self.engines.settled_status()?.open.max(1) as f64;
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
        Ok(())
    }

    fn idle(&mut self) -> Result<(), String> {
        let window = Window::begin(&mut self.engines, &self.target)?;
        self.run_until("idle", Duration::from_secs_f64(self.options.idle), |_, _, _, _| Ok(false))?;
        let mut phase = Phase::new("idle");
        window.idle(&self.target, &mut phase);
        self.per_connection(&mut phase)?;
        self.phases.push(phase);
        Ok(())
    }

    /// Runs the engines until `done` returns true (checked every 10 ms, unless a worker process is behind) or `limit` has
    /// passed. Returns whether it was done.
    fn run_until(
        &mut self,
        part: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Engines, &mut Target, &Status, u64) -> Result<bool, String>,
    ) -> Result<bool, String> {
        let (begun_ns, mut done_checked_ns, mut alive_checked_ns) = (now_ns(), 0, now_ns());
        loop {
            self.engines.poll_once(CHECK_INTERVAL)?;
            let now = now_ns();
            if now < done_checked_ns + nanos(CHECK_INTERVAL) {
                continue;
            }
            done_checked_ns = now;
            let status = self.engines.status();
            if let Some(status) = &status
                && done(&mut self.engines, &mut self.target, status, now)?
            {
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
            if let Some(status) = status {
                let p99_ns = self.engines.local().latency(0.99);
                self.progress.show(|| progress_line(self.target.name, part, &status, p99_ns));
            }
        }
    }
}

fn progress_line(target: &str, part: &str, status: &Status, p99_ns: u64) -> String {
    format!(
        "{target}, {part}: {} joined, {} deliveries, {} joins and leaves delivered, p99 {:.1} ms, {} disconnected",
        status.open,
        status.counts.deliveries,
        status.counts.presence_events,
        p99_ns as f64 / 1e6,
        status.disconnects.values().sum::<u64>()
    )
}
