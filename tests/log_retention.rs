//! The size limit of the event log in SQLite: the server deletes the oldest records, and can start with the remaining
//! ones. A process that was frozen meanwhile reads the log again, and a client that was away meanwhile is told that
//! messages are missing.

mod harness;

use harness::cluster::sync;
use harness::returning::Returning;
use harness::server::Server;
use harness::sqlite::{DataFolder, check_integrity};
use harness::wait_for;
use harness::watcher::Watcher;
use rustix::process::Signal;

const SETTINGS: [(&str, &str); 5] = [
    ("ICH_EVENT_LOG_MAX_MIB", "16"),
    ("ICH_MAX_MESSAGES_PER_SECOND", "0"),
    ("ICH_MAX_TEXT_CHARS", "100000"),
    ("ICH_MAX_FRAME_BYTES", "524288"),
    ("ICH_OUTBOX_BYTES", "1073741824"),
];
const TEXT_BYTES: usize = 100_000;
const MESSAGES: usize = 300;
/// The limit, and 1 MiB more, because records are deleted in steps.
const USED_BYTES_MAX: i64 = 17 << 20;

/// Twice a lease: each tenth heartbeat has a roster.
const HEARTBEATS: i64 = 20;

/// Sends far more messages than the log may keep.
fn flood(watcher: &Watcher) {
    let text = "x".repeat(TEXT_BYTES);
    for number in 0..MESSAGES {
        watcher.say(&number.to_string(), &text);
        if number % 50 == 49 {
            assert!(watcher.wait_answer(&number.to_string()));
        }
    }
}

fn used_bytes(folder: &DataFolder) -> i64 {
    let sql = "SELECT (page_count - freelist_count) * page_size \
               FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
    folder.connect().query_row(sql, [], |row| row.get(0)).expect("its size")
}

fn heartbeats(folder: &DataFolder) -> i64 {
    let sql = "SELECT count(*) FROM records WHERE instr(record, '\"type\":\"beat\"') > 0";
    folder.connect().query_row(sql, [], |row| row.get(0)).expect("their number")
}

#[test]
fn the_log_keeps_its_size_and_a_restarted_server_is_ready() {
    let folder = DataFolder::new();
    let mut server = Server::start_in(folder.path(), &SETTINGS);
    let ann = Watcher::join(&server, "Ann");
    flood(&ann);
    wait_for("retention", || (used_bytes(&folder) < USED_BYTES_MAX).then_some(()));
    let first: i64 = folder.connect().query_row("SELECT min(offset) FROM records", [], |row| row.get(0)).expect("it");
    assert!(first > 0);
    check_integrity(&folder.connect());
    drop(ann);
    assert!(server.stop().success());
    let server = Server::start_in(folder.path(), &SETTINGS);
    Watcher::join(&server, "Bob");
}

#[test]
fn a_frozen_process_whose_records_were_deleted_closes_its_sessions_and_reads_the_log_again() {
    let folder = DataFolder::new();
    let server = Server::start_in(folder.path(), &SETTINGS);
    let ann = Watcher::join(&server, "Ann");
    let frozen = Server::start_in(folder.path(), &SETTINGS);
    let bob = Watcher::join(&frozen, "Bob");
    frozen.signal(Signal::STOP);
    flood(&ann);
    wait_for("retention", || (used_bytes(&folder) < USED_BYTES_MAX).then_some(()));
    frozen.signal(Signal::CONT);
    assert_eq!(bob.wait_closed(), 1013);
    frozen.wait_ready();
    let bob = Watcher::join(&frozen, "Bob");
    sync(&bob, [&ann, &bob], "back");
    assert!(frozen.log().contains("retention has deleted"), "{}", frozen.log());
}

#[test]
fn a_client_that_retention_overtook_is_told_that_messages_are_missing() {
    let folder = DataFolder::new();
    let mut server = Server::start_in(folder.path(), &SETTINGS);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    let first = ann.last_id;
    drop(ann.client);
    let bob = Watcher::join(&server, "Bob");
    flood(&bob);
    wait_for("retention", || (used_bytes(&folder) < USED_BYTES_MAX).then_some(()));
    // A restart knows the messages if the remaining records show who is online: heartbeats of a whole lease, and a roster.
    wait_for("heartbeats", || (heartbeats(&folder) > HEARTBEATS).then_some(()));
    let last = bob.chat_ids().len();
    drop(bob);
    let is_told = |server: &Server| {
        let (ann, caught_up) = Returning::resume(server, "Ann", first.clone(), Vec::new()).expect("a join");
        assert!(!caught_up.complete, "{caught_up:?}");
        assert!((1..last).contains(&caught_up.messages), "{caught_up:?}");
        let (mut ann, caught_up) = ann.return_to(server);
        assert_eq!((caught_up.complete, caught_up.messages), (true, 0), "nothing is missing since the last message");
        ann.say("back");
    };
    is_told(&server);
    assert!(server.stop().success());
    is_told(&Server::start_in(folder.path(), &SETTINGS));
}
