//! [`AwakeClock`]: the time during which this process was running.

use std::time::Duration;

/// Of the time between two readings of the clock, at most this much counts. While the process runs, readings are at
/// most a second apart. A longer gap means that the process was stopped (SIGSTOP, a suspended host), not that the log
/// was silent.
const COUNTED_MAX: Duration = Duration::from_millis(1500);

/// A clock that stands still while the process is stopped. It is never faster than the clock that it reads.
#[derive(Debug)]
pub(super) struct AwakeClock {
    last_reading: Duration,
    awake: Duration,
}

impl AwakeClock {
    pub fn new(now: Duration) -> Self {
        AwakeClock { last_reading: now, awake: Duration::ZERO }
    }

    /// Takes a reading of the clock.
    pub fn advance(&mut self, now: Duration) {
        self.awake = self.at(now);
        self.last_reading = self.last_reading.max(now);
    }

    /// The time at the last reading.
    pub fn now(&self) -> Duration {
        self.awake
    }

    /// The time at `now`, without taking a reading.
    pub fn at(&self, now: Duration) -> Duration {
        self.awake + now.saturating_sub(self.last_reading).min(COUNTED_MAX)
    }
}
