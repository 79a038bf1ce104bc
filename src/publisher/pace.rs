//! [`PresencePace`]: how many joins and leaves of this instance may be under way in the log at once.
//!
//! A message that is said while a crowd comes or goes waits behind what is in the log before it. So only so many joins
//! and leaves are put there before the first of them have come back out and gone to the fan-out, and the rest of the
//! crowd waits outside. It is a pace and no bound: nothing is refused for it.
//!
//! Pure; it lies behind the publisher's lock.

use std::collections::VecDeque;

use crate::lobby::SessionId;

/// Joins and leaves under way at once: some 10 KiB of events for everybody.
pub(super) const UNDER_WAY_MAX: usize = 128;

/// What is under way, and who waits to be reported as gone.
#[derive(Debug, Default)]
pub(super) struct PresencePace {
    /// The `seq` of each `joined` and `left` that has been appended and has not come back.
    under_way: VecDeque<u64>,
    /// Sessions that have closed and are not reported yet.
    leaving: VecDeque<SessionId>,
}

impl PresencePace {
    /// Whether another one may be appended now.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < UNDER_WAY_MAX
    }

    /// The `joined` or `left` with this number was appended. Numbers only grow.
    pub(super) fn appended(&mut self, seq: u64) {
        self.under_way.push_back(seq);
    }

    /// The instance's record with this number came back. One appended before it that did not come back never will.
    pub(super) fn came_back(&mut self, seq: u64) {
        while self.under_way.front().is_some_and(|first| *first <= seq) {
            self.under_way.pop_front();
        }
    }

    /// The log handed the record with this number back.
    pub(super) fn undelivered(&mut self, seq: u64) {
        if let Ok(place) = self.under_way.binary_search(&seq) {
            self.under_way.remove(place);
        }
    }

    /// A session has closed: it is reported in its turn, by [`PresencePace::next_leaving`].
    pub(super) fn leave(&mut self, session: SessionId) {
        self.leaving.push_back(session);
    }

    /// Who is to be reported as gone now.
    pub(super) fn next_leaving(&mut self) -> Option<SessionId> {
        if self.has_room() { self.leaving.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PresencePace {
        let mut pace = PresencePace::default();
        (1..=UNDER_WAY_MAX as u64).for_each(|seq| pace.appended(seq));
        assert!(!pace.has_room());
        pace
    }

    #[test]
    fn who_leaves_waits_until_something_has_come_back() {
        let mut pace = full();
        pace.leave(SessionId(7));
        pace.leave(SessionId(8));
        assert_eq!(pace.next_leaving(), None);
        pace.came_back(1);
        assert_eq!(pace.next_leaving(), Some(SessionId(7)));
        pace.appended(1000);
        assert_eq!(pace.next_leaving(), None);
        pace.came_back(2);
        assert_eq!(pace.next_leaving(), Some(SessionId(8)));
    }

    #[test]
    fn what_never_comes_back_holds_nobody_up_for_ever() {
        let mut pace = full();
        pace.undelivered(17);
        assert!(pace.has_room());
        pace.appended(1000);
        // A beat, say, that was appended behind all of them.
        pace.came_back(1001);
        assert_eq!(pace.under_way.len(), 0);
    }
}
