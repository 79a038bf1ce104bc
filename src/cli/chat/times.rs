//! Times of the server in the time zone of this machine. Pure, except for the time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The time of a frame. `None` if the server sends something else.
pub(super) fn local(sent_at: &str) -> Option<Zoned> {
    sent_at.parse::<Timestamp>().ok().map(|at| at.to_zoned(TimeZone::system()))
}
