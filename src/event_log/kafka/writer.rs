//! [`KafkaAppender`]: appends records with the current producer. [`Writer`] replaces the producer when it has failed
//! permanently, and when the limits of the topic have changed, because the batch size of a producer cannot change.
//!
//! Any thread appends, and never waits. A failed producer is replaced on a thread of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer};

use super::diagnostics::Diagnostics;
use super::producer::{LiveProducer, ProducerFactory, QUEUE_RECORDS, purge};
use super::topic_settings::{BATCH_BYTES_MAX, TopicSettings, record_bytes_max};
use super::topic_watch::RefusalReports;
use super::{KafkaSettings, OpenError, PARTITION, open_error};
use crate::event_log::{AppendError, Appender, codec};
use crate::lobby::Record;
use crate::threads::{self, Stack, lock};

/// The time between two replacements of failed producers, at least.
const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(2);
/// How long a producer that is replaced because of its batch size may take to deliver its records.
const LAST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    topic: String,
    diagnostics: Arc<Diagnostics>,
    factory: ProducerFactory,
    refusals: RefusalReports,
    /// The receiving end of the channel of undelivered records, for its length. The channel is unbounded, because a
    /// delivery report must not wait; `append` refuses records while it holds [`QUEUE_RECORDS`]. So the queue of the
    /// producer and this channel hold at most twice that many records.
    undelivered: Receiver<Record>,
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
    /// `undelivered` and `undelivered_sender` are the two ends of the channel of undelivered records. `refusals` is
    /// notified when the topic refuses a record.
    pub(super) fn open(
        settings: &KafkaSettings,
        diagnostics: Arc<Diagnostics>,
        undelivered_sender: Sender<Record>,
        undelivered: Receiver<Record>,
        refusals: RefusalReports,
    ) -> Result<Arc<Self>, OpenError> {
        let factory = ProducerFactory::new(settings, Arc::clone(&diagnostics), undelivered_sender, refusals.clone());
        let producer = factory.create(BATCH_BYTES_MAX).map_err(open_error)?;
        Ok(Arc::new(Writer {
            topic: settings.topic.clone(),
            diagnostics,
            factory,
            refusals,
            undelivered,
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

pub(super) struct KafkaAppender(pub(super) Arc<Writer>);

impl Appender for KafkaAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        let writer = &self.0;
        if writer.undelivered.len() >= QUEUE_RECORDS {
            return Err(AppendError::Full);
        }
        let bytes = codec::encode(&record).map_err(|error| {
            log::error!("a record cannot be encoded as JSON: {error}");
            AppendError::Unavailable
        })?;
        let message: BaseRecord<'_, (), [u8], _> =
            BaseRecord::with_opaque_to(&writer.topic, Box::new(record)).partition(PARTITION).payload(&bytes);
        // Locked only while one record is put into the queue.
        let producer = match writer.producer.try_read() {
            Ok(producer) => producer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The producer is being replaced.
            Err(TryLockError::WouldBlock) => return Err(AppendError::Full),
        };
        let Err((error, _)) = producer.send(message) else { return Ok(()) };
        drop(producer);
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => Err(AppendError::Full),
            Some(Code::MessageSizeTooLarge) => {
                // The limit of the topic may have been raised since it was read.
                if writer.batch_bytes_max.load(Ordering::Acquire) < BATCH_BYTES_MAX {
                    writer.refusals.report();
                }
                Err(AppendError::TooLarge)
            }
            // The replacement logs the reason.
            Some(Code::Fatal) => {
                writer.start_replacement();
                Err(AppendError::Unavailable)
            }
            _ => {
                writer.warn(&format!("Kafka accepts no records: {error}"));
                Err(AppendError::Unavailable)
            }
        }
    }

    /// 0 while the producer is being replaced.
    fn queued_records(&self) -> usize {
        self.0.producer.try_read().map_or(0, |producer| usize::try_from(producer.in_flight_count()).unwrap_or(0))
    }

    fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.0.batch_bytes_max.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests;
