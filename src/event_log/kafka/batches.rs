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

use super::producer::MESSAGE_TIMEOUT;
use super::writer::Writer;
use crate::event_log::batch_timer::BatchTimer;
use crate::event_log::queue::{Queue, Queued};
use crate::lobby::Record;

/// The most records of one batch. The producer's queue has room for 100,000.
const BATCH_RECORDS: usize = 4096;
/// No more records are added to a batch that has more than this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// The minimum time between two batches, on average. Each costs a request to Kafka, and an answer to each reader.
const BATCH_INTERVAL: Duration = Duration::from_millis(4);
/// The age at which a record is reported undelivered, at the latest. A message of a user gets its error then.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// The age from which on the producer gets a record no more: it could not report it within [`DELIVERY_TIMEOUT`].
const QUEUE_TIMEOUT: Duration = DELIVERY_TIMEOUT.saturating_sub(MESSAGE_TIMEOUT);
/// How long the report of a record may take after [`MESSAGE_TIMEOUT`]. If it takes longer, the next batch does not wait
/// for it.
const REPORT_DELAY: Duration = Duration::from_secs(5);

pub(super) struct Batches {
    queue: Arc<Queue>,
    writer: Arc<Writer>,
    undelivered: Sender<Record>,
    timer: BatchTimer,
}

impl Batches {
    pub(super) fn new(queue: Arc<Queue>, writer: Arc<Writer>, undelivered: Sender<Record>) -> Self {
        Batches { queue, writer, undelivered, timer: BatchTimer::new(BATCH_INTERVAL, None, Instant::now()) }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut batch = VecDeque::new();
        while self.queue.wait_filled(None) {
            thread::sleep(self.timer.wait(Instant::now()));
            self.queue.take(&mut batch, BATCH_RECORDS, BATCH_BYTES);
            let now = Instant::now();
            self.timer.on_batch(now);
            let (records, bytes) = (batch.len(), batch.iter().map(|queued| queued.json.len()).sum());
            batch.drain(..).for_each(|queued| self.send(queued, now));
            self.writer.wait_reported(MESSAGE_TIMEOUT + REPORT_DELAY);
            self.queue.settle(records, bytes);
        }
    }

    /// `now` is the same for the whole batch: so a record is never too old if an earlier one is not, and the records that
    /// are too old are reported in order.
    fn send(&self, queued: Queued, now: Instant) {
        let age = now.saturating_duration_since(queued.queued_at);
        let sent = if age < QUEUE_TIMEOUT { self.writer.send(queued) } else { Err(queued.record) };
        if let Err(record) = sent {
            // The receiver is gone only while the event log is being dropped.
            let _ = self.undelivered.send(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::config::KafkaSettings;
    use crate::event_log::kafka::diagnostics::Diagnostics;
    use crate::event_log::kafka::topic_watch::RefusalReports;
    use crate::lobby::{Body, InstanceId};

    /// The producer tries for [`MESSAGE_TIMEOUT`], 15 seconds: an older record would be reported too late.
    #[test]
    fn a_record_is_reported_undelivered_if_the_producer_could_not_report_it_within_30_seconds() {
        let settings =
            KafkaSettings { brokers: "127.0.0.1:1".into(), topic: "lobby".into(), ..KafkaSettings::default() };
        let (sender, undelivered) = unbounded();
        let (refusals, _reported) = RefusalReports::new();
        let diagnostics = Arc::new(Diagnostics::new(&settings));
        let writer = Writer::open(&settings, diagnostics, sender.clone(), refusals).expect("opening");
        let batches = Batches::new(Arc::new(Queue::new(10, 1000)), writer, sender);
        let queued_at = Instant::now();
        let send = |seq, age| {
            let record = Record { from: InstanceId(1), seq, at: "x".into(), body: Body::Heartbeat { n: seq } };
            batches.send(Queued { record, json: "{}".into(), queued_at }, queued_at + age);
            undelivered.try_recv().ok().map(|record: Record| record.seq)
        };
        assert_eq!(send(1, Duration::from_secs(15)), Some(1), "the producer is not asked");
        assert_eq!(send(2, Duration::from_secs(14)), None, "the producer tries");
        assert_eq!(send(3, Duration::from_secs(60)), Some(3));
    }
}
