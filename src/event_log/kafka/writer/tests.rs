//! A producer that fails permanently, on librdkafka's mock of a cluster. With a real broker this is too rare for a
//! test.

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
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
    let (mut accepted, mut seen, mut refused) = (Vec::new(), Vec::new(), 0);
    let mut entries = Vec::new();
    for seq in 1.. {
        assert!(Instant::now() < deadline, "no new producer, or it does not work: {refused} refused");
        match log.appender.append(record(seq)) {
            Ok(()) => accepted.push(seq),
            Err(_) => refused += 1,
        }
        log.reader.poll(Duration::from_millis(10), 10, &mut entries).expect("polling");
        if !entries.is_empty() {
            break;
        }
    }
    assert!(refused > 0, "the first producer never failed");
    while seen.len() + entries.len() < accepted.len() {
        assert!(Instant::now() < deadline, "{accepted:?}: only {seen:?} and {entries:?}");
        log.reader.poll(Duration::from_millis(10), 1000, &mut entries).expect("polling");
        seen.extend(log.undelivered.try_iter().map(|record| record.seq));
    }
    seen.extend(entries.iter().map(|entry| entry.record.seq));
    assert_eq!(seen, accepted);
}
