//! [`BatchLimit`]: the largest batch that the topic accepts, as far as this instance knows.
//!
//! The log thread, the archive thread and the thread of `topic_watch.rs` store the limit after they have read the
//! settings of the topic. The thread of `batch_sender.rs` reads it before each batch, and the threads that append read it
//! for each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::diagnostics::Diagnostics;
use super::topic_settings::{BATCH_BYTES_MAX, TopicSettings};

pub(super) struct BatchLimit {
    topic: String,
    diagnostics: Arc<Diagnostics>,
    bytes: AtomicUsize,
}

impl BatchLimit {
    /// [`BATCH_BYTES_MAX`], until the settings of the topic are known.
    pub(super) fn new(topic: String, diagnostics: Arc<Diagnostics>) -> Self {
        BatchLimit { topic, diagnostics, bytes: AtomicUsize::new(BATCH_BYTES_MAX) }
    }

    /// The largest batch in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// True if a topic could accept larger batches.
    pub(super) fn is_lowered(&self) -> bool {
        self.bytes() < BATCH_BYTES_MAX
    }

    /// Keeps the batches below the limit of the topic from now on.
    pub(super) fn adapt_to(&self, settings: &TopicSettings) {
        let bytes = settings.batch_bytes_max();
        if self.bytes.swap(bytes, Ordering::AcqRel) == bytes {
            return;
        }
        match settings.warning(&self.topic) {
            Some(warning) => self.warn(&warning),
            None => log::info!("the topic {} accepts batches of up to {bytes} bytes", self.topic),
        }
    }

    /// Logs a warning about the topic, unless the same text was logged in the last minute.
    pub(super) fn warn(&self, text: &str) {
        self.diagnostics.warn(text);
    }
}
