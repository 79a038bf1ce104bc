//! Clients of several instances return to any instance and miss nothing. If the log has lost messages, `caught_up` says
//! so.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::kafka::Broker;
use harness::returning::{Returning, complete, incomplete};
use harness::server::Server;
use harness::{wait_for, wait_until};

/// More than a client can miss in these tests.
const HISTORY: (&str, &str) = ("ICH_HISTORY_MESSAGES", "10000");
/// How long a client waits when no instance is ready.
const RETRY: Duration = Duration::from_millis(20);

/// The running instances. Each client chooses one.
struct Instances<'a> {
    cluster: &'a Cluster<'a>,
    running: Mutex<Vec<Server>>,
}

impl Instances<'_> {
    fn servers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.running.lock().expect("no client panics while it holds the lock")
    }

    /// Joins one of the instances, and asks for the messages since the last one.
    fn return_somewhere(&self, client: Returning) -> Returning {
        let (last_id, texts, name) = (client.last_id.clone(), client.texts, client.name);
        drop(client.client);
        for attempt in texts.len().. {
            let servers = self.servers();
            let server = &servers[attempt % servers.len()];
            match Returning::resume(server, &name, last_id.clone(), texts.clone()) {
                Ok((client, caught_up)) => {
                    assert!(caught_up.complete, "{name} missed messages: {caught_up:?}");
                    return client;
                }
                Err(status) => assert_eq!(status, 503),
            }
            drop(servers);
            thread::sleep(RETRY);
        }
        unreachable!("the loop has no end")
    }

    /// Replaces one instance after the other. The port of an instance that stops refuses connections.
    fn restart_all(&self) {
        let count = self.servers().len();
        for _ in 0..count {
            let fresh = self.cluster.start_with(&[HISTORY]);
            let mut old = {
                let mut servers = self.servers();
                servers.push(fresh);
                servers.remove(0)
            };
            assert!(old.stop().success());
        }
    }
}

/// Reads until a message has this text, and returns whenever the connection ends.
fn read_to_the_end(instances: &Instances<'_>, mut client: Returning, last: &str) -> Vec<String> {
    while client.texts.last().is_none_or(|text| text != last) {
        if client.read().is_err() {
            client = instances.return_somewhere(client);
        }
    }
    client.texts
}

/// Sends messages with ids, and repeats each until the server returns it.
fn send_until(instances: &Instances<'_>, mut client: Returning, done: &AtomicBool) {
    let name = client.name.clone();
    for number in 0.. {
        if done.load(Ordering::Acquire) {
            return;
        }
        let text = format!("{name} {number}");
        let message = serde_json::json!({"type": "chat_message", "id": text, "msg": {"text": text}}).to_string();
        client.texts.clear();
        let mut is_sent = false;
        while !client.texts.contains(&text) {
            if !is_sent {
                is_sent = client.client.socket.send(tungstenite::Message::text(message.clone())).is_ok();
            }
            let frame = client.read();
            let is_refused = frame.as_ref().is_ok_and(|frame| frame["msg"]["code"] == "unavailable");
            if is_refused || frame.is_err() {
                is_sent = false;
            }
            if frame.is_err() {
                client = instances.return_somewhere(client);
            }
        }
    }
}

#[test]
fn through_a_rolling_restart_under_load_every_client_gets_every_message_once_and_in_order() {
    const CLIENTS: usize = 12;
    const SENDERS: usize = 4;
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = vec![cluster.start_with(&[HISTORY]), cluster.start_with(&[HISTORY])];
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| Returning::join(&servers[number % 2], &format!("Client {number}"))).collect();
    let senders: Vec<_> =
        (0..SENDERS).map(|number| Returning::join(&servers[number % 2], &format!("Sender {number}"))).collect();
    let instances = Instances { cluster: &cluster, running: Mutex::new(servers) };
    let done = AtomicBool::new(false);
    let texts: Vec<Vec<String>> = thread::scope(|scope| {
        let (instances, done) = (&instances, &done);
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    client.read_until("begin");
                    client.texts.clear();
                    read_to_the_end(instances, client, "end")
                })
            })
            .collect();
        let mut first = Returning::join(&instances.servers()[0], "First");
        first.say("begin");
        let senders: Vec<_> =
            senders.into_iter().map(|client| scope.spawn(move || send_until(instances, client, done))).collect();
        instances.restart_all();
        done.store(true, Ordering::Release);
        senders.into_iter().for_each(|thread| thread.join().expect("a sender"));
        Returning::join(&instances.servers()[0], "Last").say("end");
        readers.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    assert!(texts[0].len() > 100, "{} messages are no load", texts[0].len());
    for other in &texts[1..] {
        assert!(*other == texts[0], "two clients received different messages");
    }
    for sender in 0..SENDERS {
        let prefix = format!("Sender {sender} ");
        let numbers = texts[0].iter().filter_map(|text| text.strip_prefix(&prefix)?.parse::<usize>().ok());
        let count = numbers.clone().count();
        assert!(numbers.eq(0..count), "messages of a sender are missing, repeated or reordered");
    }
}

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
