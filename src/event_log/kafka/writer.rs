//! The appending end: one producer, which is replaced when it has failed for good, and when the topic takes smaller or
//! larger batches than was known: librdkafka fixes the size of a batch when a producer is made.
//!
//! Any thread appends. The producer has a polling thread of its own, which reports what could not be delivered;
//! replacing a producer takes one more for a moment. None of them is ever waited for in [`Appender::append`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};

use super::topic_settings::{BATCH_BYTES_MAX, TopicSettings, record_bytes_max};
use super::topic_watch::RefusalReports;
use super::{DropWithin, Ears, Hearsay, KafkaSettings, OpenError, PARTITION, PRODUCER, client_config, refused};
use crate::event_log::{AppendError, Appender, codec};
use crate::lobby::Record;
use crate::threads::lock;

/// How many records may wait for the broker, and as many again that came back and were not yet looked at.
const QUEUE_RECORDS: usize = 65_536;
/// How large they may be together.
const QUEUE_KIB: usize = 64 * 1024;
/// How long the producer tries. An outage that is shorter loses nothing.
const DELIVERY_TIMEOUT_MS: u64 = 30_000;
/// How far apart attempts to replace a producer that has failed for good are.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a purged producer is given to hand back its records.
const PURGE_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a producer that is replaced because of its batch size may take to deliver what it has.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(1);

fn producer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client_config(settings);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS.to_string())
        .set("queue.buffering.max.messages", QUEUE_RECORDS.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string());
    config
}

/// Where the producer's reports on deliveries go. Runs on the producer's own polling thread, and never waits.
struct Deliveries {
    ears: Ears,
    handed_back: Sender<Record>,
    refusals: RefusalReports,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.ears.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.ears.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Record>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<Record>) {
        if let Err((error, _)) = result {
            // A setting of the topic may be the cause: too small a limit, or compaction.
            if matches!(
                error.rdkafka_error_code(),
                Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation)
            ) {
                self.refusals.report();
            }
            self.ears.hearsay.warn(&format!("Kafka did not take a record for the topic {}: {error}", self.ears.topic));
            // Nobody listens any more only when the log is being dropped.
            let _ = self.handed_back.send(*record);
        }
    }
}

type LiveProducer = DropWithin<ThreadedProducer<Deliveries>>;

/// The present producer, and how to make the next one.
pub(super) struct Writer {
    topic: String,
    config: ClientConfig,
    hearsay: Arc<Hearsay>,
    handed_back: Sender<Record>,
    /// The other end of `handed_back`, for its length: it is unbounded, as a report must not wait, and
    /// `append` refuses while [`QUEUE_RECORDS`] lie in it. So at most twice that many records are held here.
    undelivered: Receiver<Record>,
    refusals: RefusalReports,
    /// Of the present producer, and of the next.
    batch_bytes_max: AtomicUsize,
    producer: RwLock<Arc<LiveProducer>>,
    renewal: Mutex<Renewal>,
}

struct Renewal {
    running: bool,
    last: Option<Instant>,
}

impl Writer {
    /// Failed deliveries go to `handed_back`, of which `undelivered` is the other end; what the topic refuses is reported
    /// to `refusals`.
    pub(super) fn open(
        settings: &KafkaSettings,
        hearsay: Arc<Hearsay>,
        handed_back: Sender<Record>,
        undelivered: Receiver<Record>,
        refusals: RefusalReports,
    ) -> Result<Arc<Self>, OpenError> {
        let config = producer_config(settings);
        let ears = Ears { client: PRODUCER, topic: settings.topic.clone(), hearsay: Arc::clone(&hearsay) };
        let deliveries = Deliveries { ears, handed_back: handed_back.clone(), refusals: refusals.clone() };
        let producer = new_producer(&config, BATCH_BYTES_MAX, deliveries).map_err(refused)?;
        Ok(Arc::new(Writer {
            topic: settings.topic.clone(),
            config,
            hearsay,
            handed_back,
            undelivered,
            refusals,
            batch_bytes_max: AtomicUsize::new(BATCH_BYTES_MAX),
            producer: RwLock::new(Arc::new(producer)),
            renewal: Mutex::new(Renewal { running: false, last: None }),
        }))
    }

    /// Logs this unless it was logged within the last minute.
    pub(super) fn warn(&self, text: &str) {
        self.hearsay.warn(text);
    }

    /// Keeps batches below the limit of the topic from now on. Delivers first what was appended before, as far as Kafka
    /// takes it within a second; the rest is reported undelivered. Called by the log thread, before it reads, and by the
    /// thread that watches the topic.
    pub(super) fn adapt_to(&self, settings: &TopicSettings) {
        let bytes = settings.batch_bytes_max();
        if self.batch_bytes_max.swap(bytes, Ordering::AcqRel) == bytes {
            return;
        }
        match settings.warning(&self.topic) {
            Some(warning) => self.warn(&warning),
            None => log::info!("the topic {} takes batches of up to {bytes} bytes", self.topic),
        }
        let new = match self.next_producer() {
            Ok(new) => Arc::new(new),
            Err(error) => return log::error!("no new Kafka producer could be made: {error}"),
        };
        // Held while the old producer delivers, so that no later record gets ahead of its records.
        let mut present = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let is_delivered = present.flush(REPLACE_TIMEOUT).is_ok();
        let old = std::mem::replace(&mut *present, new);
        drop(present);
        if !is_delivered {
            hand_back_the_rest(&old);
        }
    }

    fn next_producer(&self) -> Result<LiveProducer, KafkaError> {
        let ears = Ears { client: PRODUCER, topic: self.topic.clone(), hearsay: Arc::clone(&self.hearsay) };
        let deliveries = Deliveries { ears, handed_back: self.handed_back.clone(), refusals: self.refusals.clone() };
        new_producer(&self.config, self.batch_bytes_max.load(Ordering::Acquire), deliveries)
    }

    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        lock(&self.renewal)
    }

    /// Has the producer replaced, on another thread as `append` must not wait, unless that was just done.
    fn renew(self: &Arc<Self>) {
        let mut renewal = self.renewal();
        if renewal.running || renewal.last.is_some_and(|last| last.elapsed() < RENEWAL_INTERVAL) {
            return;
        }
        *renewal = Renewal { running: true, last: Some(Instant::now()) };
        let writer = Arc::clone(self);
        let started = thread::Builder::new().name("kafka-renew".into()).spawn(move || {
            writer.replace_producer();
            writer.renewal().running = false;
        });
        renewal.running = started.is_ok();
    }

    fn replace_producer(&self) {
        let new = match self.next_producer() {
            Ok(new) => Arc::new(new),
            Err(error) => return log::error!("no new Kafka producer could be made: {error}"),
        };
        let mut present = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *present, new);
        drop(present);
        let reason = old.client().fatal_error().map_or_else(String::new, |(_, reason)| reason);
        self.warn(&format!("the Kafka producer failed for good and was replaced: {reason}"));
        hand_back_the_rest(&old);
    }
}

fn new_producer(
    config: &ClientConfig,
    batch_bytes_max: usize,
    deliveries: Deliveries,
) -> Result<LiveProducer, KafkaError> {
    let bytes = batch_bytes_max.to_string();
    let mut config = config.clone();
    // The first bounds a single record, the second a batch of several.
    config.set("message.max.bytes", &bytes).set("batch.size", &bytes);
    Ok(DropWithin(Some(config.create_with_context(deliveries)?)))
}

/// Gives up what `producer` still holds: it comes back as undelivered.
fn hand_back_the_rest(producer: &ThreadedProducer<Deliveries>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    if producer.flush(PURGE_TIMEOUT).is_err() {
        log::warn!("the Kafka producer did not hand back {} records in time", producer.in_flight_count());
    }
}

/// The [`Appender`] in Kafka.
pub(super) struct KafkaAppender(pub(super) Arc<Writer>);

impl Appender for KafkaAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        let writer = &self.0;
        if writer.undelivered.len() >= QUEUE_RECORDS {
            return Err(AppendError::Full);
        }
        let bytes = codec::encode(&record).map_err(|error| {
            log::error!("a record cannot be written as JSON: {error}");
            AppendError::Unavailable
        })?;
        let message: BaseRecord<'_, (), [u8], _> =
            BaseRecord::with_opaque_to(&writer.topic, Box::new(record)).partition(PARTITION).payload(&bytes);
        // Held for as long as it takes to put one record into a queue.
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
                // The topic may take more by now than when it was asked.
                if writer.batch_bytes_max.load(Ordering::Acquire) < BATCH_BYTES_MAX {
                    writer.refusals.report();
                }
                Err(AppendError::TooLarge)
            }
            code => {
                if code == Some(Code::Fatal) {
                    writer.renew();
                }
                writer.warn(&format!("Kafka takes no records: {error}"));
                Err(AppendError::Unavailable)
            }
        }
    }

    fn record_bytes_max(&self) -> usize {
        record_bytes_max(self.0.batch_bytes_max.load(Ordering::Acquire))
    }

    /// What has not arrived by then is given up shortly before, so that it is handed back by then.
    fn flush(&self, deadline: Instant) {
        let producer = Arc::clone(&self.0.producer.read().unwrap_or_else(PoisonError::into_inner));
        let time = deadline.saturating_duration_since(Instant::now());
        if producer.flush(time.saturating_sub(PURGE_TIMEOUT)).is_err() {
            hand_back_the_rest(&producer);
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::event_log::kafka::open;
    use crate::lobby::{Body, InstanceId};

    fn record(seq: u64) -> Record {
        Record { from: InstanceId(1), seq, at: "x".into(), body: Body::Heartbeat { n: seq } }
    }

    /// A real broker fails a producer for good too seldom to be waited for; this imitation does so when told.
    #[test]
    fn a_producer_that_failed_for_good_hands_back_and_is_replaced() {
        let cluster = MockCluster::new(1).expect("an imitation of a cluster");
        cluster.create_topic("lobby", 1, 1).expect("a topic");
        cluster.request_errors(
            RDKafkaApiKey::InitProducerId,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
        );
        let brokers = cluster.bootstrap_servers();
        let settings = KafkaSettings { brokers, topic: "lobby".into(), ..KafkaSettings::default() };
        let mut log = open(&settings).expect("opening");
        log.reader.rewind(10).expect("rewinding");

        let deadline = Instant::now() + Duration::from_secs(30);
        let (mut taken, mut accounted_for, mut refused) = (Vec::new(), Vec::new(), 0);
        let mut entries = Vec::new();
        for seq in 1.. {
            assert!(Instant::now() < deadline, "no new producer, or it does not work: {refused} refused");
            match log.appender.append(record(seq)) {
                Ok(()) => taken.push(seq),
                Err(_) => refused += 1,
            }
            log.reader.poll(Duration::from_millis(10), 10, &mut entries).expect("polling");
            if !entries.is_empty() {
                break;
            }
        }
        assert!(refused > 0, "the first producer never failed");
        while accounted_for.len() + entries.len() < taken.len() {
            assert!(Instant::now() < deadline, "{taken:?}: only {accounted_for:?} and {entries:?}");
            log.reader.poll(Duration::from_millis(10), 1000, &mut entries).expect("polling");
            accounted_for.extend(log.undelivered.try_iter().map(|record| record.seq));
        }
        accounted_for.extend(entries.iter().map(|entry| entry.record.seq));
        assert_eq!(accounted_for, taken);
    }
}
