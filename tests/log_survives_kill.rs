//! `kill -9` of the only process at any moment: afterwards the event log has every message that a client got, in the
//! same order, and accepts new messages.

mod harness;

use std::thread;
use std::time::Duration;

use harness::server::Server;
use harness::sqlite::{DataFolder, check_integrity};
use harness::wait_for;
use harness::watcher::Watcher;
use rustix::process::Signal;

/// How often the process is killed.
const ROUNDS: u64 = 12;

#[test]
fn every_message_that_a_client_got_is_in_the_log_after_each_kill() {
    let folder = DataFolder::new();
    let mut shown: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut server = Server::start_in(folder.path(), &[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
        let watchers = ["Ann", "Bob"].map(|name| Watcher::join(&server, name));
        for number in 0..2_000 {
            let id = format!("{round}-{number}");
            watchers[number % 2].say(&id, "text");
        }
        wait_for("messages", || (watchers[0].chat_ids().len() as u64 > round * 20).then_some(()));
        thread::sleep(Duration::from_millis(round * 37 % 60));
        server.signal(Signal::KILL);
        server.wait();
        for watcher in &watchers {
            watcher.wait_closed();
        }

        check_integrity(&folder.connect());
        let logged = folder.records();
        let logged: Vec<&str> = logged.iter().filter_map(|record| record["id"].as_str()).collect();
        let seen = watchers.map(|watcher| watcher.chat_ids());
        let longest = if seen[0].len() > seen[1].len() { &seen[0] } else { &seen[1] };
        shown.extend(longest.iter().cloned());
        let mut rest = logged.iter();
        for id in &shown {
            assert!(
                rest.any(|logged| logged == id),
                "round {round}: a client got {id}, and the log does not have it in this order"
            );
        }
    }
    let server = Server::start_in(folder.path(), &[]);
    let cid = Watcher::join(&server, "Cid");
    cid.say("after", "all that");
    assert!(cid.wait_answer("after"));
}
