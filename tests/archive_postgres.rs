//! The archive in PostgreSQL: the database stops and comes back, and archiving instances are killed, with the event log in
//! SQLite and in Kafka.

mod harness;

use std::env;
use std::time::{Duration, Instant};

use harness::archive::{Archive, Chatter, replace_archivers};
use harness::cluster::{Cluster, metric};
use harness::folder::Folder;
use harness::kafka::Broker;
use harness::postgres::{Server as Postgres, database};
use harness::returning::Returning;
use harness::server::Server;
use harness::wait_until;

/// Clients that talk while the database is stopped.
const CLIENTS: [&str; 4] = ["Ann", "Bob", "Cleo", "Dan"];

/// How long the database is stopped. `ICH_TEST_OUTAGE_SECONDS` sets another time.
fn outage() -> Duration {
    let seconds = env::var("ICH_TEST_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

fn settings(url: &str) -> [(&str, &str); 3] {
    [("ICH_DATABASE_URL", url), ("ICH_ARCHIVE", "on"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")]
}

/// Waits for the time of the outage while messages of each client come back, and prints how long they took.
fn chat_during_the_outage(chatters: &[Chatter]) {
    chatters.iter().for_each(|chatter| drop(chatter.take_round_trips()));
    let until = Instant::now() + outage();
    while Instant::now() < until {
        chatters.iter().for_each(|chatter| chatter.wait_for_more(20));
    }
    let mut times: Vec<_> = chatters.iter().flat_map(Chatter::take_round_trips).collect();
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} messages in {:?} without the database: {median:?}, at most {longest:?}", times.len(), outage());
}

/// Ends the clients, and returns the ids of all messages.
fn finish(mut chatters: Vec<Chatter>) -> Vec<String> {
    let first = chatters.remove(0);
    for chatter in chatters {
        chatter.finish();
    }
    // At least the second one is sent after the last message of the others.
    first.wait_for_more(2);
    first.finish()
}

#[test]
fn while_the_database_is_stopped_the_chat_continues_and_afterwards_nothing_is_missing_or_doubled() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let archive = Archive::Postgres(&database);
    let server = Server::start(&settings(&database.url));
    // Of the messages of the others, the first one receives all.
    let chatters: Vec<_> = CLIENTS.iter().map(|name| Chatter::start(&server, name)).collect();
    wait_until("some messages", || archive.event_ids().len() > 100);
    postgres.stop();
    chat_during_the_outage(&chatters);
    assert!(metric(&server, "ich_archive_lag_seconds") > 0);
    assert_eq!(metric(&server, "ich_archiver"), 0);
    postgres.launch();
    chatters[0].wait_for_more(100);
    archive.wait_for_ids(&finish(chatters));
    wait_until("an archive without lag", || metric(&server, "ich_archive_lag_seconds") == 0);
    assert_eq!(archive.gaps(), Vec::<String>::new());
    assert!(server.log().contains("the archive waits, the chat continues"), "{}", server.log());
}

#[test]
fn while_the_database_is_frozen_the_chat_continues_and_a_stop_does_not_wait() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let archive = Archive::Postgres(&database);
    let folder = Folder::new();
    let mut server = Server::start_in(&folder.0, &settings(&database.url));
    let chatter = Chatter::start(&server, "Ann");
    wait_until("some messages", || archive.event_ids().len() > 100);
    let frozen = postgres.freeze();
    chatter.wait_for_more(500);
    let ids = chatter.finish();
    assert!(server.stop().success());
    drop(frozen);
    let _server = Server::start_in(&folder.0, &settings(&database.url));
    archive.wait_for_ids(&ids);
}

#[test]
fn killed_connections_leave_no_message_missing_or_doubled() {
    let Some(database) = database() else { return };
    let archive = Archive::Postgres(&database);
    let server = Server::start(&settings(&database.url));
    let chatter = Chatter::start(&server, "Ann");
    for _ in 0..10 {
        let archived = archive.event_ids().len();
        wait_until("more messages", || archive.event_ids().len() > archived + 20);
        database.kill_connections();
    }
    let ids = chatter.finish();
    archive.wait_for_ids(&ids);
    assert_eq!(archive.gaps(), Vec::<String>::new());
}

#[test]
fn on_kafka_another_instance_takes_over_from_a_killed_one() {
    let Some(broker) = Broker::shared() else { return };
    let Some(database) = database() else { return };
    let archive = Archive::Postgres(&database);
    let cluster = Cluster::new(broker);
    let on = settings(&database.url);
    let start = || cluster.start_with(&on);
    let mut servers = vec![start(), start()];
    let chat = cluster.start_with(&[("ICH_DATABASE_URL", &database.url)]);
    let chatter = Chatter::start(&chat, "Ann");
    replace_archivers(&mut servers, &archive, &chatter, 2, start);
    archive.wait_for_ids(&chatter.finish());
    assert_eq!(archive.gaps(), Vec::<String>::new());
}

#[test]
fn on_kafka_deleted_records_and_a_deleted_topic_are_gaps() {
    let Some(broker) = Broker::shared() else { return };
    let Some(database) = database() else { return };
    let archive = Archive::Postgres(&database);
    let cluster = Cluster::new(broker);
    let on = settings(&database.url);
    let mut server = cluster.start_with(&on);
    Returning::join(&server, "Ann").say("one");
    wait_until("the message", || archive.texts() == ["one"]);
    assert!(server.stop().success());

    let mut server = cluster.start_with(&[("ICH_DATABASE_URL", &database.url)]);
    Returning::join(&server, "Ann").say("lost");
    assert!(server.stop().success());
    broker.delete_records_before(&cluster.topic, broker.end(&cluster.topic));
    let server = cluster.start_with(&on);
    wait_until("the gap", || archive.gaps() == ["retention"]);
    Returning::join(&server, "Ann").say("two");
    wait_until("the message", || archive.texts() == ["one", "two"]);

    broker.delete_topic(&cluster.topic);
    wait_until("the other gap", || archive.gaps() == ["retention", "another log"]);
    server.wait_ready();
    let said = harness::wait_for("a message", || {
        let mut client = harness::client::Client::try_join(server.address, &harness::server::token("Ann")).ok()?;
        client.say("three");
        loop {
            let frame = client.next_or_close().ok()?;
            if frame["msg"]["text"] == "three" {
                return Some(frame);
            }
        }
    });
    wait_until("the message", || archive.event_ids().last().is_some_and(|id| said["event_id"] == **id));
}
