//! [`AwakeClock`]: time in which this process was running.

use std::time::Duration;

/// The most that counts of the time between two looks at the clock. They are at most a second apart while the process
/// runs: more means that it was stopped (SIGSTOP, a suspended host), and that is not the log's silence.
const COUNTED_MAX: Duration = Duration::from_millis(1500);

/// Time that stands still while the process does: never faster than the clock that it is advanced by.
#[derive(Debug)]
pub(super) struct AwakeClock {
    last_look: Duration,
    awake: Duration,
}

impl AwakeClock {
    pub fn new(now: Duration) -> Self {
        AwakeClock { last_look: now, awake: Duration::ZERO }
    }

    /// Looks at the clock.
    pub fn advance(&mut self, now: Duration) {
        self.awake = self.at(now);
        self.last_look = self.last_look.max(now);
    }

    /// The time as of the last look.
    pub fn now(&self) -> Duration {
        self.awake
    }

    /// The time at `now`, without a look.
    pub fn at(&self, now: Duration) -> Duration {
        self.awake + now.saturating_sub(self.last_look).min(COUNTED_MAX)
    }
}
