//! Instances that end or stand still: their people leave once and everywhere, and those who came back in time do not.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, sync, wait_online};
use harness::http;
use harness::kafka::Broker;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// By when the people of an instance that was killed must be gone.
const GHOSTS_GONE: Duration = Duration::from_secs(15);

#[test]
fn the_people_of_a_killed_instance_leave_everywhere_once() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut killed = cluster.start();
    let others = [cluster.start(), cluster.start()];
    let watchers = [Watcher::join(&others[0], "Ann"), Watcher::join(&others[1], "Bob")];
    let lost: Vec<_> = ["Cid", "Dan", "Eve", "Fay"].iter().map(|name| Watcher::join(&killed, name)).collect();
    let everybody = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay"];
    wait_online(&watchers, &everybody);

    killed.signal(Signal::KILL);
    let killed_at = Instant::now();
    killed.wait();
    let cid = Watcher::join(&others[0], "Cid");
    let dan = Watcher::join(&others[1], "Dan");
    assert!(lost.iter().all(|person| person.wait_closed() == 0));

    for watcher in watchers.iter().chain([&cid, &dan]) {
        for name in ["Eve", "Fay"] {
            let left = watcher.wait_frame("user_left", name);
            let after = left.came_at.duration_since(killed_at);
            assert!(after < GHOSTS_GONE, "{name} left {after:?} after the kill in the eyes of {}", watcher.name);
        }
    }
    sync(&dan, watchers.iter().chain([&cid, &dan]), "we are back");
    wait_online(watchers.iter().chain([&cid, &dan]), &["Ann", "Bob", "Cid", "Dan"]);
    for watcher in &watchers {
        for (name, left) in [("Cid", 0), ("Dan", 0), ("Eve", 1), ("Fay", 1)] {
            assert_eq!(watcher.count("user_left", name), left, "{name} in the eyes of {}", watcher.name);
        }
    }
    for name in ["Cid", "Dan"] {
        assert_eq!(watchers[0].count("user_joined", name), 1);
    }

    // Nothing of the killed instance holds Cid here, and one that is started in its place knows of no ghost.
    drop(cid);
    wait_online(&watchers, &["Ann", "Bob", "Dan"]);
    let in_place = cluster.start();
    let gil = Watcher::join(&in_place, "Gil");
    wait_online(watchers.iter().chain([&dan, &gil]), &["Ann", "Bob", "Dan", "Gil"]);
}

#[test]
fn an_instance_that_stood_still_comes_back_by_itself() {
    const PAUSE: Duration = Duration::from_secs(30);
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let [paused, other] = [cluster.start(), cluster.start()];
    let ann = Watcher::join(&other, "Ann");
    let bob = Watcher::join(&paused, "Bob");
    let cid = Watcher::join(&paused, "Cid");
    let dan = Watcher::join(&paused, "Dan");
    wait_online([&ann, &bob, &cid, &dan], &["Ann", "Bob", "Cid", "Dan"]);

    paused.signal(Signal::STOP);
    let paused_at = Instant::now();
    // Meanwhile Bob talks to it, Cid goes, Dan comes back elsewhere, and Eve is new.
    bob.say("into the void", "is anybody there?");
    drop(cid);
    let dan_elsewhere = Watcher::join(&other, "Dan");
    drop(dan);
    let eve = Watcher::join(&other, "Eve");
    wait_online([&ann, &dan_elsewhere, &eve], &["Ann", "Dan", "Eve"]);
    thread::sleep(PAUSE.saturating_sub(paused_at.elapsed()));
    paused.signal(Signal::CONT);

    // His connection was open all the time: he is told that he was away, and is back.
    let people = [&ann, &bob, &dan_elsewhere, &eve];
    ann.wait_frame("user_left", "Bob");
    wait_online(people, &["Ann", "Bob", "Dan", "Eve"]);
    paused.wait_ready();
    assert!(!bob.wait_answer("into the void"), "he was not there when it came into the log");
    sync(&bob, people, "I am back");
    sync(&ann, people, "so you are");
    wait_online(people, &["Ann", "Bob", "Dan", "Eve"]);
    assert_eq!(bob.closed(), None);
    for (name, joined, left) in [("Bob", 2, 1), ("Cid", 1, 1), ("Dan", 1, 0), ("Eve", 1, 0)] {
        assert_eq!((ann.count("user_joined", name), ann.count("user_left", name)), (joined, left), "{name}");
    }
    assert!(people.iter().all(|person| person.chat_ids().iter().all(|id| id != "into the void")));

    // Bob's own instance admits others again.
    let fay = Watcher::join(&paused, "Fay");
    wait_online(people.into_iter().chain([&fay]), &["Ann", "Bob", "Dan", "Eve", "Fay"]);
}

#[test]
fn a_graceful_stop_leaves_no_ghost_and_nobody_who_came_back_is_told_gone() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let [mut stopped, other] = [cluster.start(), cluster.start()];
    let ann = Watcher::join(&other, "Ann");
    let [bob, cid] = ["Bob", "Cid"].map(|name| Watcher::join(&stopped, name));
    wait_online([&ann, &bob, &cid], &["Ann", "Bob", "Cid"]);

    stopped.signal(Signal::TERM);
    assert_eq!((bob.wait_closed(), cid.wait_closed()), (1012, 1012));
    let bob_again = Watcher::join(&other, "Bob");
    let status = stopped.wait();
    assert_eq!(status.code(), Some(0), "{}", stopped.log());

    ann.wait_frame("user_left", "Cid");
    sync(&bob_again, [&ann, &bob_again], "he did not come back");
    for (name, joined, left) in [("Bob", 1, 0), ("Cid", 1, 1)] {
        assert_eq!((ann.count("user_joined", name), ann.count("user_left", name)), (joined, left), "{name}");
    }
    let next = cluster.start();
    let dan = Watcher::join(&next, "Dan");
    wait_online([&ann, &bob_again, &dan], &["Ann", "Bob", "Dan"]);
}

#[test]
fn nobody_remains_when_all_stop_one_after_the_other() {
    nobody_remains_when_all_stop(false);
}

#[test]
fn nobody_remains_when_all_stop_at_once() {
    nobody_remains_when_all_stop(true);
}

fn nobody_remains_when_all_stop(at_once: bool) {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut servers = [cluster.start(), cluster.start(), cluster.start()];
    let names = ["Ann", "Bob", "Cid"];
    let people: Vec<_> = servers.iter().zip(names).map(|(server, name)| Watcher::join(server, name)).collect();
    wait_online(&people, &names);
    for server in &mut servers {
        server.signal(Signal::TERM);
        if !at_once {
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        }
    }
    for server in &mut servers {
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
    let next = cluster.start();
    let first = next.join("Dan").event();
    assert_eq!(first, ("users_online".to_owned(), serde_json::json!({"list": []})));
    assert_eq!(http::get(next.address, "/ready").status, 200);
}
