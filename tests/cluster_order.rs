//! Several instances on one topic form one lobby: the same order of events and the same list on every instance.

mod harness;

use std::thread;

use harness::client::Client;
use harness::cluster::{Cluster, metric, sync, wait_online};
use harness::kafka::{Broker, VERSIONS};
use harness::server::{Server, token};
use harness::watcher::Watcher;
use harness::{http, postgres, wait_for, wait_until};
use serde_json::json;

#[test]
fn two_instances_have_one_order() {
    let Some(broker) = Broker::shared() else { return };
    two_instances_have_one_order_on(broker);
}

#[test]
fn two_instances_have_one_order_on_the_previous_kafka_version() {
    let Some(broker) = Broker::own(VERSIONS[1], 1) else { return };
    two_instances_have_one_order_on(&broker);
}

fn two_instances_have_one_order_on(broker: &Broker) {
    const MESSAGES: usize = 50;
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let names = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay"];
    let clients: Vec<_> = names.iter().zip(servers.iter().cycle()).map(|(name, on)| Watcher::join(on, name)).collect();
    wait_online(&clients, &names);

    for number in 0..MESSAGES {
        for client in &clients {
            client.say(&format!("{} {number}", client.name), "a message");
        }
    }
    let all = names.len() * MESSAGES;
    for client in &clients {
        wait_until("all messages", || client.chat_ids().len() >= all);
    }
    for (server, guest) in servers.iter().zip(["Gil", "Hal"]) {
        drop(Watcher::join(server, guest));
        clients[0].wait_frame("user_left", guest);
    }
    sync(&clients[0], &clients, "the last message");

    let received_by = |client: &Watcher| -> Vec<_> {
        let frames = client.frames().into_iter();
        let since_all_joined = frames.skip_while(|frame| frame.name != "Fay" || frame.kind != "user_joined");
        since_all_joined.map(|frame| (frame.kind, frame.name, frame.id)).collect()
    };
    let received_first = received_by(&clients[0]);
    // The join of Fay, all messages, the last message, and a join and a leave of each of the two guests.
    assert_eq!(received_first.len(), 1 + all + 1 + 4);
    for client in &clients[1..] {
        assert_eq!(received_first, received_by(client), "{} received another order than Ann", client.name);
    }
    for name in names {
        let from_sender = received_first.iter().filter(|(kind, from, _)| kind == "chat_message" && from == name);
        let ids: Vec<_> = from_sender.map(|(_, _, id)| id.clone()).filter(|id| id != "the last message").collect();
        let sent: Vec<_> = (0..MESSAGES).map(|number| format!("{name} {number}")).collect();
        assert_eq!(ids, sent, "the messages of {name} are reordered");
    }
}

#[test]
fn a_user_on_two_instances_is_listed_once() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let [ann, bob] = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    let here = Watcher::join(&servers[0], "Cid");
    let there = Watcher::join(&servers[1], "Cid");
    wait_online([&ann, &bob, &here, &there], &["Ann", "Bob", "Cid"]);
    sync(&there, [&ann, &bob, &here, &there], "from there");
    sync(&here, [&ann, &bob, &here, &there], "from here");

    drop(here);
    // The next message is sent only after the end of the first session was appended to the log.
    wait_until("the end of the first session of Cid", || metric(&servers[0], "ich_sessions") == 1);
    sync(&there, [&ann, &bob, &there], "still there");
    for watcher in [&ann, &bob] {
        assert_eq!((watcher.count("user_joined", "Cid"), watcher.count("user_left", "Cid")), (1, 0));
    }
    drop(there);
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&ann, [&ann, &bob], "Cid has left");
    for watcher in [&ann, &bob] {
        assert_eq!((watcher.count("user_joined", "Cid"), watcher.count("user_left", "Cid")), (1, 1));
    }
}

#[test]
fn an_instance_that_starts_late_has_the_complete_list_before_it_is_ready() {
    const CLIENTS: usize = 40;
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let names: Vec<_> = (0..CLIENTS).map(|number| format!("user {number:02}")).collect();
    let mut clients: Vec<_> = names.iter().map(|name| first.join(name)).collect();
    clients[0].wait_for("user_joined", &json!({"username": names[CLIENTS - 1]}));

    let late = cluster.launch();
    let mut guest = wait_for("the first accepted join", || match Client::try_join(late.address, &token("Guest")) {
        Ok(client) => Some(client),
        Err(status) => {
            assert_eq!(status, 503);
            None
        }
    });
    assert_eq!(guest.event(), ("users_online".to_owned(), json!({ "list": names })));
    clients[0].wait_for("user_joined", &json!({"username": "Guest"}));
}

#[test]
fn ten_instances_start_at_once_without_a_topic_on_an_empty_database() {
    const INSTANCES: usize = 10;
    let Some(broker) = Broker::shared() else { return };
    let Some(database) = postgres::database() else { return };
    let cluster = Cluster::new(broker);
    let start = || cluster.start_with(&[("ICH_DATABASE_URL", &database.url)]);
    let servers: Vec<Server> = thread::scope(|scope| {
        let starting: Vec<_> = (0..INSTANCES).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|thread| thread.join().expect("starting")).collect()
    });
    assert_eq!(broker.describe(&cluster.topic).partitions, 1);

    let names: Vec<_> = (0..INSTANCES).map(|number| format!("user {number}")).collect();
    let clients: Vec<_> = names.iter().zip(&servers).map(|(name, on)| Watcher::join(on, name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    wait_online(&clients, &names);
    sync(&clients[INSTANCES - 1], &clients, "hello to all");

    let account = r#"{"email":"gil@example.com","username":"Gil","password":"a long password"}"#;
    let created = http::post(servers[0].address, "/createUser", account);
    assert!((200..300).contains(&created.status), "{created:?}");
    let login = http::post(servers[9].address, "/login", account);
    let token = login.json()["token"].as_str().expect("a token").to_owned();
    let mut gil = Client::join(servers[5].address, &token);
    gil.wait_for("user_joined", &json!({"username": "Gil"}));
    clients[3].wait_frame("user_joined", "Gil");
}
