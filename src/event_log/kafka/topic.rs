//! [`TopicAdmin`]: makes the topic and reads its settings, by Kafka's admin API.
//!
//! Called by the log thread before it reads, and by the thread of `topic_watch.rs`. Each call opens a client of its own
//! and closes it again, as calls are rare; each has a deadline, and ends soon after the reader was told to give up.

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

use super::topic_settings::TopicSettings;
use super::{ADMIN_CLIENT, Ears, Hearsay, KafkaSettings, client_config};

/// What the topic keeps, when it is made here: a day, in files that are small enough to be deleted daily. Starting needs
/// seconds of it; the rest is for operators.
const TOPIC_CONFIG: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "86400000"),
    ("segment.ms", "21600000"),
    ("segment.bytes", "67108864"),
];
/// How often a waiting call checks whether it was told to give up.
pub(super) const GIVE_UP_CHECK: Duration = Duration::from_millis(100);

/// Why the admin API did not do as asked.
#[derive(Debug)]
pub(super) enum AdminError {
    /// No answer before the deadline, or the caller was told to give up.
    NoAnswer,
    /// Kafka, or the client, refused with this error.
    Refused(KafkaError),
}

impl AdminError {
    /// The code of librdkafka; a missing answer counts as a time-out.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            AdminError::NoAnswer => Some(Code::OperationTimedOut),
            AdminError::Refused(error) => error.rdkafka_error_code(),
        }
    }
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code(), self) {
            (Some(code), _) => write!(formatter, "{code}"),
            (None, AdminError::Refused(error)) => write!(formatter, "{error}"),
            (None, AdminError::NoAnswer) => write!(formatter, "no answer in time"),
        }
    }
}

/// Asks the admin API about one topic.
#[derive(Clone)]
pub(super) struct TopicAdmin {
    pub topic: String,
    replication_factor: Option<i32>,
    config: ClientConfig,
    hearsay: Arc<Hearsay>,
}

impl TopicAdmin {
    pub(super) fn new(settings: &KafkaSettings, hearsay: Arc<Hearsay>) -> Self {
        let mut config = client_config(settings);
        // With sparse connections, librdkafka resets its delay between connection attempts each time an admin request
        // notices that its broker is not connected: an address that refuses connections keeps a core busy.
        config.set("enable.sparse.connections", "false");
        TopicAdmin { topic: settings.topic.clone(), replication_factor: settings.replication_factor, config, hearsay }
    }

    /// Makes the topic with one partition. True: made; false: another instance was faster.
    pub(super) fn make(&self, deadline: Instant, give_up: &AtomicBool) -> Result<bool, AdminError> {
        let replication = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let topic = TOPIC_CONFIG
            .iter()
            .fold(NewTopic::new(&self.topic, 1, replication), |it, (name, value)| it.set(name, value));
        let answers = self.ask(deadline, give_up, |client, options| client.create_topics([&topic], options))?;
        match answers.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(AdminError::Refused(KafkaError::AdminOp(code))),
            None => Err(AdminError::NoAnswer),
        }
    }

    /// Reads the settings of the topic, those included that it has from the brokers.
    pub(super) fn settings(&self, deadline: Instant, give_up: &AtomicBool) -> Result<TopicSettings, AdminError> {
        let topic = ResourceSpecifier::Topic(&self.topic);
        let answers = self.ask(deadline, give_up, |client, options| client.describe_configs([&topic], options))?;
        match answers.into_iter().next() {
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

    fn ask<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        deadline: Instant,
        give_up: &AtomicBool,
        request: impl FnOnce(&AdminClient<Ears>, &AdminOptions) -> F,
    ) -> Result<T, AdminError> {
        let ears = Ears { client: ADMIN_CLIENT, topic: self.topic.clone(), hearsay: Arc::clone(&self.hearsay) };
        let client: AdminClient<Ears> = self.config.create_with_context(ears).map_err(AdminError::Refused)?;
        let timeout = Some(deadline.saturating_duration_since(Instant::now()));
        let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let answer = wait_for(request(&client, &options), deadline, give_up);
        // Closing takes a tenth of a second or more. If no thread can be started, it happens here.
        let _ = thread::Builder::new().name("kafka-drop".into()).spawn(move || drop(client));
        answer.ok_or(AdminError::NoAnswer)?.map_err(AdminError::Refused)
    }
}

/// Waits for a future of librdkafka's, whose own threads complete it. `None` when the deadline has come or the caller was
/// told to give up.
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
