//! Unusual topics: with invalid records, truncated, deleted, or with several partitions.

mod harness;

use harness::cluster::{Cluster, metric, sync, wait_online};
use harness::kafka::Broker;
use harness::wait_for;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// Messages of another program in the topic, and a record of the next version.
fn invalid_records(large: &[u8]) -> Vec<Option<&[u8]>> {
    vec![
        None,
        Some(b""),
        Some(b"null"),
        Some(b"garbage"),
        Some(b"\xff\xfe\x00"),
        Some(b"{}"),
        Some(br#"{"v":2,"from":"2a","seq":1,"at":"x","type":"hologram","depth":[1,2,3]}"#),
        Some(br#"{"v":1,"from":"2a","seq":1,"at":"x","type":"unheard of"}"#),
        Some(br#"{"v":1,"from":"2a","seq":-1,"at":"x","type":"beat","n":1}"#),
        Some(large),
    ]
}

/// By default, a broker does not accept 1 MiB.
const WIDE: (&str, &str) = ("max.message.bytes", "2097152");

#[test]
fn invalid_records_are_skipped_and_counted() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let large = vec![b'['; 1 << 20];
    let invalid = invalid_records(&large);
    broker.create_topic_with(&cluster.topic, 1, &[WIDE]);
    broker.produce(&cluster.topic, &invalid);

    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    assert_eq!(metric(&first, "ich_records_skipped_total"), invalid.len() as u64);
    broker.produce(&cluster.topic, &invalid);
    sync(&ann, [&ann], "after invalid records");
    assert_eq!(metric(&first, "ich_records_skipped_total"), 2 * invalid.len() as u64);
    assert!(first.log().contains("skipped the record at offset 0"), "{}", first.log());

    let second = cluster.start();
    let bob = Watcher::join(&second, "Bob");
    assert_eq!(metric(&second, "ich_records_skipped_total"), 2 * invalid.len() as u64);
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&bob, [&ann, &bob], "also after invalid records");
}

#[test]
fn an_instance_reads_more_if_the_last_records_are_invalid() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    broker.produce_transaction(&cluster.topic, b"invalid", 20_000);
    let late = cluster.start();
    let bob = Watcher::join(&late, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    assert!(late.log().contains("reading more"), "{}", late.log());
    sync(&bob, [&ann, &bob], "found");
}

#[test]
fn a_topic_truncated_while_no_instance_runs() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut before = cluster.start();
    drop(Watcher::join(&before, "Ann"));
    assert_eq!(before.stop().code(), Some(0));
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));

    let after = cluster.start();
    let bob = Watcher::join(&after, "Bob");
    sync(&bob, [&bob], "alone");
    wait_online([&bob], &["Bob"]);
}

#[test]
fn a_topic_truncated_before_a_second_instance_starts() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));
    let late = cluster.start();
    // The record of Ann's join is gone. The second instance finds Ann in the next roster of the first.
    let bob = Watcher::join(&late, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&bob, [&ann, &bob], "found");
    assert_eq!((ann.count("user_joined", "Ann"), ann.count("user_left", "Ann")), (1, 0));
}

#[test]
fn a_topic_truncated_while_an_instance_is_paused() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let [paused, other] = [cluster.start(), cluster.start()];
    let ann = Watcher::join(&other, "Ann");
    let bob = Watcher::join(&paused, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    paused.signal(Signal::STOP);
    // The paused instance has prefetched earlier records only.
    ann.wait_frame("user_left", "Bob");
    let end = broker.end(&cluster.topic);
    wait_for("more records", || (broker.end(&cluster.topic) > end + 3).then_some(()));
    broker.delete_records_before(&cluster.topic, end + 3);
    paused.signal(Signal::CONT);

    assert_eq!(bob.wait_closed(), 1013, "Bob missed events and has to join again");
    wait_for("a log line about the missing records", || {
        paused.log().contains("no longer has the records").then_some(())
    });
    paused.wait_ready();
    let bob_again = Watcher::join(&paused, "Bob");
    wait_online([&ann, &bob_again], &["Ann", "Bob"]);
    sync(&bob_again, [&ann, &bob_again], "back again");
}

#[test]
fn a_topic_deleted_while_instances_run() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let users = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&users, &["Ann", "Bob"]);
    broker.delete_topic(&cluster.topic);
    for user in &users {
        assert_eq!(user.wait_closed(), 1013);
    }
    servers.iter().for_each(harness::server::Server::wait_ready);
    let users = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&users, &["Ann", "Bob"]);
    sync(&users[0], &users, "in the new topic");
}

#[test]
fn a_topic_with_two_partitions_is_rejected() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic(&cluster.topic, 2);
    let mut server = cluster.launch();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log();
    let expected = format!("the Kafka topic {} has 2 partitions, and one lobby needs one order", cluster.topic);
    assert!(log.contains(&expected), "{log}");
    assert!(!log.contains("Unusable"), "the log contains the name of an enum: {log}");
}
