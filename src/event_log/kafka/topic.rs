//! [`TopicAdmin`]: creates the topic and reads its settings, by Kafka's admin API.
//!
//! Called by the log thread and the archive thread before they read, and by the thread of `topic_watch.rs`. Calls are
//! rare, so each call opens a client and closes it again. Each call has a deadline, and ends within [`GIVE_UP_CHECK`]
//! after its flag was set.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thiserror::Error;

use super::diagnostics::{Client, Diagnostics, KafkaContext, text_of};
use super::topic_settings::TopicSettings;
use super::{KafkaSettings, client_config};
use crate::threads::{self, Stack};

/// The settings of a topic that this program creates: it keeps the records of a day, in files that are small enough to
/// be deleted daily. A starting instance needs the records of the last seconds; the others are for operators.
const TOPIC_CONFIG: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "86400000"),
    ("segment.ms", "21600000"),
    ("segment.bytes", "67108864"),
];
/// How often a waiting call checks whether its flag to give up is set.
pub(super) const GIVE_UP_CHECK: Duration = Duration::from_millis(100);

/// Why a call of the admin API failed.
#[derive(Debug, Error)]
pub(super) enum AdminError {
    /// No answer before the deadline, or the flag to give up was set. The text is that of a time-out.
    #[error("{}", Code::OperationTimedOut)]
    NoAnswer,
    /// Kafka did not return the settings: the right to read them is missing, or the broker does not know the topic yet.
    #[error("Kafka returned none of them")]
    NoSettings,
    /// Kafka or the client rejected the request.
    #[error("{}", code_of(.0).map_or_else(|| text_of(.0), |code| code.to_string()))]
    Refused(#[source] KafkaError),
}

impl AdminError {
    /// The code of librdkafka; a missing answer counts as a time-out.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            AdminError::NoAnswer => Some(Code::OperationTimedOut),
            AdminError::NoSettings => None,
            AdminError::Refused(error) => code_of(error),
        }
    }
}

/// The code of the answer about one topic, or of the request.
fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The admin API for one topic.
#[derive(Clone)]
pub(super) struct TopicAdmin {
    pub(super) topic: String,
    replication_factor: Option<i32>,
    config: ClientConfig,
    diagnostics: Arc<Diagnostics>,
}

impl TopicAdmin {
    pub(super) fn new(settings: &KafkaSettings, diagnostics: Arc<Diagnostics>) -> Self {
        TopicAdmin {
            topic: settings.topic.clone(),
            replication_factor: settings.replication_factor,
            config: client_config(settings),
            diagnostics,
        }
    }

    /// Creates the topic with one partition. False: another instance was faster.
    pub(super) fn create(&self, deadline: Instant, give_up: &AtomicBool) -> Result<bool, AdminError> {
        let replication = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let topic = TOPIC_CONFIG
            .iter()
            .fold(NewTopic::new(&self.topic, 1, replication), |it, (name, value)| it.set(name, value));
        let answers = self.request(deadline, give_up, |client, options| client.create_topics([&topic], options))?;
        match answers.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(AdminError::Refused(KafkaError::AdminOp(code))),
            None => Err(AdminError::NoAnswer),
        }
    }

    /// Reads the settings of the topic, including those that it inherits from the brokers.
    pub(super) fn settings(&self, deadline: Instant, give_up: &AtomicBool) -> Result<TopicSettings, AdminError> {
        let topic = ResourceSpecifier::Topic(&self.topic);
        let answers = self.request(deadline, give_up, |client, options| client.describe_configs([&topic], options))?;
        match answers.into_iter().next() {
            // rdkafka drops the error that the answer has for the topic. The settings are then empty.
            Some(Ok(described)) if described.entries.is_empty() => Err(AdminError::NoSettings),
            Some(Ok(described)) => {
                let value = |name| described.get(name).and_then(|entry| entry.value.clone());
                Ok(TopicSettings {
                    cleanup_policy: value("cleanup.policy"),
                    max_message_bytes: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
                })
            }
            Some(Err(code)) => Err(AdminError::Refused(KafkaError::AdminOp(code))),
            None => Err(AdminError::NoAnswer),
        }
    }

    fn request<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        deadline: Instant,
        give_up: &AtomicBool,
        send: impl FnOnce(&AdminClient<KafkaContext>, &AdminOptions) -> F,
    ) -> Result<T, AdminError> {
        let (topic, diagnostics) = (self.topic.clone(), Arc::clone(&self.diagnostics));
        let context = KafkaContext { client: Client::Admin, topic, diagnostics };
        let client: AdminClient<KafkaContext> =
            self.config.create_with_context(context).map_err(AdminError::Refused)?;
        let timeout = Some(deadline.saturating_duration_since(Instant::now()));
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let answer = wait_for(send(&client, &options), deadline, give_up);
        // Closing the client takes 100 ms or more. If no thread can be started, this thread closes it.
        let _ = threads::spawn("kafka-drop", Stack::Normal, move || drop(client));
        answer.ok_or(AdminError::NoAnswer)?.map_err(AdminError::Refused)
    }
}

/// Waits for a future that a thread of librdkafka completes. `None`: the deadline has passed, or `give_up` is set.
fn wait_for<F: Future>(future: F, deadline: Instant, give_up: &AtomicBool) -> Option<F::Output> {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || give_up.load(Ordering::Acquire) {
            return None;
        }
        thread::park_timeout(left.min(GIVE_UP_CHECK));
    }
}
