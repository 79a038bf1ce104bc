//! [`AccountLimits`]: how often an address and an account may try to log in, and an address may register.
//!
//! Pure: time is an argument. [`Accounts`](super::Accounts) asks on the connection's thread; the lock is held for a few
//! map operations.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use super::error::AccountError;
use super::rate_table::RateTable;
use crate::net::address_key;
use crate::threads::lock;

/// How many keys each of the four tables remembers: together some 16 MB at most.
const KEYS_MAX: usize = 65_536;
/// An address may make so many times more logins than it may fail: many people can share it, and who guesses passwords
/// fails nearly always.
const LOGINS_PER_FAILURE: u32 = 20;

/// Guessing passwords has to be slow, and one address must not fill the accounts.
///
/// | counted | per minute |
/// |---|---|
/// | failed logins of an address | `logins_per_minute` |
/// | logins of an address, failed or not | 20 times as many |
/// | logins of an account, failed or not, known or not | `logins_per_minute` |
/// | registrations of an address | `registrations_per_minute` |
///
/// Each is available at once, and then again at that rate. 0: no limit. Of an IPv6 address the network counts (see
/// [`address_key`]).
pub struct AccountLimits {
    /// Accounts are remembered by a keyed hash: an email that is sent may be as long as a request.
    hasher: RandomState,
    tables: Mutex<Tables>,
}

struct Tables {
    failures_by_address: RateTable<IpAddr>,
    logins_by_address: RateTable<IpAddr>,
    logins_by_account: RateTable<u64>,
    registrations_by_address: RateTable<IpAddr>,
}

impl AccountLimits {
    /// These limits; 0 turns one off.
    #[must_use]
    pub fn new(logins_per_minute: u32, registrations_per_minute: u32) -> Self {
        let tables = Tables {
            failures_by_address: RateTable::new(logins_per_minute, KEYS_MAX),
            logins_by_address: RateTable::new(logins_per_minute.saturating_mul(LOGINS_PER_FAILURE), KEYS_MAX),
            logins_by_account: RateTable::new(logins_per_minute, KEYS_MAX),
            registrations_by_address: RateTable::new(registrations_per_minute, KEYS_MAX),
        };
        AccountLimits { hasher: RandomState::new(), tables: Mutex::new(tables) }
    }

    /// Counts a login that begins. `email_key` is what [`rules::email_key`](super::rules::email_key) makes of the email
    /// that was sent.
    ///
    /// A login that is refused for the address is not counted for the account, so nobody can lock others out from an
    /// address that is refused.
    ///
    /// # Errors
    /// [`AccountError::TooManyLogins`], which does not depend on whether the account exists.
    pub fn begin_login(&self, address: IpAddr, email_key: &str, now: Instant) -> Result<(), AccountError> {
        let address = address_key(address);
        let account = self.hasher.hash_one(email_key);
        let mut tables = lock(&self.tables);
        let checked = tables
            .failures_by_address
            .check(&address, now)
            .and_then(|()| tables.logins_by_address.take(address, now))
            .and_then(|()| tables.logins_by_account.take(account, now));
        checked.map_err(|retry_after_seconds| AccountError::TooManyLogins { retry_after_seconds })
    }

    /// Counts a failed login: no account with this email, or another password. Logins that were begun at the same time
    /// may fail beyond the limit; then the address waits for longer.
    pub fn login_failed(&self, address: IpAddr, now: Instant) {
        lock(&self.tables).failures_by_address.charge(address_key(address), now);
    }

    /// Counts a registration.
    ///
    /// # Errors
    /// [`AccountError::TooManyRegistrations`].
    pub fn begin_registration(&self, address: IpAddr, now: Instant) -> Result<(), AccountError> {
        let checked = lock(&self.tables).registrations_by_address.take(address_key(address), now);
        checked.map_err(|retry_after_seconds| AccountError::TooManyRegistrations { retry_after_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn failures_count_strictly_and_successes_twenty_times_more_generously() {
        let limits = AccountLimits::new(10, 0);
        let now = Instant::now();
        let begin = |account: u32| limits.begin_login(ip("192.0.2.1"), &account.to_string(), now);
        assert!((0..200).all(|account| begin(account).is_ok()), "200 people behind one address");
        assert!(matches!(begin(200), Err(AccountError::TooManyLogins { retry_after_seconds: 1 })));
        let limits = AccountLimits::new(10, 0);
        for account in 0..10 {
            assert_eq!(limits.begin_login(ip("192.0.2.1"), &account.to_string(), now), Ok(()));
            limits.login_failed(ip("192.0.2.1"), now);
        }
        let refused = limits.begin_login(ip("::ffff:192.0.2.1"), "another", now);
        assert_eq!(refused, Err(AccountError::TooManyLogins { retry_after_seconds: 6 }));
        assert_eq!(limits.begin_login(ip("192.0.2.2"), "another", now), Ok(()), "another address");
    }

    #[test]
    fn an_account_is_limited_from_wherever_and_not_by_an_address_that_is_refused() {
        let limits = AccountLimits::new(2, 0);
        let now = Instant::now();
        (0..2).for_each(|_| limits.login_failed(ip("192.0.2.1"), now));
        assert!((0..10).all(|_| limits.begin_login(ip("192.0.2.1"), "bob", now).is_err()));
        assert_eq!(limits.begin_login(ip("192.0.2.2"), "bob", now), Ok(()));
        assert_eq!(limits.begin_login(ip("192.0.2.3"), "bob", now), Ok(()));
        let refused = limits.begin_login(ip("192.0.2.4"), "bob", now);
        assert_eq!(refused, Err(AccountError::TooManyLogins { retry_after_seconds: 30 }));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let limits = AccountLimits::new(0, 1);
        let now = Instant::now();
        assert_eq!(limits.begin_registration(ip("2001:db8::1"), now), Ok(()));
        let refused = limits.begin_registration(ip("2001:db8::ffff:2"), now);
        assert_eq!(refused, Err(AccountError::TooManyRegistrations { retry_after_seconds: 60 }));
        assert_eq!(limits.begin_registration(ip("2001:db8:0:1::1"), now), Ok(()));
    }

    #[test]
    fn zero_turns_a_limit_off() {
        let limits = AccountLimits::new(0, 0);
        let now = Instant::now();
        for _ in 0..1000 {
            limits.login_failed(ip("192.0.2.1"), now);
            assert_eq!(limits.begin_login(ip("192.0.2.1"), "a", now), Ok(()));
            assert_eq!(limits.begin_registration(ip("192.0.2.1"), now), Ok(()));
        }
    }
}
