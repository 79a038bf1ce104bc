//! [`Rate`] and [`TokenBucket`]: a limit on how often something may happen, with a burst. Pure: time is an argument.
//!
//! Used by a session for its client's messages, by `accounts::limits` for each address and account, and by
//! `event_log::batch_timer` for the batches of the log.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// `burst` tokens at once, refilled one per `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    interval: Duration,
    /// How long an empty bucket takes until it is full.
    refill: Duration,
}

impl Rate {
    pub(crate) const fn per_second(tokens: NonZeroU32, burst: u32) -> Rate {
        Self::new(1_000_000_000, tokens, burst)
    }

    /// A rate of `tokens` per minute. The burst has as many tokens.
    pub(crate) const fn per_minute(tokens: NonZeroU32) -> Rate {
        Self::new(60_000_000_000, tokens, tokens.get())
    }

    /// A token per `interval`.
    pub(crate) const fn one_per(interval: Duration, burst: u32) -> Rate {
        Rate { interval, refill: interval.saturating_mul(burst) }
    }

    /// The division rounds down to whole nanoseconds per token.
    const fn new(nanos: u64, tokens: NonZeroU32, burst: u32) -> Rate {
        Self::one_per(Duration::from_nanos(nanos / tokens.get() as u64), burst)
    }
}

/// A token bucket, stored as the time at which it is full again: each token taken moves that time by one interval. So a
/// bucket takes 16 bytes, and a bucket that is full again equals a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    full_at: Instant,
}

impl TokenBucket {
    pub(crate) fn full(now: Instant) -> Self {
        TokenBucket { full_at: now }
    }

    pub(crate) fn full_at(self) -> Instant {
        self.full_at
    }

    /// Whether a token can be taken; takes none.
    ///
    /// # Errors
    /// How long until a token is available.
    pub(crate) fn check(self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let wait = self.after_charge(rate, now).saturating_duration_since(now).saturating_sub(rate.refill);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Takes a token. Returns false, and takes none, if the bucket is empty.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let available = self.check(rate, now).is_ok();
        if available {
            self.charge(rate, now);
        }
        available
    }

    /// Takes a token even if the bucket is empty. Then the next token is available one interval later. So the rate
    /// holds in the long run, even if several callers check before the first one charges.
    pub(crate) fn charge(&mut self, rate: Rate, now: Instant) {
        self.full_at = self.after_charge(rate, now);
    }

    fn after_charge(self, rate: Rate, now: Instant) -> Instant {
        self.full_at.max(now) + rate.interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_burst_at_once_then_the_rate() {
        let rate = Rate::per_second(number(10), 20);
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        assert_eq!((0..30).filter(|_| bucket.take(rate, start)).count(), 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| bucket.take(rate, later)).count(), 10);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..30).filter(|_| bucket.take(rate, much_later)).count(), 20);
    }

    #[test]
    fn a_charge_beyond_the_limit_delays_the_next_token() {
        let rate = Rate::per_minute(number(10));
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        (0..15).for_each(|_| bucket.charge(rate, start));
        let expected = Duration::from_secs(36);
        assert_eq!(bucket.check(rate, start), Err(expected), "five tokens too many and the next one, six seconds each");
        assert_eq!(bucket.check(rate, start + expected), Ok(()));
    }

    #[test]
    fn the_largest_rates_do_not_overflow() {
        let now = Instant::now();
        for rate in [Rate::per_minute(NonZeroU32::MAX), Rate::per_second(NonZeroU32::MAX, u32::MAX)] {
            let mut bucket = TokenBucket::full(now);
            assert!((0..1000).all(|_| bucket.take(rate, now)));
        }
    }

    proptest! {
        /// Checks before the charges exceed the limit by the number in flight, once, and not at the rate.
        #[test]
        fn the_rate_holds_in_the_long_run(
            per_minute in 1..40_u32,
            in_flight in 1..60_u32,
            pauses in proptest::collection::vec(0..90_000_u64, 1..60),
        ) {
            let rate = Rate::per_minute(number(per_minute));
            let start = Instant::now();
            let (mut bucket, mut now, mut charged) = (TokenBucket::full(start), start, 0);
            for pause in pauses {
                now += Duration::from_millis(pause);
                let admitted = (0..in_flight).filter(|_| bucket.check(rate, now).is_ok()).count();
                (0..admitted).for_each(|_| bucket.charge(rate, now));
                charged += admitted;
            }
            let minutes = (now - start).as_secs_f64() / 60.0;
            let allowed = f64::from(per_minute) * (minutes + 1.0) + f64::from(in_flight);
            prop_assert!(charged as f64 <= allowed + 1.0, "{charged} of {allowed}");
        }
    }
}
