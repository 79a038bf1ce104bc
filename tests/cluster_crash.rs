//! Instances that are killed, paused or stopped: every instance reports each lost user as gone once, and does not
//! report users who rejoined in time.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::cluster::{Cluster, sync, wait_online};
use harness::http;
use harness::kafka::Broker;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// The latest time, after the kill of an instance, at which its users must be reported as gone.
const LEAVE_DEADLINE: Duration = Duration::from_secs(15);

#[test]
fn the_users_of_a_killed_instance_leave_once_on_every_instance() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut killed = cluster.start();
    let others = [cluster.start(), cluster.start()];
    let watchers = [Watcher::join(&others[0], "Ann"), Watcher::join(&others[1], "Bob")];
    let lost: Vec<_> = ["Cid", "Dan", "Eve", "Fay"].iter().map(|name| Watcher::join(&killed, name)).collect();
    let all_names = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay"];
    wait_online(&watchers, &all_names);

    killed.signal(Signal::KILL);
    let killed_at = Instant::now();
    killed.wait();
    let cid = Watcher::join(&others[0], "Cid");
    let dan = Watcher::join(&others[1], "Dan");
    assert!(lost.iter().all(|client| client.wait_closed() == 0));

    for watcher in watchers.iter().chain([&cid, &dan]) {
        for name in ["Eve", "Fay"] {
            let left = watcher.wait_frame("user_left", name);
            let after = left.received_at.duration_since(killed_at);
            assert!(after < LEAVE_DEADLINE, "{name} left {after:?} after the kill according to {}", watcher.name);
        }
    }
    sync(&dan, watchers.iter().chain([&cid, &dan]), "we are back");
    wait_online(watchers.iter().chain([&cid, &dan]), &["Ann", "Bob", "Cid", "Dan"]);
    for watcher in &watchers {
        for (name, left) in [("Cid", 0), ("Dan", 0), ("Eve", 1), ("Fay", 1)] {
            assert_eq!(watcher.count("user_left", name), left, "{name} according to {}", watcher.name);
        }
    }
    for name in ["Cid", "Dan"] {
        assert_eq!(watchers[0].count("user_joined", name), 1);
    }

    // No session of the killed instance keeps Cid online, and a new instance has no users of the killed one.
    drop(cid);
    wait_online(&watchers, &["Ann", "Bob", "Dan"]);
    let replacement = cluster.start();
    let gil = Watcher::join(&replacement, "Gil");
    wait_online(watchers.iter().chain([&dan, &gil]), &["Ann", "Bob", "Dan", "Gil"]);
}

/// Of a user who left a paused instance, the others are told when its lease expires. The instance itself learns it when
/// the user's session thread runs again and reads the end of the connection. Two threads race then:
///
/// - The session thread is first: the roster does not have the session, and its `left` is ignored because the session is
///   not effective any more. The user joined once and left once.
/// - The log thread reads first that the lease has expired, and appends the roster. A roster has all sessions that have
///   not ended as far as their instance knows, so it has this one, as it has one whose client vanished without a word.
///   The `left` follows. The user joins with this roster, together with `other`, and leaves again.
///
/// Both are correct at each offset: every instance has the same users. Which one comes first cannot be decided without
/// a look at every socket before each roster.
fn assert_left_once_or_with_the_roster(watcher: &Watcher, user: &str, other: &str) {
    let presence: Vec<_> = watcher.frames().into_iter().filter(|frame| frame.kind.starts_with("user_")).collect();
    let about: Vec<_> = (0..presence.len()).filter(|index| presence[*index].name == user).collect();
    let kinds: Vec<_> = about.iter().map(|index| presence[*index].kind.as_str()).collect();
    if kinds == ["user_joined", "user_left"] {
        return;
    }
    assert_eq!(kinds, ["user_joined", "user_left", "user_joined", "user_left"], "{user}");
    // The joins of one record are in the order of the users.
    let before = &presence[about[2] - 1];
    assert_eq!(
        (before.kind.as_str(), before.name.as_str()),
        ("user_joined", other),
        "{user} joined with another record"
    );
}

#[test]
fn a_paused_instance_recovers_by_itself() {
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
    // Meanwhile Bob sends a message to it, Cid leaves, Dan rejoins on the other instance, and Eve joins.
    bob.say("to the paused instance", "a message");
    drop(cid);
    let dan_elsewhere = Watcher::join(&other, "Dan");
    drop(dan);
    let eve = Watcher::join(&other, "Eve");
    wait_online([&ann, &dan_elsewhere, &eve], &["Ann", "Dan", "Eve"]);
    thread::sleep(PAUSE.saturating_sub(paused_at.elapsed()));
    paused.signal(Signal::CONT);

    // The connection of Bob stayed open. All clients, including Bob, receive that Bob left and joined again.
    let clients = [&ann, &bob, &dan_elsewhere, &eve];
    ann.wait_frame("user_left", "Bob");
    wait_online(clients, &["Ann", "Bob", "Dan", "Eve"]);
    paused.wait_ready();
    assert!(!bob.wait_answer("to the paused instance"), "Bob was not online at the offset of the message");
    sync(&bob, clients, "a message of Bob");
    sync(&ann, clients, "a message of Ann");
    wait_online(clients, &["Ann", "Bob", "Dan", "Eve"]);
    assert_eq!(bob.closed(), None);
    for (name, joined, left) in [("Bob", 2, 1), ("Dan", 1, 0), ("Eve", 1, 0)] {
        assert_eq!((ann.count("user_joined", name), ann.count("user_left", name)), (joined, left), "{name}");
    }
    assert_left_once_or_with_the_roster(&ann, "Cid", "Bob");
    assert!(clients.iter().all(|client| client.chat_ids().iter().all(|id| id != "to the paused instance")));

    // The instance that was paused accepts joins again.
    let fay = Watcher::join(&paused, "Fay");
    wait_online(clients.into_iter().chain([&fay]), &["Ann", "Bob", "Dan", "Eve", "Fay"]);
}

#[test]
fn after_a_graceful_stop_only_users_who_did_not_rejoin_leave() {
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
    sync(&bob_again, [&ann, &bob_again], "Cid did not rejoin");
    for (name, joined, left) in [("Bob", 1, 0), ("Cid", 1, 1)] {
        assert_eq!((ann.count("user_joined", name), ann.count("user_left", name)), (joined, left), "{name}");
    }
    let next = cluster.start();
    let dan = Watcher::join(&next, "Dan");
    wait_online([&ann, &bob_again, &dan], &["Ann", "Bob", "Dan"]);
}

#[test]
fn no_user_remains_when_all_instances_stop_in_turn() {
    no_user_remains_when_all_stop(false);
}

#[test]
fn no_user_remains_when_all_instances_stop_at_once() {
    no_user_remains_when_all_stop(true);
}

fn no_user_remains_when_all_stop(at_once: bool) {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    let mut servers = [cluster.start(), cluster.start(), cluster.start()];
    let names = ["Ann", "Bob", "Cid"];
    let clients: Vec<_> = servers.iter().zip(names).map(|(server, name)| Watcher::join(server, name)).collect();
    wait_online(&clients, &names);
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
