//! The measurement of one part of a scenario: CPU time and deliveries between its beginning and its end.

use crate::clock::{now_ns, seconds};
use crate::engine::Status;
use crate::engines::Engines;
use crate::figures::Phase;
use crate::histogram::Histogram;
use crate::ledger::Counts;
use crate::process::{Usage, machine_cpu_s};
use crate::target::Target;

/// The counters at the beginning of a part.
pub struct Window {
    begun_ns: u64,
    server: Usage,
    tool_cpu_s: f64,
    /// The processes of this tool.
    tool_pids: Vec<u32>,
    machine_cpu_s: f64,
    counts: Counts,
}

impl Window {
    /// Takes the counters and clears the latencies.
    pub fn begin(engines: &mut Engines, target: &Target) -> Result<Self, String> {
        engines.begin_window()?;
        let counts = engines.settled_status()?.counts;
        Ok(Self {
            begun_ns: now_ns(),
            server: Usage::of(&target.pids),
            tool_cpu_s: Usage::of(&engines.pids).cpu_s,
            tool_pids: engines.pids.clone(),
            machine_cpu_s: machine_cpu_s(),
            counts,
        })
    }

    fn length_s(&self) -> f64 {
        seconds(now_ns().saturating_sub(self.begun_ns)).max(1e-9)
    }

    /// CPU seconds of the servers since the beginning; NaN if their process ids are unknown.
    fn server_cpu_s(&self, target: &Target) -> f64 {
        if target.pids.is_empty() { f64::NAN } else { Usage::of(&target.pids).cpu_s - self.server.cpu_s }
    }

    fn tool_cpu_s(&self) -> f64 {
        Usage::of(&self.tool_pids).cpu_s - self.tool_cpu_s
    }

    /// Adds the CPU use of all other processes. Figures taken on a busy machine are unreliable.
    fn others(&self, target: &Target, phase: &mut Phase) {
        let ours = self.tool_cpu_s() + self.server_cpu_s(target);
        let others = (machine_cpu_s() - self.machine_cpu_s - ours).max(0.0);
        phase.note("others_cpu_percent", "CPU % of other processes", 1, others * 100.0 / self.length_s());
    }

    /// Adds the cost of joins and leaves.
    pub fn presence(&self, status: &Status, target: &Target, phase: &mut Phase) {
        let events = status.counts.presence_events - self.counts.presence_events;
        phase.add("server_cpu_seconds", "server CPU s", 2, self.server_cpu_s(target));
        phase.note("tool_cpu_seconds", "this tool's CPU s", 2, self.tool_cpu_s());
        self.others(target, phase);
        phase.note("presence_events", "joins and leaves delivered", 0, events as f64);
    }

    /// Adds the cost of chat messages.
    pub fn chat(&self, status: &Status, target: &Target, phase: &mut Phase) {
        let deliveries = (status.counts.deliveries - self.counts.deliveries) as f64;
        // Until the last event was received, not until the scenario noticed it.
        let length_s = seconds(status.last_event_ns.saturating_sub(self.begun_ns)).max(1e-9);
        let server_cpu_s = self.server_cpu_s(target);
        phase.add("cpu_us_per_delivery", "server CPU us per delivery", 2, server_cpu_s * 1e6 / deliveries.max(1.0));
        phase.add("deliveries_per_second", "deliveries per second", 0, deliveries / length_s);
        phase.add("server_cpu_percent", "server CPU %", 1, server_cpu_s * 100.0 / length_s);
        phase.note("tool_cpu_percent", "this tool's CPU %", 1, self.tool_cpu_s() * 100.0 / length_s);
        self.others(target, phase);
        phase.note("length_seconds", "from the first sent to the last received s", 2, length_s);
    }

    /// Adds the latencies of chat messages, if there were any.
    pub fn latency(&self, engines: &mut Engines, phase: &mut Phase) -> Result<(), String> {
        let latency = engines.report()?.latency;
        if latency.count() > 0 {
            add_latencies(phase, &latency);
            let lag_ns = engines.settled_status()?.lag_ns;
            phase.note("lag_ms", "sent later than due, max ms", 2, lag_ns as f64 / 1e6);
        }
        Ok(())
    }

    /// Adds the CPU use of the idle servers.
    pub fn idle(&self, target: &Target, phase: &mut Phase) {
        phase.add("cpu_percent", "server CPU %", 2, self.server_cpu_s(target) * 100.0 / self.length_s());
        phase.note("seconds", "length s", 0, self.length_s());
    }
}

/// Adds the quantiles of `latency`, which is in nanoseconds.
pub fn add_latencies(phase: &mut Phase, latency: &Histogram) {
    let ms = |ns: u64| ns as f64 / 1e6;
    phase.add("p50_ms", "sent to received p50 ms", 2, ms(latency.quantile(0.5)));
    phase.add("p90_ms", "sent to received p90 ms", 2, ms(latency.quantile(0.9)));
    phase.add("p99_ms", "sent to received p99 ms", 2, ms(latency.quantile(0.99)));
    phase.add("p999_ms", "sent to received p99.9 ms", 2, ms(latency.quantile(0.999)));
    phase.add("max_ms", "sent to received max ms", 2, ms(latency.max()));
}
