//! Days on which Kafka is away, in the eyes of people who chat: nothing is lost without a word, doubled or reordered,
//! and each instance comes back by itself.

mod harness;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, sync, wait_online};
use harness::http;
use harness::kafka::{Broker, VERSIONS};
use harness::server::{Server, token};
use harness::wait_for;
use harness::watcher::Watcher;

/// How long people are kept while nothing comes back from Kafka.
const CLIENTS_WAIT: Duration = Duration::from_secs(30);

/// Between two messages of one person.
const PACE: Duration = Duration::from_millis(20);

/// The starting of these brokers is waited for by people: no other one may start meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// People on two instances, who say a numbered message each in turn.
struct Chat {
    people: Vec<Watcher>,
    said: usize,
}

impl Chat {
    fn new(servers: &[Server; 2]) -> Chat {
        let names = ["Ann", "Bob", "Cid", "Dan"];
        let people: Vec<_> =
            names.iter().zip(servers.iter().cycle()).map(|(name, on)| Watcher::join(on, name)).collect();
        wait_online(&people, &names);
        Chat { people, said: 0 }
    }

    /// Everybody says something, until this is so.
    fn talk_until(&mut self, what: &str, mut condition: impl FnMut(&Chat) -> bool) {
        wait_for(what, || {
            for person in &self.people {
                person.say(&format!("{} {}", person.name, self.said), "and another thing");
            }
            self.said += 1;
            thread::sleep(PACE);
            condition(self).then_some(())
        });
    }

    /// Until everybody heard this many more of his own messages come back, or somebody was sent away.
    fn talk_and_hear(&mut self, count: usize) {
        let heard = |person: &Watcher| person.count("chat_message", &person.name);
        let until: Vec<_> = self.people.iter().map(|person| heard(person) + count).collect();
        self.talk_until("messages that come back", |chat| {
            chat.people.iter().zip(&until).all(|(person, until)| heard(person) >= *until) || chat.was_sent_away()
        });
    }

    /// Whether somebody was told that the lobby is unavailable, as the broker was away for too long.
    fn was_sent_away(&self) -> bool {
        self.people.iter().any(|person| person.closed() == Some(1013))
    }

    /// What each heard is the beginning of what he heard who heard most, and nothing is in it twice or out of order.
    fn check_order(&self) {
        let orders: Vec<_> = self.people.iter().map(Watcher::chat_ids).collect();
        let longest = orders.iter().max_by_key(|order| order.len()).expect("people");
        assert!(orders.iter().all(|order| longest.starts_with(order)), "two orders: {orders:?}");
        for person in &self.people {
            let of_one =
                longest.iter().filter_map(|id| id.strip_prefix(&person.name)?.trim_start().parse::<usize>().ok());
            assert!(of_one.is_sorted_by(|a, b| a < b), "doubled or reordered: {} in {longest:?}", person.name);
        }
    }

    /// Holds all that was said against all that came back. How many were answered by an error.
    fn check(&self) -> usize {
        let mut refused = 0;
        for person in &self.people {
            let mut missing: BTreeSet<String> =
                (0..self.said).map(|number| format!("{} {number}", person.name)).collect();
            wait_for(&format!("an answer to all that {} said", person.name), || {
                for id in person.chat_ids().into_iter().chain(person.error_ids()) {
                    missing.remove(&id);
                }
                missing.is_empty().then_some(())
            });
        }
        sync(&self.people[0], &self.people, "that was all");
        self.check_order();
        for person in &self.people {
            assert_eq!(self.people[0].chat_ids(), person.chat_ids(), "{} heard something else than Ann", person.name);
            refused += person.error_ids().len();
            assert_eq!(person.closed(), None);
        }
        // Nobody was told that somebody went: nobody did.
        assert!(self.people.iter().all(|one| self.people.iter().all(|other| one.count("user_left", &other.name) == 0)));
        refused
    }
}

#[test]
fn killed_and_started_again_while_people_chat() {
    let _alone = alone();
    let Some(broker) = Broker::own(VERSIONS[0], 1) else { return };
    // After 30 s people are sent away, rightly. A machine on which a broker takes that long to start gets more tries.
    if !(0..3).any(|_| people_chat_while_it_is_started_again(&broker)) {
        let line = "SKIPPED killed_and_started_again_while_people_chat: the broker takes too long to start";
        assert!(std::env::var_os("CI").is_none(), "{line}");
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// False: it took so long to start that people were sent away.
fn people_chat_while_it_is_started_again(broker: &Broker) -> bool {
    let cluster = Cluster::new(broker);
    let servers = [cluster.start(), cluster.start()];
    let mut chat = Chat::new(&servers);
    for _ in 0..2 {
        chat.talk_and_hear(30);
        let killed_at = Instant::now();
        broker.kill(0);
        // Long enough that new messages are refused: an answer, and not only a wait.
        let refused = chat.people[0].error_ids().len();
        chat.talk_until("a refusal", |chat| chat.people[0].error_ids().len() > refused);
        assert_eq!(http::get(servers[0].address, "/ready").status, 503);
        assert_eq!(http::get(servers[0].address, "/health").status, 200);
        broker.start(0);
        chat.talk_and_hear(10);
        if chat.was_sent_away() {
            assert!(killed_at.elapsed() > CLIENTS_WAIT, "sent away after {:?}", killed_at.elapsed());
            chat.check_order();
            return false;
        }
    }
    assert!(chat.check() > 0);
    servers.iter().for_each(Server::wait_ready);
    true
}

#[test]
fn the_leader_of_three_is_killed_while_people_chat() {
    let _alone = alone();
    let Some(broker) = Broker::own(VERSIONS[0], 3) else { return };
    let cluster = Cluster::new(&broker);
    let servers = [cluster.start(), cluster.start()];
    let mut chat = Chat::new(&servers);
    chat.talk_and_hear(30);
    let leader = broker.describe(&cluster.topic).leader;
    broker.kill(leader);
    chat.talk_and_hear(60);
    chat.check();
    assert_ne!(broker.describe(&cluster.topic).leader, leader);
    broker.start(leader);
    chat.talk_and_hear(10);
    servers.iter().for_each(Server::wait_ready);
}

#[test]
fn no_broker_at_the_start() {
    let Some(broker) = Broker::own_not_started(VERSIONS[0], 1) else { return };
    let cluster = Cluster::new(&broker);
    let servers = [cluster.launch(), cluster.launch()];
    for server in &servers {
        assert_eq!(http::get(server.address, "/health").status, 200);
        let ready = http::get(server.address, "/ready");
        assert_eq!(ready.status, 503, "{ready:?}");
        let join = harness::client::Client::try_join(server.address, &token("Ann"));
        assert_eq!(join.err(), Some(503));
        wait_for("a line about it", || server.log().contains("trying again").then_some(()));
    }
    broker.start_all();
    servers.iter().for_each(Server::wait_ready);
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    sync(&people[1], &people, "here we are");
}

#[test]
fn an_instance_without_a_broker_can_be_stopped() {
    let Some(broker) = Broker::own_not_started(VERSIONS[0], 1) else { return };
    let mut server = Cluster::new(&broker).launch_with(&[("ICH_DRAIN_SECONDS", "3")]);
    let status = server.stop();
    // It never got to say good-bye: no clean end, but an end.
    assert_eq!(status.code(), Some(1), "{}", server.log());
}

#[test]
fn away_for_longer_than_clients_wait() {
    let Some(broker) = Broker::own(VERSIONS[0], 1) else { return };
    let cluster = Cluster::new(&broker);
    let servers = [cluster.start(), cluster.start()];
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    sync(&people[0], &people, "before");
    broker.kill(0);
    let away_since = Instant::now();
    people[0].say("taken", "and never delivered");
    for person in &people {
        assert_eq!(person.wait_closed(), 1013);
        let after = away_since.elapsed();
        // From the first beat that did not come back, which may have been under way before.
        assert!(after + Duration::from_secs(2) > CLIENTS_WAIT, "sent away after {after:?}");
    }
    assert!(people.iter().all(|person| person.chat_ids().iter().all(|id| id != "taken")));
    assert_eq!(servers.each_ref().map(|server| http::get(server.address, "/ready").status), [503, 503]);
    drop(people);

    broker.start(0);
    servers.iter().for_each(Server::wait_ready);
    let people = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&people, &["Ann", "Bob"]);
    sync(&people[1], &people, "after");
}
