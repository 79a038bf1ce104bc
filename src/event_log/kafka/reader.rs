//! The reading end: one consumer, which is told where to start and never joins a group.
//!
//! Owned by the log thread; every call here runs on it, and each is bounded in time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::quiet::Quiet;
use super::{
    DropWithin, Ears, Hearsay, KafkaSettings, LOG_INTERVAL, OpenError, PARTITION, client_config, is_refusal, refused,
};
use crate::event_log::{Entry, ReadError, Reader, Span, codec};
use crate::lobby::Record;

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

/// The [`Reader`] of Kafka.
pub(super) struct KafkaReader {
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
    /// `skipped` counts what is no record.
    pub(super) fn open(
        settings: &KafkaSettings,
        hearsay: Arc<Hearsay>,
        skipped: Arc<AtomicU64>,
    ) -> Result<Self, OpenError> {
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

    /// The first offset that is still there, and the one after the last.
    fn bounds(&self, deadline: Instant) -> Result<(u64, u64), ReadError> {
        loop {
            match self.consumer.fetch_watermarks(&self.topic, PARTITION, left_until(deadline)?) {
                Ok((low, high)) => return Ok((offset(low), offset(high))),
                // Not every broker knows a new topic, or who leads it, at once.
                Err(KafkaError::MetadataFetch(
                    Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
                    | Code::LeaderNotAvailable
                    | Code::NotLeaderForPartition,
                )) => thread::sleep(TOPIC_RETRY.min(left_until(deadline)?)),
                Err(error) => return Err(self.unavailable(&error)),
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
        let said = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        ReadError::Unavailable(match self.hearsay.last_reason().clone() {
            Some(reason) if error.rdkafka_error_code() == Some(Code::BrokerTransportFailure) => reason,
            Some(reason) => format!("{said}; {reason}"),
            None => said,
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
            ) => {
                // What this consumer knows of the topic may be about one that is no more.
                self.is_broken = true;
                return Err(ReadError::Truncated(format!("at offset {}: {code}", self.position)));
            }
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
        let (low, end) = self.bounds(deadline)?;
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
