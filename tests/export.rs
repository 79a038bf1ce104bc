//! `ich export`: the archive as JSON lines, as a tool in a pipe expects it.

mod harness;

use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

use harness::archive::{Archive, connect};
use harness::folder::Folder;
use harness::postgres::database;
use harness::returning::Returning;
use harness::server::{Server, command};
use harness::{wait_for, wait_until};
use serde_json::Value;

fn export(dir: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(dir, settings).arg("export").args(arguments).output().expect("running it")
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Adds messages without a server: message N has the id `...-N`.
fn fill(dir: &Path, messages: u32) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
               INSERT INTO messages (event_id, sent_at, from_id, from_user, text, archived_at) \
               SELECT '00000000000000ff-' || i, '2026-11-23T10:00:00.000000001+01:00', '4', 'Bob', \
               'text ' || i || hex(zeroblob(100)), 0 FROM n";
    connect(dir).execute(sql, [messages]).expect("inserting");
}

#[test]
fn each_message_is_a_line_and_an_export_continues_behind_a_message() {
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, &[("ICH_ARCHIVE", "on")]);
    let mut ann = Returning::join(&server, "Ann");
    ["one", "two \"quoted\"\n\u{1F980}", "three"].iter().for_each(|text| ann.say(text));
    wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 3);
    let all = lines(&export(&folder.0, &[], &[]));
    let texts: Vec<_> = all.iter().map(|line| line["text"].as_str().expect("a text")).collect();
    assert_eq!(texts, ["one", "two \"quoted\"\n\u{1F980}", "three"]);
    let mut keys: Vec<_> = all[0].as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["event_id", "from_id", "from_user", "sent_at", "text"]);
    assert_eq!(all[2]["event_id"].as_str(), ann.last_id.as_deref());
    let first = all[0]["event_id"].as_str().expect("an id");
    assert_eq!(lines(&export(&folder.0, &[], &["--after", first])), all[1..]);
    let last = all[2]["event_id"].as_str().expect("an id");
    assert_eq!(lines(&export(&folder.0, &[], &["--after", last])), Vec::<Value>::new());
}

#[test]
fn an_export_runs_beside_a_server_with_the_same_settings() {
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, &[("ICH_ARCHIVE", "on")]);
    Returning::join(&server, "Ann").say("one");
    wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 1);
    let port = server.address.port().to_string();
    let all = lines(&export(&folder.0, &[("ICH_ARCHIVE", "on"), ("ICH_PORT", &port)], &[]));
    assert_eq!(all.len(), 1);
}

#[test]
fn an_archive_in_postgres_is_exported() {
    let Some(database) = database() else { return };
    let settings = [("ICH_DATABASE_URL", database.url.as_str()), ("ICH_ARCHIVE", "on")];
    let server = Server::start(&settings);
    let mut ann = Returning::join(&server, "Ann");
    ["one", "two"].iter().for_each(|text| ann.say(text));
    wait_until("the archive", || Archive::Postgres(&database).texts().len() == 2);
    let folder = Folder::new();
    let all = lines(&export(&folder.0, &settings, &[]));
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["text"], "two");
    let first = all[0]["event_id"].as_str().expect("an id");
    assert_eq!(lines(&export(&folder.0, &settings, &["--after", first])), all[1..]);
}

#[test]
fn errors_are_on_standard_error_and_have_an_exit_code() {
    let folder = Folder::new();
    let failed = |arguments: &[&str]| {
        let output = export(&folder.0, &[], arguments);
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, error) = failed(&[]);
    assert!(code == Some(1) && error.contains("there is no ./data/accounts.sqlite3"), "{error}");
    assert!(!folder.0.join("data").exists(), "an export creates nothing");
    drop(Server::start_in(&folder.0, &[]));
    assert_eq!(failed(&[]), (Some(0), String::new()), "an empty archive");
    let (code, error) = failed(&["--after", "000000000000002a-7"]);
    assert!(code == Some(1) && error.contains("no message 000000000000002a-7"), "{error}");
    for arguments in [&["--after", "x"][..], &["--after"], &["more"]] {
        assert_eq!(failed(arguments).0, Some(2), "{arguments:?}");
    }
    connect(&folder.0).execute_batch("DROP TABLE messages; PRAGMA user_version = 2").expect("an older schema");
    let (code, error) = failed(&[]);
    assert!(code == Some(1) && error.contains("it has no archive"), "{error}");
}

#[test]
fn a_large_archive_is_streamed_in_bounded_memory_and_a_closed_pipe_is_no_error() {
    const MESSAGES: u32 = 200_000;
    let folder = Folder::new();
    drop(Server::start_in(&folder.0, &[]));
    fill(&folder.0, MESSAGES);
    let mut child = command(&folder.0, &[])
        .arg("export")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("running it");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut start = vec![0; 20_000_000];
    stdout.read_exact(&mut start).expect("the beginning of the export");
    // The program waits: the pipe is full.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let peak: u64 = peak.expect("its memory");
    assert!(peak < 40 * 1024, "{peak} KiB");
    drop(stdout);
    assert_eq!(wait_for("the end", || child.try_wait().expect("waiting")).code(), Some(0));
    let mut error = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut error).expect("its errors");
    assert_eq!(error, "");

    let all = lines(&export(&folder.0, &[], &[]));
    assert_eq!(all.len(), MESSAGES as usize);
    let is_in_order = (1..).zip(&all).all(|(number, line)| line["event_id"] == format!("00000000000000ff-{number}"));
    assert!(is_in_order);
}
