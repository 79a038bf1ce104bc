//! Several instances on one topic are one lobby: one order and one list for all, whichever instance they are on.

mod harness;

use std::thread;

use harness::client::Client;
use harness::cluster::{Cluster, sync, wait_online};
use harness::kafka::{Broker, VERSIONS};
use harness::server::{Server, token};
use harness::watcher::Watcher;
use harness::{http, postgres, wait_for};
use serde_json::json;

#[test]
fn two_instances_have_one_order() {
    let Some(broker) = Broker::shared() else { return };
    two_instances_have_one_order_on(broker);
}

#[test]
fn two_instances_have_one_order_on_the_version_before() {
    let Some(broker) = Broker::own(VERSIONS[1], 1) else { return };
    two_instances_have_one_order_on(&broker);
}

fn two_instances_have_one_order_on(broker: &Broker) {
    const MESSAGES: usize = 50;
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let names = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay"];
    let people: Vec<_> = names.iter().zip(servers.iter().cycle()).map(|(name, on)| Watcher::join(on, name)).collect();
    wait_online(&people, &names);

    for number in 0..MESSAGES {
        for person in &people {
            person.say(&format!("{} {number}", person.name), "at once");
        }
    }
    let all = names.len() * MESSAGES;
    for person in &people {
        wait_for("all messages", || (person.chat_ids().len() >= all).then_some(()));
    }
    for (server, guest) in servers.iter().zip(["Gil", "Hal"]) {
        drop(Watcher::join(server, guest));
        people[0].wait_frame("user_left", guest);
    }
    sync(&people[0], &people, "that was all");

    let seen_by = |person: &Watcher| -> Vec<_> {
        let frames = person.frames().into_iter();
        let since_all_are_there = frames.skip_while(|frame| frame.name != "Fay" || frame.kind != "user_joined");
        since_all_are_there.map(|frame| (frame.kind, frame.name, frame.id)).collect()
    };
    let seen_first = seen_by(&people[0]);
    // Fay's coming, the messages and the last one, and two guests that came and went.
    assert_eq!(seen_first.len(), 1 + all + 1 + 4);
    for person in &people[1..] {
        assert_eq!(seen_first, seen_by(person), "{} sees another order than Ann", person.name);
    }
    for name in names {
        let of_one = seen_first.iter().filter(|(kind, from, _)| kind == "chat_message" && from == name);
        let ids: Vec<_> = of_one.map(|(_, _, id)| id.clone()).filter(|id| id != "that was all").collect();
        let said: Vec<_> = (0..MESSAGES).map(|number| format!("{name} {number}")).collect();
        assert_eq!(ids, said, "what {name} said is not in his order");
    }
}

#[test]
fn a_person_on_both_instances_is_listed_once() {
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
    // His session ends at some moment after this message; the next is said when the log has it.
    wait_for("the end of his first session", || (http_sessions(&servers[0]) == 1).then_some(()));
    sync(&there, [&ann, &bob, &there], "still there");
    for watcher in [&ann, &bob] {
        assert_eq!((watcher.count("user_joined", "Cid"), watcher.count("user_left", "Cid")), (1, 0));
    }
    drop(there);
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    sync(&ann, [&ann, &bob], "he is gone");
    for watcher in [&ann, &bob] {
        assert_eq!((watcher.count("user_joined", "Cid"), watcher.count("user_left", "Cid")), (1, 1));
    }
}

fn http_sessions(server: &Server) -> u64 {
    harness::cluster::metric(server, "ich_sessions")
}

#[test]
fn an_instance_that_starts_late_has_the_whole_list_before_it_is_ready() {
    const PEOPLE: usize = 40;
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let first = cluster.start();
    let names: Vec<_> = (0..PEOPLE).map(|number| format!("user {number:02}")).collect();
    let mut people: Vec<_> = names.iter().map(|name| first.join(name)).collect();
    people[0].wait_for("user_joined", &json!({"username": names[PEOPLE - 1]}));

    let late = cluster.launch();
    let mut guest =
        wait_for("the first join that is let in", || match Client::try_join(late.address, &token("Guest")) {
            Ok(client) => Some(client),
            Err(status) => {
                assert_eq!(status, 503);
                None
            }
        });
    assert_eq!(guest.event(), ("users_online".to_owned(), json!({ "list": names })));
    people[0].wait_for("user_joined", &json!({"username": "Guest"}));
}

#[test]
fn ten_instances_start_at_once_on_no_topic_and_an_empty_database() {
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
    let people: Vec<_> = names.iter().zip(&servers).map(|(name, on)| Watcher::join(on, name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    wait_online(&people, &names);
    sync(&people[INSTANCES - 1], &people, "hello to all");

    let account = r#"{"email":"gil@example.com","username":"Gil","password":"a long password"}"#;
    let created = http::post(servers[0].address, "/createUser", account);
    assert!((200..300).contains(&created.status), "{created:?}");
    let login = http::post(servers[9].address, "/login", account);
    let token = login.json()["token"].as_str().expect("a token").to_owned();
    let mut gil = Client::join(servers[5].address, &token);
    gil.wait_for("user_joined", &json!({"username": "Gil"}));
    people[3].wait_frame("user_joined", "Gil");
}
