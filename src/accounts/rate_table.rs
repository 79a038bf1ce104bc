//! [`RateTable`]: limits how often each of many keys may do something, in bounded memory.
//!
//! Pure: time is an argument. Owned by [`super::limits`] and by the limit of `/history`, whose locks are held for the few
//! map operations of a call.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::rate::{Rate, TokenBucket};

/// A token bucket for each key. A key that is not in the table has a full bucket.
pub(crate) struct RateTable<K> {
    /// `None`: unlimited.
    rate: Option<Rate>,
    buckets: HashMap<K, TokenBucket>,
    keys_max: usize,
}

impl<K: Eq + Hash> RateTable<K> {
    /// At most `per_minute` tokens a minute for each key; remembers at most `keys_max` keys.
    pub(crate) fn new(per_minute: Option<NonZeroU32>, keys_max: usize) -> Self {
        RateTable { rate: per_minute.map(Rate::per_minute), buckets: HashMap::new(), keys_max }
    }

    /// Whether a token can be taken; takes none.
    ///
    /// # Errors
    /// In how many seconds (at least 1) a token is available.
    pub(crate) fn check(&self, key: &K, now: Instant) -> Result<(), u64> {
        let (Some(rate), Some(bucket)) = (self.rate, self.buckets.get(key)) else { return Ok(()) };
        bucket.check(rate, now).map_err(whole_seconds)
    }

    /// Takes a token.
    ///
    /// # Errors
    /// As for [`RateTable::check`]; then no token is taken.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), u64> {
        self.check(&key, now)?;
        self.charge(key, now);
        Ok(())
    }

    /// Takes a token even if the bucket is empty: see [`TokenBucket::charge`].
    pub(crate) fn charge(&mut self, key: K, now: Instant) {
        let Some(rate) = self.rate else { return };
        if self.buckets.len() >= self.keys_max && !self.buckets.contains_key(&key) {
            self.make_room(now);
        }
        self.buckets.entry(key).or_insert_with(|| TokenBucket::full(now)).charge(rate, now);
    }

    /// Forgets the buckets that are full again. If there is none, forgets the fuller half of the buckets: the keys that
    /// took the most tokens stay.
    fn make_room(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.full_at() > now);
        if self.buckets.len() < self.keys_max {
            return;
        }
        let mut times: Vec<Instant> = self.buckets.values().map(|bucket| bucket.full_at()).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut excess = middle.max(1);
        self.buckets.retain(|_, bucket| {
            let forget = excess > 0 && bucket.full_at() <= median;
            excess -= usize::from(forget);
            !forget
        });
    }
}

/// Rounded up.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_allows_the_limit_and_frees_one_token_at_a_time() {
        let mut table = RateTable::new(NonZeroU32::new(10), 100);
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
    fn no_limit_refuses_nothing() {
        let mut table = RateTable::new(None, 100);
        assert!((0..1000).all(|_| table.take("a", Instant::now()) == Ok(())));
        assert!(table.buckets.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_keys_that_took_most_are_remembered() {
        let mut table = RateTable::new(NonZeroU32::new(3), 100);
        let now = Instant::now();
        assert!((0..3).all(|_| table.take(u32::MAX, now) == Ok(())));
        for key in 0..10_000 {
            assert_eq!(table.take(key, now), Ok(()));
            assert!(table.buckets.len() <= 100);
        }
        assert!(table.take(u32::MAX, now).is_err());
        assert_eq!(table.take(u32::MAX, now + Duration::from_secs(61)), Ok(()));
    }
}
