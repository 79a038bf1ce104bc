//! The archive in SQLite: every published message is in it once, whatever happens to the processes and to the log.

mod harness;

use std::fs;

use harness::archive::{Archive, Chatter, connect, replace_archivers};
use harness::cluster::metric;
use harness::folder::Folder;
use harness::returning::Returning;
use harness::server::Server;
use harness::{wait_for, wait_until};

const ON: [(&str, &str); 2] = [("ICH_ARCHIVE", "on"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&ON, more].concat()
}

#[test]
fn published_messages_are_archived_once_and_refused_ones_are_not() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let mut server = Server::start_in(&folder.0, &ON);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    for _ in 0..3 {
        ann.client.say_with_id("m1", "two");
    }
    ann.say("three");
    wait_until("three messages", || archive.texts().len() >= 3);
    assert_eq!(archive.texts(), ["one", "two", "three"]);
    assert_eq!(archive.event_ids().last(), ann.last_id.as_ref());
    wait_until("the metrics", || metric(&server, "ich_archived_messages_total") == 3);
    assert_eq!((metric(&server, "ich_archiver"), metric(&server, "ich_archive_gaps_total")), (1, 0));
    drop(ann);
    assert!(server.stop().success());

    let server = Server::start_in(&folder.0, &ON);
    let mut bob = Returning::join(&server, "Bob");
    bob.say("four");
    wait_until("another message", || archive.texts().len() >= 4);
    assert_eq!(archive.texts(), ["one", "two", "three", "four"]);
    let row = "SELECT count(*) FROM messages WHERE text = 'four' AND from_user = 'Bob' AND from_id = 'Bob'";
    assert_eq!(connect(&folder.0).query_row(row, [], |row| row.get::<_, i64>(0)), Ok(1));
    assert_eq!(archive.gaps(), Vec::<String>::new());
}

#[test]
fn without_the_setting_nothing_is_archived_and_with_it_the_log_is_read_from_its_beginning() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let mut server = Server::start_in(&folder.0, &[]);
    Returning::join(&server, "Ann").say("before");
    assert!(server.stop().success());
    assert_eq!(archive.texts(), Vec::<String>::new());
    let server = Server::start_in(&folder.0, &ON);
    Returning::join(&server, "Ann").say("after");
    wait_until("both messages", || archive.texts() == ["before", "after"]);
    assert_eq!(archive.gaps(), Vec::<String>::new());
}

#[test]
fn when_the_archiving_process_is_killed_another_one_takes_over() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let start = || Server::start_in(&folder.0, &ON);
    let mut servers = vec![start(), start()];
    // A third process, which does not archive, has the clients: they receive everything.
    let chat = Server::start_in(&folder.0, &[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let chatter = Chatter::start(&chat, "Ann");
    replace_archivers(&mut servers, &archive, &chatter, 3, start);
    let ids = chatter.finish();
    assert!(ids.len() > 600, "{}", ids.len());
    archive.wait_for_ids(&ids);
    assert_eq!(archive.gaps(), Vec::<String>::new());
}

/// Settings with which the event log keeps about 160 of the messages of [`overflow`].
const SMALL: [(&str, &str); 4] = [
    ("ICH_EVENT_LOG_MAX_MIB", "16"),
    ("ICH_MAX_TEXT_CHARS", "100000"),
    ("ICH_MAX_FRAME_BYTES", "524288"),
    ("ICH_OUTBOX_BYTES", "1073741824"),
];

/// Sends 300 long messages through a server that does not archive, so that retention deletes the first ones.
fn overflow(folder: &Folder) {
    const TEXT_BYTES: usize = 99_000;
    let mut server = Server::start_in(&folder.0, &[&SMALL[..], &[("ICH_MAX_MESSAGES_PER_SECOND", "0")]].concat());
    let mut ann = Returning::join(&server, "Ann");
    let text = "x".repeat(TEXT_BYTES);
    for number in 0..300 {
        ann.say(&format!("{number} {text}"));
        ann.texts.clear();
    }
    drop(ann);
    assert!(server.stop().success());
}

#[test]
fn when_retention_has_overtaken_the_archive_it_records_a_gap() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let mut server = Server::start_in(&folder.0, &with(&SMALL));
    Returning::join(&server, "Ann").say("early");
    wait_until("the message", || archive.texts() == ["early"]);
    assert!(server.stop().success());
    overflow(&folder);

    let server = Server::start_in(&folder.0, &with(&SMALL));
    wait_until("the gap", || archive.gaps() == ["retention"]);
    let mut bob = Returning::join(&server, "Bob");
    bob.say("late");
    wait_until("the message", || archive.texts().last().is_some_and(|text| text == "late"));
    let texts = archive.texts();
    assert_eq!(texts[0], "early");
    assert!(texts.len() < 200, "{} messages", texts.len());
    assert_eq!(metric(&server, "ich_archive_gaps_total"), 1);
    assert!(server.log().contains("the archive has a gap"), "{}", server.log());
}

#[test]
fn a_new_archive_of_a_log_whose_beginning_was_deleted_begins_with_a_gap() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    overflow(&folder);
    let server = Server::start_in(&folder.0, &with(&SMALL));
    let mut bob = Returning::join(&server, "Bob");
    let mut number = 0;
    wait_until("a message in the archive", || {
        number += 1;
        bob.say(&number.to_string());
        !archive.texts().is_empty()
    });
    assert_eq!(archive.gaps(), ["retention"]);
    let gap = "SELECT from_offset > 0 AND to_offset > from_offset AND last_event_id IS NULL FROM archive_gaps";
    assert_eq!(connect(&folder.0).query_row(gap, [], |row| row.get::<_, bool>(0)), Ok(true));
    assert_eq!(metric(&server, "ich_archive_gaps_total"), 1);
}

#[test]
fn an_event_log_that_was_removed_is_a_gap_and_the_new_one_is_archived() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let mut server = Server::start_in(&folder.0, &ON);
    let mut ann = Returning::join(&server, "Ann");
    (0..20).for_each(|number| ann.say(&format!("old {number}")));
    wait_until("the messages", || archive.texts().len() == 20);
    drop(ann);
    assert!(server.stop().success());
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(folder.0.join("data").join(format!("events.sqlite3{suffix}")));
    }
    let server = Server::start_in(&folder.0, &ON);
    let mut ann = Returning::join(&server, "Ann");
    (0..40).for_each(|number| ann.say(&format!("new {number}")));
    wait_until("all messages", || archive.texts().len() == 60);
    assert_eq!(archive.gaps(), ["another log"]);
}

#[test]
fn messages_are_deleted_after_the_days_of_the_setting() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let mut server = Server::start_in(&folder.0, &ON);
    let mut ann = Returning::join(&server, "Ann");
    (0..10).for_each(|number| ann.say(&number.to_string()));
    wait_until("the messages", || archive.texts().len() == 10);
    drop(ann);
    assert!(server.stop().success());
    let old = "UPDATE messages SET archived_at = archived_at - 3 * 86400 WHERE id <= 6";
    assert_eq!(connect(&folder.0).execute(old, []), Ok(6));

    let mut server = Server::start_in(&folder.0, &with(&[("ICH_ARCHIVE_DAYS", "4")]));
    let mut ann = Returning::join(&server, "Ann");
    ann.say("10");
    wait_until("the message", || archive.texts().len() == 11);
    drop(ann);
    assert!(server.stop().success());

    let _server = Server::start_in(&folder.0, &with(&[("ICH_ARCHIVE_DAYS", "2")]));
    wait_until("the deletion", || archive.texts() == ["6", "7", "8", "9", "10"]);
}

#[test]
fn while_the_file_is_locked_the_chat_continues_and_afterwards_nothing_is_missing() {
    let folder = Folder::new();
    let archive = Archive::Sqlite(&folder.0);
    let server = Server::start_in(&folder.0, &ON);
    let chatter = Chatter::start(&server, "Ann");
    wait_until("some messages", || archive.event_ids().len() > 10);
    let other = connect(&folder.0);
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    wait_for("the error", || server.log().contains("the archive waits").then_some(()));
    chatter.wait_for_more(200);
    other.execute_batch("COMMIT").expect("releasing the lock");
    archive.wait_for_ids(&chatter.finish());
}

#[test]
fn an_archive_of_an_event_log_in_memory_is_refused() {
    let folder = Folder::new();
    let settings = with(&[("ICH_EVENT_LOG", "memory")]);
    let output = harness::server::command(&folder.0, &settings).arg("check").output().expect("running it");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("ICH_ARCHIVE=on needs an event log that survives a restart"), "{error}");
}
