//! [`Round`]: what one fan-out thread sends next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Batch, OnSent};
use crate::limits::{COALESCING_DELAY_MAX, PRESENCE_COALESCING_DELAY_MAX, ROUND_BYTES_MAX, ROUND_DIRECT_BYTES_MAX};
use crate::lobby::SessionId;

#[derive(Default)]
pub(super) struct Round {
    /// The frames of the batches.
    batches: Vec<Arc<[u8]>>,
    /// Dropped with the round, when it was sent.
    on_sent: Vec<Arc<OnSent>>,
    /// The bytes of these frames.
    pub(super) bytes: usize,
    /// The number of these frames.
    pub(super) events: u64,
    /// The bytes of direct frames for the client that has the most.
    pub(super) direct_bytes: usize,
    /// Whether the events include a join or a leave.
    has_presence: bool,
    /// When this instance appended the oldest of its own messages in the round, if it has any.
    pub(super) oldest_append: Option<Instant>,
    /// Sessions with first frames or direct frames.
    pub(super) touched: Vec<SessionId>,
}

impl Round {
    /// Adds the events of a batch.
    pub(super) fn add(&mut self, batch: Batch) {
        self.has_presence |= batch.has_presence;
        self.on_sent.extend(batch.on_sent);
        self.oldest_append = self.oldest_append.or(batch.oldest_append);
        if !batch.frames.is_empty() {
            self.bytes += batch.frames.len();
            self.events += batch.events;
            self.batches.push(batch.frames);
        }
    }

    /// Whether further commands belong to the next round.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ROUND_BYTES_MAX || self.direct_bytes >= ROUND_DIRECT_BYTES_MAX
    }

    /// The frames of all batches, which are written to each socket in one call.
    pub(super) fn frames(&self) -> Arc<[u8]> {
        match self.batches.as_slice() {
            [] => Arc::from([]),
            [single] => single.clone(),
            several => several.concat().into(),
        }
    }

    /// The longest coalescing delay after this round.
    pub(super) fn delay_max(&self) -> Duration {
        if self.has_presence { PRESENCE_COALESCING_DELAY_MAX } else { COALESCING_DELAY_MAX }
    }
}
