//! The yardstick for a lobby on Kafka: one process that produces to a topic and consumes from it, with the same client
//! library and settings, and nothing else.

use std::time::Duration;

use ich::event_log::kafka;
use ich::event_log::kafka_settings::KafkaSettings;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::{nanos, now_ns};
use crate::figures::{Phase, Run};
use crate::histogram::Histogram;
use crate::target::random_hex;
use crate::window::add_latencies;

const PATIENCE: Duration = Duration::from_secs(10);
/// Records before those that count: the connections are made by them.
const WARM_UP_RECORDS: u64 = 50;

/// Sends `rate` records a second of `bytes` for `seconds`, and says how long each was under way.
pub fn run(brokers: &str, rate: f64, bytes: usize, seconds: f64) -> Result<Run, String> {
    let topic = format!("ich-bare-{}", random_hex(6)?);
    make_topic(brokers, &topic)?;
    let text = |error: rdkafka::error::KafkaError| format!("Kafka: {error}");
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "ich-bare")
        .set("enable.auto.commit", "false")
        .set("fetch.min.bytes", "1")
        .create()
        .map_err(text)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&topic, 0, Offset::Beginning).map_err(text)?;
    consumer.assign(&from).map_err(text)?;
    let producer: ThreadedProducer<_> = config(brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .create()
        .map_err(text)?;

    let begun_ns = now_ns();
    let total = WARM_UP_RECORDS + (rate * seconds) as u64;
    let (mut sent, mut received) = (0, 0);
    let mut latency = Histogram::default();
    let padding = vec![b'x'; bytes.saturating_sub(8)];
    while received < total {
        let due_ns = begun_ns + (sent as f64 * 1e9 / rate) as u64;
        let now = now_ns();
        if sent < total && now >= due_ns {
            let payload = [&due_ns.to_le_bytes()[..], &padding].concat();
            producer.send(BaseRecord::<(), _>::to(&topic).payload(&payload)).map_err(|(error, _)| text(error))?;
            sent += 1;
            continue;
        }
        let wait = if sent < total { Duration::from_nanos(due_ns - now) } else { PATIENCE };
        match consumer.poll(wait) {
            Some(message) => {
                let message = message.map_err(text)?;
                let due = message.payload().and_then(|payload| payload.first_chunk()).copied();
                received += 1;
                if received > WARM_UP_RECORDS {
                    latency.record(now_ns().saturating_sub(due.map_or(0, u64::from_le_bytes)));
                }
            }
            None if sent == total || now_ns() > due_ns + nanos(PATIENCE) => {
                return Err(format!("Kafka: only {received} of {total} records came back"));
            }
            None => {}
        }
    }
    producer.flush(PATIENCE).map_err(text)?;
    let mut phase = Phase::new("chat");
    add_latencies(&mut phase, &latency);
    Ok(Run { name: "bare Kafka", phases: vec![phase], faults: Vec::new(), remarks: Vec::new() })
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.nagle.disable", "true");
    config
}

/// As the server makes its own.
fn make_topic(brokers: &str, topic: &str) -> Result<(), String> {
    let settings = KafkaSettings { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaSettings::default() };
    let mut log = kafka::open(&settings).map_err(|error| error.to_string())?;
    let deadline_ns = now_ns() + nanos(PATIENCE);
    loop {
        match log.reader.rewind(1) {
            Ok(_) => return Ok(()),
            Err(error) if now_ns() > deadline_ns => return Err(error.to_string()),
            Err(_) => {}
        }
    }
}
