//! librdkafka's producer: its configuration, and [`DeliveryContext`], which receives its delivery reports and counts
//! those that are still missing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer, ProducerContext, PurgeConfig, ThreadedProducer};

use super::diagnostics::{Client, Diagnostics, KafkaContext};
use super::drop_within::DropWithin;
use super::topic_watch::RefusalReports;
use super::{KafkaSettings, client_config};
use crate::lobby::Record;
use crate::threads::lock;

/// The size of the producer's own queue, in KiB. It has one batch of `batch_sender.rs`.
const QUEUE_KIB: usize = 64 * 1024;
/// How long the producer tries to deliver a record. An outage that is shorter loses nothing.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a purged producer may take to report its records undelivered.
const PURGE_TIMEOUT: Duration = Duration::from_millis(250);

pub(super) type LiveProducer = DropWithin<ThreadedProducer<DeliveryContext>>;

/// Creates producers for one topic, which all report to the same channels.
pub(super) struct ProducerFactory {
    topic: String,
    config: ClientConfig,
    diagnostics: Arc<Diagnostics>,
    undelivered: Sender<Record>,
    refusals: RefusalReports,
}

impl ProducerFactory {
    /// The producers send undelivered records to `undelivered`, and report to `refusals` that the topic refused a
    /// record.
    pub(super) fn new(
        settings: &KafkaSettings,
        diagnostics: Arc<Diagnostics>,
        undelivered: Sender<Record>,
        refusals: RefusalReports,
    ) -> Self {
        let mut config = client_config(settings);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string());
        ProducerFactory { topic: settings.topic.clone(), config, diagnostics, undelivered, refusals }
    }

    /// Creates a producer whose batches have at most `batch_bytes_max` bytes.
    pub(super) fn create(&self, batch_bytes_max: usize) -> KafkaResult<LiveProducer> {
        let bytes = batch_bytes_max.to_string();
        let mut config = self.config.clone();
        // The first bounds a single record, the second a batch of several records.
        config.set("message.max.bytes", &bytes).set("batch.size", &bytes);
        let (topic, diagnostics) = (self.topic.clone(), Arc::clone(&self.diagnostics));
        let context = DeliveryContext {
            kafka: KafkaContext { client: Client::Producer, topic, diagnostics },
            undelivered: self.undelivered.clone(),
            refusals: self.refusals.clone(),
            unreported: Unreported::default(),
            has_timed_out: AtomicBool::new(false),
        };
        Ok(DropWithin::new(config.create_with_context(context)?))
    }
}

/// Receives the delivery reports, on the polling thread of the producer. Never waits.
pub(super) struct DeliveryContext {
    kafka: KafkaContext,
    undelivered: Sender<Record>,
    refusals: RefusalReports,
    pub(super) unreported: Unreported,
    /// A record was reported undelivered after [`MESSAGE_TIMEOUT`].
    pub(super) has_timed_out: AtomicBool,
}

/// The number of records of one producer that it has neither delivered nor reported undelivered.
#[derive(Default)]
pub(super) struct Unreported {
    count: Mutex<usize>,
    none: Condvar,
}

impl Unreported {
    /// Called before a record is sent, so that its report cannot come first.
    pub(super) fn add(&self) {
        *lock(&self.count) += 1;
    }

    /// Called for each report, and if the producer does not accept the record.
    pub(super) fn remove(&self) {
        let mut count = lock(&self.count);
        *count -= 1;
        if *count == 0 {
            self.none.notify_all();
        }
    }

    /// Waits until there are none, up to `timeout`. False if there are still some.
    pub(super) fn wait_none(&self, timeout: Duration) -> bool {
        let waited = self.none.wait_timeout_while(lock(&self.count), timeout, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.kafka.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.kafka.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.kafka.stats_raw(statistics);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<Record>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<Record>) {
        if let Err((error, _)) = result {
            if error.rdkafka_error_code() == Some(Code::MessageTimedOut) {
                self.has_timed_out.store(true, Ordering::Release);
            }
            // A setting of the topic may be the cause: a limit that is too small, or compaction.
            if matches!(
                error.rdkafka_error_code(),
                Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation)
            ) {
                self.refusals.report();
            }
            let topic = &self.kafka.topic;
            match error.rdkafka_error_code() {
                Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                    self.kafka.diagnostics.warn_no_write(topic);
                }
                // The producer was replaced, and its failure was logged.
                Some(Code::PurgeQueue | Code::PurgeInflight) => {}
                _ => {
                    self.kafka
                        .diagnostics
                        .warn(&format!("Kafka did not accept a record for the topic {topic}: {error}"));
                }
            }
            // The receiver is gone only while the event log is being dropped.
            let _ = self.undelivered.send(*record);
        }
        self.unreported.remove();
    }
}

/// Reports all records undelivered that `producer` has not delivered yet. Waits [`PURGE_TIMEOUT`] at most.
pub(super) fn purge(producer: &LiveProducer) {
    let unreported = &producer.context().unreported;
    if unreported.wait_none(Duration::ZERO) {
        return;
    }
    producer.purge(PurgeConfig::default().queue().inflight());
    // Not by `flush`, which polls on this thread, too: two threads would not report in order.
    if !unreported.wait_none(PURGE_TIMEOUT) {
        log::warn!("the Kafka producer did not report {} records undelivered in time", producer.in_flight_count());
    }
}
