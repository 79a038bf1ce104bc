//! [`AddressLimit`]: limits how often each address may send one kind of request.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use crate::accounts::rate_table::RateTable;
use crate::net::address_key;
use crate::threads::lock;

/// How many addresses it remembers: at most about 4 MB.
const KEYS_MAX: usize = 65_536;

/// See the module. Any thread; the lock is held for a few map operations.
pub(crate) struct AddressLimit(Mutex<RateTable<IpAddr>>);

impl AddressLimit {
    /// `None`: unlimited. An IPv6 address is counted by its network (see [`address_key`]).
    pub(crate) fn per_minute(limit: Option<NonZeroU32>) -> Self {
        AddressLimit(Mutex::new(RateTable::new(limit, KEYS_MAX)))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// After how many seconds (at least 1) a request is accepted.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        lock(&self.0).take(address_key(address), now)
    }
}
