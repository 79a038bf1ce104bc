//! A real PostgreSQL is stopped, frozen or disconnected under a running server: each request gets a response in time,
//! the server recovers by itself, and the chat is not affected.

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::http::{Answer, get, post};
use harness::postgres::{Server as Postgres, database, silent_listener};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;

/// The documented limit is 2 seconds; the rest allows for a busy machine.
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);
const LOGIN: &str = r#"{"email":"bob@example.com","password":"12345678"}"#;

fn start(url: &str) -> Server {
    let unlimited = ["ICH_MAX_LOGINS_PER_MINUTE", "ICH_MAX_REGISTRATIONS_PER_MINUTE"].map(|name| (name, "0"));
    Server::start(&[("ICH_DATABASE_URL", url), unlimited[0], unlimited[1]])
}

fn create(address: SocketAddr, name: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.com"), "username": name, "password": "12345678"}).to_string();
    post(address, "/createUser", &body)
}

/// Sends a request and asserts that the response arrives in time.
fn timed(what: &str, request: impl FnOnce() -> Answer) -> Answer {
    let asked_at = Instant::now();
    let answer = request();
    assert!(asked_at.elapsed() < RESPONSE_LIMIT, "{what} took {:?}", asked_at.elapsed());
    answer
}

fn assert_unavailable(server: &Server, what: &str) {
    let login = timed(what, || post(server.address, "/login", LOGIN));
    let creation = timed(what, || create(server.address, "new"));
    for answer in [login, creation] {
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{what}: {answer:?}");
        let seconds: u64 = answer.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After");
        assert!((1..=60).contains(&seconds));
    }
}

fn wait_for_login(server: &Server) {
    wait_for("a login", || {
        let answer = timed("a login", || post(server.address, "/login", LOGIN));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 200).then_some(())
    });
    wait_for("a ready server", || (get(server.address, "/ready").status == 200).then_some(()));
}

/// Chats while `body` runs. Returns its result and the slowest round trip of a message.
fn chat_while<R>(server: &Server, body: impl FnOnce() -> R) -> (R, Duration) {
    let done = AtomicBool::new(false);
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    thread::scope(|scope| {
        let chat = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            for number in 0.. {
                let sent_at = Instant::now();
                let text = number.to_string();
                ann.say(&text);
                ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": text}));
                slowest = slowest.max(sent_at.elapsed());
                if done.load(Ordering::Acquire) {
                    break;
                }
                // Stays below the message limit.
                thread::sleep(Duration::from_millis(150));
            }
            ann.leave();
            slowest
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        done.store(true, Ordering::Release);
        let slowest = chat.join().expect("the chat");
        (result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), slowest)
    })
}

fn assert_undisturbed(slowest: Duration) {
    assert!(slowest < Duration::from_secs(2), "a message took {slowest:?}");
}

#[test]
fn accounts_are_created_and_used() {
    let Some(database) = database() else { return };
    let server = start(&database.url);
    let created = create(server.address, "bob");
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(create(server.address, "BOB").code(), "email_taken");
    let login = post(server.address, "/login", LOGIN).json();
    assert_eq!(login["id"], created.json()["id"]);
    let mut bob = Client::join(server.address, login["token"].as_str().expect("a token"));
    bob.wait_for("user_joined", &json!({"username": "bob"}));
    assert!(!server.dir().join("data/accounts.sqlite3").exists(), "an unused SQLite file was created");
}

#[test]
fn the_database_is_stopped_and_started_again() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let server = start(&database.url);
    assert_eq!(create(server.address, "bob").status, 200);
    let ((), slowest) = chat_while(&server, || {
        postgres.stop();
        for call in ["the first call", "the second", "the third"] {
            assert_unavailable(&server, call);
        }
        assert_eq!(get(server.address, "/ready").status, 503);
        let mut cid = server.join("Cid");
        cid.wait_for("user_joined", &json!({"username": "Cid"}));
        postgres.launch();
        wait_for_login(&server);
    });
    assert_undisturbed(slowest);
}

#[test]
fn the_database_is_frozen() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let server = start(&database.url);
    assert_eq!(create(server.address, "bob").status, 200);
    let ((), slowest) = chat_while(&server, || {
        let frozen = postgres.freeze();
        // Several concurrent calls that all wait for the database.
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_unavailable(&server, "a concurrent call"));
            }
        });
        assert_unavailable(&server, "a later call");
        drop(frozen);
        wait_for_login(&server);
    });
    assert_undisturbed(slowest);
    // The requests during the freeze may have been executed, but at most once.
    assert!(database.number("SELECT count(*) FROM accounts") <= 2);
}

#[test]
fn the_connections_to_the_database_are_killed() {
    let Some(database) = database() else { return };
    let server = start(&database.url);
    assert_eq!(create(server.address, "bob").status, 200);
    let ((), slowest) = chat_while(&server, || {
        for _ in 0..5 {
            wait_for("connections to kill", || (database.kill_connections() > 0).then_some(()));
            wait_for_login(&server);
        }
    });
    assert_undisturbed(slowest);
    assert_eq!(create(server.address, "eve").status, 200);
}

#[test]
fn a_server_started_without_the_database_becomes_ready_by_itself() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    postgres.stop();
    let dir = harness::server::new_dir();
    let server = Server::start_unready(&dir, &[("ICH_DATABASE_URL", &database.url)]);
    assert_unavailable(&server, "a call");
    assert_eq!(get(server.address, "/ready").status, 503);
    postgres.launch();
    server.wait_ready();
    assert_eq!(create(server.address, "bob").status, 200);
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn an_unresponsive_database_address_delays_neither_requests_nor_the_stop() {
    let (_listener, port) = silent_listener();
    let dir = harness::server::new_dir();
    let url = format!("postgres://me:secret@127.0.0.1:{port}/db");
    let mut server = Server::start_unready(&dir, &[("ICH_DATABASE_URL", &url)]);
    assert_unavailable(&server, "a call");
    wait_for("an accepted join", || Client::try_join(server.address, &harness::server::token("Bob")).ok().map(drop));
    let stopped_at = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(stopped_at.elapsed() < Duration::from_secs(10), "the stop took {:?}", stopped_at.elapsed());
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn ten_servers_start_at_once_on_an_empty_database() {
    let Some(database) = database() else { return };
    let servers: Vec<Server> = thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| start(&database.url))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a server")).collect()
    });
    let ids: BTreeSet<String> = servers
        .iter()
        .enumerate()
        .map(|(number, server)| {
            let created = create(server.address, &format!("user-{number}"));
            assert_eq!(created.status, 200, "server {number}: {created:?}");
            created.json()["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 10);
    for (number, server) in servers.iter().rev().enumerate() {
        let login = json!({"email": format!("user-{number}@example.com"), "password": "12345678"}).to_string();
        assert_eq!(post(server.address, "/login", &login).status, 200, "an account created by another server");
    }
    assert_eq!(database.number("SELECT count(*) FROM ich_schema_migrations"), 4, "each migration ran once");
    for server in &servers {
        assert!(!server.log().contains("ERROR"), "{}", server.log());
    }
}
