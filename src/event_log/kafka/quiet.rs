//! Saying something often without saying it each time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::threads::lock;

/// Lets one line through per interval, and counts those it held back.
pub(super) struct Quiet {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Quiet {
    pub(super) fn new(interval: Duration) -> Self {
        Quiet { interval, state: Mutex::default() }
    }

    /// `Some` when a line may be said at `now`: what to put behind it, empty or about those held back before.
    pub(super) fn may_say(&self, now: Instant) -> Option<String> {
        let mut state = lock(&self.state);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        match std::mem::take(&mut state.held_back) {
            0 => Some(String::new()),
            more => Some(format!(" ({more} more since the last such line)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_the_others_counted() {
        let quiet = Quiet::new(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(quiet.may_say(start).as_deref(), Some(""));
        assert_eq!(quiet.may_say(start + Duration::from_secs(1)), None);
        assert_eq!(quiet.may_say(start + Duration::from_secs(9)), None);
        assert_eq!(
            quiet.may_say(start + Duration::from_secs(10)).as_deref(),
            Some(" (2 more since the last such line)")
        );
        assert_eq!(quiet.may_say(start + Duration::from_secs(20)).as_deref(), Some(""));
    }
}
