//! [`Pace`]: when the writer may commit next.
//!
//! A commit takes 100 to 200 µs of CPU, however many records it has. So under load several records share one commit. With
//! few records, none waits. The rule is a token bucket: one commit per [`INTERVAL`] on average, and [`BURST`] commits at
//! once.

use std::time::{Duration, Instant};

/// The minimum time between two commits, on average. Under load, all records of this time share one commit.
const INTERVAL: Duration = Duration::from_millis(1);
/// The most commits without a pause, after a time with few commits.
const BURST: u32 = 3;
/// After this time without a commit, the next one waits for [`INTERVAL`]: an idle instance appends a roster and a
/// heartbeat one after the other, and they share a commit.
const IDLE_TIME: Duration = Duration::from_secs(1);

pub(super) struct Pace {
    committed_at: Instant,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Pace { committed_at: now, full_at: now }
    }

    /// The time from `now` until the next commit may begin.
    pub fn wait(&self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.committed_at) > IDLE_TIME {
            return INTERVAL;
        }
        self.full_at.saturating_duration_since(now + INTERVAL * (BURST - 1))
    }

    /// Counts a commit at `now`.
    pub fn on_commit(&mut self, now: Instant) {
        self.committed_at = now;
        self.full_at = self.full_at.max(now) + INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a record after each `every`, and a commit as soon as a record waits. Returns the wait of each commit.
    fn waits(every: Duration, count: u32) -> Vec<Duration> {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        (1..=count)
            .map(|number| {
                now = now.max(start + every * number);
                let wait = pace.wait(now);
                now += wait;
                pace.on_commit(now);
                wait
            })
            .collect()
    }

    #[test]
    fn few_records_do_not_wait() {
        assert!(waits(Duration::from_millis(1), 1000).iter().all(Duration::is_zero));
    }

    #[test]
    fn commits_are_one_per_interval_under_load_after_a_burst() {
        let waits = waits(Duration::from_micros(100), 100);
        assert!(waits[..BURST as usize].iter().all(Duration::is_zero));
        assert!(waits[BURST as usize + 1..].iter().all(|wait| !wait.is_zero() && *wait <= INTERVAL), "{waits:?}");
    }

    #[test]
    fn the_first_commit_after_a_long_time_waits_for_more_records() {
        assert_eq!(waits(IDLE_TIME * 2, 3), [INTERVAL; 3]);
    }
}
