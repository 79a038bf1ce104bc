//! [`KafkaConsumer`]: librdkafka's consumer with its configuration, its queries to the brokers and its error texts.
//!
//! The thread of a reader owns it: the log thread or the archive thread. Queries wait for the network, so they run on
//! threads of their own with a deadline, and the owner stops waiting when its flag to give up is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::addresses::Addresses;
use super::diagnostics::{Client, Diagnostics, KafkaContext, text_of};
use super::drop_within::DropWithin;
use super::topic::GIVE_UP_CHECK;
use super::{KafkaSettings, OpenError, PARTITION, client_config, open_error};
use crate::event_log::ReadError;
use crate::one_shot;
use crate::threads::{self, Stack};

/// At most this many reports of the consumer are read for one error text, so that the loop ends.
const REPORTS_MAX: usize = 100;

type LiveConsumer = Arc<DropWithin<BaseConsumer<KafkaContext>>>;

pub(super) struct KafkaConsumer {
    topic: String,
    config: ClientConfig,
    client: LiveConsumer,
    diagnostics: Arc<Diagnostics>,
    addresses: Addresses,
    give_up: Arc<AtomicBool>,
}

/// The topic in Kafka's metadata.
pub(super) struct TopicState {
    pub(super) error: Option<Code>,
    pub(super) partitions: usize,
}

impl KafkaConsumer {
    pub(super) fn open(settings: &KafkaSettings, diagnostics: Arc<Diagnostics>) -> Result<Self, OpenError> {
        let config = consumer_config(settings);
        let client = new_client(&config, &settings.topic, &diagnostics).map_err(open_error)?;
        Ok(KafkaConsumer {
            topic: settings.topic.clone(),
            config,
            client,
            diagnostics,
            addresses: Addresses::new(settings.brokers.clone()),
            give_up: Arc::default(),
        })
    }

    pub(super) fn give_up_when(&mut self, flag: Arc<AtomicBool>) {
        self.give_up = flag;
    }

    pub(super) fn give_up_flag(&self) -> &AtomicBool {
        &self.give_up
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.give_up.load(Ordering::Acquire)
    }

    /// Replaces the client by a new one, which knows nothing of the topic.
    pub(super) fn replace(&mut self) -> Result<(), ReadError> {
        let client = new_client(&self.config, &self.topic, &self.diagnostics);
        self.client = client.map_err(|error| self.unavailable(&error))?;
        Ok(())
    }

    /// Stops reading, and drops what was prefetched.
    pub(super) fn unassign(&self) -> Result<(), ReadError> {
        self.client.unassign().map_err(|error| self.unavailable(&error))
    }

    /// Reads from the offset `start` on.
    pub(super) fn assign(&self, start: u64) -> Result<(), ReadError> {
        let mut assignment = TopicPartitionList::with_capacity(1);
        let start = Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX));
        assignment
            .add_partition_offset(&self.topic, PARTITION, start)
            .and_then(|()| self.client.assign(&assignment))
            .map_err(|error| self.unavailable(&error))
    }

    /// Waits up to `timeout` for the next message or error.
    pub(super) fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.client.poll(timeout)
    }

    /// Queries the metadata of the topic, and stores the advertised addresses.
    pub(super) fn topic_state(&mut self, deadline: Instant) -> Result<TopicState, ReadError> {
        let name = self.topic.clone();
        let result = self.query(deadline, move |client, timeout| {
            let metadata = client.fetch_metadata(Some(&name), timeout)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            let state = TopicState {
                error: topic.and_then(|topic| topic.error()).map(Code::from),
                partitions: topic.map_or(0, |topic| topic.partitions().len()),
            };
            let brokers = metadata.brokers().iter();
            let addresses: Vec<_> = brokers.map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
            Ok((state, addresses))
        })?;
        let (state, addresses) = result.map_err(|error| self.unavailable(&error))?;
        self.addresses.set_advertised(addresses);
        Ok(state)
    }

    /// Queries the first offset in the topic and the offset after the last. `None`: the brokers do not know the topic
    /// or its leader yet.
    pub(super) fn bounds(&self, deadline: Instant) -> Result<Option<(u64, u64)>, ReadError> {
        let topic = self.topic.clone();
        match self.query(deadline, move |client, timeout| client.fetch_watermarks(&topic, PARTITION, timeout))? {
            Ok((low, high)) => Ok(Some((offset(low), offset(high)))),
            Err(KafkaError::MetadataFetch(
                Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition,
            )) => Ok(None),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// Runs `query`, which waits for the network, on another thread: librdkafka offers no way to interrupt it.
    fn query<T: Send + 'static>(
        &self,
        deadline: Instant,
        query: impl FnOnce(&BaseConsumer<KafkaContext>, Duration) -> KafkaResult<T> + Send + 'static,
    ) -> Result<KafkaResult<T>, ReadError> {
        let timeout = time_until(deadline)?;
        let client = Arc::clone(&self.client);
        let (sender, answer) = one_shot::channel();
        let thread = threads::spawn("kafka-query", Stack::Normal, move || {
            sender.send(query(&client, timeout));
        });
        thread.map_err(|error| ReadError::Unavailable(format!("no thread can be started: {error}")))?;
        loop {
            match answer.recv_timeout(GIVE_UP_CHECK) {
                Ok(answer) => return Ok(answer),
                Err(_) if self.is_given_up() => return Err(given_up()),
                // librdkafka may wait for longer than its timeout.
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline + GIVE_UP_CHECK => {}
                Err(_) => return Ok(Err(KafkaError::MetadataFetch(Code::OperationTimedOut))),
            }
        }
    }

    /// The error for a request of the consumer that failed, with the last error of any client, which has more detail.
    pub(super) fn unavailable(&self, error: &KafkaError) -> ReadError {
        // The consumer reports its errors when it is polled. It has no assignment here, so it returns no records.
        for _ in 0..REPORTS_MAX {
            if self.client.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let text = text_of(error);
        if error.rdkafka_error_code().is_some_and(is_no_answer) {
            return self.no_answer(&text);
        }
        ReadError::Unavailable(match self.diagnostics.last_error() {
            Some(reason) => format!("{text}; {reason}"),
            None => text,
        })
    }

    /// The error for a request that no broker answered: the last error of any client, or `text` if there is none.
    pub(super) fn no_answer(&self, text: &str) -> ReadError {
        let reason = self.diagnostics.last_error();
        ReadError::Unavailable(self.addresses.explain(reason.as_deref().unwrap_or(text)))
    }
}

fn consumer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = client_config(settings);
    config
        // librdkafka requires a name. The consumer joins no group and commits no offsets.
        .set("group.id", "ich")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A gap in the records leads to a wrong state, so a missing offset has to be an error.
        .set("auto.offset.reset", "error")
        // Another program's open transaction must not delay reading.
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("fetch.min.bytes", "1")
        .set("fetch.error.backoff.ms", "100")
        // Bounds the prefetched records, and continues soon after they were below the bound again.
        .set("queued.max.messages.kbytes", "16384")
        // While a record of the last answer waits to be read, the next request waits 4 ms. So under load the broker sends
        // fewer answers with more records each.
        .set("queued.min.messages", "1")
        .set("fetch.queue.backoff.ms", "4");
    config
}

fn new_client(config: &ClientConfig, topic: &str, diagnostics: &Arc<Diagnostics>) -> KafkaResult<LiveConsumer> {
    let diagnostics = Arc::clone(diagnostics);
    let context = KafkaContext { client: Client::Consumer, topic: topic.to_owned(), diagnostics };
    Ok(Arc::new(DropWithin::new(config.create_with_context(context)?)))
}

/// The error of a call that ended because the flag to give up is set.
pub(super) fn given_up() -> ReadError {
    ReadError::Unavailable("reading was given up".into())
}

/// True if a request failed because no broker was reached, or none answered.
pub(super) fn is_no_answer(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
    )
}

/// The time until `deadline`, or an error if the deadline has passed.
pub(super) fn time_until(deadline: Instant) -> Result<Duration, ReadError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ReadError::Unavailable("no answer in time".into())) } else { Ok(left) }
}

/// An offset of librdkafka, which uses `i64`, and negative numbers for unknown offsets.
pub(super) fn offset(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or(0)
}
