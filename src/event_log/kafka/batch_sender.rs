//! [`BatchSender`]: the thread that gives the queued records to the producer, one batch at a time. It owns the producer.
//!
//! The next batch waits until Kafka has answered the one before. So the batches grow with the load and with the time
//! that Kafka takes. Without this thread, librdkafka would send each record in a request of its own, up to five at a
//! time. While further records wait, its thread asks for the answers in a loop without a pause. That takes a core, and
//! Kafka answers even later if it has no core for itself.
//!
//! The thread replaces the producer when it has failed permanently, and when the limit of the topic has changed, because
//! the batch size of a producer cannot change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer};

use super::batch_limit::BatchLimit;
use super::diagnostics::Diagnostics;
use super::producer::{LiveProducer, MESSAGE_TIMEOUT, ProducerFactory, purge};
use super::topic_watch::RefusalReports;
use super::{KafkaSettings, OpenError, PARTITION, open_error};
use crate::event_log::batch_timer::BatchTimer;
use crate::event_log::queue::{Queue, Queued};
use crate::lobby::Record;

/// The most records of one batch. The producer's queue has room for 100,000.
const BATCH_RECORDS: usize = 4096;
/// No more records are added to a batch that has more than this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// The minimum time between two batches, on average. Each costs a request to Kafka, and an answer to each reader.
const BATCH_INTERVAL: Duration = Duration::from_millis(4);
/// How long the report of a record may take after [`MESSAGE_TIMEOUT`]. If it takes longer, the next batch does not wait
/// for it.
const REPORT_DELAY: Duration = Duration::from_secs(5);
/// How often the thread checks whether a producer that does not report has failed permanently.
const FAILURE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two replacements of the producer with the same batch size, at least.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct BatchSender {
    topic: String,
    diagnostics: Arc<Diagnostics>,
    queue: Arc<Queue>,
    limit: Arc<BatchLimit>,
    refusals: RefusalReports,
    undelivered: Sender<Record>,
    factory: ProducerFactory,
    producer: LiveProducer,
    /// The largest batch of the producer, in bytes.
    batch_bytes_max: usize,
    last_replacement: Option<Replacement>,
    timer: BatchTimer,
}

/// The replacement of a producer, also if it failed.
struct Replacement {
    begun_at: Instant,
    batch_bytes_max: usize,
}

impl BatchSender {
    /// `undelivered` gets the records that Kafka does not accept. `refusals` is notified when the topic refuses one.
    pub(super) fn open(
        settings: &KafkaSettings,
        diagnostics: Arc<Diagnostics>,
        queue: Arc<Queue>,
        limit: Arc<BatchLimit>,
        undelivered: Sender<Record>,
        refusals: RefusalReports,
    ) -> Result<Self, OpenError> {
        let factory = ProducerFactory::new(settings, Arc::clone(&diagnostics), undelivered.clone(), refusals.clone());
        let batch_bytes_max = limit.bytes();
        let producer = factory.create(batch_bytes_max).map_err(open_error)?;
        Ok(BatchSender {
            topic: settings.topic.clone(),
            diagnostics,
            queue,
            limit,
            refusals,
            undelivered,
            factory,
            producer,
            batch_bytes_max,
            last_replacement: None,
            timer: BatchTimer::new(BATCH_INTERVAL, None, Instant::now()),
        })
    }

    /// Runs until the queue is closed and empty. Closes the producer then.
    pub(super) fn run(mut self) {
        let mut batch = VecDeque::new();
        while self.queue.wait_filled(None) {
            thread::sleep(self.timer.wait(Instant::now()));
            self.queue.take(&mut batch, BATCH_RECORDS, BATCH_BYTES);
            let now = Instant::now();
            self.timer.on_batch(now);
            let (records, bytes) = (batch.len(), batch.iter().map(|queued| queued.json.len()).sum());
            // After the records were taken: so the limit is not older than the one with which they were appended.
            self.renew_producer();
            batch.drain(..).for_each(|queued| self.send(queued));
            self.wait_reported(MESSAGE_TIMEOUT + REPORT_DELAY);
            self.queue.settle(records, bytes);
            if self.producer.context().has_timed_out.swap(false, Ordering::AcqRel) {
                self.report_waiting();
            }
        }
    }

    /// Gives a record to the producer, which delivers it or reports it undelivered.
    fn send(&mut self, queued: Queued) {
        let message: BaseRecord<'_, (), str, _> =
            BaseRecord::with_opaque_to(&self.topic, Box::new(queued.record)).partition(PARTITION).payload(&queued.json);
        self.producer.context().unreported.add();
        let Err((error, refused)) = self.producer.send(message) else { return };
        self.producer.context().unreported.remove();
        let record = *refused.delivery_opaque;
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => self.refusals.report_too_large(&self.limit),
            Some(Code::Fatal) => self.on_failed(),
            _ => self.diagnostics.warn(&format!("Kafka accepts no records: {error}")),
        }
        self.report_undelivered(record);
    }

    /// Reports the waiting records undelivered: Kafka did not answer for as long as they waited. In the producer they would
    /// wait for a second [`MESSAGE_TIMEOUT`].
    fn report_waiting(&self) {
        let mut waiting = VecDeque::new();
        self.queue.take(&mut waiting, usize::MAX, usize::MAX);
        self.queue.settle(waiting.len(), waiting.iter().map(|queued| queued.json.len()).sum());
        waiting.into_iter().for_each(|queued| self.report_undelivered(queued.record));
    }

    fn report_undelivered(&self, record: Record) {
        // The receiver is gone only while the event log is being dropped.
        let _ = self.undelivered.send(record);
    }

    /// Waits until the producer has delivered all its records or reported them undelivered, up to `timeout`, or until it
    /// has failed permanently.
    fn wait_reported(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.producer.context().unreported.wait_none(FAILURE_CHECK_INTERVAL) && Instant::now() < deadline {
            if self.producer.client().fatal_error().is_some() {
                self.on_failed();
            }
        }
    }

    /// The producer has failed permanently. Its records are reported undelivered at once, also if it is not replaced yet:
    /// so their reports come before those of later records.
    fn on_failed(&mut self) {
        purge(&self.producer);
        self.renew_producer();
    }

    /// Replaces the producer if it has failed permanently, or if its batch size is not the limit of the topic. Its
    /// remaining records are reported undelivered. Does nothing if the same was tried within [`REPLACEMENT_INTERVAL`].
    fn renew_producer(&mut self) {
        let batch_bytes_max = self.limit.bytes();
        let failure = self.producer.client().fatal_error();
        let is_right = failure.is_none() && batch_bytes_max == self.batch_bytes_max;
        let was_tried = self.last_replacement.as_ref().is_some_and(|last| {
            last.batch_bytes_max == batch_bytes_max && last.begun_at.elapsed() < REPLACEMENT_INTERVAL
        });
        if is_right || was_tried {
            return;
        }
        self.last_replacement = Some(Replacement { begun_at: Instant::now(), batch_bytes_max });
        let new = match self.factory.create(batch_bytes_max) {
            Ok(producer) => producer,
            Err(error) => return log::error!("no new Kafka producer could be created: {error}"),
        };
        if let Some((code, reason)) = failure {
            self.warn_failed(code, &reason);
        }
        purge(&self.producer);
        (self.producer, self.batch_bytes_max) = (new, batch_bytes_max);
    }

    fn warn_failed(&self, code: Code, reason: &str) {
        if matches!(code, Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed) {
            self.diagnostics.warn_no_write(&self.topic);
        } else {
            self.diagnostics.warn(&format!("the Kafka producer failed permanently and was replaced: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests;
