//! [`RoundTime`]: how long a round took, and the coalescing delay that follows it.

use std::time::{Duration, Instant};

use crate::machine;

/// The delay is at most this many times as long as the round.
const SHARE_MAX: f64 = 8.0;

/// The beginning of a round.
pub(super) struct RoundTime {
    begun_at: Instant,
    /// The CPU time of this thread at the beginning.
    cpu: Duration,
}

impl RoundTime {
    pub(super) fn begin() -> Self {
        RoundTime { begun_at: Instant::now(), cpu: machine::thread_cpu_time() }
    }

    /// The delay after a round that ends now, at most `max`.
    pub(super) fn delay(&self, now: Instant, max: Duration) -> Duration {
        let cpu = machine::thread_cpu_time().saturating_sub(self.cpu);
        delay(now.saturating_duration_since(self.begun_at), cpu).min(max)
    }
}

/// The delay after a round that took `passed`, of which the thread had the CPU for `cpu`. With a core for itself, the
/// thread rests as long as it worked. If others used the cores meanwhile, it rests longer in the same proportion: larger
/// and fewer rounds leave more of the cores to them.
fn delay(passed: Duration, cpu: Duration) -> Duration {
    let share = passed.as_secs_f64() / cpu.as_secs_f64().max(f64::MIN_POSITIVE);
    passed.mul_f64(share.clamp(1.0, SHARE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(3);

    #[test]
    fn a_thread_rests_as_long_as_it_worked_and_longer_if_it_waited_for_a_core() {
        assert_eq!(delay(ROUND, ROUND), ROUND);
        assert_eq!(delay(ROUND, ROUND * 2), ROUND, "clocks differ a little");
        assert_eq!(delay(ROUND * 2, ROUND), ROUND * 4);
        assert_eq!(delay(ROUND, Duration::ZERO), ROUND.mul_f64(SHARE_MAX));
        assert_eq!(delay(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_delay_is_bounded() {
        let round = RoundTime { begun_at: Instant::now(), cpu: machine::thread_cpu_time() };
        let max = Duration::from_millis(10);
        assert_eq!(round.delay(round.begun_at + Duration::from_secs(1), max), max);
        assert_eq!(round.delay(round.begun_at, max), Duration::ZERO);
    }
}
