//! The wall clock: times that users see, times in HTTP and in tokens. Deadlines use [`std::time::Instant`] instead. Any
//! thread.

use std::sync::Arc;

use jiff::{Timestamp, Zoned, fmt::rfc2822};

/// The current time in RFC 3339, with nanoseconds and the local offset: the `sent_at` of a frame.
#[must_use]
pub(crate) fn rfc3339() -> Arc<str> {
    Zoned::now().strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string().into()
}

/// The current time in the format of the `Date` header (RFC 9110, section 5.6.7).
#[must_use]
pub(crate) fn http_date() -> String {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default()
}

/// The current time in seconds since 1970-01-01 UTC; 0 before that.
#[must_use]
pub(crate) fn unix_seconds() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// [`unix_seconds`] in the integer type of the databases.
#[must_use]
pub(crate) fn stored_unix_seconds() -> i64 {
    i64::try_from(unix_seconds()).unwrap_or(i64::MAX)
}

/// The current time in milliseconds since 1970-01-01 UTC; 0 before that.
#[must_use]
pub(crate) fn unix_millis() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A time in milliseconds since 1970-01-01 UTC, for users: RFC 3339 in UTC, without fractions of a second.
#[must_use]
pub(crate) fn shown_millis(millis: u64) -> String {
    let time = i64::try_from(millis / 1000).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_at_has_nanoseconds_and_an_offset() {
        let text = rfc3339();
        let (seconds, rest) = text.split_once('.').unwrap();
        assert_eq!(seconds.len(), "2026-11-23T10:00:00".len());
        assert_eq!(rest.len(), "000000001+01:00".len());
        assert!(text.parse::<Timestamp>().is_ok());
    }

    #[test]
    fn the_http_date_is_in_gmt() {
        assert!(http_date().ends_with(" GMT"), "{}", http_date());
    }
}
