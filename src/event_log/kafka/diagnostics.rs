//! What the clients of librdkafka report about themselves: [`KafkaContext`] receives it, [`Diagnostics`] logs it at a
//! bounded rate and keeps the last error, which explains why a later call failed.
//!
//! The methods run on the thread that polls the client: for a consumer the log thread or the archive thread, for the
//! other clients a thread of librdkafka. None of them waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::KafkaSettings;
use super::certificates::Certificates;
use super::explain::{Explained, Failure, Security};
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
pub(super) struct Diagnostics {
    security: Security,
    certificates: Certificates,
    last_error: Mutex<Option<String>>,
    /// While it is false, each failed attempt to open the log is logged with the last error. So the error itself is not.
    is_reading: AtomicBool,
    pub(super) throttle: LogThrottle,
}

impl Diagnostics {
    pub(super) fn new(settings: &KafkaSettings) -> Self {
        Diagnostics {
            security: Security::of(settings),
            certificates: Certificates::new(settings),
            last_error: Mutex::default(),
            is_reading: AtomicBool::new(false),
            throttle: LogThrottle::default(),
        }
    }

    /// The last error of any client since [`Diagnostics::reading_begins`].
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// Called after the log was opened: earlier errors do not explain later failures.
    pub(super) fn reading_begins(&self) {
        *lock(&self.last_error) = None;
        self.is_reading.store(true, Ordering::Release);
    }

    /// Called before the log is opened again.
    pub(super) fn reading_ends(&self) {
        self.is_reading.store(false, Ordering::Release);
    }

    /// Keeps a failure of a connection. Returns its text, unless the certificate of the broker is still being examined:
    /// [`Diagnostics::on_examined`] then follows.
    fn on_failure(self: &Arc<Self>, failure: &Failure) -> Option<String> {
        let (text, is_final) = match self.security.explain(failure) {
            Explained::Known(text) => (text, true),
            Explained::Certificate { address } => self.certificates.explain(&address, self),
        };
        *lock(&self.last_error) = Some(text.clone());
        is_final.then_some(text)
    }

    /// The certificate of a broker was examined, on a thread of [`Certificates`].
    pub(super) fn on_examined(&self, text: String) {
        self.certificates.finish(&text);
        self.report(&format!("Kafka: {text}"));
        *lock(&self.last_error) = Some(text);
    }

    /// Logs an error of a client, if nothing else does.
    fn report(&self, text: &str) {
        if self.is_reading.load(Ordering::Acquire) {
            self.warn(text);
        }
    }

    /// Logs a warning, unless the same text was logged in the last minute.
    pub(super) fn warn(&self, text: &str) {
        if let Some(more) = self.throttle.may_log(text, Instant::now()) {
            log::warn!("{text}{more}");
        }
    }

    /// The consumer may not read.
    pub(super) fn warn_no_read(&self, topic: &str) {
        self.warn(&format!("Kafka does not let this instance read the topic {topic}: grant READ on it"));
    }

    /// The producer may not write. Each attempt to write reports it again.
    pub(super) fn warn_no_write(&self, topic: &str) {
        self.report(&format!(
            "Kafka does not let this instance write to the topic {topic}: grant WRITE on it (and, with brokers before 2.8, \
             IDEMPOTENT_WRITE on the cluster)"
        ));
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
        if facility == "FAIL" {
            let failure = Failure::parse(line);
            if !is_informational || failure.is_early_close() {
                self.diagnostics.on_failure(&failure);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // Not errors: the end of the log was read; the consumer has a group name and uses no group.
            None | Some(Code::PartitionEOF | Code::GroupAuthorizationFailed) => {}
            // The errors of the single brokers came before, and have more detail.
            Some(Code::AllBrokersDown) => {}
            // An idempotent producer gets the first code instead of one about the topic.
            Some(Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed)
                if self.client == Client::Producer =>
            {
                self.diagnostics.warn_no_write(&self.topic);
            }
            Some(Code::TopicAuthorizationFailed) if self.client == Client::Consumer => {
                self.diagnostics.warn_no_read(&self.topic);
            }
            Some(_) => {
                if let Some(text) = self.diagnostics.on_failure(&Failure::parse(reason)) {
                    self.diagnostics.report(&format!("Kafka: {text}"));
                }
            }
        }
    }

    /// Statistics are off. Without this method, the compiler generates the parser of them: 4 % of the server's code.
    fn stats_raw(&self, _statistics: &[u8]) {}
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
