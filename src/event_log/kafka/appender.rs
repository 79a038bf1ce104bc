//! [`KafkaAppender`]: puts records into the queue. Any thread appends, and never waits.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::batch_limit::BatchLimit;
use super::topic_settings::record_bytes_max;
use super::topic_watch::RefusalReports;
use crate::event_log::queue::Queue;
use crate::event_log::{AppendError, Appender};
use crate::lobby::Record;

/// The most records that wait for Kafka.
pub(super) const QUEUE_RECORDS: usize = 65_536;
/// The most bytes of these records, as JSON.
pub(super) const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// How long dropping the log waits until the queued records are sent and their thread has ended.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// The [`Appender`]. Dropping it closes the queue, and waits [`DROP_TIMEOUT`] at most until the queued records are sent
/// and the thread that sends them has closed the producer and ended.
pub(super) struct KafkaAppender {
    pub(super) queue: Arc<Queue>,
    pub(super) limit: Arc<BatchLimit>,
    pub(super) refusals: RefusalReports,
    /// The receiving end of the channel of undelivered records, used only for its length. The channel is unbounded,
    /// because a delivery report must not wait; `append` refuses records while it has [`QUEUE_RECORDS`].
    pub(super) undelivered: Receiver<Record>,
    /// The thread that sends; taken on drop.
    pub(super) thread: Option<JoinHandle<()>>,
    /// Disconnected when this thread has done its work.
    pub(super) ended: Receiver<()>,
}

impl Appender for KafkaAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        if self.undelivered.len() >= QUEUE_RECORDS {
            return Err(AppendError::Full);
        }
        let encoded = self.queue.encode(&record, self.record_bytes_max());
        if encoded == Err(AppendError::TooLarge) {
            self.refusals.report_too_large(&self.limit);
        }
        self.queue.push(record, encoded?)
    }

    fn queued_records(&self) -> usize {
        self.queue.unsettled()
    }

    fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.limit.bytes())
    }
}

impl Drop for KafkaAppender {
    fn drop(&mut self) {
        let deadline = Instant::now() + DROP_TIMEOUT;
        self.queue.close();
        self.queue.wait_settled(deadline);
        if let (Err(RecvTimeoutError::Disconnected), Some(thread)) =
            (self.ended.recv_deadline(deadline), self.thread.take())
        {
            let _ = thread.join();
        }
    }
}
