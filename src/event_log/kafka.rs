//! The event log in Apache Kafka: one topic with one partition, which all instances append to and read.
//!
//! Only this module uses librdkafka. It has a producer behind [`Appender`](super::Appender) and a consumer behind
//! [`Reader`](super::Reader). librdkafka's own threads connect to the brokers, and reconnect without end. So an
//! unavailable cluster is not an error here: the log has no new records until the cluster is back.
//!
//! - **Appending** puts the record into a bounded queue (`event_log/queue.rs`) and returns. One thread gives the queued
//!   records to the producer, one batch at a time (`batch_sender`). The producer is idempotent: a record that it sends
//!   again after a broken connection is in the log once and in order. If Kafka does not accept a batch within 30 seconds,
//!   its records and those that waited meanwhile are reported undelivered.
//! - **Reading** starts from an offset that the reader computes. There is no consumer group, and no offset is
//!   committed: each instance reads all records.
//!
//! The parts: `appender`, `batch_sender` and `producer` append; `reader` and `consumer` read; `topic_setup`, `topic` and
//! `topic_settings` create and check the topic; `topic_watch` checks it again when Kafka refuses a record; `batch_limit`
//! has the largest batch that the topic accepts; `diagnostics`, `explain`, `certificates` and `addresses` explain errors;
//! `drop_within` bounds the time that closing a client takes.

mod addresses;
mod appender;
mod batch_limit;
mod batch_sender;
mod certificates;
mod consumer;
mod diagnostics;
mod drop_within;
mod explain;
mod producer;
mod properties;
mod reader;
mod topic;
mod topic_settings;
mod topic_setup;
mod topic_watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::{bounded, unbounded};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use self::appender::{KafkaAppender, QUEUE_BYTES, QUEUE_RECORDS};
use self::batch_limit::BatchLimit;
use self::batch_sender::BatchSender;
use self::consumer::KafkaConsumer;
use self::diagnostics::Diagnostics;
pub use self::properties::OpenError;
use self::reader::KafkaReader;
use self::topic::TopicAdmin;
use self::topic_setup::TopicSetup;
use self::topic_watch::RefusalReports;
use super::queue::Queue;
use super::{EventLog, OpenReader, ReadError};
pub use crate::config::KafkaSettings;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The only partition of the topic: one order for all instances.
const PARTITION: i32 = 0;

/// Opens the log. `supervisor` starts its long-lived threads. Returns at once, also if no broker can be reached:
/// [`Reader::rewind`](super::Reader::rewind) reports that.
///
/// # Errors
/// A setting is invalid, or a thread cannot be started.
pub fn open(settings: &KafkaSettings, supervisor: &Supervisor) -> Result<EventLog, OpenError> {
    properties::check(settings)?;
    let (undelivered_sender, undelivered) = unbounded();
    let skipped = Arc::new(AtomicU64::new(0));
    let diagnostics = Arc::new(Diagnostics::new(settings));
    let admin = TopicAdmin::new(settings, Arc::clone(&diagnostics));
    let (refusals, reported) = RefusalReports::new();
    let limit = Arc::new(BatchLimit::new(settings.topic.clone(), Arc::clone(&diagnostics)));
    let queue = Arc::new(Queue::new(QUEUE_RECORDS, QUEUE_BYTES));
    let sender = BatchSender::open(
        settings,
        Arc::clone(&diagnostics),
        Arc::clone(&queue),
        Arc::clone(&limit),
        undelivered_sender,
        refusals.clone(),
    )?;
    let thread_error = |error: std::io::Error| OpenError::Together(error.to_string());
    topic_watch::start(admin.clone(), reported, Arc::clone(&limit), supervisor).map_err(thread_error)?;
    let (running, ended) = bounded::<()>(0);
    let thread = supervisor
        .spawn("log-writer", Stack::Normal, move || {
            sender.run();
            drop(running);
            Ok(())
        })
        .map_err(thread_error)?;
    let appender = KafkaAppender {
        queue,
        limit: Arc::clone(&limit),
        refusals,
        undelivered: undelivered.clone(),
        thread: Some(thread),
        ended,
    };
    let consumer = KafkaConsumer::open(settings, Arc::clone(&diagnostics))?;
    let setup = TopicSetup { admin, limit: Arc::clone(&limit) };
    let reader = KafkaReader::new(consumer, setup, diagnostics, Arc::clone(&skipped));
    let open_reader = open_reader(settings.clone(), limit);
    Ok(EventLog {
        appender: Arc::new(appender),
        reader: Box::new(reader),
        undelivered,
        skipped,
        open_reader: Some(open_reader),
    })
}

/// Opens readers for the archive. Each has diagnostics of its own, because those know whether their reader reads.
fn open_reader(settings: KafkaSettings, limit: Arc<BatchLimit>) -> OpenReader {
    Box::new(move || {
        let diagnostics = Arc::new(Diagnostics::new(&settings));
        let consumer = KafkaConsumer::open(&settings, Arc::clone(&diagnostics))
            .map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let setup =
            TopicSetup { admin: TopicAdmin::new(&settings, Arc::clone(&diagnostics)), limit: Arc::clone(&limit) };
        // The reader of the log thread counts what it skips, too.
        Ok(Box::new(KafkaReader::new(consumer, setup, diagnostics, Arc::default())))
    })
}

/// The configuration that all clients have in common.
fn client_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties::of(settings) {
        config.set(name, value);
    }
    config
        .set("client.id", "ich")
        // Send each record at once; do not wait for a fuller packet.
        .set("socket.nagle.disable", "true")
        .set("socket.keepalive.enable", "true")
        // A frozen broker keeps its connections open. The client leaves it well before the producer gives up a record.
        .set("socket.timeout.ms", "6000")
        // Shorter than a `rewind`, so that its error can name the address that does not answer.
        .set("socket.connection.setup.timeout.ms", "4000")
        .set("reconnect.backoff.max.ms", "1000")
        // With sparse connections, librdkafka resets its delay between connection attempts each time a request waits for a
        // connection: 20 attempts a second, and a busy core for an address that refuses connections.
        .set("enable.sparse.connections", "false")
        // The broker would choose the number of partitions. `topic_setup.rs` creates the topic.
        .set("allow.auto.create.topics", "false");
    config
}

/// The error for settings that librdkafka rejects, without the value that librdkafka puts into the text: it may be a
/// password.
fn open_error(error: KafkaError) -> OpenError {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) if !value.is_empty() => {
            OpenError::Setting { name, reason: reason.replace(&value, "(its value)") }
        }
        KafkaError::ClientConfig(_, reason, name, _) => OpenError::Setting { name, reason },
        KafkaError::ClientCreation(reason) => OpenError::Together(reason),
        other => OpenError::Together(other.to_string()),
    }
}
