//! Settings of the topic that Kafka's administrators choose: compression, the clean-up policy, the size of a batch. They
//! may be set before an instance starts or while it runs, and neither stops the lobby nor loses a message silently.

mod harness;

use std::time::Duration;

use harness::cluster::{Cluster, sync, wait_online};
use harness::http;
use harness::kafka::{Broker, VERSIONS};
use harness::server::Server;
use harness::wait_for;
use harness::watcher::Watcher;

/// How many lines of the log contain `text`.
fn lines_with(server: &Server, text: &str) -> usize {
    server.log().lines().filter(|line| line.contains(text)).count()
}

fn wait_line(server: &Server, text: &str) {
    wait_for(&format!("{text:?} in the log"), || (lines_with(server, text) > 0).then_some(()));
}

/// The line of the log that contains `text`.
fn line_with(server: &Server, text: &str) -> String {
    wait_line(server, text);
    server.log().lines().find(|line| line.contains(text)).expect("it is there").to_owned()
}

fn is_ready(server: &Server) -> bool {
    http::get(server.address, "/ready").status == 200
}

/// The instance is not ready, uses little CPU time meanwhile, and does not repeat the line with `text`.
fn waits_idle(server: &Server, text: &str) {
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(5));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of CPU time in 5 s of waiting");
    assert!(!is_ready(server));
    assert_eq!(lines_with(server, text), 1, "{}", server.log());
}

#[test]
fn a_topic_with_zstd_is_read() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic_with(&cluster.topic, 1, &[("compression.type", "zstd")]);
    let servers = [cluster.start(), cluster.start()];
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    let text = "compressed ".repeat(100);
    people[0].say("long", &text);
    people.iter().for_each(|person| person.wait_text(&text));
}

#[test]
fn zstd_set_while_running_loses_nothing() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    for (round, compression) in ["zstd", "producer", "zstd", "gzip"].into_iter().enumerate() {
        broker.set_topic(&cluster.topic, &[("compression.type", compression)]);
        for number in 0..20 {
            sync(&people[number % 2], &people, &format!("round {round}, message {number}"));
        }
    }
    assert!(people.iter().all(|person| person.error_ids().is_empty()));
}

#[test]
fn zstd_of_the_whole_broker_is_read() {
    let Some(broker) = Broker::own_with(VERSIONS[0], &[("compression.type", "zstd")]) else { return };
    let cluster = Cluster::new(&broker);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "compressed");
}

#[test]
fn a_compacted_topic_is_reported_and_waited_for() {
    let Some(broker) = Broker::shared() else { return };
    for policy in ["compact", "compact,delete"] {
        let cluster = Cluster::new(broker);
        broker.make_topic_with(&cluster.topic, 1, &[("cleanup.policy", policy)]);
        let server = cluster.launch();
        let line = line_with(&server, "cleanup.policy");
        let expected = [cluster.topic.as_str(), "cleanup.policy=delete", "WARN", "compact"];
        assert!(expected.iter().all(|text| line.contains(text)), "{line}");
        waits_idle(&server, "cleanup.policy");

        broker.set_topic(&cluster.topic, &[("cleanup.policy", "delete")]);
        server.wait_ready();
        let ann = Watcher::join(&server, "Ann");
        sync(&ann, [&ann], "ready without a restart");
    }
}

#[test]
fn compaction_set_while_running_is_reported_and_recovered_from() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "before");
    broker.set_topic(&cluster.topic, &[("cleanup.policy", "compact")]);
    ann.say("refused", "Kafka refuses this");
    assert!(!ann.wait_answer("refused"), "a compacted topic takes no record without a key");
    let line = line_with(&server, "cleanup.policy");
    assert!(line.contains(&cluster.topic) && line.contains("cleanup.policy=delete"), "{line}");
    wait_for("an instance that is not ready", || (!is_ready(&server)).then_some(()));
    waits_idle(&server, "cleanup.policy");

    broker.set_topic(&cluster.topic, &[("cleanup.policy", "delete")]);
    server.wait_ready();
    let bob = Watcher::join(&server, "Bob");
    sync(&bob, [&bob], "after");
}

#[test]
fn a_topic_that_takes_small_batches_takes_all_messages_that_fit() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic_with(&cluster.topic, 1, &[("max.message.bytes", "65536")]);
    let server = cluster.start();
    let ann = Watcher::join(&server, "Ann");
    let ids: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    ids.iter().for_each(|id| ann.say(id, &"x".repeat(3900)));
    let refused: Vec<_> = ids.iter().filter(|id| !ann.wait_answer(id)).collect();
    assert!(refused.is_empty(), "{} of 200 were refused", refused.len());
}

#[test]
fn a_message_too_large_for_the_topic_takes_no_other_with_it() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic_with(&cluster.topic, 1, &[("max.message.bytes", "5000")]);
    let server = cluster.start();
    let line = line_with(&server, "max.message.bytes");
    assert!(line.contains(&cluster.topic) && line.contains("5000"), "{line}");
    let people = ["Ann", "Bob"].map(|name| Watcher::join(&server, name));
    wait_online(&people, &["Ann", "Bob"]);
    for round in 0..20 {
        let [beside, large, after] = ["beside", "large", "after"].map(|id| format!("{id} {round}"));
        people[1].say(&beside, "small");
        people[0].say(&large, &"\u{20ac}".repeat(3900));
        people[1].say(&after, "small");
        assert!(people[1].wait_answer(&beside) && people[1].wait_answer(&after));
        assert!(!people[0].wait_answer(&large), "it is larger than the topic takes");
    }
    assert!(is_ready(&server));
}

#[test]
fn a_limit_too_small_to_work_is_reported_and_waited_for() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic_with(&cluster.topic, 1, &[("max.message.bytes", "2000")]);
    let server = cluster.launch();
    let line = line_with(&server, "max.message.bytes");
    assert!([cluster.topic.as_str(), "2000", "4096", "WARN"].iter().all(|text| line.contains(text)), "{line}");
    waits_idle(&server, "max.message.bytes");

    broker.set_topic(&cluster.topic, &[("max.message.bytes", "1048588")]);
    server.wait_ready();
    let ann = Watcher::join(&server, "Ann");
    sync(&ann, [&ann], "ready without a restart");
}

#[test]
fn a_limit_lowered_while_running_is_adapted_to() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.start();
    let people = ["Ann", "Bob"].map(|name| Watcher::join(&server, name));
    wait_online(&people, &["Ann", "Bob"]);
    broker.set_topic(&cluster.topic, &[("max.message.bytes", "5000")]);
    people[0].say("too large", &"\u{20ac}".repeat(3900));
    assert!(!people[0].wait_answer("too large"));
    let line = line_with(&server, "max.message.bytes");
    assert!(line.contains(&cluster.topic) && line.contains("5000"), "{line}");

    let ids: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    ids.iter().for_each(|id| people[0].say(id, &"x".repeat(1000)));
    let refused: Vec<_> = ids.iter().filter(|id| !people[0].wait_answer(id)).collect();
    assert!(refused.is_empty(), "{} of 200 were refused", refused.len());
    assert!(is_ready(&server));
    assert!(people.iter().all(|person| person.online().len() == 2));

    // Raised again: the limit is read anew when the next message is too large for what is known of it.
    broker.set_topic(&cluster.topic, &[("max.message.bytes", "1048588")]);
    let mut number = 0;
    wait_for("a large message to be taken", || {
        number += 1;
        let id = format!("large {number}");
        people[0].say(&id, &"\u{20ac}".repeat(3900));
        people[0].wait_answer(&id).then_some(())
    });
}

#[test]
fn a_roster_is_split_into_what_the_topic_takes() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    broker.make_topic_with(&cluster.topic, 1, &[("max.message.bytes", "5000")]);
    let first = cluster.start();
    let names: Vec<String> = (0..60).map(|number| format!("somebody with quite a long name {number:02}")).collect();
    let people: Vec<Watcher> = names.iter().map(|name| Watcher::join(&first, name)).collect();
    // Only the roster, which follows each tenth heartbeat, tells the next instance who is there.
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));
    let second = cluster.start();
    let late = Watcher::join(&second, "Late");
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("Late");
    wait_online([&late, &people[0]], &all);
}

#[test]
fn a_topic_that_cannot_be_made_is_reported_once_a_minute() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.launch_with(&[("ICH_KAFKA_REPLICATION_FACTOR", "3")]);
    let line = line_with(&server, "cannot be made");
    assert!(line.contains(&cluster.topic) && line.contains("replication factor"), "{line}");
    waits_idle(&server, "cannot be made");
}
