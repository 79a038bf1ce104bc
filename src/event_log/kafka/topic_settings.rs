//! [`TopicSettings`]: checks the settings of the topic, and derives the limits of the producer from them. Pure:
//! `topic.rs` reads the settings from Kafka.

/// The smallest `max.message.bytes` that works: heartbeats, joins with the longest name and id, and rosters in parts
/// fit.
const MESSAGE_BYTES_MIN: usize = 4096;
/// The longest message that clients may send with the default settings fits into a record of this size.
const RECORD_BYTES_DEFAULT_TEXT: usize = 20_000;
/// The largest batch of the producer, even if the topic accepts larger ones: the default of librdkafka.
pub(super) const BATCH_BYTES_MAX: usize = 1_000_000;
/// The bytes that Kafka adds to a single record of a batch.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The settings of the topic that the lobby depends on. `None`: unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TopicSettings {
    /// `cleanup.policy`.
    pub(super) cleanup_policy: Option<String>,
    /// `max.message.bytes`: the largest batch of records.
    pub(super) max_message_bytes: Option<usize>,
}

impl TopicSettings {
    /// Why the lobby cannot use the topic, and what an operator has to change. `None`: the lobby can use it.
    pub(super) fn problem(&self, topic: &str) -> Option<String> {
        let command = |setting: &str| {
            format!("kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {setting}")
        };
        if let Some(policy) = self.cleanup_policy.as_deref().filter(|policy| policy.contains("compact")) {
            return Some(format!(
                "the Kafka topic {topic} has the setting cleanup.policy={policy}: a compacted topic refuses records \
                 without a key and deletes records that the lobby needs; change it to cleanup.policy=delete ({})",
                command("cleanup.policy=delete")
            ));
        }
        let bytes = self.max_message_bytes.filter(|bytes| *bytes < MESSAGE_BYTES_MIN)?;
        Some(format!(
            "the Kafka topic {topic} has the setting max.message.bytes={bytes}, and the lobby needs at least \
             {MESSAGE_BYTES_MIN}: raise it to Kafka's default ({})",
            command("max.message.bytes=1048588")
        ))
    }

    /// The largest batch that the producer may send, in bytes. It is smaller than the limit of the topic, because that
    /// limit counts the batch after the broker has compressed it, and data that cannot be compressed grows a little.
    pub(super) fn batch_bytes_max(&self) -> usize {
        let Some(limit) = self.max_message_bytes else { return BATCH_BYTES_MAX };
        limit.max(MESSAGE_BYTES_MIN).saturating_sub(128 + limit / 64).min(BATCH_BYTES_MAX)
    }

    /// A warning if the topic refuses messages that clients may send with the default settings.
    pub(super) fn warning(&self, topic: &str) -> Option<String> {
        let record_bytes = record_bytes_max(self.batch_bytes_max());
        let limit = self.max_message_bytes.filter(|_| record_bytes < RECORD_BYTES_DEFAULT_TEXT)?;
        Some(format!(
            "the Kafka topic {topic} has the setting max.message.bytes={limit}: a chat message that takes more than \
             {record_bytes} bytes is answered with an error; raise the setting, or lower ICH_MAX_TEXT_CHARS"
        ))
    }
}

/// The size in bytes of the largest encoded record that fits into a batch of this size.
pub(super) fn record_bytes_max(batch_bytes_max: usize) -> usize {
    batch_bytes_max.saturating_sub(RECORD_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(policy: &str, bytes: usize) -> TopicSettings {
        TopicSettings { cleanup_policy: Some(policy.into()), max_message_bytes: Some(bytes) }
    }

    #[test]
    fn a_problem_names_the_topic_the_setting_and_the_remedy() {
        let problem = |settings: TopicSettings| settings.problem("lobby");
        assert_eq!(problem(with("delete", 1_048_588)), None);
        assert_eq!(problem(with("delete", MESSAGE_BYTES_MIN)), None);
        assert_eq!(problem(TopicSettings::default()), None);
        for policy in ["compact", "compact,delete", "delete,compact"] {
            let text = problem(with(policy, 1_048_588)).unwrap();
            assert!(text.contains("lobby") && text.contains(&format!("cleanup.policy={policy}:")), "{text}");
            assert!(text.contains("--add-config cleanup.policy=delete"), "{text}");
        }
        let text = problem(with("delete", 2000)).unwrap();
        assert!(text.contains("max.message.bytes=2000") && text.contains("4096"), "{text}");
    }

    #[test]
    fn batches_stay_below_the_limit_of_the_topic() {
        assert_eq!(TopicSettings::default().batch_bytes_max(), BATCH_BYTES_MAX);
        assert_eq!(with("delete", 1_048_588).batch_bytes_max(), BATCH_BYTES_MAX);
        assert_eq!(with("delete", usize::MAX).batch_bytes_max(), BATCH_BYTES_MAX);
        for limit in [MESSAGE_BYTES_MIN, 5000, 65_536, 1_000_000] {
            let bytes = with("delete", limit).batch_bytes_max();
            assert!(bytes < limit && bytes > limit * 9 / 10, "{limit}: {bytes}");
        }
    }

    #[test]
    fn a_limit_below_the_longest_message_causes_a_warning() {
        assert_eq!(with("delete", 1_048_588).warning("lobby"), None);
        assert_eq!(TopicSettings::default().warning("lobby"), None);
        assert!(with("delete", 5000).warning("lobby").unwrap().contains("max.message.bytes=5000"));
    }
}
