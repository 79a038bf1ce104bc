//! The disk of the event log is full, or refuses all writes: messages are answered with `unavailable`, and the server is not ready. When there
//! is room again, it recovers without a restart.

mod harness;

use harness::http;
use harness::server::Server;
use harness::sqlite::{check_integrity, connect};
use harness::tmpfs::Tmpfs;
use harness::wait_for;
use harness::watcher::Watcher;
use ich::event_log::sqlite::FILE_NAME;

#[test]
fn a_server_with_a_full_disk_is_not_ready_and_recovers() {
    let Some(disk) = Tmpfs::mount(4096) else { return };
    let data_dir = disk.path().to_str().expect("a path");
    let server = Server::start(&[("ICH_DATA_DIR", data_dir), ("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let ann = Watcher::join(&server, "Ann");
    ann.say("before", "there is room");
    assert!(ann.wait_answer("before"));

    disk.fill();
    // The first messages may still be accepted: SQLite can reuse the write-ahead log from its start.
    let mut number = 0;
    let refused = wait_for("a message that is refused", || {
        number += 1;
        let id = format!("full-{number}");
        ann.say(&id, &"x".repeat(3_000));
        (!ann.wait_answer(&id)).then_some(id)
    });
    assert_eq!((ann.error_ids(), ann.error_codes()), (vec![refused], vec!["unavailable".to_owned()]));
    wait_for("a server that is not ready", || (http::get(server.address, "/ready").status == 503).then_some(()));
    assert!(server.log().contains("cannot write"), "{}", server.log());

    disk.free();
    server.wait_ready();
    ann.say("after", "there is room again");
    assert!(ann.wait_answer("after"));
    assert_eq!(ann.closed(), None, "the session is still open");
    check_integrity(&connect(&disk.path().join(FILE_NAME)));
}

/// A file system that the kernel made read-only after an error refuses writes to open files. A limit on the size of files
/// does the same, and SQLite reports both as an I/O error.
#[test]
fn a_server_whose_disk_refuses_writes_is_not_ready_and_recovers() {
    let server = Server::start_with_limited_files(&[]);
    let ann = Watcher::join(&server, "Ann");
    ann.say("before", "files can be written");
    assert!(ann.wait_answer("before"));

    server.limit_files(Some(0));
    ann.say("refused", "no file can be written");
    assert!(!ann.wait_answer("refused"));
    assert_eq!(ann.error_codes(), ["unavailable"]);
    wait_for("a server that is not ready", || (http::get(server.address, "/ready").status == 503).then_some(()));

    server.limit_files(None);
    server.wait_ready();
    ann.say("after", "files can be written again");
    assert!(ann.wait_answer("after"));
    assert_eq!(ann.chat_ids(), ["before", "after"]);
    assert_eq!(ann.closed(), None, "the session is still open");
    check_integrity(&connect(&server.dir().join("data").join(FILE_NAME)));
}
