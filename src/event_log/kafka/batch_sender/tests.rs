//! What is too rare with a real broker, or cannot be seen from outside: producers that fail or cannot be created, records
//! that are too old, and the end of the thread. On librdkafka's mock of a cluster.

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::event_log::EventLog;
use crate::event_log::kafka::open;
use crate::event_log::kafka::topic_settings::{BATCH_BYTES_MAX, TopicSettings};
use crate::lobby::{Body, InstanceId};

/// How long the tests wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(brokers: &str) -> KafkaSettings {
    KafkaSettings { brokers: brokers.into(), topic: "lobby".into(), ..KafkaSettings::default() }
}

/// A sender without its thread, and the receiver of the undelivered records.
fn sender(brokers: &str) -> (BatchSender, Receiver<Record>) {
    let settings = settings(brokers);
    let (undelivered_sender, undelivered) = unbounded();
    let diagnostics = Arc::new(Diagnostics::new(&settings));
    let limit = Arc::new(BatchLimit::new(settings.topic.clone(), Arc::clone(&diagnostics)));
    let queue = Arc::new(Queue::new(10, 1000));
    let (refusals, _) = RefusalReports::new();
    let sender = BatchSender::open(&settings, diagnostics, queue, limit, undelivered_sender, refusals);
    (sender.expect("opening"), undelivered)
}

fn queued(seq: u64) -> Queued {
    let record = Record { from: InstanceId(1), seq, at: "x".into(), body: Body::Heartbeat { n: seq } };
    Queued { record, json: "{}".into(), queued_at: Instant::now() }
}

fn seqs(undelivered: &Receiver<Record>) -> Vec<u64> {
    undelivered.try_iter().map(|record| record.seq).collect()
}

#[test]
fn a_failed_producer_is_replaced_and_its_records_are_reported_undelivered_in_order() {
    let cluster = MockCluster::new(1).expect("a mock of a cluster");
    cluster.create_topic("lobby", 1, 1).expect("a topic");
    // The first two producers fail permanently as soon as they are connected; until then, they keep their records.
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 2],
    );
    cluster.broker_down(-1).expect("no connection");
    let (mut sender, undelivered) = sender(&cluster.bootstrap_servers());
    let deadline = Instant::now() + PATIENCE;
    let (mut sent, mut reported) = (0, Vec::new());
    // Until a batch is delivered.
    while reported.len() == sent {
        let now = Instant::now();
        assert!(now < deadline, "no new producer, or it does not work");
        for seq in (1..).skip(sent).take(3) {
            sender.send(queued(seq));
        }
        sent += 3;
        cluster.broker_up(-1).expect("a connection");
        sender.wait_reported(PATIENCE);
        assert!(sender.producer.context().unreported.wait_none(Duration::ZERO), "{sent} sent: no report");
        reported.extend(seqs(&undelivered));
        thread::sleep(BATCH_INTERVAL);
    }
    assert!(reported.len() >= 6, "two producers had records: {reported:?}");
    assert_eq!(reported, (1..).take(reported.len()).collect::<Vec<_>>());
}

#[test]
fn a_new_limit_replaces_the_producer_and_loses_no_record() {
    let cluster = MockCluster::new(1).expect("a mock of a cluster");
    cluster.create_topic("lobby", 1, 1).expect("a topic");
    let (mut sender, undelivered) = sender(&cluster.bootstrap_servers());
    for (seq, max_message_bytes) in [(1, 65_536), (2, 5000), (3, 1_048_588)] {
        let topic = TopicSettings { max_message_bytes: Some(max_message_bytes), ..TopicSettings::default() };
        sender.limit.adapt_to(&topic);
        sender.renew_producer();
        assert_eq!(sender.batch_bytes_max, topic.batch_bytes_max());
        sender.send(queued(seq));
        sender.wait_reported(PATIENCE);
        assert!(sender.producer.context().unreported.wait_none(Duration::ZERO), "{seq}: no report");
    }
    assert!(seqs(&undelivered).is_empty());
}

#[test]
fn a_producer_that_could_not_be_created_for_a_new_limit_is_created_later() {
    let (mut sender, undelivered) = sender("127.0.0.1:1");
    let invalid = KafkaSettings {
        security_protocol: Some("ssl".into()),
        ca_file: Some("/no/such/file".into()),
        ..settings("127.0.0.1:1")
    };
    let (refusals, _) = RefusalReports::new();
    let factory = ProducerFactory::new(&invalid, Arc::clone(&sender.diagnostics), sender.undelivered.clone(), refusals);
    let valid = std::mem::replace(&mut sender.factory, factory);
    let topic = TopicSettings { max_message_bytes: Some(65_536), ..TopicSettings::default() };
    sender.limit.adapt_to(&topic);
    sender.renew_producer();
    assert_eq!(sender.batch_bytes_max, BATCH_BYTES_MAX, "the old producer stays");
    sender.factory = valid;
    sender.limit.adapt_to(&topic);
    let deadline = Instant::now() + PATIENCE;
    while sender.batch_bytes_max != topic.batch_bytes_max() {
        assert!(Instant::now() < deadline, "no new producer");
        sender.renew_producer();
        thread::sleep(Duration::from_millis(10));
    }
    assert!(seqs(&undelivered).is_empty());
}

#[test]
fn records_that_waited_while_kafka_did_not_answer_are_reported_undelivered_in_order() {
    let (sender, undelivered) = sender("127.0.0.1:1");
    (1..=3).for_each(|seq| sender.queue.push(queued(seq).record, "{}".into()).expect("room"));
    sender.report_waiting();
    assert_eq!(seqs(&undelivered), [1, 2, 3]);
    assert_eq!(sender.queue.unsettled(), 0);
}

#[test]
fn the_thread_that_sends_has_closed_the_producer_when_the_log_was_dropped() {
    let cluster = MockCluster::new(1).expect("a mock of a cluster");
    for _ in 0..20 {
        let log = open(&settings(&cluster.bootstrap_servers()), &crate::supervisor::Supervisor::default());
        let EventLog { appender, reader, undelivered, .. } = log.expect("opening");
        drop(reader);
        drop(appender);
        // The thread and the producer have the senders of this channel.
        assert_eq!(undelivered.try_recv().err(), Some(TryRecvError::Disconnected));
    }
}
