//! [`PresenceWindow`]: bounds the unsent joins and leaves of this instance, and keeps the leaves that wait.
//!
//! A join or leave is *unsent* from when it was appended until all fan-out threads of this instance have sent it. A chat
//! message waits behind every record that was appended before it, in the log and then in the fan-out. So during a burst
//! only some joins and leaves are unsent at a time. The other leaves wait here, and the other joins wait in their session
//! threads. The instances share the bound, because the fan-out threads of each send the joins and leaves of all.
//!
//! Pure. The lock of the publisher protects it.

use std::collections::VecDeque;

use crate::limits::{PRESENCE_DELIVERIES_UNSENT, PRESENCE_UNSENT_LARGE, PRESENCE_UNSENT_MAX, PRESENCE_UNSENT_MIN};
use crate::lobby::SessionId;

/// The unsent joins and leaves, and the sessions whose `left` waits.
#[derive(Debug)]
pub(super) struct PresenceWindow {
    /// The `seq` of each `joined` and `left` that was appended and not read back yet, in order.
    in_log: VecDeque<u64>,
    /// The number of those that were read back, and that some fan-out thread has not sent yet.
    in_fan_out: usize,
    /// The bound for this instance.
    unsent_max: usize,
    /// Sessions that have closed and whose `left` was not appended yet.
    leaving: VecDeque<SessionId>,
}

impl PresenceWindow {
    pub(super) fn new() -> Self {
        PresenceWindow {
            in_log: VecDeque::new(),
            in_fan_out: 0,
            unsent_max: PRESENCE_UNSENT_MAX,
            leaving: VecDeque::new(),
        }
    }

    /// A new incarnation begins: what was appended may never be read, and nobody has to leave.
    pub(super) fn restart(&mut self) {
        self.in_log.clear();
        self.leaving.clear();
    }

    /// Sets the bound for this instance, in a lobby of this many sessions and instances. An instance that has ended counts
    /// until its lease expires.
    pub(super) fn set_bound(&mut self, sessions: usize, instances: usize) {
        let all = PRESENCE_DELIVERIES_UNSENT / sessions.max(1);
        let all = all.clamp(PRESENCE_UNSENT_LARGE, PRESENCE_UNSENT_MAX);
        self.unsent_max = (all / instances.max(1)).max(PRESENCE_UNSENT_MIN);
    }

    /// Whether one more record may be appended now.
    pub(super) fn has_room(&self) -> bool {
        self.in_log.len() + self.in_fan_out < self.unsent_max
    }

    /// A `joined` or `left` with this `seq` was appended. Each `seq` is greater than the one before.
    pub(super) fn appended(&mut self, seq: u64) {
        self.in_log.push_back(seq);
    }

    /// The record of this instance with this `seq` was read back. True for a join or leave: it is unsent until
    /// [`PresenceWindow::on_sent`]. Records that were appended before it and were not read back until now will never be
    /// read back.
    pub(super) fn on_read(&mut self, seq: u64) -> bool {
        let mut last = None;
        while self.in_log.front().is_some_and(|first| *first <= seq) {
            last = self.in_log.pop_front();
        }
        let is_presence = last == Some(seq);
        self.in_fan_out += usize::from(is_presence);
        is_presence
    }

    /// All fan-out threads have sent this many of the joins and leaves that were read back.
    pub(super) fn on_sent(&mut self, count: usize) {
        self.in_fan_out = self.in_fan_out.saturating_sub(count);
    }

    /// The log reported the record with this `seq` undelivered.
    pub(super) fn undelivered(&mut self, seq: u64) {
        if let Ok(index) = self.in_log.binary_search(&seq) {
            self.in_log.remove(index);
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
        let mut window = PresenceWindow::new();
        (1..=PRESENCE_UNSENT_MAX as u64).for_each(|seq| window.appended(seq));
        assert!(!window.has_room());
        window
    }

    #[test]
    fn a_left_waits_until_a_record_was_read_and_sent() {
        let mut window = full();
        window.leave(SessionId(7));
        window.leave(SessionId(8));
        window.leave(SessionId(9));
        assert_eq!(window.next_leaving(false), None);
        assert!(window.on_read(1));
        assert_eq!(window.next_leaving(false), None);
        window.on_sent(1);
        assert_eq!(window.next_leaving(false), Some(SessionId(7)));
        window.appended(1000);
        assert_eq!(window.next_leaving(false), None);
        window.on_read(2);
        window.on_sent(1);
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
        assert!(!window.on_read(1001));
        assert_eq!((window.in_log.len(), window.in_fan_out), (0, 0));
    }

    #[test]
    fn the_bound_is_smaller_with_more_sessions_and_instances() {
        let mut window = PresenceWindow::new();
        let mut bound = |sessions, instances| {
            window.set_bound(sessions, instances);
            window.unsent_max
        };
        assert_eq!((bound(0, 0), bound(1, 1), bound(4_000, 1), bound(10_000, 1)), (512, 512, 200, 112));
        assert_eq!((bound(100_000, 1), bound(4_000, 2), bound(10_000, 2)), (112, 100, 56));
        assert_eq!((bound(1, 3), bound(1, 1_000)), (170, 32));
    }

    #[test]
    fn what_the_fan_out_has_stays_unsent_in_a_new_incarnation() {
        let mut window = full();
        window.leave(SessionId(7));
        assert!((1..=5).all(|seq| window.on_read(seq)));
        window.restart();
        assert_eq!((window.in_log.len(), window.in_fan_out), (0, 5));
        assert_eq!(window.next_leaving(false), None);
    }
}
