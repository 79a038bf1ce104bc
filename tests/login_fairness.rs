//! One address cannot keep other addresses from logging in: the limits on logins and registrations, and the fair queues
//! of hashes.

mod harness;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use harness::http::{Answer, read_answer};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;
use socket2::{Domain, Socket, Type};

const PASSWORD: &str = "correct horse";
const WRONG_PASSWORD: &str = "incorrect mule";
/// Connections that register in a loop, all from one address.
const FLOOD_CONNECTIONS: usize = 80;
/// The most registrations of one of these connections, so that the flood also ends if the test fails to end it.
const FLOOD_REQUESTS_MAX: usize = 2000;

/// Sends a request from `127.0.0.{last}`, and reads the answer. Status 0: the connection failed.
fn post_from(last: u8, server: SocketAddr, path: &str, body: &str) -> Answer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    if let Err(error) = socket.connect(&server.into()) {
        return Answer { status: 0, head: String::new(), body: error.to_string() };
    }
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
    // The server may reject the request before it has read all of it.
    let _ = stream.write_all(request.as_bytes());
    read_answer(&mut stream)
}

fn register_from(last: u8, server: &Server, name: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD});
    post_from(last, server.address, "/createUser", &body.to_string())
}

fn log_in_from(last: u8, server: &Server, name: &str, password: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.com"), "password": password});
    post_from(last, server.address, "/login", &body.to_string())
}

fn assert_limited(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (429, code), "{answer:?}");
    let seconds: u64 = answer.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After");
    assert!((1..=60).contains(&seconds), "{answer:?}");
}

/// Registers in a loop from 127.0.0.2 on 80 connections, and logs in from 127.0.0.1 meanwhile.
fn assert_logins_succeed_during_a_flood(settings: &[(&str, &str)]) {
    let server = Server::start(settings);
    assert_eq!(register_from(1, &server, "victim").status, 200);
    let (done, answered, rejected) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let logins: Vec<Answer> = thread::scope(|scope| {
        for connection in 0..FLOOD_CONNECTIONS {
            let (server, done, answered, rejected) = (&server, &done, &answered, &rejected);
            scope.spawn(move || {
                for number in 0..FLOOD_REQUESTS_MAX {
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    let answer = register_from(2, server, &format!("flood-{connection}-{number}"));
                    answered.fetch_add(1, Ordering::Relaxed);
                    if matches!(answer.status, 429 | 503) {
                        rejected.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_for("a flood that is rejected", || (rejected.load(Ordering::Relaxed) >= FLOOD_CONNECTIONS).then_some(()));
        let logins = (0..20).map(|_| log_in_from(1, &server, "victim", PASSWORD)).collect();
        done.store(true, Ordering::Release);
        logins
    });
    let statuses: Vec<u16> = logins.iter().map(|answer| answer.status).collect();
    assert!(
        statuses.iter().all(|status| *status == 200),
        "the flood got {answered:?} answers, the logins {statuses:?}"
    );
}

#[test]
fn logins_succeed_while_another_address_registers_in_a_loop() {
    assert_logins_succeed_during_a_flood(&[("ICH_MAX_LOGINS_PER_MINUTE", "0")]);
}

#[test]
fn logins_succeed_during_a_flood_without_a_limit_on_registrations() {
    assert_logins_succeed_during_a_flood(&[
        ("ICH_MAX_LOGINS_PER_MINUTE", "0"),
        ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "0"),
    ]);
}

#[test]
fn twelve_users_behind_one_address_log_in_at_once() {
    let server = Server::start(&[]);
    let names: Vec<String> = (0..12).map(|number| format!("user-{number}")).collect();
    for name in &names {
        assert_eq!(register_from(1, &server, name).status, 200);
    }
    let logins: Vec<Answer> = thread::scope(|scope| {
        let threads: Vec<_> =
            names.iter().map(|name| scope.spawn(|| log_in_from(1, &server, name, PASSWORD))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let statuses: Vec<u16> = logins.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 12]);
}

#[test]
fn failed_logins_of_one_address_are_limited_strictly() {
    let server = Server::start(&[]);
    assert_eq!(register_from(1, &server, "bob").status, 200);
    for number in 0..10 {
        assert_eq!(log_in_from(1, &server, &format!("guess-{number}"), WRONG_PASSWORD).status, 401);
    }
    assert_limited(&log_in_from(1, &server, "another", WRONG_PASSWORD), "too_many_logins");
    assert_limited(&log_in_from(1, &server, "bob", PASSWORD), "too_many_logins");
    assert_eq!(log_in_from(2, &server, "bob", PASSWORD).status, 200, "another address is not limited");
}

#[test]
fn an_answer_at_the_limit_does_not_show_whether_the_account_exists() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "3")]);
    assert_eq!(register_from(1, &server, "bob").status, 200);
    let answers = |name: &str, first_address: u8| -> Vec<(u16, String)> {
        let answers = (0..5).map(|number| log_in_from(first_address + number, &server, name, WRONG_PASSWORD));
        answers.map(|answer| (answer.status, answer.body)).collect()
    };
    let (known, unknown) = (answers("bob", 10), answers("nobody", 20));
    assert_eq!(known.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [401, 401, 401, 429, 429]);
    assert_eq!(known, unknown);
}

#[test]
fn registrations_of_one_address_are_limited() {
    let server = Server::start(&[("ICH_MAX_REGISTRATIONS_PER_MINUTE", "3")]);
    let short_password = json!({"email": "a@b", "username": "a", "password": "short"}).to_string();
    for name in ["ann", "bob", "eve"] {
        assert_eq!(post_from(1, server.address, "/createUser", &short_password).status, 400);
        assert_eq!(register_from(1, &server, name).status, 200, "a registration that breaks a rule counted");
    }
    assert_limited(&register_from(1, &server, "igor"), "too_many_registrations");
    assert_limited(&register_from(1, &server, "bob"), "too_many_registrations");
    assert_eq!(register_from(2, &server, "igor").status, 200, "another address is not limited");
    assert_eq!(log_in_from(1, &server, "bob", PASSWORD).status, 200, "logins are counted separately");
    let metrics = harness::http::get(server.address, "/metrics").body;
    let counted = "ich_account_requests_refused_total{reason=\"too_many_registrations\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
}
