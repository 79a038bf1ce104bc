//! [`KafkaAppender`] puts records into the queue; any thread appends, and never waits. [`Writer`] sends them with the
//! current producer, for the thread of `batches`. It replaces the producer when it has failed permanently, and when the
//! limits of the topic have changed, because the batch size of a producer cannot change.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer};

use super::diagnostics::Diagnostics;
use super::producer::{LiveProducer, ProducerFactory, purge};
use super::topic_settings::{BATCH_BYTES_MAX, TopicSettings, record_bytes_max};
use super::topic_watch::RefusalReports;
use super::{KafkaSettings, OpenError, PARTITION, open_error};
use crate::event_log::queue::{Queue, Queued};
use crate::event_log::{AppendError, Appender};
use crate::lobby::Record;
use crate::threads::{self, Stack, lock};

/// The most records that wait for Kafka.
pub(super) const QUEUE_RECORDS: usize = 65_536;
/// The most bytes of these records, as JSON.
pub(super) const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// How long dropping the log waits until the queued records are sent and their thread has ended.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the writer checks whether a producer that does not report has failed permanently.
const FAILURE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two replacements of failed producers, at least.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(2);
/// How long a producer that is replaced because of its batch size may take to deliver its records.
const LAST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    topic: String,
    diagnostics: Arc<Diagnostics>,
    factory: ProducerFactory,
    refusals: RefusalReports,
    /// The largest batch of the current producer and of the next one, in bytes.
    batch_bytes_max: AtomicUsize,
    producer: RwLock<Arc<LiveProducer>>,
    replacement: Mutex<Replacement>,
}

#[derive(Default)]
struct Replacement {
    is_running: bool,
    last_start: Option<Instant>,
}

impl Writer {
    /// `undelivered` gets the records that Kafka does not accept. `refusals` is notified when the topic refuses one.
    pub(super) fn open(
        settings: &KafkaSettings,
        diagnostics: Arc<Diagnostics>,
        undelivered: Sender<Record>,
        refusals: RefusalReports,
    ) -> Result<Arc<Self>, OpenError> {
        let factory = ProducerFactory::new(settings, Arc::clone(&diagnostics), undelivered, refusals.clone());
        let producer = factory.create(BATCH_BYTES_MAX).map_err(open_error)?;
        Ok(Arc::new(Writer {
            topic: settings.topic.clone(),
            diagnostics,
            factory,
            refusals,
            batch_bytes_max: AtomicUsize::new(BATCH_BYTES_MAX),
            producer: RwLock::new(Arc::new(producer)),
            replacement: Mutex::default(),
        }))
    }

    /// Logs a warning, unless the same text was logged in the last minute.
    pub(super) fn warn(&self, text: &str) {
        self.diagnostics.warn(text);
    }

    /// Keeps batches below the limit of the topic from now on. The old producer delivers its records first, for a
    /// second at most; the rest is reported undelivered. Called by the log thread before it reads, and by the thread
    /// that watches the topic.
    pub(super) fn adapt_to(&self, settings: &TopicSettings) {
        let bytes = settings.batch_bytes_max();
        if self.batch_bytes_max.swap(bytes, Ordering::AcqRel) == bytes {
            return;
        }
        match settings.warning(&self.topic) {
            Some(warning) => self.warn(&warning),
            None => log::info!("the topic {} accepts batches of up to {bytes} bytes", self.topic),
        }
        let Some(new) = self.next_producer() else { return };
        // Locked while the old producer delivers, so that no later record comes before its records.
        let mut present = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let is_delivered = present.flush(LAST_DELIVERY_TIMEOUT).is_ok();
        let old = std::mem::replace(&mut *present, new);
        drop(present);
        if !is_delivered {
            purge(&old);
        }
    }

    /// Gives a record to the producer, which delivers it or reports it undelivered.
    ///
    /// # Errors
    /// The record: the producer does not accept it.
    pub(super) fn send(self: &Arc<Self>, queued: Queued) -> Result<(), Record> {
        let message: BaseRecord<'_, (), str, _> =
            BaseRecord::with_opaque_to(&self.topic, Box::new(queued.record)).partition(PARTITION).payload(&queued.json);
        // Locked only while one record is put into the queue of the producer.
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner);
        producer.context().unreported.add();
        let Err((error, refused)) = producer.send(message) else { return Ok(()) };
        producer.context().unreported.remove();
        drop(producer);
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => self.on_too_large(),
            // The replacement logs the reason.
            Some(Code::Fatal) => self.start_replacement(),
            _ => self.warn(&format!("Kafka accepts no records: {error}")),
        }
        Err(*refused.delivery_opaque)
    }

    /// The limit of the topic may have been raised since it was read.
    fn on_too_large(&self) {
        if self.batch_bytes_max.load(Ordering::Acquire) < BATCH_BYTES_MAX {
            self.refusals.report();
        }
    }

    /// Waits until the current producer has delivered all its records or reported them undelivered, up to `timeout`.
    /// Replaces the producer if it fails permanently meanwhile; its records are then reported.
    pub(super) fn wait_reported(self: &Arc<Self>, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let producer = Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner));
        while !producer.context().unreported.wait_none(FAILURE_CHECK_INTERVAL) && Instant::now() < deadline {
            if producer.client().fatal_error().is_some() {
                self.start_replacement();
            }
        }
    }

    fn next_producer(&self) -> Option<Arc<LiveProducer>> {
        match self.factory.create(self.batch_bytes_max.load(Ordering::Acquire)) {
            Ok(producer) => Some(Arc::new(producer)),
            Err(error) => {
                log::error!("no new Kafka producer could be created: {error}");
                None
            }
        }
    }

    fn replacement(&self) -> MutexGuard<'_, Replacement> {
        lock(&self.replacement)
    }

    /// Replaces the failed producer on another thread, because `append` must not wait. Does nothing if a replacement
    /// runs or has just run.
    fn start_replacement(self: &Arc<Self>) {
        let mut replacement = self.replacement();
        let is_recent = replacement.last_start.is_some_and(|start| start.elapsed() < REPLACEMENT_INTERVAL);
        if replacement.is_running || is_recent {
            return;
        }
        *replacement = Replacement { is_running: true, last_start: Some(Instant::now()) };
        let writer = Arc::clone(self);
        let thread = threads::spawn("kafka-replace", Stack::Normal, move || {
            writer.replace_producer();
            writer.replacement().is_running = false;
        });
        replacement.is_running = thread.is_ok();
    }

    fn replace_producer(&self) {
        let Some(new) = self.next_producer() else { return };
        let mut present = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *present, new);
        drop(present);
        match old.client().fatal_error() {
            Some((Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed, _)) => {
                self.diagnostics.warn_no_write(&self.topic);
            }
            Some((_, reason)) => {
                self.warn(&format!("the Kafka producer failed permanently and was replaced: {reason}"));
            }
            None => {}
        }
        purge(&old);
    }
}

/// The [`Appender`]. Dropping it closes the queue, and waits [`DROP_TIMEOUT`] at most until the queued records are sent
/// and the thread that sends them has ended.
pub(super) struct KafkaAppender {
    pub(super) writer: Arc<Writer>,
    pub(super) queue: Arc<Queue>,
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
        let appended = self.queue.append(record, self.record_bytes_max());
        if appended == Err(AppendError::TooLarge) {
            self.writer.on_too_large();
        }
        appended
    }

    fn queued_records(&self) -> usize {
        self.queue.unsettled()
    }

    fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.writer.batch_bytes_max.load(Ordering::Acquire))
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

#[cfg(test)]
mod tests;
