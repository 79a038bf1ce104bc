//! SIGKILL of the only server at any moment, while users chat and register: after the restart, everything that a client
//! was shown is still there, every confirmed account can log in, and both files are intact.

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::folder::Folder;
use harness::http::post;
use harness::returning::Returning;
use harness::rng::Rng;
use harness::server::Server;
use harness::sqlite::{DataFolder, check_integrity};
use harness::wait_for;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

/// How often the server is killed while it works.
const ROUNDS: u64 = 200;
/// Of so many rounds, one begins with a server that is killed while it starts.
const ROUNDS_PER_KILLED_START: u64 = 8;
/// Clients that return in each round.
const READERS: usize = 2;
/// Clients that chat, new ones in each round.
const SENDERS: usize = 2;
/// Threads that register accounts concurrently.
const REGISTRATION_THREADS: usize = 2;
/// The longest pause of a sender between two messages. With it, a start reads the log in one span.
const PAUSE_MS_MAX: u64 = 8;
/// The server is killed after up to so many messages and registrations, and up to this time later.
const MESSAGES_MAX: u64 = 30;
const REGISTRATIONS_MAX: u64 = 3;
const DELAY_MS_MAX: u64 = 30;
const PASSWORD: &str = "12345678";
const SETTINGS: [(&str, &str); 4] = [
    ("ICH_HISTORY_MESSAGES", "10000"),
    ("ICH_MAX_LOGINS_PER_MINUTE", "0"),
    ("ICH_MAX_MESSAGES_PER_SECOND", "0"),
    ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "0"),
];

/// The seed of `ICH_TEST_SEED`, or one of the clock.
fn seed() -> u64 {
    let given = std::env::var("ICH_TEST_SEED").ok().map(|text| text.parse().expect("ICH_TEST_SEED is a number"));
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_micros() as u64)
}

/// What the clients were shown, and the server confirmed, in all rounds so far.
struct Confirmed {
    readers: Vec<Returning>,
    emails: Vec<String>,
    /// Numbers of the accounts, also of those that were not confirmed.
    next_account: AtomicU64,
}

#[test]
fn whatever_a_client_was_shown_and_every_confirmed_account_outlives_a_kill() {
    let seed = seed();
    eprintln!("ICH_TEST_SEED={seed} chooses these moments again");
    let mut rng = Rng::new(seed);
    let folder = DataFolder::new();
    let mut confirmed = Confirmed { readers: Vec::new(), emails: Vec::new(), next_account: AtomicU64::new(0) };
    for round in 0..ROUNDS {
        if rng.one_in(ROUNDS_PER_KILLED_START) {
            let mut server = Server::start_unready(folder.path(), &SETTINGS);
            thread::sleep(Duration::from_millis(rng.below(DELAY_MS_MAX)));
            server.signal(Signal::KILL);
            server.wait();
        }
        let mut server = Server::start_in(folder.path(), &SETTINGS);
        confirmed.return_to(&server, round);
        let senders = confirmed.work_until_killed(&server, round, &mut rng);
        server.wait();
        confirmed.check(&folder, &senders, round);
    }
    let server = Server::start_in(folder.path(), &SETTINGS);
    confirmed.return_to(&server, ROUNDS);
    let said = said(&folder);
    assert!(said.len() as u64 > ROUNDS, "{} messages are no load", said.len());
    for reader in &confirmed.readers {
        assert!(reader.texts == said, "{} received other messages than the log has", reader.name);
    }
}

impl Confirmed {
    /// The readers return, and get exactly what they missed. The last confirmed account logs in.
    fn return_to(&mut self, server: &Server, round: u64) {
        if self.readers.is_empty() {
            self.readers = (0..READERS).map(|number| Returning::join(server, &format!("Reader {number}"))).collect();
            return;
        }
        for reader in std::mem::take(&mut self.readers) {
            let (reader, caught_up) = reader.return_to(server);
            assert!(caught_up.complete, "round {round}: {} missed messages: {caught_up:?}", reader.name);
            self.readers.push(reader);
        }
        let email = self.emails.last().expect("each round confirms an account");
        let login = json!({"email": email, "password": PASSWORD}).to_string();
        let status = post_until_served(server.address, "/login", &login);
        assert_eq!(status, 200, "round {round}: {email} cannot log in");
    }

    /// Clients chat and register until the server is killed, at a moment that `rng` chooses. Returns the senders, with
    /// what they were shown.
    fn work_until_killed(&mut self, server: &Server, round: u64, rng: &mut Rng) -> Vec<Returning> {
        let senders: Vec<_> =
            (0..SENDERS).map(|number| Returning::join(server, &format!("Sender {round}-{number}"))).collect();
        let (shown, answered, killed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let (messages, registrations) = (rng.between(1, MESSAGES_MAX), rng.between(1, REGISTRATIONS_MAX));
        let (readers, next_account) = (std::mem::take(&mut self.readers), &self.next_account);
        let (shown, answered, killed) = (&shown, &answered, &killed);
        thread::scope(|scope| {
            let readers: Vec<_> =
                readers.into_iter().map(|reader| scope.spawn(move || read_to_the_end(reader, shown))).collect();
            let senders: Vec<_> = senders
                .into_iter()
                .map(|sender| {
                    let rng = Rng::new(rng.below(u64::MAX));
                    scope.spawn(move || chat_to_the_end(sender, rng))
                })
                .collect();
            let registering: Vec<_> = (0..REGISTRATION_THREADS)
                .map(|_| scope.spawn(move || register(server.address, next_account, answered, killed)))
                .collect();
            wait_for("messages and registrations", || {
                let is_enough =
                    shown.load(Ordering::Relaxed) >= messages && answered.load(Ordering::Relaxed) >= registrations;
                is_enough.then_some(())
            });
            thread::sleep(Duration::from_millis(rng.below(DELAY_MS_MAX)));
            server.signal(Signal::KILL);
            killed.store(true, Ordering::Release);
            let fresh = registering.into_iter().map(|thread| thread.join().expect("a registering thread"));
            self.emails.extend(fresh.flatten());
            self.readers = readers.into_iter().map(|thread| thread.join().expect("a reader")).collect();
            senders.into_iter().map(|thread| thread.join().expect("a sender")).collect()
        })
    }

    /// Compares what was shown and confirmed with the files.
    fn check(&self, folder: &DataFolder, senders: &[Returning], round: u64) {
        check_integrity(&folder.connect());
        let said = said(folder);
        for client in self.readers.iter().chain(senders) {
            let Some(first) = client.texts.first() else { continue };
            let start = said.iter().position(|text| text == first);
            let logged = start.and_then(|start| said.get(start..start + client.texts.len()));
            assert!(
                logged.is_some_and(|logged| logged == client.texts),
                "round {round}: what {} was shown is not in the log in this order",
                client.name
            );
        }
        let kept = emails(&folder.path().join("data/accounts.sqlite3"));
        let lost: Vec<_> = self.emails.iter().filter(|email| !kept.contains(*email)).collect();
        assert!(lost.is_empty(), "round {round}: lost confirmed accounts: {lost:?}");
    }
}

/// The texts of all messages in the log.
fn said(folder: &DataFolder) -> Vec<String> {
    let connection = folder.connect();
    let sql = "SELECT record ->> 'text' FROM records WHERE record ->> 'type' = 'said' ORDER BY offset";
    let mut select = connection.prepare(sql).expect("a query");
    let texts = select.query_map([], |row| row.get(0)).expect("the messages");
    texts.map(|text| text.expect("a text")).collect()
}

/// Reads until the connection ends, and counts the messages.
fn read_to_the_end(mut reader: Returning, shown: &AtomicU64) -> Returning {
    while let Ok(frame) = reader.read() {
        if frame["type"] == "chat_message" {
            shown.fetch_add(1, Ordering::Relaxed);
        }
    }
    reader
}

/// Sends messages, each when the one before has come back, until the connection ends.
fn chat_to_the_end(mut sender: Returning, mut rng: Rng) -> Returning {
    for number in 0.. {
        let text = format!("{} {number}", sender.name);
        let message = json!({"type": "chat_message", "msg": {"text": text}}).to_string();
        if sender.client.socket.send(Message::text(message)).is_err() {
            break;
        }
        let known = sender.texts.len();
        while !sender.texts[known..].contains(&text) {
            if sender.read().is_err() {
                return sender;
            }
        }
        thread::sleep(Duration::from_millis(rng.below(PAUSE_MS_MAX)));
    }
    // What the server sent before its end is still to be read.
    while sender.read().is_ok() {}
    sender
}

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
    check_integrity(&database);
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
