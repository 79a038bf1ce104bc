//! Permits: limits on connections and sessions, in total and per key (an address, a user). A permit is released on
//! drop. The key of a connection from a proxy is known only when the proxy has named the client.

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
    /// `None`: counted only in total.
    key: Option<K>,
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
        self.take_for(Some(key))
    }

    /// Takes a permit that is counted only in total, until [`Permit::count_for`].
    ///
    /// # Errors
    /// [`NoPermit::Full`].
    pub(crate) fn take_without_key(self: &Arc<Self>) -> Result<Permit<K>, NoPermit> {
        self.take_for(None)
    }

    fn take_for(self: &Arc<Self>, key: Option<K>) -> Result<Permit<K>, NoPermit> {
        let mut taken = lock(&self.taken);
        if taken.total >= self.total_max {
            return Err(NoPermit::Full);
        }
        if let Some(key) = &key {
            taken.add(key, self.per_key_max)?;
        }
        taken.total += 1;
        Ok(Permit { permits: self.clone(), key })
    }

    /// The number of permits that are taken now, for all keys together.
    #[must_use]
    pub(crate) fn total(&self) -> usize {
        lock(&self.taken).total
    }
}

impl<K: Eq + Hash + Clone> Taken<K> {
    fn add(&mut self, key: &K, per_key_max: usize) -> Result<(), NoPermit> {
        let of_key = self.per_key.get(key).copied().unwrap_or(0);
        if of_key >= per_key_max {
            return Err(NoPermit::KeyFull);
        }
        self.per_key.insert(key.clone(), of_key + 1);
        Ok(())
    }

    fn remove(&mut self, key: &K) {
        if let Some(of_key) = self.per_key.get_mut(key) {
            *of_key -= 1;
            if *of_key == 0 {
                self.per_key.remove(key);
            }
        }
        // Frees the memory after a burst.
        let (len, capacity) = (self.per_key.len(), self.per_key.capacity());
        if capacity > 64 && len < capacity / 8 {
            self.per_key.shrink_to(len * 2);
        }
    }
}

impl<K: Eq + Hash + Clone> Permit<K> {
    /// Counts the permit for `key`, and no longer for the key that it had.
    ///
    /// # Errors
    /// [`NoPermit::KeyFull`]; then nothing changes.
    pub(crate) fn count_for(&mut self, key: K) -> Result<(), NoPermit> {
        if self.key.as_ref() == Some(&key) {
            return Ok(());
        }
        let mut taken = lock(&self.permits.taken);
        taken.add(&key, self.permits.per_key_max)?;
        if let Some(before) = self.key.replace(key) {
            taken.remove(&before);
        }
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.permits.taken);
        taken.total -= 1;
        if let Some(key) = &self.key {
            taken.remove(key);
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
    fn a_permit_without_key_counts_in_total_and_later_for_a_key() {
        let permits = Permits::new(NonZeroU32::new(3), NonZeroU32::new(1));
        let mut unkeyed = permits.take_without_key().unwrap();
        let other = permits.take_without_key().unwrap();
        let of_a = permits.take("a").unwrap();
        assert_eq!(permits.take_without_key().unwrap_err(), NoPermit::Full);
        assert_eq!(unkeyed.count_for("a"), Err(NoPermit::KeyFull));
        assert_eq!(unkeyed.count_for("b"), Ok(()));
        assert_eq!(unkeyed.count_for("b"), Ok(()), "it has this key already");
        drop((of_a, other));
        assert_eq!(permits.take("b").unwrap_err(), NoPermit::KeyFull);
        assert_eq!(unkeyed.count_for("a"), Ok(()));
        assert!(permits.take("b").is_ok() && permits.take("a").is_err());
        drop(unkeyed);
        assert_eq!(permits.total(), 0);
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
