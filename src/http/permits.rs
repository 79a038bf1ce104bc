//! Permits: limits on connections and sessions, in total and per key (an address, a user). A permit is released on
//! drop.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use crate::threads::lock;

/// Limits how many permits are taken at once, in total and for each key. Any thread; the lock is held only briefly.
#[derive(Debug)]
pub(crate) struct Permits<K> {
    total_max: usize,
    per_key_max: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    per_key: HashMap<K, usize>,
}

/// Why a permit was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The limit in total is reached.
    Full,
    /// The limit of this key is reached.
    KeyFull,
}

/// One taken permit; released on drop.
#[derive(Debug)]
pub(crate) struct Permit<K: Eq + Hash + Clone> {
    permits: Arc<Permits<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Permits<K> {
    /// `None` means no limit.
    #[must_use]
    pub(crate) fn new(total_max: Option<NonZeroU32>, per_key_max: Option<NonZeroU32>) -> Arc<Self> {
        let max = |limit: Option<NonZeroU32>| limit.map_or(usize::MAX, |max| max.get() as usize);
        let taken = Mutex::new(Taken { total: 0, per_key: HashMap::new() });
        Arc::new(Permits { total_max: max(total_max), per_key_max: max(per_key_max), taken })
    }

    /// Takes a permit for `key`.
    ///
    /// # Errors
    /// See [`NoPermit`].
    pub(crate) fn take(self: &Arc<Self>, key: K) -> Result<Permit<K>, NoPermit> {
        let mut taken = lock(&self.taken);
        if taken.total >= self.total_max {
            return Err(NoPermit::Full);
        }
        let of_key = taken.per_key.entry(key.clone()).or_insert(0);
        if *of_key >= self.per_key_max {
            return Err(NoPermit::KeyFull);
        }
        *of_key += 1;
        taken.total += 1;
        Ok(Permit { permits: self.clone(), key })
    }

    /// The number of permits that are taken now, for all keys together.
    #[must_use]
    pub(crate) fn total(&self) -> usize {
        lock(&self.taken).total
    }
}

impl<K: Eq + Hash + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.permits.taken);
        taken.total -= 1;
        if let Some(of_key) = taken.per_key.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                taken.per_key.remove(&self.key);
            }
        }
        // Frees the memory after a burst.
        let (len, capacity) = (taken.per_key.len(), taken.per_key.capacity());
        if capacity > 64 && len < capacity / 8 {
            taken.per_key.shrink_to(len * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_and_released_on_drop() {
        let permits = Permits::new(NonZeroU32::new(3), NonZeroU32::new(2));
        let first = permits.take("a").unwrap();
        let _second = permits.take("a").unwrap();
        assert_eq!(permits.take("a").unwrap_err(), NoPermit::KeyFull);
        let _third = permits.take("b").unwrap();
        assert_eq!(permits.take("c").unwrap_err(), NoPermit::Full);
        drop(first);
        assert_eq!(permits.total(), 2);
        assert!(permits.take("a").is_ok());
    }

    #[test]
    fn without_limits_every_permit_is_granted() {
        let permits = Permits::new(None, None);
        let taken: Vec<_> = (0..1000).map(|_| permits.take(1).unwrap()).collect();
        drop(taken);
        assert_eq!(permits.total(), 0);
    }
}
