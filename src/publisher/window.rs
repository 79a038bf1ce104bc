//! [`PresenceWindow`]: bounds the joins and leaves of this instance in flight, and keeps the leaves that wait.
//!
//! A chat message waits behind every record that was appended before it. So during a join or leave burst only some of
//! the joins and leaves are in flight at a time. The other leaves wait here, and the other joins wait in their session
//! threads.
//!
//! Pure. The lock of the publisher protects it.

use std::collections::VecDeque;

use crate::limits::PRESENCE_IN_FLIGHT_MAX;
use crate::lobby::SessionId;

/// The joins and leaves in flight, and the sessions whose `left` waits.
#[derive(Debug, Default)]
pub(super) struct PresenceWindow {
    /// The `seq` of each `joined` and `left` in flight, in order.
    in_flight: VecDeque<u64>,
    /// Sessions that have closed and whose `left` was not appended yet.
    leaving: VecDeque<SessionId>,
}

impl PresenceWindow {
    /// Whether one more record may be appended now.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < PRESENCE_IN_FLIGHT_MAX
    }

    /// A `joined` or `left` with this `seq` was appended. Each `seq` is greater than the one before.
    pub(super) fn appended(&mut self, seq: u64) {
        self.in_flight.push_back(seq);
    }

    /// The record of this instance with this `seq` was read back. Records that were appended before it and were not
    /// read back until now will never be read back.
    pub(super) fn on_read(&mut self, seq: u64) {
        while self.in_flight.front().is_some_and(|first| *first <= seq) {
            self.in_flight.pop_front();
        }
    }

    /// The log reported the record with this `seq` undelivered.
    pub(super) fn undelivered(&mut self, seq: u64) {
        if let Ok(index) = self.in_flight.binary_search(&seq) {
            self.in_flight.remove(index);
        }
    }

    /// A session has closed: [`PresenceWindow::next_leaving`] returns it when there is room.
    pub(super) fn leave(&mut self, session: SessionId) {
        self.leaving.push_back(session);
    }

    /// The next session whose `left` may be appended now. While the server drains no `left` is appended, so that no
    /// session has to wait.
    pub(super) fn next_leaving(&mut self, is_draining: bool) -> Option<SessionId> {
        if is_draining || self.has_room() { self.leaving.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PresenceWindow {
        let mut window = PresenceWindow::default();
        (1..=PRESENCE_IN_FLIGHT_MAX as u64).for_each(|seq| window.appended(seq));
        assert!(!window.has_room());
        window
    }

    #[test]
    fn a_left_waits_until_a_record_was_read() {
        let mut window = full();
        window.leave(SessionId(7));
        window.leave(SessionId(8));
        window.leave(SessionId(9));
        assert_eq!(window.next_leaving(false), None);
        window.on_read(1);
        assert_eq!(window.next_leaving(false), Some(SessionId(7)));
        window.appended(1000);
        assert_eq!(window.next_leaving(false), None);
        window.on_read(2);
        assert_eq!(window.next_leaving(false), Some(SessionId(8)));
        window.appended(1001);
        assert_eq!(window.next_leaving(false), None);
        assert_eq!(window.next_leaving(true), Some(SessionId(9)));
    }

    #[test]
    fn records_that_are_never_read_do_not_close_the_window_for_ever() {
        let mut window = full();
        window.undelivered(17);
        assert!(window.has_room());
        window.appended(1000);
        // For example a heartbeat that was appended after all of them.
        window.on_read(1001);
        assert_eq!(window.in_flight.len(), 0);
    }
}
