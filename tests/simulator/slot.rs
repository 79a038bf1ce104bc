//! [`Slot`]: a place where a process runs, and what is wrong with it at present.

use super::process::Process;
use super::{Millis, STEP};

/// After this long with a way to the log, being cut off before is no excuse.
const FORGIVEN_AFTER: Millis = 5_000;

#[derive(Default)]
pub struct Slot {
    pub process: Option<Process>,
    pub paused_until: Millis,
    pub cannot_append_until: Millis,
    pub cannot_read_until: Millis,
    /// The queue is full, half of the time.
    pub refuses_until: Millis,
    /// Set while the process stops gracefully: when it exits at the latest.
    pub exits_at: Option<Millis>,
    /// Since when nothing at all has been wrong.
    pub sound_since: Millis,
    /// Time in which the process was running, first with no way to the log, then with one again.
    pub cut_off_for: Millis,
    reconnected_for: Millis,
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

    /// A process that was just started here.
    pub fn start(&mut self, process: Process, now: Millis) {
        *self = Slot { process: Some(process), sound_since: now, ..Slot::default() };
    }

    /// Ends whatever is wrong.
    pub fn heal(&mut self) {
        self.paused_until = 0;
        self.cannot_append_until = 0;
        self.cannot_read_until = 0;
        self.refuses_until = 0;
    }

    /// Keeps account of what is wrong in this step.
    pub fn observe(&mut self, is_log_down: bool, now: Millis) {
        let is_cut_off = is_log_down || !self.can_append(now) || !self.can_read(now) || self.refuses(now);
        if is_cut_off || self.is_paused(now) {
            self.sound_since = now;
        }
        if self.is_paused(now) {
            return;
        }
        if is_cut_off {
            self.cut_off_for += STEP;
            self.reconnected_for = 0;
        } else {
            self.reconnected_for += STEP;
            if self.reconnected_for > FORGIVEN_AFTER {
                self.cut_off_for = 0;
            }
        }
    }
}
