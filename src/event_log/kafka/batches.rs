//! [`Batches`]: the thread that gives the queued records to the producer, one batch at a time.
//!
//! The next batch waits until Kafka has answered the one before. So the batches grow with the load and with the time
//! that Kafka takes. Without this thread, librdkafka would send each record in a request of its own, up to five at a
//! time. While further records wait, its thread asks for the answers in a loop without a pause. That takes a core, and
//! Kafka answers even later if it has no core for itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::producer::DELIVERY_TIMEOUT;
use super::writer::Writer;
use crate::event_log::pace::Pace;
use crate::event_log::queue::{Queue, Queued};
use crate::lobby::Record;

/// The most records of one batch. The producer's queue has room for 100,000.
const BATCH_RECORDS: usize = 4096;
/// No more records are added to a batch that has more than this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// The minimum time between two batches, on average. Each costs a request to Kafka, and an answer to each reader.
const BATCH_INTERVAL: Duration = Duration::from_millis(4);
/// How long the report of a record may take after [`DELIVERY_TIMEOUT`]. If it takes longer, the next batch does not wait
/// for it.
const REPORT_DELAY: Duration = Duration::from_secs(5);

pub(super) struct Batches {
    queue: Arc<Queue>,
    writer: Arc<Writer>,
    undelivered: Sender<Record>,
    pace: Pace,
}

impl Batches {
    pub(super) fn new(queue: Arc<Queue>, writer: Arc<Writer>, undelivered: Sender<Record>) -> Self {
        Batches { queue, writer, undelivered, pace: Pace::new(BATCH_INTERVAL, None, Instant::now()) }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut batch = VecDeque::new();
        while self.queue.wait_filled(None) {
            thread::sleep(self.pace.wait(Instant::now()));
            self.queue.take(&mut batch, BATCH_RECORDS, BATCH_BYTES);
            let now = Instant::now();
            self.pace.on_batch(now);
            let (records, bytes) = (batch.len(), batch.iter().map(|queued| queued.json.len()).sum());
            batch.drain(..).for_each(|queued| self.send(queued, now));
            self.writer.wait_reported(DELIVERY_TIMEOUT + REPORT_DELAY);
            self.queue.settle(records, bytes);
        }
    }

    /// `now` is the same for the whole batch: so a record is never too old if an earlier one is not, and the records that
    /// are too old are reported in order.
    fn send(&self, queued: Queued, now: Instant) {
        let age = now.saturating_duration_since(queued.queued_at);
        let sent = if age < DELIVERY_TIMEOUT { self.writer.send(queued) } else { Err(queued.record) };
        if let Err(record) = sent {
            // The receiver is gone only while the event log is being dropped.
            let _ = self.undelivered.send(record);
        }
    }
}
