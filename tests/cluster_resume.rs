//! Clients of several instances return to any instance and miss nothing. If the log has lost messages, `caught_up` says
//! so.

mod harness;

use harness::cluster::Cluster;
use harness::kafka::Broker;
use harness::returning::{Returning, complete, incomplete};
use harness::{wait_for, wait_until};

#[test]
fn an_instance_that_starts_has_the_messages_of_those_before_it() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut server = cluster.start();
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    let first = ann.last_id.clone();
    ann.say("two");
    ann.say("three");
    assert!(server.stop().success());

    let server = cluster.start();
    let (bob, caught_up) = Returning::resume(&server, "Bob", first, Vec::new()).expect("a join");
    assert_eq!((caught_up, bob.last_id), (complete(2), ann.last_id));
    assert_eq!(bob.texts, ["two", "three"]);
    let (cid, caught_up) = Returning::join_query(&server, "Cid", "last=50");
    assert_eq!(caught_up, complete(3), "the log has its first record");
    assert_eq!(cid.texts, ["one", "two", "three"]);
}

#[test]
fn after_retention_has_deleted_messages_a_client_learns_that_some_are_missing() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut server = cluster.start();
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    let first = ann.last_id.clone();
    ann.say("two");
    assert!(server.stop().success());
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));

    let server = cluster.start();
    let mut bob = Returning::join(&server, "Bob");
    bob.say("three");
    let (returned, caught_up) = Returning::resume(&server, "Ann", first, Vec::new()).expect("a join");
    assert_eq!((caught_up, returned.texts), (incomplete(1), vec!["three".to_owned()]));
    assert_eq!(Returning::join_query(&server, "Ann", "last=3").1, incomplete(1));
}

#[test]
fn an_id_of_a_topic_that_was_deleted_is_not_taken_for_one_of_the_new_topic() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let server = cluster.start();
    let mut ann = Returning::join(&server, "Ann");
    (0..5).for_each(|number| ann.say(&number.to_string()));
    broker.delete_topic(&cluster.topic);
    wait_until("the end of the session", || ann.read().is_err());
    let (id, name) = (ann.last_id, "Ann");
    let mut bob = wait_for("a join", || {
        server.wait_ready();
        let client = harness::client::Client::try_join(server.address, &harness::server::token("Bob")).ok()?;
        Some(Returning { client, name: "Bob".into(), last_id: None, texts: Vec::new() })
    });
    (0..9).for_each(|number| bob.say(&format!("new {number}")));
    let (_, caught_up) = Returning::resume(&server, name, id, Vec::new()).expect("a join");
    assert_eq!(caught_up, incomplete(9));
}
