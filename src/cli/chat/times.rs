//! Times of the server. Pure, except for the time zone of this machine.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The time of a frame. `None` if the server sends something else.
pub(super) fn parse(sent_at: &str) -> Option<Timestamp> {
    sent_at.parse().ok()
}

/// As [`parse`], in the time zone of this machine.
pub(super) fn local(sent_at: &str) -> Option<Zoned> {
    parse(sent_at).map(|at| at.to_zoned(TimeZone::system()))
}
