//! Settings of the topic that an administrator of Kafka may change: compression, the cleanup policy, the size of a
//! batch. A change before or during the run of an instance does not stop the lobby for good, and loses no message
//! silently.

mod harness;

use std::time::Duration;

use harness::cluster::{Cluster, sync, wait_online};
use harness::http;
use harness::kafka::{Broker, VERSIONS};
use harness::server::Server;
use harness::wait_for;
use harness::watcher::Watcher;

/// The number of log lines that contain `text`.
fn lines_with(server: &Server, text: &str) -> usize {
    server.log().lines().filter(|line| line.contains(text)).count()
}

fn wait_line(server: &Server, text: &str) {
    wait_for(&format!("{text:?} in the log"), || (lines_with(server, text) > 0).then_some(()));
}

/// Waits for a log line that contains `text`, and returns it.
fn line_with(server: &Server, text: &str) -> String {
    wait_line(server, text);
    server.log().lines().find(|line| line.contains(text)).expect("the line").to_owned()
}

fn is_ready(server: &Server) -> bool {
    http::get(server.address, "/ready").status == 200
}

/// Asserts that the instance is not ready, uses little CPU time, and logs the line with `text` only once.
fn assert_waits_idle(server: &Server, text: &str) {
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(5));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of CPU time in 5 s of waiting");
    assert!(!is_ready(server));
    assert_eq!(lines_with(server, text), 1, "{}", server.log());
}

#[test]
fn a_topic_with_zstd_works() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic_with(&cluster.topic, 1, &[("compression.type", "zstd")]);
    let servers = [cluster.start(), cluster.start()];
    let users = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&users, &["Ann", "Bob"]);
    let text = "compressed ".repeat(100);
    users[0].say("long", &text);
    users.iter().for_each(|user| user.wait_text(&text));
}

#[test]
fn changing_the_compression_loses_nothing() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let users = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&users, &["Ann", "Bob"]);
    for (round, compression) in ["zstd", "producer", "zstd", "gzip"].into_iter().enumerate() {
        broker.set_topic(&cluster.topic, &[("compression.type", compression)]);
        for number in 0..20 {
            sync(&users[number % 2], &users, &format!("round {round}, message {number}"));
        }
    }
    assert!(users.iter().all(|user| user.error_ids().is_empty()));
}

#[test]
fn a_broker_with_zstd_works() {
    let Some(broker) = Broker::own_with(VERSIONS[0], &[("compression.type", "zstd")]) else { return };
    let cluster = Cluster::new(&broker);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "compressed");
}

#[test]
fn an_instance_reports_a_compacted_topic_and_waits() {
    let Some(broker) = Broker::shared() else { return };
    for policy in ["compact", "compact,delete"] {
        let cluster = Cluster::new(broker);
        broker.create_topic_with(&cluster.topic, 1, &[("cleanup.policy", policy)]);
        let server = cluster.launch();
        let line = line_with(&server, "cleanup.policy");
        let expected = [cluster.topic.as_str(), "cleanup.policy=delete", "WARN", "compact"];
        assert!(expected.iter().all(|text| line.contains(text)), "{line}");
        assert_waits_idle(&server, "cleanup.policy");

        broker.set_topic(&cluster.topic, &[("cleanup.policy", "delete")]);
        server.wait_ready();
        let ann = Watcher::join(&server, "Ann");
        sync(&ann, [&ann], "ready without a restart");
    }
}

#[test]
fn an_instance_reports_a_change_to_compaction_and_recovers() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "before");
    broker.set_topic(&cluster.topic, &[("cleanup.policy", "compact")]);
    ann.say("refused", "Kafka refuses this");
    assert!(!ann.wait_answer("refused"), "a compacted topic refuses records without a key");
    let line = line_with(&server, "cleanup.policy");
    assert!(line.contains(&cluster.topic) && line.contains("cleanup.policy=delete"), "{line}");
    wait_for("an instance that is not ready", || (!is_ready(&server)).then_some(()));
    assert_waits_idle(&server, "cleanup.policy");

    broker.set_topic(&cluster.topic, &[("cleanup.policy", "delete")]);
    server.wait_ready();
    let bob = Watcher::join(&server, "Bob");
    sync(&bob, [&bob], "after");
}

#[test]
fn a_topic_with_small_batches_accepts_all_messages_that_fit() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic_with(&cluster.topic, 1, &[("max.message.bytes", "65536")]);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    let ids: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    ids.iter().for_each(|id| ann.say(id, &"x".repeat(3900)));
    let refused: Vec<_> = ids.iter().filter(|id| !ann.wait_answer(id)).collect();
    assert!(refused.is_empty(), "{} of 200 were refused", refused.len());
}

#[test]
fn a_message_too_large_for_the_topic_is_the_only_one_rejected() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic_with(&cluster.topic, 1, &[("max.message.bytes", "5000")]);
    let server = cluster.start();
    let line = line_with(&server, "max.message.bytes");
    assert!(line.contains(&cluster.topic) && line.contains("5000"), "{line}");
    let users = ["Ann", "Bob"].map(|name| Watcher::join(&server, name));
    wait_online(&users, &["Ann", "Bob"]);
    for round in 0..20 {
        let [beside, large, after] = ["beside", "large", "after"].map(|id| format!("{id} {round}"));
        users[1].say(&beside, "small");
        users[0].say(&large, &"\u{20ac}".repeat(3900));
        users[1].say(&after, "small");
        assert!(users[1].wait_answer(&beside) && users[1].wait_answer(&after));
        assert!(!users[0].wait_answer(&large), "the message is larger than the topic accepts");
    }
    assert!(is_ready(&server));
}

#[test]
fn an_instance_reports_a_limit_that_is_too_small_and_waits() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic_with(&cluster.topic, 1, &[("max.message.bytes", "2000")]);
    let server = cluster.launch();
    let line = line_with(&server, "max.message.bytes");
    assert!([cluster.topic.as_str(), "2000", "4096", "WARN"].iter().all(|text| line.contains(text)), "{line}");
    assert_waits_idle(&server, "max.message.bytes");

    broker.set_topic(&cluster.topic, &[("max.message.bytes", "1048588")]);
    server.wait_ready();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "ready without a restart");
}

#[test]
fn an_instance_adapts_to_a_lower_limit_and_to_a_higher_one() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.start();
    let users = ["Ann", "Bob"].map(|name| Watcher::join(&server, name));
    wait_online(&users, &["Ann", "Bob"]);
    broker.set_topic(&cluster.topic, &[("max.message.bytes", "5000")]);
    users[0].say("too large", &"\u{20ac}".repeat(3900));
    assert!(!users[0].wait_answer("too large"));
    let line = line_with(&server, "max.message.bytes");
    assert!(line.contains(&cluster.topic) && line.contains("5000"), "{line}");

    let ids: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    ids.iter().for_each(|id| users[0].say(id, &"x".repeat(1000)));
    let refused: Vec<_> = ids.iter().filter(|id| !users[0].wait_answer(id)).collect();
    assert!(refused.is_empty(), "{} of 200 were refused", refused.len());
    assert!(is_ready(&server));
    assert!(users.iter().all(|user| user.online().len() == 2));

    // After the next message that is too large for the known limit, the instance reads the limit again.
    broker.set_topic(&cluster.topic, &[("max.message.bytes", "1048588")]);
    let mut number = 0;
    wait_for("an accepted large message", || {
        number += 1;
        let id = format!("large {number}");
        users[0].say(&id, &"\u{20ac}".repeat(3900));
        users[0].wait_answer(&id).then_some(())
    });
}

#[test]
fn a_roster_is_split_into_parts_that_the_topic_accepts() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.create_topic_with(&cluster.topic, 1, &[("max.message.bytes", "5000")]);
    let first = cluster.start();
    let names: Vec<String> = (0..60).map(|number| format!("user with quite a long name here {number:02}")).collect();
    let users: Vec<Watcher> = names.iter().map(|name| Watcher::join(&first, name)).collect();
    // The records of the joins are gone. The second instance finds the users in the roster only.
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));
    let second = cluster.start();
    let late = Watcher::join(&second, "Late");
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("Late");
    wait_online([&late, &users[0]], &all);
}

#[test]
fn a_topic_that_cannot_be_created_is_reported_once_a_minute() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.launch_with(&[("ICH_KAFKA_REPLICATION_FACTOR", "3")]);
    let line = line_with(&server, "cannot be created");
    assert!(line.contains(&cluster.topic) && line.contains("replication factor"), "{line}");
    assert_waits_idle(&server, "cannot be created");
}
