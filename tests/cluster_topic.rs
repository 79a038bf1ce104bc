//! Topics that are not as they should be: with rubbish in them, cut short, deleted, or of several partitions.

mod harness;

use harness::cluster::{Cluster, metric, sync, wait_online};
use harness::kafka::Broker;
use harness::wait_for;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// What is in the topic of a careless neighbour, and a record of the next version.
fn rubbish(junk: &[u8]) -> Vec<Option<&[u8]>> {
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
        Some(junk),
    ]
}

/// 1 MiB is more than a broker takes by default.
const WIDE: (&str, &str) = ("max.message.bytes", "2097152");

#[test]
fn what_is_no_record_is_skipped_and_counted() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let junk = vec![b'['; 1 << 20];
    let rubbish = rubbish(&junk);
    broker.make_topic_with(&cluster.topic, 1, &[WIDE]);
    broker.produce(&cluster.topic, &rubbish);

    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    assert_eq!(metric(&first, "ich_records_skipped_total"), rubbish.len() as u64);
    broker.produce(&cluster.topic, &rubbish);
    sync(&ann, [&ann], "undisturbed");
    assert_eq!(metric(&first, "ich_records_skipped_total"), 2 * rubbish.len() as u64);
    assert!(first.log().contains("skipped the record at offset 0"), "{}", first.log());

    let second = cluster.start();
    let bob = Watcher::join(&second, "Bob");
    assert_eq!(metric(&second, "ich_records_skipped_total"), 2 * rubbish.len() as u64);
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&bob, [&ann, &bob], "neither am I");
}

#[test]
fn rubbish_that_fills_all_that_is_read_at_first_hides_nobody() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    broker.produce_transaction(&cluster.topic, b"rubbish", 20_000);
    let late = cluster.start();
    let bob = Watcher::join(&late, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    assert!(late.log().contains("reading more"), "{}", late.log());
    sync(&bob, [&ann, &bob], "there you are");
}

#[test]
fn cut_short_while_nobody_reads() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut before = cluster.start();
    drop(Watcher::join(&before, "Ann"));
    assert_eq!(before.stop().code(), Some(0));
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));

    let after = cluster.start();
    let bob = Watcher::join(&after, "Bob");
    sync(&bob, [&bob], "anybody?");
    wait_online([&bob], &["Bob"]);
}

#[test]
fn cut_short_before_an_instance_starts_beside_another() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let ann = Watcher::join(&first, "Ann");
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));
    let late = cluster.start();
    // Ann's joining is cut off: that she is there is known only by what her instance says again and again.
    let bob = Watcher::join(&late, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&bob, [&ann, &bob], "there you are");
    assert_eq!((ann.count("user_joined", "Ann"), ann.count("user_left", "Ann")), (1, 0));
}

#[test]
fn cut_short_under_an_instance_that_stood_still() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let [paused, other] = [cluster.start(), cluster.start()];
    let ann = Watcher::join(&other, "Ann");
    let bob = Watcher::join(&paused, "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    paused.signal(Signal::STOP);
    // What its client library has read ahead was read before this.
    ann.wait_frame("user_left", "Bob");
    let end = broker.end(&cluster.topic);
    wait_for("more records", || (broker.end(&cluster.topic) > end + 3).then_some(()));
    broker.delete_records_before(&cluster.topic, end + 3);
    paused.signal(Signal::CONT);

    assert_eq!(bob.wait_closed(), 1013, "what was said meanwhile is lost to him: he has to join anew");
    wait_for("a line about it", || paused.log().contains("no longer has the records").then_some(()));
    paused.wait_ready();
    let bob_again = Watcher::join(&paused, "Bob");
    wait_online([&ann, &bob_again], &["Ann", "Bob"]);
    sync(&bob_again, [&ann, &bob_again], "back again");
}

#[test]
fn deleted_under_running_instances() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    broker.delete_topic(&cluster.topic);
    for person in &people {
        assert_eq!(person.wait_closed(), 1013);
    }
    servers.iter().for_each(harness::server::Server::wait_ready);
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    sync(&people[0], &people, "a new beginning");
}

#[test]
fn two_partitions_are_refused() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic(&cluster.topic, 2);
    let mut server = cluster.launch();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log();
    let expected = format!("the Kafka topic {} has 2 partitions, and one lobby needs one order", cluster.topic);
    assert!(log.contains(&expected), "{log}");
    assert!(!log.contains("Unusable"), "a name of the code is not for people: {log}");
}
