//! SIGTERM: each client gets a close frame, no client delays the stop, and the exit code is 0.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::http::{get, post, read_answer};
use harness::server::Server;
use harness::wait_for;
use rustix::process::Signal;
use serde_json::json;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// Added to each time limit, for a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// What a client received until its connection was closed.
struct Received {
    close: Option<CloseFrame>,
    texts: usize,
    departures: usize,
}

/// Sends a message, waits until the server returns it, and repeats this until the connection is closed.
fn chat(mut client: Client, number: usize) -> Received {
    let mut seen = Received { close: None, texts: 0, departures: 0 };
    for round in 0.. {
        let own = format!("{number}: {round}");
        let message = json!({"type": "chat_message", "msg": {"text": own}}).to_string();
        // The connection may be closing: then the read returns the close frame.
        let _ = client.socket.send(tungstenite::Message::text(message));
        loop {
            match client.next_or_close() {
                Ok(frame) if frame["type"] == "user_left" => seen.departures += 1,
                Ok(frame) if frame["type"] == "chat_message" => {
                    seen.texts += 1;
                    if frame["msg"]["text"] == own {
                        break;
                    }
                }
                Ok(_) => {}
                Err(close) => {
                    seen.close = close;
                    return seen;
                }
            }
        }
        // Like a user, below the rate limit.
        thread::sleep(Duration::from_millis(700));
    }
    seen
}

fn joined(server: &Server, name: &str) -> Client {
    let mut client = server.join(name);
    client.wait_for("user_joined", &json!({ "username": name }));
    client
}

#[test]
fn a_hundred_chatting_clients_get_a_close_frame() {
    const CLIENTS: usize = 100;
    let mut server = Server::start(&[]);
    let clients: Vec<Client> = (0..CLIENTS).map(|number| joined(&server, &format!("user {number}"))).collect();
    let (seen, status, took) = thread::scope(|scope| {
        let threads: Vec<_> =
            clients.into_iter().enumerate().map(|(number, client)| scope.spawn(move || chat(client, number))).collect();
        wait_for("messages in flight", || {
            let metrics = get(server.address, "/metrics").body;
            let line = metrics.lines().find(|line| line.starts_with("ich_messages_accepted_total"))?;
            let taken: f64 = line.split(' ').nth(1)?.parse().ok()?;
            (taken > 2.0 * CLIENTS as f64).then_some(())
        });
        let stopped_at = Instant::now();
        let status = server.stop();
        let took = stopped_at.elapsed();
        let seen: Vec<Received> = threads.into_iter().map(|thread| thread.join().expect("a client")).collect();
        (seen, status, took)
    });
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10) + SLACK, "{took:?}");
    for (number, client) in seen.iter().enumerate() {
        let close = client.close.as_ref().unwrap_or_else(|| panic!("client {number} got no close frame"));
        assert_eq!(close.code, CloseCode::Restart, "client {number}");
        assert!(client.texts > 0);
        assert_eq!(
            client.departures, 0,
            "client {number} got user_left, although users may rejoin on another instance"
        );
    }
    let log = server.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "a normal stop logs no warning:\n{log}");
}

#[test]
fn an_idle_server_stops_quickly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[]);
        let stopped_at = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(stopped_at.elapsed() < SLACK, "{:?}", stopped_at.elapsed());
    }
}

#[test]
fn a_stop_refuses_joins_and_answers_requests_that_have_begun() {
    let mut server = Server::start(&[]);
    let mut ann = joined(&server, "Ann");
    // Both are accepted before the stop: one within its head, the other before its body.
    let begin = |bytes: &str| {
        let mut stream = TcpStream::connect(server.address).expect("connecting");
        stream.write_all(bytes.as_bytes()).expect("sending");
        stream
    };
    let mut within_head = begin("GET /ready HTTP/1.1\r\n");
    let mut within_body =
        begin("POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    let mut interim = [0; 25];
    within_body.read_exact(&mut interim).expect("100 Continue");
    // The server accepts connections in order: with this answer, it has accepted those above.
    assert_eq!(get(server.address, "/health").status, 200);
    server.signal(Signal::TERM);
    let answer = read_answer(&mut within_head);
    assert_eq!((answer.status, answer.code().as_str()), (503, "draining"), "{answer:?}");
    assert!(answer.header("Retry-After").is_some());
    // The body is not JSON: the answer is 400.
    within_body.write_all(b"email=a@b").expect("sending");
    let answer = read_answer(&mut within_body);
    assert_eq!(answer.status, 400, "{answer:?}");
    while ann.next_or_close().is_ok() {}
    drop(ann);
    wait_for("the listener to close", || TcpStream::connect(server.address).is_err().then_some(()));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn load_balancers_have_time_to_notice() {
    let mut server = Server::start(&[("ICH_DRAIN_DELAY_SECONDS", "10")]);
    let (mut ann, bob) = (joined(&server, "Ann"), joined(&server, "Bob"));
    server.signal(Signal::TERM);
    let answer = wait_for("the end of readiness", || Some(get(server.address, "/ready")).filter(|it| it.status != 200));
    assert_eq!((answer.status, answer.code().as_str()), (503, "draining"), "{answer:?}");
    // Load balancers that have not noticed yet send users here. All requests are answered, the chat continues, users join,
    // and a client that closes leaves the lobby.
    assert_eq!(get(server.address, "/health").status, 200);
    let account = json!({"email": "dora@example.com", "username": "Dora", "password": "qwerty123456"});
    assert_eq!(post(server.address, "/createUser", &account.to_string()).status, 200);
    assert_eq!(post(server.address, "/login", &account.to_string()).status, 200);
    let cid = joined(&server, "Cid");
    ann.wait_for("user_joined", &json!({"username": "Cid"}));
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
    bob.leave();
    ann.wait_for("user_left", &json!({"username": "Bob"}));
    assert_eq!(get(server.address, "/ready").code(), "draining", "joins do not make it ready again");
    for mut client in [ann, cid] {
        let close = loop {
            if let Err(close) = client.next_or_close() {
                break close;
            }
        };
        assert_eq!(close.expect("a close frame").code, CloseCode::Restart);
    }
    assert_eq!(server.wait().code(), Some(0));
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn idle_connections_are_closed_at_once() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "60")]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.address).expect("connecting")).collect();
    assert_eq!(get(server.address, "/health").status, 200);
    // Otherwise a stop would wait for the time that a client has to send a request, 10 seconds.
    let stopped_at = Instant::now();
    let status = server.stop();
    let took = stopped_at.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
    for stream in &mut idle {
        assert_eq!(read_answer(stream).status, 0, "an answer without a request");
    }
    let log = server.log();
    assert!(!log.contains("WARN") && !log.contains("did not end in time"), "{log}");
}

#[test]
fn a_request_that_never_ends_does_not_delay_the_stop() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "60")]);
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.write_all(b"POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nab").expect("sending");
    assert_eq!(get(server.address, "/health").status, 200);
    let stopped_at = Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    let took = stopped_at.elapsed();
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
}

#[test]
fn a_client_that_does_not_answer_the_close_does_not_delay_the_stop() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "2")]);
    // These clients stay connected and read nothing; one connection does not finish its request.
    let silent: Vec<Client> = (0..5).map(|number| joined(&server, &number.to_string())).collect();
    let mut half = TcpStream::connect(server.address).expect("connecting");
    half.write_all(b"GET /ready HT").expect("sending");
    let stopped_at = Instant::now();
    let status = server.stop();
    let took = stopped_at.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    for mut client in silent {
        let close = loop {
            if let Err(close) = client.next_or_close() {
                break close;
            }
        };
        assert_eq!(close.expect("a close frame").code, CloseCode::Restart);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "60")]);
    let silent = joined(&server, "Ann");
    server.signal(Signal::TERM);
    wait_for("the stop to begin", || server.log().contains("stopping").then_some(()));
    let second_signal_at = Instant::now();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(130));
    assert!(second_signal_at.elapsed() < SLACK);
    drop(silent);
}

#[test]
fn a_disconnected_user_can_rejoin_on_the_next_server() {
    let dir = harness::server::new_dir();
    let mut first = Server::start_in(&dir, &[]);
    let mut ann = joined(&first, "Ann");
    first.signal(Signal::TERM);
    while ann.next_or_close().is_ok() {}
    drop(ann);
    assert_eq!(first.wait().code(), Some(0));
    let port = first.address.port().to_string();
    let second = Server::start_in(&dir, &[("ICH_PORT", &port)]);
    assert_eq!(second.address, first.address, "the port is free at once");
    let mut ann = second.join("Ann");
    assert_eq!(ann.event(), ("users_online".into(), json!({"list": []})));
    drop((first, second));
    let _ = std::fs::remove_dir_all(dir);
}
