//! The last part of a scenario: checks all counts, and disconnects all clients.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PAUSE, SETTLE_DEADLINE, SETTLED_AFTER, Scenario};
use crate::clock::nanos;
use crate::engine::Status;
use crate::figures::Phase;
use crate::process::Usage;

/// As [`SETTLE_DEADLINE`], when the target could not handle the load before.
const OVERLOADED_DEADLINE: Duration = Duration::from_secs(5);

impl Scenario<'_> {
    /// Checks all counts, then disconnects all clients.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.engines.wake_slow()?;
        let limit = if self.overloaded { OVERLOADED_DEADLINE } else { SETTLE_DEADLINE };
        let is_complete = self.completeness();
        let settled = self.run_until("final check", limit, |_, _, status, now| {
            Ok(status.joining == 0 && now > status.last_event_ns + nanos(SETTLED_AFTER) && is_complete(status))
        })?;
        let mut phase = Phase::new("whole run");
        let status = self.engines.settled_status()?;
        self.check_counts(&status, &mut phase)?;
        if !settled {
            self.failures.push("at the end not every client had all users in its list".to_owned());
        }
        self.remark(&status);
        self.engines.leave((0..self.options.total_clients()).collect(), true)?;
        self.run_until("leaving", PAUSE, |_, _, _, _| Ok(false))?;
        if !self.target.pids.is_empty() {
            let left = Usage::of(&self.target.pids);
            phase.add("rss_mib_after_all_left", "resident MiB after all left", 1, left.rss_kib / 1024.0);
        }
        self.phases.push(phase);
        Ok(())
    }

    /// Adds the totals of the run. What must not have happened is a failure.
    fn check_counts(&mut self, status: &Status, phase: &mut Phase) -> Result<(), String> {
        let (counts, report) = (status.counts, self.engines.report()?);
        let wrong = if self.target.sends_presence { report.wrong_lists } else { 0 };
        let disconnected: u64 = status.disconnects.values().sum();
        let sent: u64 = self.engines.local().sent().iter().map(|&count| u64::from(count)).sum();
        phase.note("messages_sent", "messages sent", 0, sent as f64);
        phase.note("deliveries", "deliveries", 0, counts.deliveries as f64);
        phase.note("presence_events", "joins and leaves delivered", 0, counts.presence_events as f64);
        let failures = [
            ("lost", "lost", report.lost + report.outstanding),
            ("duplicated", "duplicated", counts.duplicated),
            ("reordered", "out of order", counts.reordered),
            ("presence_errors", "wrong joins or leaves", counts.presence_errors),
            ("wrong_lists", "clients with a wrong list at the end", wrong),
            ("disconnected", "disconnected, or could not join", disconnected),
            ("not_sent", "not sent by this tool", status.unsent),
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
                status.slow_disconnects.values().sum::<u64>() as f64,
            );
        }
        Ok(())
    }

    /// Adds what was observed besides.
    fn remark(&mut self, status: &Status) {
        let described = |reasons: &BTreeMap<String, u64>| {
            reasons.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>().join(", ")
        };
        let lines = [
            ("disconnected", &status.disconnects),
            ("never read, disconnected", &status.slow_disconnects),
            ("error frames", &status.error_frames),
        ]
        .into_iter()
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(what, reasons)| format!("{what}: {}", described(reasons)));
        self.remarks.extend(lines);
        let foreign = status.counts.foreign;
        if foreign > 0 {
            self.remarks.push(format!("{foreign} events were about users that this run did not create"));
        }
    }
}
