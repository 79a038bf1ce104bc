//! The event log in Apache Kafka: one topic with one partition, which all instances append to and read.
//!
//! Owns two clients of librdkafka, a producer behind [`Appender`](super::Appender) and a consumer behind
//! [`Reader`](super::Reader); nothing else in this program touches that library. Each has threads of its own that
//! connect, and connect again for ever; so that a cluster that is away is no error here, but a log that is silent until
//! it is back.
//!
//! - **Appending** puts the record into the producer's queue and returns. The producer is idempotent: what it sends
//!   again after a broken connection is in the log once, and in order. What it cannot deliver within
//!   half a minute it hands back.
//! - **Reading** starts from an offset that this file computes. No consumer group, nothing is committed: each instance
//!   reads everything.

mod properties;
mod reader;
mod topic;
mod topic_settings;
mod topic_watch;
mod writer;

use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

pub use self::properties::OpenError;
use self::reader::KafkaReader;
use self::topic::TopicAdmin;
use self::topic_watch::RefusalReports;
use self::writer::{KafkaAppender, Writer};
use super::EventLog;
pub use crate::config::KafkaSettings;
use crate::log_throttle::LogThrottle;
use crate::threads::lock;

/// The only partition: one order for everybody.
const PARTITION: i32 = 0;
/// How long dropping a client may hold its owner up.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);
/// How the clients are called in the log.
const PRODUCER: &str = "producer";
const CONSUMER: &str = "consumer";
const ADMIN_CLIENT: &str = "admin client";

/// Opens the log. Returns at once, whether there is a broker or not: see [`Reader::rewind`](super::Reader::rewind).
///
/// # Errors
/// librdkafka refuses the settings.
pub fn open(settings: &KafkaSettings) -> Result<EventLog, OpenError> {
    properties::check(settings)?;
    let (handed_back, undelivered) = unbounded();
    let skipped = Arc::new(AtomicU64::new(0));
    let hearsay = Arc::new(Hearsay::default());
    let admin = TopicAdmin::new(settings, Arc::clone(&hearsay));
    let (refusals, reported) = RefusalReports::new();
    let writer = Writer::open(settings, Arc::clone(&hearsay), handed_back, undelivered.clone(), refusals)?;
    topic_watch::start(admin.clone(), reported, &writer).map_err(|error| OpenError::Together(error.to_string()))?;
    let reader = KafkaReader::open(settings, admin, hearsay, Arc::clone(&writer), Arc::clone(&skipped))?;
    Ok(EventLog { appender: Arc::new(KafkaAppender(writer)), reader: Box::new(reader), undelivered, skipped })
}

/// What all clients have in common.
fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties::of(settings) {
        config.set(name, value);
    }
    config
        .set("client.id", "ich")
        // A chat waits for each record: never for a fuller packet.
        .set("socket.nagle.disable", "true")
        .set("socket.keepalive.enable", "true")
        // A broker that was stopped and holds its connections open is given up well before the producer gives up a
        // record.
        .set("socket.timeout.ms", "6000")
        // Less than a `rewind` may take, so that its error can say which address does not answer.
        .set("socket.connection.setup.timeout.ms", "4000")
        .set("reconnect.backoff.max.ms", "1000")
        // It would get as many partitions as the broker likes: the topic is made in `rewind`.
        .set("allow.auto.create.topics", "false");
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
    topic: String,
    hearsay: Arc<Hearsay>,
}

/// What was last heard, by any client, and how much of it was said in the log.
#[derive(Default)]
struct Hearsay {
    last_reason: Mutex<Option<String>>,
    throttle: LogThrottle,
}

impl Hearsay {
    fn last_reason(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.last_reason)
    }

    /// Logs this unless it was logged within the last minute.
    fn warn(&self, text: &str) {
        if let Some(more) = self.throttle.may_log(text, Instant::now()) {
            log::warn!("{text}{more}");
        }
    }
}

/// A reason of librdkafka without what differs each time or between its connections to one broker: `GroupCoordinator: ` or
/// a thread's name in front, the number of the broker behind its address, and `(after 2ms in state CONNECT, 3 identical
/// error(s) suppressed)` at the end.
fn plain_reason(reason: &str) -> String {
    let reason = reason.split_once("]: ").filter(|_| reason.starts_with("[thrd:")).map_or(reason, |(_, reason)| reason);
    let reason = reason.strip_prefix("GroupCoordinator: ").unwrap_or(reason);
    let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason);
    match reason.split_once(": ").map(|(broker, rest)| (broker.rsplit_once('/'), rest)) {
        Some((Some((address, number)), rest)) if number.parse::<u32>().is_ok() => format!("{address}: {rest}"),
        _ => reason.to_owned(),
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
    /// Why a connection failed is logged at once. As an error it comes late, and not always.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::debug!(target: "librdkafka", "{} {level:?} {facility} {line}", self.client);
        let is_quiet = matches!(level, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug);
        if facility == "FAIL" && !is_quiet {
            *self.hearsay.last_reason() = Some(plain_reason(line));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let (client, topic, reason) = (self.client, &self.topic, plain_reason(reason));
        match code {
            // Not errors: the end was reached; there is a group in name only.
            Code::PartitionEOF | Code::GroupAuthorizationFailed => return,
            // What the idempotent producer gets instead of a word about the topic.
            Code::ClusterAuthorizationFailed if client == PRODUCER => self.hearsay.warn(&format!(
                "Kafka does not let the producer write to the topic {topic}: grant WRITE on it (and, with brokers before \
                 2.8, IDEMPOTENT_WRITE on the cluster): {reason}"
            )),
            _ if is_refusal(code) => {
                if let Some(more) = self.hearsay.throttle.may_log(&reason, Instant::now()) {
                    log::error!("Kafka does not let the {client} in, check the Kafka settings: {reason}{more}");
                }
            }
            // It says less than what came before it, of each broker.
            Code::AllBrokersDown => return,
            _ => self.hearsay.warn(&format!("Kafka, {client}: {reason}")),
        }
        *self.hearsay.last_reason() = Some(reason);
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

#[cfg(test)]
mod tests {
    use super::plain_reason;

    #[test]
    fn reasons_of_one_cause_are_the_same_text() {
        let plain = "127.0.0.1:9: Connect to ipv4#127.0.0.1:9 failed: Connection refused";
        for reason in [
            "127.0.0.1:9/1: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT)",
            "GroupCoordinator: 127.0.0.1:9: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 2ms in state \
             CONNECT, 3 identical error(s) suppressed)",
            "[thrd:127.0.0.1:9/1]: 127.0.0.1:9/1: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 1ms in)",
            plain,
        ] {
            assert_eq!(plain_reason(reason), plain);
        }
        assert_eq!(plain_reason("ssl://h:1/bootstrap: Disconnected"), "ssl://h:1/bootstrap: Disconnected");
    }
}
