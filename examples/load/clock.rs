//! The clock of this tool: monotonic nanoseconds since its start.
//!
//! A message carries its due time and the receiver computes the latency. So all processes of this tool count from the
//! same moment: a worker process gets it from its parent, as a time of the system's clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// When the clock of this process began, and the nanoseconds that the clock showed then.
static START: OnceLock<(Instant, u64)> = OnceLock::new();

/// Nanoseconds since the start of this tool.
pub fn now_ns() -> u64 {
    let (begun, shown_ns) = START.get_or_init(|| (Instant::now(), 0));
    shown_ns + nanos(begun.elapsed())
}

/// The time of the system's clock at which this clock was 0, in nanoseconds since 1970.
pub fn origin() -> u64 {
    system_ns() - now_ns()
}

/// Makes this clock count from `origin`, which another process returned. To be called before anything else here.
pub fn start_at(origin: u64) {
    START.get_or_init(|| (Instant::now(), system_ns().saturating_sub(origin)));
}

fn system_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos)
}

/// Converts a duration to nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts nanoseconds to seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
