//! How often an address and an account may try to log in: guessing passwords must be slow.
//!
//! Pure: time is an argument. The HTTP side asks on its own threads, before it asks [`Accounts`](super::Accounts); the
//! lock is held for a look into two maps.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::net::address_key;
use crate::threads::lock;

/// How many addresses, and how many accounts, are remembered: about 8 MB at the worst.
const MAX_KEYS: usize = 65_536;
const MINUTE: Duration = Duration::from_secs(60);

/// Counts every attempt, whether it succeeds or not, per address and per account. Each may try as often as a minute
/// allows at once, and then again at that rate.
pub struct LoginLimiter {
    /// 0: no limit.
    per_minute: u32,
    /// Accounts are remembered by a keyed hash: an email that is sent may be as long as a request.
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    addresses: Table<IpAddr>,
    accounts: Table<u64>,
}

impl LoginLimiter {
    /// At most `per_minute` attempts a minute; 0 turns it off.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self::with_capacity(per_minute, MAX_KEYS)
    }

    fn with_capacity(per_minute: u32, max_keys: usize) -> Self {
        let buckets = Buckets { addresses: Table::new(max_keys), accounts: Table::new(max_keys) };
        LoginLimiter { per_minute, hasher: RandomState::new(), buckets: Mutex::new(buckets) }
    }

    /// Counts an attempt. `email_key` is what [`rules::email_key`](super::rules::email_key) makes of the email that was
    /// sent; of an IPv6 address the network (its first 64 bits) counts.
    ///
    /// An attempt that is refused for the address is not counted for the account, so nobody can lock others out from a
    /// blocked address.
    ///
    /// # Errors
    /// After how many seconds (at least 1) to try again.
    pub fn attempt(&self, address: IpAddr, email_key: &str, now: Instant) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let mut buckets = lock(&self.buckets);
        buckets.addresses.take(address_key(address), self.per_minute, now)?;
        buckets.accounts.take(self.hasher.hash_one(email_key), self.per_minute, now)
    }
}

/// Buckets as points in time: a bucket is full again at `full_at`, and each attempt moves that by one interval. So an
/// untouched bucket and a forgotten one are the same.
struct Table<K> {
    full_at: HashMap<K, Instant>,
    max_keys: usize,
}

impl<K: Eq + Hash> Table<K> {
    fn new(max_keys: usize) -> Self {
        Table { full_at: HashMap::new(), max_keys }
    }

    fn take(&mut self, key: K, per_minute: u32, now: Instant) -> Result<(), u64> {
        let interval = MINUTE / per_minute;
        if self.full_at.len() >= self.max_keys && !self.full_at.contains_key(&key) {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        let next = (*full_at).max(now) + interval;
        // Division rounds down; a nanosecond per attempt makes no difference.
        let excess = next.saturating_duration_since(now).saturating_sub(MINUTE);
        if excess.is_zero() {
            *full_at = next;
            return Ok(());
        }
        Err(excess.as_secs() + u64::from(excess.subsec_nanos() > 0))
    }

    /// Forgets the buckets that are full again; when that is too little, the emptier half stays, which are those that
    /// try most.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() < self.max_keys {
            return;
        }
        let mut times: Vec<Instant> = self.full_at.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut room = middle.max(1);
        self.full_at.retain(|_, full_at| {
            let forget = room > 0 && *full_at <= median;
            room -= usize::from(forget);
            !forget
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_minute_allows_so_many_and_gives_one_back_at_a_time() {
        let limiter = LoginLimiter::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", start), Ok(()));
        }
        assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", start), Err(6));
        assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", start + Duration::from_millis(5500)), Err(1));
        let later = start + Duration::from_secs(6);
        assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", later), Ok(()));
        assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", later), Err(6));
        let much_later = start + Duration::from_secs(600);
        for _ in 0..10 {
            assert_eq!(limiter.attempt(ip("192.0.2.1"), "bob@b", much_later), Ok(()));
        }
        assert!(limiter.attempt(ip("192.0.2.1"), "bob@b", much_later).is_err());
    }

    #[test]
    fn addresses_and_accounts_count_apart() {
        let limiter = LoginLimiter::new(2);
        let now = Instant::now();
        for account in ["a", "b"] {
            assert_eq!(limiter.attempt(ip("192.0.2.1"), account, now), Ok(()));
        }
        assert!(limiter.attempt(ip("192.0.2.1"), "c", now).is_err(), "the address");
        assert!(limiter.attempt(ip("::ffff:192.0.2.1"), "c", now).is_err(), "the same address");
        for host in 2..=3 {
            assert_eq!(limiter.attempt(ip(&format!("192.0.2.{host}")), "c", now), Ok(()));
        }
        assert!(limiter.attempt(ip("192.0.2.4"), "c", now).is_err(), "the account");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let limiter = LoginLimiter::new(1);
        let now = Instant::now();
        assert_eq!(limiter.attempt(ip("2001:db8::1"), "a", now), Ok(()));
        assert!(limiter.attempt(ip("2001:db8::ffff:2"), "b", now).is_err());
        assert_eq!(limiter.attempt(ip("2001:db8:0:1::1"), "c", now), Ok(()));
    }

    #[test]
    fn zero_is_off() {
        let limiter = LoginLimiter::new(0);
        let now = Instant::now();
        assert!((0..1000).all(|_| limiter.attempt(ip("192.0.2.1"), "a", now) == Ok(())));
    }

    #[test]
    fn memory_is_bounded_and_who_tries_most_is_not_forgotten() {
        let limiter = LoginLimiter::with_capacity(3, 100);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.attempt(ip("192.0.2.1"), "guessed", now), Ok(()));
        }
        for number in 0..10_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            assert_eq!(limiter.attempt(address, &number.to_string(), now), Ok(()));
            let buckets = limiter.buckets.lock().unwrap();
            assert!(buckets.addresses.full_at.len() <= 100 && buckets.accounts.full_at.len() <= 100);
        }
        assert!(limiter.attempt(ip("192.0.2.1"), "x", now).is_err());
        assert!(limiter.attempt(ip("192.0.2.2"), "guessed", now).is_err());
        let later = now + Duration::from_secs(61);
        assert_eq!(limiter.attempt(ip("192.0.2.1"), "guessed", later), Ok(()));
    }

    #[test]
    fn large_rates_do_not_break_it() {
        let limiter = LoginLimiter::new(u32::MAX);
        let now = Instant::now();
        assert!((0..1000).all(|_| limiter.attempt(ip("192.0.2.1"), "a", now) == Ok(())));
    }
}
