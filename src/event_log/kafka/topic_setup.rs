//! [`TopicSetup`]: makes sure that the topic exists, has one partition, and has settings that the lobby can work with.
//!
//! Runs on the thread of a reader (the log thread or the archive thread), at the start of each
//! [`Reader::rewind`](crate::event_log::Reader::rewind) and [`SeekingReader::seek`](crate::event_log::SeekingReader::seek).
//! Every call has a deadline.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::batch_limit::BatchLimit;
use super::consumer::{KafkaConsumer, given_up, is_no_answer, time_until};
use super::diagnostics::is_refusal;
use super::topic::{AdminError, TopicAdmin};
use crate::event_log::ReadError;

/// How long reading the settings of the topic may take.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an empty answer may mean that the broker does not know the topic yet.
const NEW_TOPIC_TIME: Duration = Duration::from_millis(500);
/// The pause before the next query about a topic that was just created.
const TOPIC_RETRY: Duration = Duration::from_millis(50);

pub(super) struct TopicSetup {
    pub(super) admin: TopicAdmin,
    /// Gets the limit of the topic.
    pub(super) limit: Arc<BatchLimit>,
}

impl TopicSetup {
    /// Creates the topic if it is missing, checks it, and adapts the batches to its settings. Returns the first offset
    /// in the topic and the offset after the last.
    pub(super) fn prepare(&self, consumer: &mut KafkaConsumer, deadline: Instant) -> Result<(u64, u64), ReadError> {
        self.ensure_topic(consumer, deadline)?;
        let bounds = loop {
            if let Some(bounds) = consumer.bounds(deadline)? {
                break bounds;
            }
            pause(deadline)?;
        };
        self.apply_settings(consumer, deadline.min(Instant::now() + SETTINGS_TIMEOUT))?;
        Ok(bounds)
    }

    /// Waits until the topic exists with one partition and a leader. Creates a missing topic.
    fn ensure_topic(&self, consumer: &mut KafkaConsumer, deadline: Instant) -> Result<(), ReadError> {
        let name = &self.admin.topic;
        let mut is_created = false;
        loop {
            let topic = consumer.topic_state(deadline)?;
            match topic.error {
                Some(code) if is_refusal(code) => {
                    return Err(ReadError::Unavailable(format!(
                        "not allowed to use the topic {name}: grant READ, WRITE and DESCRIBE on it"
                    )));
                }
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) if !is_created => {
                    self.create_topic(consumer, deadline)?;
                    is_created = true;
                }
                None if topic.partitions > 1 => {
                    return Err(ReadError::Unusable(format!(
                        "the Kafka topic {name} has {} partitions, and one lobby needs one order: name a topic with 1 \
                         partition, or a topic that does not exist yet, which the server then creates",
                        topic.partitions
                    )));
                }
                None if topic.partitions == 1 => return Ok(()),
                // This or another instance has just created the topic, and not every broker knows it.
                _ => pause(deadline)?,
            }
        }
    }

    /// Creates the topic. Succeeds too if another instance was faster.
    fn create_topic(&self, consumer: &KafkaConsumer, deadline: Instant) -> Result<(), ReadError> {
        let topic = &self.admin.topic;
        let error = match self.admin.create(deadline, consumer.give_up_flag()) {
            Ok(true) => {
                log::info!("created the Kafka topic {topic} with one partition");
                return Ok(());
            }
            Ok(false) => return Ok(()),
            Err(error) => error,
        };
        Err(match error.code() {
            Some(code @ (Code::PolicyViolation | Code::InvalidTopic)) => ReadError::Unusable(format!(
                "Kafka does not allow to create the topic {topic} ({code}): create it yourself, with 1 partition"
            )),
            Some(code) if is_no_answer(code) => consumer.no_answer(&error.to_string()),
            Some(code) if is_refusal(code) => ReadError::Unavailable(format!(
                "the topic {topic} is missing and cannot be created: {error}; grant CREATE on the topic or the cluster, or \
                 create the topic yourself, with 1 partition"
            )),
            // Not final: brokers that are still starting may be missing for the replication factor.
            _ => ReadError::Unavailable(format!(
                "the topic {topic} is missing and cannot be created: {error}; check the replication factor, or create the \
                 topic yourself, with 1 partition"
            )),
        })
    }

    /// Rejects a topic whose settings do not let the lobby work, and adapts the batches to its limit. If the settings
    /// cannot be read, it continues with the limit that was read last: when Kafka refuses a record, `topic_watch.rs`
    /// reads them again.
    fn apply_settings(&self, consumer: &KafkaConsumer, deadline: Instant) -> Result<(), ReadError> {
        let topic = &self.admin.topic;
        let begun_at = Instant::now();
        loop {
            let error = match self.admin.settings(deadline, consumer.give_up_flag()) {
                Ok(settings) => {
                    if let Some(problem) = settings.problem(topic) {
                        return Err(ReadError::Unavailable(problem));
                    }
                    self.limit.adapt_to(&settings);
                    return Ok(());
                }
                Err(error) => error,
            };
            match error {
                _ if consumer.is_given_up() => return Err(given_up()),
                AdminError::NoSettings if begun_at.elapsed() < NEW_TOPIC_TIME => pause(deadline)?,
                error => {
                    self.limit.warn(&format!(
                        "the settings of the Kafka topic {topic} cannot be read ({error}), so they are not checked: grant \
                         DESCRIBE_CONFIGS on it, or make sure that it has cleanup.policy=delete and Kafka's default of \
                         max.message.bytes"
                    ));
                    return Ok(());
                }
            }
        }
    }
}

fn pause(deadline: Instant) -> Result<(), ReadError> {
    thread::sleep(TOPIC_RETRY.min(time_until(deadline)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::event_log::kafka::KafkaSettings;
    use crate::event_log::kafka::diagnostics::Diagnostics;
    use crate::event_log::kafka::topic_settings::TopicSettings;

    /// The mock of a cluster does not implement the request for the settings of a topic.
    #[test]
    fn settings_that_cannot_be_read_leave_the_limit_as_it_is() {
        let cluster = MockCluster::new(1).expect("a mock of a cluster");
        cluster.create_topic("lobby", 1, 1).expect("a topic");
        let brokers = cluster.bootstrap_servers();
        let settings = KafkaSettings { brokers, topic: "lobby".into(), ..KafkaSettings::default() };
        let diagnostics = Arc::new(Diagnostics::new(&settings));
        let limit = Arc::new(BatchLimit::new(settings.topic.clone(), Arc::clone(&diagnostics)));
        let known = TopicSettings { max_message_bytes: Some(65_536), ..TopicSettings::default() };
        limit.adapt_to(&known);
        let admin = TopicAdmin::new(&settings, Arc::clone(&diagnostics));
        let setup = TopicSetup { admin, limit: Arc::clone(&limit) };
        let mut consumer = KafkaConsumer::open(&settings, diagnostics).expect("opening");
        setup.prepare(&mut consumer, Instant::now() + Duration::from_secs(30)).expect("the topic exists");
        assert_eq!(limit.bytes(), known.batch_bytes_max());
    }
}
