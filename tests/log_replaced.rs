//! The event log in SQLite is removed or replaced: the id of a message that it had is never taken for one of the new log,
//! and a client that returns is told that messages are missing.

mod harness;

use std::fs;

use harness::client::Client;
use harness::returning::{Returning, complete, incomplete};
use harness::server::{Server, token};
use harness::sqlite::DataFolder;
use harness::{wait_for, wait_until};

/// As [`Returning::join`], as soon as the server is ready.
fn join_when_ready(server: &Server, name: &str) -> Returning {
    let client = wait_for("a join", || Client::try_join(server.address, &token(name)).ok());
    Returning { client, name: name.into(), last_id: None, texts: Vec::new() }
}

#[test]
fn an_id_of_a_log_that_was_removed_is_not_taken_for_one_of_the_new_log() {
    let folder = DataFolder::new();
    let mut server = Server::start_in(folder.path(), &[]);
    let mut ann = Returning::join(&server, "Ann");
    (0..5).for_each(|number| ann.say(&number.to_string()));
    folder.remove_log();
    wait_until("the end of the session", || ann.read().is_err());
    let mut bob = join_when_ready(&server, "Bob");
    (0..9).for_each(|number| bob.say(&format!("new {number}")));
    let resume = |server: &Server, id: &Option<String>| {
        Returning::resume(server, "Ann", id.clone(), Vec::new()).expect("a join").1
    };
    assert_eq!(resume(&server, &ann.last_id), incomplete(9));
    assert_eq!(resume(&server, &bob.last_id), complete(0));

    assert!(server.stop().success());
    folder.remove_log();
    let server = Server::start_in(folder.path(), &[]);
    assert_eq!(resume(&server, &bob.last_id), incomplete(0));
    let mut cid = Returning::join(&server, "Cid");
    (0..9).for_each(|number| cid.say(&format!("newer {number}")));
    assert_eq!(resume(&server, &bob.last_id), incomplete(9));
}

/// The records after the backup have the offsets of those that the backup does not have.
#[test]
fn an_id_from_after_a_backup_is_not_known_when_the_backup_was_restored() {
    let folder = DataFolder::new();
    let mut server = Server::start_in(folder.path(), &[]);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("before the backup");
    let before = ann.last_id;
    assert!(server.stop().success());
    let backup = folder.path().join("backup");
    fs::copy(folder.file(), &backup).expect("the backup");

    let mut server = Server::start_in(folder.path(), &[]);
    let mut ann = Returning::join(&server, "Ann");
    (0..5).for_each(|number| ann.say(&number.to_string()));
    let after = ann.last_id;
    assert!(server.stop().success());
    folder.remove_log();
    fs::copy(&backup, folder.file()).expect("restoring");

    let server = Server::start_in(folder.path(), &[]);
    let mut bob = Returning::join(&server, "Bob");
    (0..9).for_each(|number| bob.say(&format!("new {number}")));
    let resume = |id| Returning::resume(&server, "Ann", id, Vec::new()).expect("a join").1;
    assert_eq!(resume(before), complete(9));
    assert_eq!(resume(after), incomplete(10));
}
