//! The event log in Apache Kafka: one topic with one partition, which all instances append to and read.
//!
//! Owns two clients of librdkafka, a producer behind [`Appender`] and a consumer behind [`Reader`]; nothing else in
//! this program touches that library. Each has threads of its own that connect, and connect again for ever; so that a
//! cluster that is away is no error here, but a log that is silent until it is back.
//!
//! - **Appending** puts the record into the producer's queue and returns. The producer is idempotent: what it sends
//!   again after a broken connection is in the log once, and in order. What it cannot deliver within
//!   [`DELIVERY_TIMEOUT_MS`] it hands back.
//! - **Reading** starts from an offset that this file computes. No consumer group, nothing is committed: each instance
//!   reads everything.

mod quiet;
mod settings;

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use self::quiet::Quiet;
pub use self::settings::{KafkaSettings, OpenError};
use super::{AppendError, Appender, Entry, EventLog, ReadError, Reader, Span, codec};
use crate::lobby::Record;

/// The only partition: one order for everybody.
const PARTITION: i32 = 0;
/// How many records may wait for the broker, and as many again that came back and were not yet looked at.
const QUEUE_RECORDS: usize = 65_536;
/// How large they may be together.
const QUEUE_KIB: usize = 64 * 1024;
/// How long the producer tries. An outage that is shorter loses nothing.
const DELIVERY_TIMEOUT_MS: u64 = 30_000;
/// How long one [`Reader::rewind`] may take.
const REWIND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before asking again whether a topic that was just made is there.
const TOPIC_RETRY: Duration = Duration::from_millis(50);
/// What the topic keeps, when it is made here: a day, in files that are small enough to be cut daily. Starting needs
/// seconds of it; the rest is for operators.
const TOPIC_CONFIG: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "86400000"),
    ("segment.ms", "21600000"),
    ("segment.bytes", "67108864"),
];
/// How far apart attempts to replace a producer that has failed for good are.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a purged producer is given to hand back its records.
const PURGE_TIMEOUT: Duration = Duration::from_millis(250);
/// How long dropping a client may hold its owner up.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);
/// At most one line of a kind in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the log. Returns at once, whether there is a broker or not: see [`Reader::rewind`].
///
/// # Errors
/// librdkafka refuses the settings.
pub fn open(settings: &KafkaSettings) -> Result<EventLog, OpenError> {
    settings.check()?;
    let (handed_back, undelivered) = unbounded();
    let skipped = Arc::new(AtomicU64::new(0));
    let hearsay = Hearsay::new();
    let writer = Writer::open(settings, Arc::clone(&hearsay), handed_back, undelivered.clone())?;
    let reader = KafkaReader::open(settings, hearsay, Arc::clone(&skipped))?;
    Ok(EventLog { appender: Arc::new(KafkaAppender(Arc::new(writer))), reader: Box::new(reader), undelivered, skipped })
}

/// What all clients have in common.
fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings.properties() {
        config.set(name, value);
    }
    config
        .set("client.id", "ich")
        // A chat waits for each record: never for a fuller packet.
        .set("socket.nagle.disable", "true")
        .set("socket.keepalive.enable", "true")
        // A broker that was stopped and holds its connections open is given up well within DELIVERY_TIMEOUT_MS.
        .set("socket.timeout.ms", "6000")
        .set("socket.connection.setup.timeout.ms", "6000")
        .set("reconnect.backoff.max.ms", "1000")
        // It would get as many partitions as the broker likes: the topic is made in `rewind`.
        .set("allow.auto.create.topics", "false");
    config
}

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

fn consumer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client_config(settings);
    config
        // librdkafka wants a name; nobody joins it and nothing is committed to it.
        .set("group.id", "ich")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A gap in what is read would be a wrong state: be told instead.
        .set("auto.offset.reset", "error")
        // Somebody else's open transaction must not hold up the log.
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("fetch.min.bytes", "1")
        .set("fetch.error.backoff.ms", "100")
        // Read ahead within bounds, and go on soon after the bound was met.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "20");
    config
}

/// The text of an error in the settings, without the value that librdkafka would put there: it may be a password.
fn refused(error: KafkaError) -> OpenError {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) if !value.is_empty() => {
            OpenError::Setting { name, reason: reason.replace(&value, "(its value)") }
        }
        KafkaError::ClientConfig(_, reason, name, _) => OpenError::Setting { name, reason },
        KafkaError::ClientCreation(reason) => OpenError::Together(reason),
        other => OpenError::Together(other.to_string()),
    }
}

/// What the clients report about themselves, on whichever thread polls them.
struct Ears {
    client: &'static str,
    hearsay: Arc<Hearsay>,
}

/// What was last heard, by any client, and how much of it was said in the log.
struct Hearsay {
    last_reason: Mutex<Option<String>>,
    trouble: Quiet,
    refusals: Quiet,
}

impl Hearsay {
    fn new() -> Arc<Self> {
        let quiet = || Quiet::new(LOG_INTERVAL);
        Arc::new(Hearsay { last_reason: Mutex::default(), trouble: quiet(), refusals: quiet() })
    }

    fn last_reason(&self) -> MutexGuard<'_, Option<String>> {
        self.last_reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether waiting does not help: an operator has to let this program in.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

impl ClientContext for Ears {
    /// Each of its lines that matters comes as an error, too.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::debug!(target: "librdkafka", "{} {level:?} {facility} {line}", self.client);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let client = self.client;
        match code {
            // Not errors: the end was reached; there is a group in name only.
            Code::PartitionEOF | Code::GroupAuthorizationFailed => return,
            _ if is_refusal(code) => {
                if let Some(more) = self.hearsay.refusals.may_say(Instant::now()) {
                    log::error!("Kafka does not let the {client} in, check the Kafka settings: {reason}{more}");
                }
            }
            _ => {
                if let Some(more) = self.hearsay.trouble.may_say(Instant::now()) {
                    log::warn!("Kafka, {client}: {reason}{more}");
                }
            }
        }
        // "All brokers are down" says less than what came before it.
        if code != Code::AllBrokersDown {
            *self.hearsay.last_reason() = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Ears {}

/// Ends its value on another thread, and waits for that only so long: librdkafka's threads may be in the middle of a
/// name look-up when they are told to end.
struct DropWithin<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Deref for DropWithin<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for DropWithin<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let (ended, wait) = bounded::<()>(0);
        let ending = thread::Builder::new().name("kafka-drop".into()).spawn(move || {
            drop(value);
            drop(ended);
        });
        if ending.is_ok() && wait.recv_timeout(DROP_TIMEOUT).is_err_and(|error| error.is_timeout()) {
            log::warn!("a Kafka client takes long to end; leaving it behind");
        }
    }
}

/// Where the producer's reports on deliveries go. Runs on the producer's own polling thread, and never waits.
struct Deliveries {
    ears: Ears,
    handed_back: Sender<Record>,
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
            if let Some(more) = self.ears.hearsay.trouble.may_say(Instant::now()) {
                log::warn!("Kafka did not take a record: {error}{more}");
            }
            // Nobody listens any more only when the log is being dropped.
            let _ = self.handed_back.send(*record);
        }
    }
}

type LiveProducer = DropWithin<ThreadedProducer<Deliveries>>;

/// The present producer, and how to make the next one.
struct Writer {
    topic: String,
    config: ClientConfig,
    hearsay: Arc<Hearsay>,
    handed_back: Sender<Record>,
    /// The other end of `handed_back`, for its length: it is unbounded, as a report must not wait, and
    /// `append` refuses while [`QUEUE_RECORDS`] lie in it. So at most twice that many records are held here.
    undelivered: Receiver<Record>,
    producer: RwLock<Arc<LiveProducer>>,
    renewal: Mutex<Renewal>,
}

struct Renewal {
    running: bool,
    last: Option<Instant>,
}

impl Writer {
    fn open(
        settings: &KafkaSettings,
        hearsay: Arc<Hearsay>,
        handed_back: Sender<Record>,
        undelivered: Receiver<Record>,
    ) -> Result<Self, OpenError> {
        let config = producer_config(settings);
        let producer = Self::new_producer(&config, &hearsay, &handed_back).map_err(refused)?;
        Ok(Writer {
            topic: settings.topic.clone(),
            config,
            hearsay,
            handed_back,
            undelivered,
            producer: RwLock::new(Arc::new(producer)),
            renewal: Mutex::new(Renewal { running: false, last: None }),
        })
    }

    fn new_producer(
        config: &ClientConfig,
        hearsay: &Arc<Hearsay>,
        handed_back: &Sender<Record>,
    ) -> Result<LiveProducer, KafkaError> {
        let ears = Ears { client: "producer", hearsay: Arc::clone(hearsay) };
        let producer = config.create_with_context(Deliveries { ears, handed_back: handed_back.clone() })?;
        Ok(DropWithin(Some(producer)))
    }

    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
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
        let new = match Self::new_producer(&self.config, &self.hearsay, &self.handed_back) {
            Ok(new) => Arc::new(new),
            Err(error) => return log::error!("no new Kafka producer could be made: {error}"),
        };
        let mut present = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *present, new);
        drop(present);
        let reason = old.client().fatal_error().map_or_else(String::new, |(_, reason)| reason);
        log::warn!("the Kafka producer failed for good and was replaced: {reason}");
        hand_back_the_rest(&old);
    }
}

/// Gives up what `producer` still holds: it comes back as undelivered.
fn hand_back_the_rest(producer: &ThreadedProducer<Deliveries>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    if producer.flush(PURGE_TIMEOUT).is_err() {
        log::warn!("the Kafka producer did not hand back {} records in time", producer.in_flight_count());
    }
}

struct KafkaAppender(Arc<Writer>);

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
        let producer = writer.producer.read().unwrap_or_else(PoisonError::into_inner);
        let Err((error, _)) = producer.send(message) else { return Ok(()) };
        drop(producer);
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => Err(AppendError::Full),
            Some(Code::MessageSizeTooLarge) => Err(AppendError::TooLarge),
            code => {
                if code == Some(Code::Fatal) {
                    writer.renew();
                }
                if let Some(more) = writer.hearsay.trouble.may_say(Instant::now()) {
                    log::warn!("Kafka takes no records: {error}{more}");
                }
                Err(AppendError::Unavailable)
            }
        }
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

struct KafkaReader {
    topic: String,
    replication_factor: Option<i32>,
    admin_config: ClientConfig,
    config: ClientConfig,
    hearsay: Arc<Hearsay>,
    consumer: DropWithin<BaseConsumer<Ears>>,
    /// The consumer can do no more: the next `rewind` makes another.
    is_broken: bool,
    position: u64,
    /// The end of the log when it was last looked at.
    span_end: u64,
    /// Found behind entries that had to be handed out first.
    pending_error: Option<ReadError>,
    skipped: Arc<AtomicU64>,
    skips: Quiet,
    refusals: Quiet,
}

impl KafkaReader {
    fn open(settings: &KafkaSettings, hearsay: Arc<Hearsay>, skipped: Arc<AtomicU64>) -> Result<Self, OpenError> {
        let config = consumer_config(settings);
        let consumer = Self::new_consumer(&config, &hearsay).map_err(refused)?;
        Ok(KafkaReader {
            topic: settings.topic.clone(),
            replication_factor: settings.replication_factor,
            admin_config: client_config(settings),
            config,
            hearsay,
            consumer,
            is_broken: false,
            position: 0,
            span_end: 0,
            pending_error: None,
            skipped,
            skips: Quiet::new(LOG_INTERVAL),
            refusals: Quiet::new(LOG_INTERVAL),
        })
    }

    fn new_consumer(
        config: &ClientConfig,
        hearsay: &Arc<Hearsay>,
    ) -> Result<DropWithin<BaseConsumer<Ears>>, KafkaError> {
        let ears = Ears { client: "consumer", hearsay: Arc::clone(hearsay) };
        Ok(DropWithin(Some(config.create_with_context(ears)?)))
    }

    /// Sees to it that there is the topic, with its one partition, and that this partition has a leader.
    fn have_topic(&self, deadline: Instant) -> Result<(), ReadError> {
        let mut asked_to_make_it = false;
        loop {
            let metadata = self
                .consumer
                .fetch_metadata(Some(&self.topic), left_until(deadline)?)
                .map_err(|error| self.unavailable(&error))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
            let partitions = topic.map_or(0, |topic| topic.partitions().len());
            match topic.and_then(|topic| topic.error()).map(Code::from) {
                Some(code) if is_refusal(code) => {
                    return Err(ReadError::Unavailable(format!(
                        "not allowed to use the topic {}: grant READ, WRITE and DESCRIBE on it",
                        self.topic
                    )));
                }
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) if !asked_to_make_it => {
                    self.make_topic(deadline)?;
                    asked_to_make_it = true;
                }
                None if partitions > 1 => {
                    return Err(ReadError::Unusable(format!(
                        "the Kafka topic {} has {partitions} partitions, and one lobby needs one order: \
                         name a topic with 1 partition, or one that does not exist yet, which is then made",
                        self.topic
                    )));
                }
                None if partitions == 1 => return Ok(()),
                // It was made a moment ago, here or by another instance, and not every broker knows.
                _ => thread::sleep(TOPIC_RETRY.min(left_until(deadline)?)),
            }
        }
    }

    /// Asks for the topic. That another instance was first is as good.
    fn make_topic(&self, deadline: Instant) -> Result<(), ReadError> {
        let ears = Ears { client: "admin client", hearsay: Arc::clone(&self.hearsay) };
        let admin: DropWithin<AdminClient<Ears>> = match self.admin_config.create_with_context(ears) {
            Ok(admin) => DropWithin(Some(admin)),
            Err(error) => return Err(self.unavailable(&error)),
        };
        let replication = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let topic = TOPIC_CONFIG
            .iter()
            .fold(NewTopic::new(&self.topic, 1, replication), |it, (name, value)| it.set(name, value));
        let timeout = Some(left_until(deadline)?);
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let answers = wait_for(admin.create_topics([&topic], &options), deadline)
            .ok_or_else(|| ReadError::Unavailable("making the topic takes too long".into()))?
            .map_err(|error| self.unavailable(&error))?;
        for answer in answers {
            let Err((_, code)) = answer else {
                log::info!("made the Kafka topic {} with one partition", self.topic);
                continue;
            };
            match code {
                Code::TopicAlreadyExists => {}
                Code::PolicyViolation | Code::InvalidTopic => {
                    return Err(ReadError::Unusable(format!(
                        "Kafka does not let the topic {} be made ({code}): make it yourself, with 1 partition",
                        self.topic
                    )));
                }
                // There may be fewer brokers than copies because some are still starting.
                _ => {
                    return Err(ReadError::Unavailable(format!(
                        "the topic {} is missing and cannot be made: {code}; check the replication factor and the \
                         right to CREATE, or make it yourself, with 1 partition",
                        self.topic
                    )));
                }
            }
        }
        Ok(())
    }

    /// Kafka's error, with the reason that was heard before it, which tells more.
    fn unavailable(&self, error: &KafkaError) -> ReadError {
        // What the consumer has to say only comes out when it is polled. Nothing is assigned: there are no records.
        for _ in 0..100 {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        ReadError::Unavailable(match &*self.hearsay.last_reason() {
            Some(reason) => format!("{code}; {reason}"),
            None => code,
        })
    }

    fn on_error(&mut self, error: KafkaError) -> Result<(), ReadError> {
        match error {
            // The end of the log may be no record but a transaction's mark, or have been compacted away.
            KafkaError::PartitionEOF(_) => self.position = self.position.max(self.span_end),
            KafkaError::MessageConsumption(
                code @ (Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::LogTruncation
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId),
            ) => return Err(ReadError::Truncated(format!("at offset {}: {code}", self.position))),
            KafkaError::MessageConsumption(code) if is_refusal(code) => {
                if self.refusals.may_say(Instant::now()).is_some() {
                    return Err(ReadError::Unavailable(code.to_string()));
                }
            }
            // Brokers come and go; librdkafka finds them again. It has been said by `Ears`.
            KafkaError::MessageConsumption(_) => {}
            other => {
                self.is_broken = true;
                return Err(ReadError::Truncated(format!("the consumer failed for good: {other}")));
            }
        }
        Ok(())
    }
}

/// What one message of the topic is to this program.
fn read(message: &BorrowedMessage<'_>) -> Result<Record, String> {
    let payload = message.payload().ok_or("no payload")?;
    codec::decode(payload).map_err(|error| error.to_string())
}

fn left_until(deadline: Instant) -> Result<Duration, ReadError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ReadError::Unavailable("no answer in time".into())) } else { Ok(left) }
}

/// librdkafka counts in `i64`, and marks what it does not know with negative numbers.
fn offset(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or(0)
}

impl Reader for KafkaReader {
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        let deadline = Instant::now() + REWIND_TIMEOUT;
        self.pending_error = None;
        if self.is_broken {
            self.consumer =
                Self::new_consumer(&self.config, &self.hearsay).map_err(|error| self.unavailable(&error))?;
            self.is_broken = false;
        }
        self.consumer.unassign().map_err(|error| self.unavailable(&error))?;
        self.have_topic(deadline)?;
        let (low, high) = self
            .consumer
            .fetch_watermarks(&self.topic, PARTITION, left_until(deadline)?)
            .map_err(|error| self.unavailable(&error))?;
        let (low, end) = (offset(low), offset(high));
        let start = low.max(end.saturating_sub(records));
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX)))
            .and_then(|()| self.consumer.assign(&assignment))
            .map_err(|error| self.unavailable(&error))?;
        (self.position, self.span_end) = (start, end);
        *self.hearsay.last_reason() = None;
        Ok(Span { start, end, from_the_beginning: start == 0 })
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        if let Some(error) = self.pending_error.take() {
            return Err(error);
        }
        let deadline = Instant::now() + timeout;
        let before = entries.len();
        // Counts what is skipped, too: a log full of rubbish must not keep this thread here.
        let mut seen = before;
        while seen < max {
            let is_first = entries.len() == before;
            let wait = if is_first { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let failed = match self.consumer.poll(wait) {
                None if is_first && Instant::now() < deadline => continue,
                None => break,
                Some(Ok(message)) => {
                    seen += 1;
                    let offset = offset(message.offset());
                    match read(&message) {
                        Ok(record) => entries.push(Entry { offset, record: Arc::new(record) }),
                        Err(reason) => {
                            self.skipped.fetch_add(1, Ordering::Relaxed);
                            if let Some(more) = self.skips.may_say(Instant::now()) {
                                log::warn!("skipped the record at offset {offset}: {reason}{more}");
                            }
                        }
                    }
                    self.position = offset + 1;
                    continue;
                }
                Some(Err(error)) => error,
            };
            if let Err(error) = self.on_error(failed) {
                if entries.len() == before {
                    return Err(error);
                }
                self.pending_error = Some(error);
                break;
            }
        }
        Ok(())
    }
}

/// Waits for a future of librdkafka's, whose own threads complete it. `None` when the deadline has come.
fn wait_for<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
