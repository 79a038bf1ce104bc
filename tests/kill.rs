//! SIGKILL at any moment: every confirmed account is still there, the SQLite database is intact, and the server starts
//! again.

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::folder::Folder;
use harness::http::post;
use harness::server::Server;
use harness::wait_for;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::json;

/// How often the server is killed.
const ROUNDS: u64 = 40;
/// Threads that register accounts concurrently.
const REGISTRATION_THREADS: usize = 6;
const PASSWORD: &str = "12345678";

/// Registers accounts until the server is killed. Returns the emails of the confirmed registrations.
fn register(server: SocketAddr, next: &AtomicU64, answered: &AtomicU64, killed: &AtomicBool) -> Vec<String> {
    let mut confirmed = Vec::new();
    while !killed.load(Ordering::Acquire) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let email = format!("{number}@example.com");
        let body = json!({"email": email, "username": format!("user {number}"), "password": PASSWORD}).to_string();
        // The connection may end at any byte; only a complete response confirms the registration.
        match try_post(server, &body) {
            Some(200) => {
                confirmed.push(email);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Some(503) | None => {}
            Some(status) => panic!("{status} to a registration"),
        }
    }
    confirmed
}

/// The status, if the response is complete.
fn try_post(server: SocketAddr, body: &str) -> Option<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(harness::PATIENCE)).ok()?;
    let length = body.len();
    write!(stream, "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str::<serde_json::Value>(body).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

/// Posts until the status is not 503 (busy), and returns it.
fn post_until_served(server: SocketAddr, path: &str, body: &str) -> u16 {
    wait_for("a response other than 503", || Some(post(server, path, body).status).filter(|status| *status != 503))
}

/// Checks the integrity of the database and of each account in it, and returns the emails.
fn emails(file: &Path) -> BTreeSet<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let database = Connection::open_with_flags(file, flags).expect("opening the database");
    let integrity: String =
        database.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("the integrity check");
    assert_eq!(integrity, "ok");
    let mut query = database.prepare("SELECT email, username, password_hash FROM accounts").expect("a query");
    let rows = query.query_map([], |row| {
        let (email, username, hash): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        assert_eq!(email.split('@').next(), username.strip_prefix("user "), "an incomplete account");
        assert!(hash.starts_with("$argon2id$"), "an incomplete account");
        Ok(email)
    });
    rows.expect("the accounts").map(|email| email.expect("an account")).collect()
}

#[test]
fn no_confirmed_account_is_lost_when_the_server_is_killed() {
    let folder = Folder::new();
    let database = folder.0.join("data/accounts.sqlite3");
    let next = AtomicU64::new(0);
    let mut confirmed = Vec::new();
    for round in 0..ROUNDS {
        let mut server = Server::start_unready(
            &folder.0,
            &[("ICH_MAX_LOGINS_PER_MINUTE", "0"), ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "0")],
        );
        if let Some(email) = confirmed.last() {
            let login = json!({"email": email, "password": PASSWORD}).to_string();
            assert_eq!(
                post_until_served(server.address, "/login", &login),
                200,
                "round {round}: {email} cannot log in"
            );
        }
        let (answered, killed, address) = (AtomicU64::new(0), AtomicBool::new(false), server.address);
        let fresh: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..REGISTRATION_THREADS)
                .map(|_| scope.spawn(|| register(address, &next, &answered, &killed)))
                .collect();
            // The kill comes at another moment in every round: after some responses and a part of the next request.
            wait_for("registrations", || (answered.load(Ordering::Relaxed) > round % 4).then_some(()));
            thread::sleep(Duration::from_millis(round * 37 % 60));
            server.signal(Signal::KILL);
            server.wait();
            killed.store(true, Ordering::Release);
            threads.into_iter().flat_map(|thread| thread.join().expect("a registering thread")).collect()
        });
        confirmed.extend(fresh);
        let kept = emails(&database);
        let lost: Vec<_> = confirmed.iter().filter(|email| !kept.contains(*email)).collect();
        assert!(lost.is_empty(), "round {round}: lost confirmed accounts: {lost:?}");
    }
}

#[test]
fn a_kill_during_the_first_start_leaves_a_folder_that_can_be_started() {
    for delay in 0..20 {
        let folder = Folder::new();
        // The test does not wait for the first line.
        let mut child = harness::server::command(&folder.0, &[("ICH_JWT_SECRET", "")])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starting the server");
        thread::sleep(Duration::from_millis(delay * 2));
        child.kill().expect("killing");
        child.wait().expect("waiting");
        let mut server = Server::start_unready(&folder.0, &[("ICH_JWT_SECRET", "")]);
        let body = json!({"email": "a@b", "username": "Bob", "password": PASSWORD}).to_string();
        let status = post_until_served(server.address, "/createUser", &body);
        // 409: an earlier request timed out with 503, but the account was created.
        assert!(matches!(status, 200 | 409), "{status}, killed after {} ms", delay * 2);
        server.signal(Signal::KILL);
        server.wait();
    }
}
