//! [`Drain`]: how many sessions a fan-out thread closes while the server stops. They are spread over the drain time, so
//! that their clients do not all return at once.

use std::time::{Duration, Instant};

/// How many sessions a draining thread closes in a second, or more if the drain time is too short for that.
const SESSIONS_PER_SECOND: f64 = 2000.0;

pub(super) struct Drain {
    started_at: Instant,
    per_second: f64,
    /// The sessions that were closed so far.
    pub(super) closed: usize,
}

impl Drain {
    pub(super) fn new(sessions: usize, within: Duration, now: Instant) -> Self {
        let least = sessions as f64 / within.as_secs_f64().max(0.1);
        Drain { started_at: now, per_second: least.max(SESSIONS_PER_SECOND), closed: 0 }
    }

    /// How many sessions are to be closed by now, in all.
    pub(super) fn due(&self, now: Instant) -> usize {
        (now.saturating_duration_since(self.started_at).as_secs_f64() * self.per_second).ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_sessions_are_closed_within_the_time_and_few_not_at_once() {
        let (now, within) = (Instant::now(), Duration::from_secs(10));
        let many = Drain::new(100_000, within, now);
        assert_eq!((many.due(now), many.due(now + within / 2), many.due(now + within)), (0, 50_000, 100_000));
        let few = Drain::new(10, within, now);
        assert_eq!(few.due(now + Duration::from_millis(1)), 2);
    }
}
