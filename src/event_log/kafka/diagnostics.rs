//! What the clients of librdkafka report about themselves: [`KafkaContext`] receives it, [`Diagnostics`] logs it at a
//! bounded rate and keeps the last error, which explains why a later call failed.
//!
//! The methods run on the thread that polls the client: for the consumer the log thread, for the other clients a thread
//! of librdkafka. None of them waits.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::log_throttle::LogThrottle;
use crate::threads::lock;

/// The clients of one event log, by their name in log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Producer,
    Consumer,
    Admin,
}

impl Client {
    const fn name(self) -> &'static str {
        match self {
            Client::Producer => "producer",
            Client::Consumer => "consumer",
            Client::Admin => "admin client",
        }
    }
}

/// Shared by all clients of one event log.
#[derive(Default)]
pub(super) struct Diagnostics {
    last_error: Mutex<Option<String>>,
    pub(super) throttle: LogThrottle,
}

impl Diagnostics {
    /// The last error of any client since [`Diagnostics::forget_last_error`].
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// Called after the log was read successfully: earlier errors do not explain later failures.
    pub(super) fn forget_last_error(&self) {
        *lock(&self.last_error) = None;
    }

    fn set_last_error(&self, reason: String) {
        *lock(&self.last_error) = Some(reason);
    }

    /// Logs a warning, unless the same text was logged in the last minute.
    pub(super) fn warn(&self, text: &str) {
        if let Some(more) = self.throttle.may_log(text, Instant::now()) {
            log::warn!("{text}{more}");
        }
    }
}

/// The callbacks of one client.
pub(super) struct KafkaContext {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) diagnostics: Arc<Diagnostics>,
}

impl ClientContext for KafkaContext {
    /// Keeps the reason of a failed connection at once. librdkafka reports it as an error late, or not at all.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log::debug!(target: "librdkafka", "{} {level:?} {facility} {line}", self.client.name());
        let is_informational =
            matches!(level, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug);
        if facility == "FAIL" && !is_informational {
            self.diagnostics.set_last_error(plain_reason(line));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let (client, topic, reason) = (self.client.name(), &self.topic, plain_reason(reason));
        match code {
            // Not errors: the end of the log was read; the consumer has a group name and uses no group.
            Code::PartitionEOF | Code::GroupAuthorizationFailed => return,
            // An idempotent producer gets this code instead of one about the topic.
            Code::ClusterAuthorizationFailed if self.client == Client::Producer => self.diagnostics.warn(&format!(
                "Kafka does not let the producer write to the topic {topic}: grant WRITE on it (and, with brokers before \
                 2.8, IDEMPOTENT_WRITE on the cluster): {reason}"
            )),
            _ if is_refusal(code) => {
                if let Some(more) = self.diagnostics.throttle.may_log(&reason, Instant::now()) {
                    log::error!("Kafka rejects the {client}, check the Kafka settings: {reason}{more}");
                }
            }
            // The errors of the single brokers came before, and have more detail.
            Code::AllBrokersDown => return,
            _ => self.diagnostics.warn(&format!("Kafka, {client}: {reason}")),
        }
        self.diagnostics.set_last_error(reason);
    }
}

impl ConsumerContext for KafkaContext {}

/// The code of librdkafka as text, which is shorter than the error; the error if it has no code.
pub(super) fn text_of(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

/// True if waiting does not help: an operator has to change the credentials or the permissions.
pub(super) fn is_refusal(code: Code) -> bool {
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

/// A reason of librdkafka without the parts that differ from one occurrence to the next: `GroupCoordinator: ` or the
/// name of a thread at the start, the id of the broker after its address, and `(after 2ms in state CONNECT, 3 identical
/// error(s) suppressed)` at the end.
fn plain_reason(reason: &str) -> String {
    let reason = reason.split_once("]: ").filter(|_| reason.starts_with("[thrd:")).map_or(reason, |(_, reason)| reason);
    let reason = reason.strip_prefix("GroupCoordinator: ").unwrap_or(reason);
    let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason);
    match reason.split_once(": ").map(|(broker, rest)| (broker.rsplit_once('/'), rest)) {
        Some((Some((address, id)), rest)) if id.parse::<u32>().is_ok() => format!("{address}: {rest}"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain_reason;

    #[test]
    fn reasons_with_the_same_cause_become_the_same_text() {
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
