//! [`AwakeClock`]: the time during which this process was running.

use std::time::Duration;

/// The most time that counts between two readings of the clock. While the process runs, readings are at most a second
/// apart. A longer gap means that the process was stopped (SIGSTOP, a suspended host), not that the log was silent.
const COUNTED_MAX: Duration = Duration::from_millis(1500);

/// A clock that stands still while the process is stopped. It is never faster than the clock whose readings it gets.
#[derive(Debug)]
pub(super) struct AwakeClock {
    last_reading: Duration,
    awake: Duration,
}

impl AwakeClock {
    pub fn new(now: Duration) -> Self {
        AwakeClock { last_reading: now, awake: Duration::ZERO }
    }

    /// Adds the time since the last reading. `now` is a new reading of the real clock.
    pub fn advance(&mut self, now: Duration) {
        self.awake = self.at(now);
        self.last_reading = self.last_reading.max(now);
    }

    /// The time awake until the last reading.
    pub fn now(&self) -> Duration {
        self.awake
    }

    /// The time awake until `now`; does not count as a reading.
    pub fn at(&self, now: Duration) -> Duration {
        self.awake + now.saturating_sub(self.last_reading).min(COUNTED_MAX)
    }
}
