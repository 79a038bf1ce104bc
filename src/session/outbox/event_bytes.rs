//! [`EventBytes`]: the events that the sessions of a fan-out thread get next.

use std::sync::Arc;

/// Consecutive events of the lobby, as whole frames. All sessions of a fan-out thread share the bytes. A *position* is
/// the number of bytes of all events that the thread got before.
#[derive(Debug, Clone)]
pub struct EventBytes {
    begin: u64,
    frames: Arc<[u8]>,
}

impl EventBytes {
    /// The events in `frames`, which begin at the position `begin`.
    #[must_use]
    pub fn new(begin: u64, frames: Arc<[u8]>) -> Self {
        EventBytes { begin, frames }
    }

    /// The position after the last event.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.begin + self.frames.len() as u64
    }

    /// All frames.
    pub(crate) fn frames(&self) -> &Arc<[u8]> {
        &self.frames
    }

    /// Where in the frames the events from `position` on begin: the length of the frames if there are none.
    pub(super) fn offset(&self, position: u64) -> usize {
        debug_assert!((self.begin..=self.end()).contains(&position), "events before {} are missing", self.begin);
        usize::try_from(position.saturating_sub(self.begin)).map_or(self.frames.len(), |at| at.min(self.frames.len()))
    }
}
