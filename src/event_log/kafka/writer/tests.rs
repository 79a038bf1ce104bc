//! A producer that fails permanently, which is too rare with a real broker, and the end of the thread that sends: on
//! librdkafka's mock of a cluster.

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::event_log::EventLog;
use crate::event_log::kafka::open;
use crate::lobby::{Body, InstanceId};

fn record(seq: u64) -> Record {
    Record { from: InstanceId(1), seq, at: "x".into(), body: Body::Heartbeat { n: seq } }
}

#[test]
fn a_failed_producer_is_replaced_and_its_records_are_reported_undelivered() {
    let cluster = MockCluster::new(1).expect("a mock of a cluster");
    cluster.create_topic("lobby", 1, 1).expect("a topic");
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    let brokers = cluster.bootstrap_servers();
    let settings = KafkaSettings { brokers, topic: "lobby".into(), ..KafkaSettings::default() };
    let mut log = open(&settings, &crate::supervisor::Supervisor::default()).expect("opening");
    log.reader.rewind(10).expect("rewinding");

    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut undelivered, mut entries) = (Vec::new(), Vec::new());
    let mut appended = 0;
    while entries.is_empty() {
        assert!(Instant::now() < deadline, "no new producer, or it does not work: {} undelivered", undelivered.len());
        appended += 1;
        log.appender.append(record(appended)).expect("the queue has room");
        log.reader.poll(Duration::from_millis(10), 10, &mut entries).expect("polling");
        undelivered.extend(log.undelivered.try_iter().map(|record| record.seq));
    }
    assert!(!undelivered.is_empty(), "the first producer never failed");
    while undelivered.len() + entries.len() < usize::try_from(appended).expect("a number") {
        assert!(Instant::now() < deadline, "{appended}: only {undelivered:?} and {entries:?}");
        log.reader.poll(Duration::from_millis(10), 1000, &mut entries).expect("polling");
        undelivered.extend(log.undelivered.try_iter().map(|record| record.seq));
    }
    let seen = undelivered.into_iter().chain(entries.iter().map(|entry| entry.record.seq));
    assert_eq!(seen.collect::<Vec<_>>(), (1..=appended).collect::<Vec<_>>());
}

#[test]
fn the_thread_that_sends_has_ended_when_the_log_was_dropped() {
    let cluster = MockCluster::new(1).expect("a mock of a cluster");
    let brokers = cluster.bootstrap_servers();
    let settings = KafkaSettings { brokers, topic: "lobby".into(), ..KafkaSettings::default() };
    for _ in 0..20 {
        let log = open(&settings, &crate::supervisor::Supervisor::default()).expect("opening");
        let EventLog { appender, reader, open_reader, .. } = log;
        drop(reader);
        drop(appender);
        // It needs the writer, which the thread shares.
        assert!(open_reader.expect("it opens readers")().is_err(), "the thread still has the writer");
    }
}
