//! [`RefusalLog`]: logs requests that a limit or a setting refused, with the address of the client and the origin of the
//! page. A flood of refusals does not become a flood of lines.
//!
//! Shared by all connection threads; the locks are held only briefly.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use log::warn;

use super::api_error::ApiError;
use crate::log_throttle::LogThrottle;
use crate::net::address_key;
use crate::rate::{Rate, TokenBucket};
use crate::threads::lock;

/// All lines together, for a flood from many addresses.
const LINES: Rate = Rate::per_minute(NonZeroU32::new(30).unwrap());

/// One line a minute for the same client and reason, and [`LINES`] in total.
pub(crate) struct RefusalLog {
    clients: LogThrottle,
    total: Mutex<Total>,
}

struct Total {
    lines: TokenBucket,
    /// Refusals that this limit kept out of the log since the last line.
    suppressed: u64,
}

impl RefusalLog {
    pub(crate) fn new(now: Instant) -> Self {
        RefusalLog {
            clients: LogThrottle::default(),
            total: Mutex::new(Total { lines: TokenBucket::full(now), suppressed: 0 }),
        }
    }

    /// Logs that the server refused a request of the client at `address`, sent by a page of `origin`.
    pub(crate) fn log(&self, error: ApiError, address: IpAddr, origin: Option<&str>) {
        if let Some(line) = self.line(error, address, origin, Instant::now()) {
            warn!("{line}");
        }
    }

    fn line(&self, error: ApiError, address: IpAddr, origin: Option<&str>, now: Instant) -> Option<String> {
        let code = error.row().code;
        let origin = origin.map(|origin| format!(", origin {origin}")).unwrap_or_default();
        let client = format!("{code} {}{origin}", address_key(address));
        let mut total = lock(&self.total);
        // The limit of all lines comes first: `may_log` resets the count of the client, which belongs in the line.
        if total.lines.check(LINES, now).is_err() {
            total.suppressed += 1;
            return None;
        }
        let repeated = self.clients.may_log(&client, now)?;
        total.lines.charge(LINES, now);
        let others = match std::mem::take(&mut total.suppressed) {
            0 => String::new(),
            suppressed => format!(" ({suppressed} other refusals were not logged)"),
        };
        Some(format!("refused a request of {address}: {code}{origin}{repeated}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_one_client_and_a_flood_of_many_are_few_lines() {
        let start = Instant::now();
        let log = RefusalLog::new(start);
        let line = |address: [u8; 4], seconds| {
            log.line(
                ApiError::OriginNotAllowed,
                address.into(),
                Some("https://a.example"),
                start + Duration::from_secs(seconds),
            )
        };
        let first = "refused a request of 192.0.2.1: origin_not_allowed, origin https://a.example";
        assert_eq!(line([192, 0, 2, 1], 0).as_deref(), Some(first));
        assert!((0..1000).all(|_| line([192, 0, 2, 1], 1).is_none()));
        assert_eq!(line([192, 0, 2, 1], 61), Some(format!("{first} (1000 more since the last such line)")));
        let many = (0..=255).flat_map(|c| (0..=255).map(move |d| [198, 51, c, d]));
        assert!((28..=30).contains(&many.filter(|address| line(*address, 61).is_some()).count()));
        let after = line([192, 0, 2, 9], 70).unwrap();
        assert!(after.contains(" other refusals were not logged)"), "{after}");
    }
    #[test]
    fn no_refusal_is_missing_in_the_counts() {
        let start = Instant::now();
        let log = RefusalLog::new(start);
        let line = |last, seconds| {
            log.line(ApiError::TooManyLogins, [192, 0, 2, last].into(), None, start + Duration::from_secs(seconds))
        };
        assert!(line(1, 0).is_some());
        assert!((0..1000).all(|_| line(1, 1).is_none()));
        // Others use up the lines, so that the next line about the first client is not logged.
        assert!((2..32).all(|client| line(client, 61).is_some()));
        assert_eq!(line(1, 61), None);
        let first = "refused a request of 192.0.2.1: too_many_logins";
        let counts = "(1000 more since the last such line) (1 other refusals were not logged)";
        assert_eq!(line(1, 130), Some(format!("{first} {counts}")));
    }
}
