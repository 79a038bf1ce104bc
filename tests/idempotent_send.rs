//! A message with an `id` is published once, however often and wherever its author repeats it.

mod harness;

use harness::client::Client;
use harness::cluster::{Cluster, metric};
use harness::kafka::Broker;
use harness::returning::Returning;
use harness::server::Server;
use harness::sqlite::DataFolder;
use harness::wait_until;
use serde_json::{Value, json};

/// Joins, and reads up to the client's own `user_joined`; if the user has another connection, only up to the list.
fn join(server: &Server, name: &str) -> Client {
    let mut client = server.join(name);
    assert_eq!(client.event().0, "users_online");
    client
}

/// The next `error` or `chat_message`: its type or code, and the client's id.
fn next_answer(client: &mut Client) -> (String, Value) {
    loop {
        let frame = client.next();
        match frame["type"].as_str() {
            Some("error") => return (frame["msg"]["code"].as_str().expect("a code").into(), frame["id"].clone()),
            Some("chat_message") => return ("chat_message".into(), frame["id"].clone()),
            _ => {}
        }
    }
}

fn published(id: &str) -> (String, Value) {
    ("chat_message".into(), json!(id))
}

fn refused(id: &str) -> (String, Value) {
    ("duplicate".into(), json!(id))
}

#[test]
fn a_repeated_message_is_refused_and_only_its_author_gets_an_error() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = (join(&server, "Ann"), join(&server, "Bob"));
    ann.say_with_id("m1", "once");
    ann.say_with_id("m1", "once");
    ann.say_with_id("m1", "the same id with another text");
    ann.say_with_id("m2", "another id");
    let mut answers: Vec<_> = (0..4).map(|_| next_answer(&mut ann)).collect();
    assert_eq!(answers[0], published("m1"), "the message comes before the refusal of the repeated one");
    answers.sort_by_key(|(_, id)| id.to_string());
    assert_eq!(answers, [published("m1"), refused("m1"), refused("m1"), published("m2")]);
    assert_eq!([next_answer(&mut bob), next_answer(&mut bob)], [published("m1"), published("m2")]);
    assert_eq!(metric(&server, "ich_duplicates_refused_total"), 2);

    bob.say_with_id("m1", "an id of another account");
    assert_eq!(next_answer(&mut bob), published("m1"));
    ann.say("no id");
    ann.say("no id");
    assert_eq!(ann.texts_until("no id"), ["an id of another account", "no id"]);
    assert_eq!(ann.texts_until("no id"), ["no id"]);
}

#[test]
fn a_message_repeated_on_another_connection_is_refused() {
    let server = Server::start(&[]);
    let mut witness = join(&server, "Witness");
    let mut ann = join(&server, "Ann");
    ann.say_with_id("m1", "once");
    // The connection is lost before the answer arrives.
    ann.vanish();
    assert_eq!(next_answer(&mut witness), published("m1"));
    let mut ann = join(&server, "Ann");
    ann.say_with_id("m1", "once");
    assert_eq!(next_answer(&mut ann), refused("m1"));
    ann.say_with_id("m2", "the next one");
    assert_eq!(next_answer(&mut witness), published("m2"));
}

/// Runs a test on Kafka. The argument of `test` starts another instance of one lobby.
fn on_kafka(test: impl FnOnce(&dyn Fn() -> Server)) {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    test(&|| cluster.start());
}

/// The same with processes on one data folder.
fn on_sqlite(test: impl FnOnce(&dyn Fn() -> Server)) {
    let folder = DataFolder::new();
    test(&|| Server::start_in(folder.path(), &[("ICH_MAX_MESSAGES_PER_SECOND", "0")]));
}

#[test]
fn of_messages_repeated_on_two_instances_at_once_all_clients_get_the_same_one_on_kafka() {
    on_kafka(repeat_on_two_instances_at_once);
}

#[test]
fn of_messages_repeated_on_two_instances_at_once_all_clients_get_the_same_one_on_sqlite() {
    on_sqlite(repeat_on_two_instances_at_once);
}

fn repeat_on_two_instances_at_once(start: &dyn Fn() -> Server) {
    const MESSAGES: usize = 200;
    let servers = [start(), start()];
    let mut witnesses = [join(&servers[0], "Witness 0"), join(&servers[1], "Witness 1")];
    let mut here_and_there = [join(&servers[0], "Ann"), join(&servers[1], "Ann")];
    for number in 0..MESSAGES {
        for (index, client) in here_and_there.iter_mut().enumerate() {
            client.say_with_id(&format!("m{number}"), &format!("from {index}"));
        }
    }
    let mut heard = witnesses.each_mut().map(|witness| {
        let message = |_| loop {
            let frame = witness.next();
            if frame["type"] == "chat_message" {
                return frame;
            }
        };
        (0..MESSAGES).map(message).collect::<Vec<Value>>()
    });
    assert!(heard[0] == heard[1], "the instances decided differently");
    heard[0].sort_by_key(|frame| frame["id"].as_str().expect("an id")[1..].parse::<usize>().expect("a number"));
    let ids: Vec<_> = heard[0].iter().map(|frame| frame["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids, (0..MESSAGES).map(|number| format!("m{number}")).collect::<Vec<_>>());
    let refused = || servers.iter().map(|server| metric(server, "ich_duplicates_refused_total")).sum::<u64>();
    wait_until("the refusal of all others", || refused() == MESSAGES as u64);
}

#[test]
fn a_message_repeated_after_a_restart_of_all_instances_is_refused_on_kafka() {
    on_kafka(repeat_after_a_restart);
}

#[test]
fn a_message_repeated_after_a_restart_of_all_instances_is_refused_on_sqlite() {
    on_sqlite(repeat_after_a_restart);
}

fn repeat_after_a_restart(start: &dyn Fn() -> Server) {
    let mut server = start();
    let mut ann = join(&server, "Ann");
    ann.say_with_id("m1", "once");
    assert_eq!(next_answer(&mut ann), published("m1"));
    assert!(server.stop().success());

    let server = start();
    let mut ann = join(&server, "Ann");
    ann.say_with_id("m1", "once");
    assert_eq!(next_answer(&mut ann), refused("m1"));
    let (mut ann, _) = Returning::join_query(&server, "Ann", "last=10");
    assert_eq!(ann.texts, ["once"]);
    ann.say("the next one");
}
