//! [`Slot`]: one process, if it runs, and its current faults.

use super::process::Process;
use super::{Millis, STEP};

/// After this time with a connection to the log, an earlier partition does not explain a failure.
const RECONNECTED_AFTER: Millis = 5_000;

#[derive(Default)]
pub struct Slot {
    pub process: Option<Process>,
    pub paused_until: Millis,
    pub cannot_append_until: Millis,
    pub cannot_read_until: Millis,
    /// The queue is full for half of the records.
    pub refuses_until: Millis,
    /// Set while the process stops gracefully: the latest time of its exit.
    pub exits_at: Option<Millis>,
    /// The end of the last fault.
    pub undisturbed_since: Millis,
    /// How long the process ran without a connection to the log.
    pub disconnected_for: Millis,
    /// How long the process has run with a connection since then.
    connected_for: Millis,
}

impl Slot {
    pub fn is_paused(&self, now: Millis) -> bool {
        self.paused_until > now
    }

    pub fn can_append(&self, now: Millis) -> bool {
        self.cannot_append_until <= now
    }

    pub fn can_read(&self, now: Millis) -> bool {
        self.cannot_read_until <= now
    }

    pub fn refuses(&self, now: Millis) -> bool {
        self.refuses_until > now
    }

    pub fn is_stopping(&self) -> bool {
        self.exits_at.is_some()
    }

    /// Starts `process` in this slot, without faults.
    pub fn start(&mut self, process: Process, now: Millis) {
        *self = Slot { process: Some(process), undisturbed_since: now, ..Slot::default() };
    }

    /// Ends all faults.
    pub fn end_faults(&mut self) {
        self.paused_until = 0;
        self.cannot_append_until = 0;
        self.cannot_read_until = 0;
        self.refuses_until = 0;
    }

    /// Counts the faults of this step.
    pub fn observe(&mut self, is_log_down: bool, now: Millis) {
        let is_disconnected = is_log_down || !self.can_append(now) || !self.can_read(now) || self.refuses(now);
        if is_disconnected || self.is_paused(now) {
            self.undisturbed_since = now;
        }
        if self.is_paused(now) {
            return;
        }
        if is_disconnected {
            self.disconnected_for += STEP;
            self.connected_for = 0;
        } else {
            self.connected_for += STEP;
            if self.connected_for > RECONNECTED_AFTER {
                self.disconnected_for = 0;
            }
        }
    }
}
