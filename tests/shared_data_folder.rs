//! Processes that share a data folder are one lobby, without any other service: the event log is in SQLite.

mod harness;

use harness::cluster::{sync, wait_online};
use harness::server::Server;
use harness::sqlite::{DataFolder, check_integrity};
use harness::wait_for;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// No limit on messages: a test sends many at once.
const SETTINGS: [(&str, &str); 1] = [("ICH_MAX_MESSAGES_PER_SECOND", "0")];

#[test]
fn two_processes_are_one_lobby_with_one_order() {
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &SETTINGS), Server::start_in(folder.path(), &SETTINGS)];
    let watchers = [Watcher::join(&servers[0], "Ann"), Watcher::join(&servers[1], "Bob")];
    wait_online(&watchers, &["Ann", "Bob"]);
    for number in 0..300 {
        for watcher in &watchers {
            watcher.say(&format!("{} {number}", watcher.name), "text");
        }
    }
    for watcher in &watchers {
        assert!(watcher.wait_answer(&format!("{} 299", watcher.name)));
    }
    sync(&watchers[0], &watchers, "the end of Ann");
    sync(&watchers[1], &watchers, "the end of Bob");
    let order = watchers[0].chat_ids();
    assert_eq!(order, watchers[1].chat_ids());
    for watcher in &watchers {
        let own: Vec<_> = order.iter().filter(|id| id.starts_with(&format!("{} ", watcher.name))).collect();
        assert_eq!(own.len(), 300);
        assert!(own.iter().enumerate().all(|(number, id)| **id == format!("{} {number}", watcher.name)));
        assert!(watcher.error_ids().is_empty());
    }
    check_integrity(&folder.connect());
}

#[test]
fn the_users_of_a_killed_process_leave_unless_they_join_its_replacement() {
    let folder = DataFolder::new();
    let survivor = Server::start_in(folder.path(), &SETTINGS);
    let mut killed = Server::start_in(folder.path(), &SETTINGS);
    let ann = Watcher::join(&survivor, "Ann");
    let _bob = Watcher::join(&killed, "Bob");
    let _cid = Watcher::join(&killed, "Cid");
    wait_online([&ann], &["Ann", "Bob", "Cid"]);
    killed.signal(Signal::KILL);
    killed.wait();

    // Cid joins again before the lease expires, and is never reported as gone.
    let in_place = Server::start_in(folder.path(), &SETTINGS);
    let cid = Watcher::join(&in_place, "Cid");
    ann.wait_frame("user_left", "Bob");
    wait_online([&ann, &cid], &["Ann", "Cid"]);
    assert_eq!((ann.count("user_left", "Cid"), ann.count("user_joined", "Cid")), (0, 1));
    sync(&ann, [&ann, &cid], "from Ann");
    sync(&cid, [&ann, &cid], "from Cid");
}

#[test]
fn one_process_after_the_other_is_replaced_and_no_user_is_reported_as_gone() {
    let folder = DataFolder::new();
    let mut servers = [Server::start_in(folder.path(), &SETTINGS), Server::start_in(folder.path(), &SETTINGS)];
    let ann = Watcher::join(&servers[0], "Ann");
    let bob = Watcher::join(&servers[1], "Bob");
    wait_online([&ann, &bob], &["Ann", "Bob"]);
    assert!(servers[1].stop().success());
    servers[1] = Server::start_in(folder.path(), &SETTINGS);
    let bob = Watcher::join(&servers[1], "Bob");
    sync(&bob, [&ann, &bob], "back");
    // Waits for more heartbeats than a lease allows.
    let heartbeats = || folder.records().iter().filter(|record| record["type"] == "beat").count();
    let before = heartbeats();
    wait_for("the end of the lease", || (heartbeats() > before + 25).then_some(()));
    assert_eq!(ann.count("user_left", "Bob"), 0);
    wait_online([&ann, &bob], &["Ann", "Bob"]);
}
