//! Bare produce-to-consume, for comparison with a lobby on Kafka: one process produces to a topic and consumes from it,
//! with the same client library and settings as the server.

use std::time::Duration;

use ich::event_log::kafka::{self, KafkaSettings};
use ich::supervisor::Supervisor;
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

const TIMEOUT: Duration = Duration::from_secs(10);
/// The number of records that are sent first and not measured: they open the connections. Each is sent after the one
/// before was received.
const WARM_UP_RECORDS: u64 = 50;

/// Sends `rate` records per second of `bytes` bytes for `seconds` seconds and measures the latency of each.
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

    let padding = vec![b'x'; bytes.saturating_sub(8)];
    let send = |due_ns: u64| {
        let payload = [&due_ns.to_le_bytes()[..], &padding].concat();
        producer.send(BaseRecord::<(), _>::to(&topic).payload(&payload)).map_err(|(error, _)| text(error))
    };
    // The latency of the next record in nanoseconds. `None`: no record within `wait`.
    let receive = |wait: Duration| -> Result<Option<u64>, String> {
        let Some(message) = consumer.poll(wait).transpose().map_err(text)? else { return Ok(None) };
        let due_ns =
            message.payload().and_then(|payload| payload.first_chunk()).map_or(0, |due| u64::from_le_bytes(*due));
        Ok(Some(now_ns().saturating_sub(due_ns)))
    };
    for _ in 0..WARM_UP_RECORDS {
        send(now_ns())?;
        receive(TIMEOUT)?.ok_or("Kafka: a record was not received within 10 s")?;
    }
    let (begun_ns, total) = (now_ns(), (rate * seconds) as u64);
    let (mut sent, mut latency) = (0, Histogram::default());
    while latency.count() < total {
        let due_ns = begun_ns + (sent as f64 * 1e9 / rate) as u64;
        let wait_ns = due_ns.saturating_sub(now_ns());
        if sent < total && wait_ns == 0 {
            send(due_ns)?;
            sent += 1;
            continue;
        }
        match receive(if sent < total { Duration::from_nanos(wait_ns) } else { TIMEOUT })? {
            Some(latency_ns) => latency.record(latency_ns),
            None if sent == total => {
                return Err(format!("Kafka: only {} of {total} records were received", latency.count()));
            }
            None => {}
        }
    }
    producer.flush(TIMEOUT).map_err(text)?;
    let mut phase = Phase::new("chat");
    add_latencies(&mut phase, &latency);
    Ok(Run { name: "bare Kafka", phases: vec![phase], failures: Vec::new(), remarks: Vec::new() })
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.nagle.disable", "true");
    config
}

/// Creates the topic the way the server does.
fn make_topic(brokers: &str, topic: &str) -> Result<(), String> {
    let settings = KafkaSettings { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaSettings::default() };
    let mut log = kafka::open(&settings, &Supervisor::default()).map_err(|error| error.to_string())?;
    let deadline_ns = now_ns() + nanos(TIMEOUT);
    loop {
        match log.reader.rewind(1) {
            Ok(_) => return Ok(()),
            Err(error) if now_ns() > deadline_ns => return Err(error.to_string()),
            Err(_) => {}
        }
    }
}
