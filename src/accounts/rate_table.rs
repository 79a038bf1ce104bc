//! [`RateTable`]: how often each of many keys may do something per minute, in bounded memory.
//!
//! Pure: time is an argument. Owned by [`super::limits`], which holds a lock for the few map operations of a call.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// A token bucket for each key: `per_minute` tokens at once, refilled at that rate.
///
/// A bucket is stored as the time at which it is full again; each token taken moves that time by one interval. So an
/// untouched bucket and a forgotten one are the same.
pub(super) struct RateTable<K> {
    /// 0: no limit.
    per_minute: u32,
    full_at: HashMap<K, Instant>,
    keys_max: usize,
}

impl<K: Eq + Hash> RateTable<K> {
    /// At most `per_minute` tokens a minute for each key (0: no limit), and at most `keys_max` keys remembered.
    pub(super) fn new(per_minute: u32, keys_max: usize) -> Self {
        RateTable { per_minute, full_at: HashMap::new(), keys_max }
    }

    /// Whether a token can be taken; takes none.
    ///
    /// # Errors
    /// After how many seconds (at least 1) there will be one.
    pub(super) fn check(&self, key: &K, now: Instant) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let full_at = self.full_at.get(key).map_or(now, |full_at| (*full_at).max(now));
        let excess = (full_at + self.interval()).saturating_duration_since(now).saturating_sub(MINUTE);
        if excess.is_zero() { Ok(()) } else { Err(excess.as_secs() + u64::from(excess.subsec_nanos() > 0)) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// As for [`RateTable::check`]; then nothing is taken.
    pub(super) fn take(&mut self, key: K, now: Instant) -> Result<(), u64> {
        self.check(&key, now)?;
        self.charge(key, now);
        Ok(())
    }

    /// Takes a token even if there is none: the next one comes later by that much. So the rate is kept in the long run,
    /// also when several checks were made before the first charge.
    pub(super) fn charge(&mut self, key: K, now: Instant) {
        if self.per_minute == 0 {
            return;
        }
        if self.full_at.len() >= self.keys_max && !self.full_at.contains_key(&key) {
            self.make_room(now);
        }
        let interval = self.interval();
        let full_at = self.full_at.entry(key).or_insert(now);
        *full_at = (*full_at).max(now) + interval;
    }

    /// The division rounds down; a nanosecond per token makes no difference.
    fn interval(&self) -> Duration {
        MINUTE / self.per_minute
    }

    /// Forgets the buckets that are full again. If that frees nothing, forgets the fuller half: the keys that took most
    /// stay.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() < self.keys_max {
            return;
        }
        let mut times: Vec<Instant> = self.full_at.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut excess = middle.max(1);
        self.full_at.retain(|_, full_at| {
            let forget = excess > 0 && *full_at <= median;
            excess -= usize::from(forget);
            !forget
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minute_allows_so_many_and_gives_one_back_at_a_time() {
        let mut table = RateTable::new(10, 100);
        let start = Instant::now();
        assert!((0..10).all(|_| table.take("a", start) == Ok(())));
        assert_eq!(table.take("a", start), Err(6));
        assert_eq!(table.take("a", start + Duration::from_millis(5500)), Err(1));
        assert_eq!(table.take("b", start), Ok(()), "keys are counted separately");
        let later = start + Duration::from_secs(6);
        assert_eq!((table.take("a", later), table.take("a", later)), (Ok(()), Err(6)));
        let much_later = start + Duration::from_secs(600);
        assert!((0..10).all(|_| table.take("a", much_later) == Ok(())));
        assert!(table.take("a", much_later).is_err());
    }

    #[test]
    fn a_charge_beyond_the_limit_is_paid_back() {
        let mut table = RateTable::new(10, 100);
        let start = Instant::now();
        (0..15).for_each(|_| table.charge("a", start));
        assert_eq!(table.check(&"a", start), Err(36), "five beyond ten, and one to take, at six seconds each");
        assert_eq!(table.check(&"a", start + Duration::from_secs(36)), Ok(()));
    }

    #[test]
    fn zero_is_no_limit_and_large_rates_work() {
        let now = Instant::now();
        for per_minute in [0, u32::MAX] {
            let mut table = RateTable::new(per_minute, 100);
            assert!((0..1000).all(|_| table.take("a", now) == Ok(())));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_keys_that_took_most_are_remembered() {
        let mut table = RateTable::new(3, 100);
        let now = Instant::now();
        assert!((0..3).all(|_| table.take(u32::MAX, now) == Ok(())));
        for key in 0..10_000 {
            assert_eq!(table.take(key, now), Ok(()));
            assert!(table.full_at.len() <= 100);
        }
        assert!(table.take(u32::MAX, now).is_err());
        assert_eq!(table.take(u32::MAX, now + Duration::from_secs(61)), Ok(()));
    }

    proptest! {
        /// Checks that come before the charges overshoot by as many as are in flight, once, and not at the rate.
        #[test]
        fn in_the_long_run_the_rate_is_kept(
            per_minute in 1..40_u32,
            in_flight in 1..60_u32,
            pauses in proptest::collection::vec(0..90_000_u64, 1..60),
        ) {
            let mut table = RateTable::new(per_minute, 10);
            let start = Instant::now();
            let (mut now, mut charged) = (start, 0);
            for pause in pauses {
                now += Duration::from_millis(pause);
                let admitted = (0..in_flight).filter(|_| table.check(&"a", now).is_ok()).count();
                (0..admitted).for_each(|_| table.charge("a", now));
                charged += admitted;
            }
            let minutes = (now - start).as_secs_f64() / 60.0;
            let allowed = f64::from(per_minute) * (minutes + 1.0) + f64::from(in_flight);
            prop_assert!(charged as f64 <= allowed + 1.0, "{charged} of {allowed}");
        }
    }
}
