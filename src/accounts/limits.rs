//! [`AccountLimits`]: how often an address and an account may try to log in, and how often an address may register.
//!
//! Pure: time is an argument. [`Accounts`](super::Accounts) calls it on the thread of the connection; the lock is held
//! for a few map operations.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use super::error::AccountError;
use super::rate_table::RateTable;
use crate::net::address_key;
use crate::threads::lock;

/// How many keys each of the four tables remembers: together at most about 16 MB.
const KEYS_MAX: usize = 65_536;
/// How many times more logins than failed logins an address may make: many users can share an address, and an attacker
/// who guesses passwords fails nearly always.
const LOGINS_PER_FAILURE: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// Makes guessing passwords slow, and keeps one address from filling the store with accounts.
///
/// | counted | per minute |
/// |---|---|
/// | failed logins of an address | `logins_per_minute` |
/// | logins of an address, failed or not | 20 times as many |
/// | logins of an account, failed or not, whether the account exists or not | `logins_per_minute` |
/// | registrations of an address | `registrations_per_minute` |
///
/// The requests of a whole minute may come at once; after that they are accepted evenly at this rate. All IPv6
/// addresses of one network count as one (see [`address_key`]).
pub struct AccountLimits {
    /// Accounts are remembered by a keyed hash, because the email in a request may be as long as the request.
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
    /// The limits per minute.
    #[must_use]
    pub fn new(logins_per_minute: Option<NonZeroU32>, registrations_per_minute: Option<NonZeroU32>) -> Self {
        let all_logins = logins_per_minute.map(|logins| logins.saturating_mul(LOGINS_PER_FAILURE));
        let tables = Tables {
            failures_by_address: RateTable::new(logins_per_minute, KEYS_MAX),
            logins_by_address: RateTable::new(all_logins, KEYS_MAX),
            logins_by_account: RateTable::new(logins_per_minute, KEYS_MAX),
            registrations_by_address: RateTable::new(registrations_per_minute, KEYS_MAX),
        };
        AccountLimits { hasher: RandomState::new(), tables: Mutex::new(tables) }
    }

    /// Counts a login that begins. `email_key` is [`rules::email_key`](super::rules::email_key) of the email in the
    /// request.
    ///
    /// A login that is refused because of its address is not counted for the account. So an address that is refused
    /// cannot lock an account.
    ///
    /// # Errors
    /// [`AccountError::TooManyLogins`]; it does not depend on whether the account exists.
    pub(crate) fn begin_login(&self, address: IpAddr, email_key: &str, now: Instant) -> Result<(), AccountError> {
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

    /// Counts a failed login: no account with this email, or a wrong password. Logins that began at the same time may
    /// fail beyond the limit; then the address has to wait longer.
    pub(crate) fn login_failed(&self, address: IpAddr, now: Instant) {
        lock(&self.tables).failures_by_address.charge(address_key(address), now);
    }

    /// Counts a registration.
    ///
    /// # Errors
    /// [`AccountError::TooManyRegistrations`].
    pub(crate) fn begin_registration(&self, address: IpAddr, now: Instant) -> Result<(), AccountError> {
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

    fn limits(logins_per_minute: u32, registrations_per_minute: u32) -> AccountLimits {
        AccountLimits::new(NonZeroU32::new(logins_per_minute), NonZeroU32::new(registrations_per_minute))
    }

    #[test]
    fn an_address_may_log_in_twenty_times_more_often_than_it_may_fail() {
        let now = Instant::now();
        let successes = limits(10, 0);
        let begin = |account: u32| successes.begin_login(ip("192.0.2.1"), &account.to_string(), now);
        assert!((0..200).all(|account| begin(account).is_ok()), "200 users behind one address");
        assert!(matches!(begin(200), Err(AccountError::TooManyLogins { retry_after_seconds: 1 })));
        let failures = limits(10, 0);
        for account in 0..10 {
            assert_eq!(failures.begin_login(ip("192.0.2.1"), &account.to_string(), now), Ok(()));
            failures.login_failed(ip("192.0.2.1"), now);
        }
        let refused = failures.begin_login(ip("::ffff:192.0.2.1"), "another", now);
        assert_eq!(refused, Err(AccountError::TooManyLogins { retry_after_seconds: 6 }));
        assert_eq!(failures.begin_login(ip("192.0.2.2"), "another", now), Ok(()), "another address");
    }

    #[test]
    fn an_account_is_limited_for_all_addresses_and_a_refused_address_does_not_count() {
        let limits = limits(2, 0);
        let now = Instant::now();
        (0..2).for_each(|_| limits.login_failed(ip("192.0.2.1"), now));
        assert!((0..10).all(|_| limits.begin_login(ip("192.0.2.1"), "bob", now).is_err()));
        assert_eq!(limits.begin_login(ip("192.0.2.2"), "bob", now), Ok(()));
        assert_eq!(limits.begin_login(ip("192.0.2.3"), "bob", now), Ok(()));
        let refused = limits.begin_login(ip("192.0.2.4"), "bob", now);
        assert_eq!(refused, Err(AccountError::TooManyLogins { retry_after_seconds: 30 }));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limits = limits(0, 1);
        let now = Instant::now();
        assert_eq!(limits.begin_registration(ip("2001:db8::1"), now), Ok(()));
        let refused = limits.begin_registration(ip("2001:db8::ffff:2"), now);
        assert_eq!(refused, Err(AccountError::TooManyRegistrations { retry_after_seconds: 60 }));
        assert_eq!(limits.begin_registration(ip("2001:db8:0:1::1"), now), Ok(()));
    }

    #[test]
    fn without_limits_nothing_is_refused() {
        let limits = AccountLimits::new(None, None);
        let now = Instant::now();
        for _ in 0..1000 {
            limits.login_failed(ip("192.0.2.1"), now);
            assert_eq!(limits.begin_login(ip("192.0.2.1"), "a", now), Ok(()));
            assert_eq!(limits.begin_registration(ip("192.0.2.1"), now), Ok(()));
        }
    }
}
