//! The reading end: one consumer, which is told where to start and never joins a group.
//!
//! Owned by the log thread; every call here runs on it, and each is bounded in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::topic::{AdminError, GIVE_UP_CHECK, TopicAdmin};
use super::topic_settings::TopicSettings;
use super::writer::Writer;
use super::{
    CONSUMER, DropWithin, Ears, Hearsay, KafkaSettings, OpenError, PARTITION, client_config, is_refusal, refused,
};
use crate::event_log::{Entry, ReadError, Reader, Span, codec};
use crate::lobby::Record;

/// How long one [`Reader::rewind`] may take.
const REWIND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long reading the settings of the topic may take.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before asking again whether a topic that was just made is there.
const TOPIC_RETRY: Duration = Duration::from_millis(50);
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

type LiveConsumer = Arc<DropWithin<BaseConsumer<Ears>>>;

/// The [`Reader`] of Kafka.
pub(super) struct KafkaReader {
    topic: String,
    /// The brokers of the settings.
    brokers: String,
    /// The addresses that the brokers advertised last, as far as they differ from those of the settings.
    advertised: Vec<String>,
    admin: TopicAdmin,
    /// Told what the topic takes.
    writer: Arc<Writer>,
    config: ClientConfig,
    hearsay: Arc<Hearsay>,
    consumer: LiveConsumer,
    /// The consumer can do no more: the next `rewind` makes another.
    is_broken: bool,
    give_up: Arc<AtomicBool>,
    position: u64,
    /// The end of the log when it was last looked at.
    span_end: u64,
    /// An error found behind entries, kept for the next `poll`.
    pending_error: Option<ReadError>,
    skipped: Arc<AtomicU64>,
}

/// What Kafka's metadata say about the topic.
struct TopicState {
    error: Option<Code>,
    partitions: usize,
    /// `host:port` of each broker.
    brokers: Vec<String>,
}

impl KafkaReader {
    /// `skipped` counts what is no record.
    pub(super) fn open(
        settings: &KafkaSettings,
        admin: TopicAdmin,
        hearsay: Arc<Hearsay>,
        writer: Arc<Writer>,
        skipped: Arc<AtomicU64>,
    ) -> Result<Self, OpenError> {
        let config = consumer_config(settings);
        let consumer = new_consumer(&config, &settings.topic, &hearsay).map_err(refused)?;
        Ok(KafkaReader {
            topic: settings.topic.clone(),
            brokers: settings.brokers.clone(),
            advertised: Vec::new(),
            admin,
            writer,
            config,
            hearsay,
            consumer,
            is_broken: false,
            give_up: Arc::default(),
            position: 0,
            span_end: 0,
            pending_error: None,
            skipped,
        })
    }

    /// Asks the consumer something that waits for the network, on another thread: librdkafka offers no way to interrupt it.
    fn ask<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: impl FnOnce(&BaseConsumer<Ears>, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<Result<T, KafkaError>, ReadError> {
        let left = left_until(deadline)?;
        let consumer = Arc::clone(&self.consumer);
        let (sender, answer) = bounded(1);
        let asked = thread::Builder::new().name("kafka-ask".into()).spawn(move || {
            // Nobody waits any more when the reader has given up.
            let _ = sender.send(question(&consumer, left));
        });
        asked.map_err(|error| ReadError::Unavailable(format!("no thread can be started: {error}")))?;
        loop {
            match answer.recv_timeout(GIVE_UP_CHECK) {
                Ok(answer) => return Ok(answer),
                Err(_) if self.is_given_up() => return Err(given_up()),
                // The consumer may wait for longer than it was told to.
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline + GIVE_UP_CHECK => {}
                Err(_) => return Ok(Err(KafkaError::MetadataFetch(Code::OperationTimedOut))),
            }
        }
    }

    fn is_given_up(&self) -> bool {
        self.give_up.load(Ordering::Acquire)
    }

    /// Asks for the topic's metadata.
    fn topic_state(&self, deadline: Instant) -> Result<TopicState, ReadError> {
        let name = self.topic.clone();
        let asked = self.ask(deadline, move |consumer, timeout| {
            let metadata = consumer.fetch_metadata(Some(&name), timeout)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            Ok(TopicState {
                error: topic.and_then(|topic| topic.error()).map(Code::from),
                partitions: topic.map_or(0, |topic| topic.partitions().len()),
                brokers: metadata.brokers().iter().map(|it| format!("{}:{}", it.host(), it.port())).collect(),
            })
        })?;
        asked.map_err(|error| self.unavailable(&error))
    }

    /// Sees to it that there is the topic, with its one partition, and that this partition has a leader.
    fn have_topic(&mut self, deadline: Instant) -> Result<(), ReadError> {
        let mut asked_to_make_it = false;
        loop {
            let topic = self.topic_state(deadline)?;
            self.advertised = topic.brokers.into_iter().filter(|address| !self.is_in_settings(address)).collect();
            match topic.error {
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
                None if topic.partitions > 1 => {
                    return Err(ReadError::Unusable(format!(
                        "the Kafka topic {} has {} partitions, and one lobby needs one order: \
                         name a topic with 1 partition, or one that does not exist yet, which is then made",
                        self.topic, topic.partitions
                    )));
                }
                None if topic.partitions == 1 => return Ok(()),
                // It was made a moment ago, here or by another instance, and not every broker knows.
                _ => thread::sleep(TOPIC_RETRY.min(left_until(deadline)?)),
            }
        }
    }

    /// Refuses a topic whose settings do not let the lobby work, and keeps what is written within its limits. Goes on
    /// without the settings if they cannot be read: when Kafka refuses a record, `topic_watch.rs` reads them again.
    fn use_settings(&self, deadline: Instant) -> Result<(), ReadError> {
        let settings = loop {
            match self.admin.settings(deadline, &self.give_up) {
                Ok(settings) => break settings,
                Err(error) => match error.code() {
                    // Not every broker knows a new topic at once.
                    Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                        thread::sleep(TOPIC_RETRY.min(left_until(deadline)?));
                    }
                    _ if self.is_given_up() => return Err(given_up()),
                    _ => {
                        self.writer.warn(&format!(
                            "the settings of the Kafka topic {} cannot be read ({error}), so they are not checked: grant \
                             DESCRIBE_CONFIGS on it, or see to it that it has cleanup.policy=delete and Kafka's default \
                             of max.message.bytes",
                            self.topic
                        ));
                        break TopicSettings::default();
                    }
                },
            }
        };
        if let Some(problem) = settings.problem(&self.topic) {
            return Err(ReadError::Unavailable(problem));
        }
        self.writer.adapt_to(&settings);
        Ok(())
    }

    /// The first offset that is still there, and the one after the last.
    fn bounds(&self, deadline: Instant) -> Result<(u64, u64), ReadError> {
        loop {
            let topic = self.topic.clone();
            match self.ask(deadline, move |consumer, timeout| consumer.fetch_watermarks(&topic, PARTITION, timeout))? {
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

    /// Makes the topic. If another instance was faster, that is as good.
    fn make_topic(&self, deadline: Instant) -> Result<(), ReadError> {
        let error = match self.admin.make(deadline, &self.give_up) {
            Ok(made) => {
                if made {
                    log::info!("made the Kafka topic {} with one partition", self.topic);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        match error.code() {
            Some(code @ (Code::PolicyViolation | Code::InvalidTopic)) => Err(ReadError::Unusable(format!(
                "Kafka does not let the topic {} be made ({code}): make it yourself, with 1 partition",
                self.topic
            ))),
            code if code.is_some_and(is_no_answer) => Err(self.no_answer(&error)),
            // There may be fewer brokers than copies because some are still starting.
            _ => Err(ReadError::Unavailable(format!(
                "the topic {} is missing and cannot be made: {error}; check the replication factor and the \
                 right to CREATE, or make it yourself, with 1 partition",
                self.topic
            ))),
        }
    }

    /// The admin API did not answer.
    fn no_answer(&self, error: &AdminError) -> ReadError {
        ReadError::Unavailable(self.why_no_answer(&error.to_string()))
    }

    /// Why there was no answer, as far as it is known: else `said`. Names the addresses that Kafka advertises where they
    /// may be the cause.
    fn why_no_answer(&self, said: &str) -> String {
        let reason = self.hearsay.last_reason().clone().unwrap_or_else(|| said.to_owned());
        // The consumer may have heard of its brokers, and failed to reach them, before it was asked for them.
        let at_fault = reason.split_once(": ").map(|(address, _)| address).filter(|address| {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(_))) && !address.contains(' ') && !self.is_in_settings(address)
        });
        let advertised = match at_fault {
            Some(address) if self.advertised.is_empty() => address.to_owned(),
            None if self.advertised.is_empty() => return reason,
            _ => self.advertised.join(", "),
        };
        format!(
            "Kafka was reached at {}, and advertises {advertised}, which cannot be reached: {reason}; check \
             advertised.listeners of the brokers, and the network",
            self.brokers
        )
    }

    fn is_in_settings(&self, address: &str) -> bool {
        let address = address.rsplit_once("://").map_or(address, |(_, address)| address);
        self.brokers.split(',').any(|broker| broker.trim() == address)
    }

    /// Kafka's error, with the reason that was heard before it, which tells more.
    fn unavailable(&self, error: &KafkaError) -> ReadError {
        // What the consumer has to say only comes out when it is polled. Nothing is assigned: there are no records.
        for _ in 0..100 {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let code = error.rdkafka_error_code();
        let said = code.map_or_else(|| error.to_string(), |code| code.to_string());
        if code.is_some_and(is_no_answer) {
            return ReadError::Unavailable(self.why_no_answer(&said));
        }
        let heard = self.hearsay.last_reason().clone();
        ReadError::Unavailable(heard.map_or_else(|| said.clone(), |reason| format!("{said}; {reason}")))
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
            KafkaError::MessageConsumption(Code::TopicAuthorizationFailed) => self
                .writer
                .warn(&format!("Kafka does not let the consumer read the topic {}: grant READ on it", self.topic)),
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

fn given_up() -> ReadError {
    ReadError::Unavailable("reading was given up".into())
}

fn new_consumer(config: &ClientConfig, topic: &str, hearsay: &Arc<Hearsay>) -> Result<LiveConsumer, KafkaError> {
    let ears = Ears { client: CONSUMER, topic: topic.to_owned(), hearsay: Arc::clone(hearsay) };
    Ok(Arc::new(DropWithin(Some(config.create_with_context(ears)?))))
}

/// Whether a request failed because its broker was not reached, or did not answer.
fn is_no_answer(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
    )
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
    fn give_up_when(&mut self, flag: Arc<AtomicBool>) {
        self.give_up = flag;
    }

    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        let deadline = Instant::now() + REWIND_TIMEOUT;
        self.pending_error = None;
        if self.is_broken {
            self.consumer =
                new_consumer(&self.config, &self.topic, &self.hearsay).map_err(|error| self.unavailable(&error))?;
            self.is_broken = false;
        }
        self.consumer.unassign().map_err(|error| self.unavailable(&error))?;
        self.have_topic(deadline)?;
        let (low, end) = self.bounds(deadline)?;
        self.use_settings(deadline.min(Instant::now() + SETTINGS_TIMEOUT))?;
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
        while seen < max && !self.is_given_up() {
            let is_first = entries.len() == before;
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if is_first { left.min(GIVE_UP_CHECK) } else { Duration::ZERO };
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
                            if let Some(more) = self.hearsay.throttle.may_log("skipped", Instant::now()) {
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
