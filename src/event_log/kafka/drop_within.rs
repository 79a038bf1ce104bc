//! [`DropWithin`]: drops a client of librdkafka within a bounded time.

use std::ops::Deref;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::threads::{self, Stack};

/// How long dropping a client may block the thread that drops it.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Drops its value on another thread and waits [`DROP_TIMEOUT`] at most: librdkafka waits for its own threads, and one
/// of them may be in the middle of a name lookup.
pub(super) struct DropWithin<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropWithin<T> {
    pub(super) fn new(value: T) -> Self {
        DropWithin(Some(value))
    }
}

impl<T: Send + 'static> Deref for DropWithin<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop() takes the value")
    }
}

impl<T: Send + 'static> Drop for DropWithin<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let (dropped, wait) = bounded::<()>(0);
        let thread = threads::spawn("kafka-drop", Stack::Normal, move || {
            drop(value);
            drop(dropped);
        });
        if thread.is_ok() && wait.recv_timeout(DROP_TIMEOUT).is_err_and(|error| error.is_timeout()) {
            log::warn!("closing a Kafka client takes longer than {} s: not waiting for it", DROP_TIMEOUT.as_secs());
        }
    }
}
