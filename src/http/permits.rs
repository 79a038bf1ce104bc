//! Permits: the bounds on connections, in total, per address and per person. A permit gives itself back when it is
//! dropped.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::threads::lock;

/// So many at once for each key, and so many in total.
#[derive(Debug)]
pub struct Permits<K> {
    in_total_max: usize,
    per_key_max: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    in_total: usize,
    per_key: HashMap<K, usize>,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPermit {
    /// All are taken.
    Full,
    /// All of this key are taken.
    KeyFull,
}

/// One permit.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash + Clone> {
    permits: Arc<Permits<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Permits<K> {
    /// 0: no bound.
    #[must_use]
    pub fn new(in_total_max: usize, per_key_max: usize) -> Arc<Self> {
        let unbounded = |max| if max == 0 { usize::MAX } else { max };
        let taken = Mutex::new(Taken { in_total: 0, per_key: HashMap::new() });
        Arc::new(Permits { in_total_max: unbounded(in_total_max), per_key_max: unbounded(per_key_max), taken })
    }

    /// Takes one.
    ///
    /// # Errors
    /// See [`NoPermit`].
    pub fn take(self: &Arc<Self>, key: K) -> Result<Permit<K>, NoPermit> {
        let mut taken = lock(&self.taken);
        if taken.in_total >= self.in_total_max {
            return Err(NoPermit::Full);
        }
        let of_key = taken.per_key.entry(key.clone()).or_insert(0);
        if *of_key >= self.per_key_max {
            return Err(NoPermit::KeyFull);
        }
        *of_key += 1;
        taken.in_total += 1;
        Ok(Permit { permits: self.clone(), key })
    }

    /// How many are taken.
    #[must_use]
    pub fn in_total(&self) -> usize {
        lock(&self.taken).in_total
    }
}

impl<K: Eq + Hash + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.permits.taken);
        taken.in_total -= 1;
        if let Some(of_key) = taken.per_key.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                taken.per_key.remove(&self.key);
            }
        }
        // A mass leave gives the table back too.
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
    fn permits_are_bounded_and_come_back() {
        let permits = Permits::new(3, 2);
        let first = permits.take("a").unwrap();
        let _second = permits.take("a").unwrap();
        assert_eq!(permits.take("a").unwrap_err(), NoPermit::KeyFull);
        let _third = permits.take("b").unwrap();
        assert_eq!(permits.take("c").unwrap_err(), NoPermit::Full);
        drop(first);
        assert_eq!(permits.in_total(), 2);
        assert!(permits.take("a").is_ok());
    }

    #[test]
    fn zero_is_no_bound() {
        let permits = Permits::new(0, 0);
        let taken: Vec<_> = (0..1000).map(|_| permits.take(1).unwrap()).collect();
        drop(taken);
        assert_eq!(permits.in_total(), 0);
    }
}
