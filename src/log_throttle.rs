//! [`LogThrottle`]: logs a lasting condition once a minute instead of each time it is noticed.
//!
//! Shared by threads; holds its lock only for a lookup.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::threads::lock;

/// The time between two lines about the same condition.
const INTERVAL: Duration = Duration::from_secs(60);
/// The most conditions that are remembered. The condition that was logged longest ago is forgotten first.
const KEYS_MAX: usize = 32;

/// Allows one line per key and interval, and counts the lines that it suppresses.
#[derive(Default)]
pub(crate) struct LogThrottle {
    conditions: Mutex<Vec<Condition>>,
}

struct Condition {
    key: String,
    logged_at: Instant,
    suppressed: u64,
}

impl LogThrottle {
    /// Returns `Some` if a line about `key` may be logged at `now`. The text belongs at the end of the line: it is
    /// empty, or has the number of lines about `key` that were suppressed.
    pub(crate) fn may_log(&self, key: &str, now: Instant) -> Option<String> {
        let mut conditions = lock(&self.conditions);
        let Some(known) = conditions.iter_mut().find(|condition| condition.key == key) else {
            if conditions.len() >= KEYS_MAX {
                let oldest = (0..KEYS_MAX).min_by_key(|index| conditions[*index].logged_at);
                oldest.map(|index| conditions.swap_remove(index));
            }
            conditions.push(Condition { key: key.to_owned(), logged_at: now, suppressed: 0 });
            return Some(String::new());
        };
        if now.saturating_duration_since(known.logged_at) < INTERVAL {
            known.suppressed += 1;
            return None;
        }
        known.logged_at = now;
        match std::mem::take(&mut known.suppressed) {
            0 => Some(String::new()),
            suppressed => Some(format!(" ({suppressed} more since the last such line)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_is_logged_and_the_others_are_counted() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        let at = |seconds| throttle.may_log("a", start + Duration::from_secs(seconds));
        assert_eq!(at(0).as_deref(), Some(""));
        assert_eq!(at(1), None);
        assert_eq!(at(59), None);
        assert_eq!(at(60).as_deref(), Some(" (2 more since the last such line)"));
        assert_eq!(at(120).as_deref(), Some(""));
        assert_eq!(at(121), None);
        assert_eq!(at(7200).as_deref(), Some(" (1 more since the last such line)"), "two hours later");
    }

    #[test]
    fn another_condition_is_logged_at_once_and_the_number_of_conditions_is_bounded() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        for number in 0..1000 {
            assert!(throttle.may_log(&format!("condition {number}"), start + Duration::from_millis(number)).is_some());
        }
        assert_eq!(lock(&throttle.conditions).len(), KEYS_MAX);
        assert_eq!(throttle.may_log("condition 999", start + Duration::from_secs(2)), None);
        assert!(throttle.may_log("condition 0", start + Duration::from_secs(2)).is_some());
    }
}
