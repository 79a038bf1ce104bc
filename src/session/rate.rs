//! A token bucket: limits a rate, and allows a burst. Pure; the time is an argument.

use std::time::{Duration, Instant};

/// The messages or control frames of one connection. Owned by its session thread.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens. With `per_second` 0 there is no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        TokenBucket { per_second: f64::from(per_second), burst, tokens: burst, filled_at: now }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let passed: Duration = now.saturating_duration_since(self.filled_at);
        self.filled_at = now;
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 20, start);
        assert_eq!((0..30).filter(|_| bucket.take(start)).count(), 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| bucket.take(later)).count(), 10);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..30).filter(|_| bucket.take(much_later)).count(), 20);
    }

    #[test]
    fn zero_is_no_bound() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(0, 1, start);
        assert!((0..1000).all(|_| bucket.take(start)));
    }
}
