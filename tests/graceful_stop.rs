//! SIGTERM: everybody is told, nobody holds it up, and the exit code says that it went well.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::http::{get, read_answer};
use harness::server::Server;
use harness::wait_for;
use rustix::process::Signal;
use serde_json::json;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// What a busy machine may add to a time that is promised.
const SLACK: Duration = Duration::from_secs(3);

/// What a client saw until it was closed.
struct Seen {
    close: Option<CloseFrame>,
    texts: usize,
    departures: usize,
}

/// Says something, waits until it comes back, and so on until the end.
fn chat(mut client: Client, number: usize) -> Seen {
    let mut seen = Seen { close: None, texts: 0, departures: 0 };
    for round in 0.. {
        let own = format!("{number}: {round}");
        let message = json!({"type": "chat_message", "msg": {"text": own}}).to_string();
        // The connection may be closing: the read says how.
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
        // As people do: not as fast as it goes.
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
fn a_hundred_who_chat_are_told_and_closed() {
    const CLIENTS: usize = 100;
    let mut server = Server::start(&[]);
    let clients: Vec<Client> = (0..CLIENTS).map(|number| joined(&server, &format!("user {number}"))).collect();
    let (seen, status, took) = thread::scope(|scope| {
        let threads: Vec<_> =
            clients.into_iter().enumerate().map(|(number, client)| scope.spawn(move || chat(client, number))).collect();
        wait_for("messages under way", || {
            let metrics = get(server.address, "/metrics").body;
            let line = metrics.lines().find(|line| line.starts_with("ich_messages_accepted_total"))?;
            let taken: f64 = line.split(' ').nth(1)?.parse().ok()?;
            (taken > 2.0 * CLIENTS as f64).then_some(())
        });
        let stopped_at = Instant::now();
        let status = server.stop();
        let took = stopped_at.elapsed();
        let seen: Vec<Seen> = threads.into_iter().map(|thread| thread.join().expect("a client")).collect();
        (seen, status, took)
    });
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10) + SLACK, "{took:?}");
    for (number, client) in seen.iter().enumerate() {
        let close = client.close.as_ref().unwrap_or_else(|| panic!("client {number} was cut without a close frame"));
        assert_eq!(close.code, CloseCode::Restart, "client {number}");
        assert!(client.texts > 0);
        assert_eq!(client.departures, 0, "client {number} saw somebody leave, who may come back elsewhere");
    }
    let log = server.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "an ordinary stop is not told as one:\n{log}");
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
fn it_takes_nobody_in_and_answers_requests_that_have_begun() {
    let mut server = Server::start(&[]);
    let mut ann = joined(&server, "Ann");
    // Taken before the stop: one is within its head, of the other the server awaits the body.
    let begin = |bytes: &str| {
        let mut stream = TcpStream::connect(server.address).expect("connecting");
        stream.write_all(bytes.as_bytes()).expect("sending");
        stream
    };
    let mut within_head = begin("GET /ready HTTP/1.1\r\n");
    let mut within_body =
        begin("POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    let mut go_on = [0; 25];
    within_body.read_exact(&mut go_on).expect("100 Continue");
    // They are taken in their order: when this one is answered, those were taken.
    assert_eq!(get(server.address, "/health").status, 200);
    server.signal(Signal::TERM);
    let answer = read_answer(&mut within_head);
    assert_eq!((answer.status, answer.code().as_str()), (503, "draining"), "{answer:?}");
    assert!(answer.header("Retry-After").is_some());
    // An email and no password: the answer says so.
    within_body.write_all(b"email=a@b").expect("sending");
    let answer = read_answer(&mut within_body);
    assert_eq!(answer.status, 400, "{answer:?}");
    while ann.next_or_close().is_ok() {}
    drop(ann);
    wait_for("nobody to listen", || TcpStream::connect(server.address).is_err().then_some(()));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn load_balancers_have_time_to_notice() {
    let mut server = Server::start(&[("ICH_DRAIN_DELAY_SECONDS", "5")]);
    let (mut ann, bob) = (joined(&server, "Ann"), joined(&server, "Bob"));
    server.signal(Signal::TERM);
    let answer = wait_for("the end of readiness", || Some(get(server.address, "/ready")).filter(|it| it.status != 200));
    assert_eq!((answer.status, answer.code().as_str()), (503, "draining"), "{answer:?}");
    // The port answers, the chat goes on, and who leaves has left.
    assert_eq!(get(server.address, "/health").status, 200);
    assert_eq!(Client::try_join(server.address, &harness::server::token("Cid")).err(), Some(503));
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
    bob.leave();
    ann.wait_for("user_left", &json!({"username": "Bob"}));
    let close = loop {
        if let Err(close) = ann.next_or_close() {
            break close;
        }
    };
    assert_eq!(close.expect("a close frame").code, CloseCode::Restart);
    drop(ann);
    assert_eq!(server.wait().code(), Some(0));
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn idle_connections_are_closed_at_once() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "60")]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(server.address).expect("connecting")).collect();
    assert_eq!(get(server.address, "/health").status, 200);
    // Without that, a stop waits for their time to send a request, 10 seconds.
    let stopped_at = Instant::now();
    let status = server.stop();
    let took = stopped_at.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
    for stream in &mut idle {
        assert_eq!(read_answer(stream).status, 0, "an answer without a question");
    }
    let log = server.log();
    assert!(!log.contains("WARN") && !log.contains("cut off"), "{log}");
}

#[test]
fn a_request_that_never_ends_is_closed_and_the_log_says_nothing_else() {
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
fn who_never_answers_the_close_does_not_hold_it_up() {
    let mut server = Server::start(&[("ICH_DRAIN_SECONDS", "2")]);
    // They stay connected and read nothing; one connection does not even finish its request.
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
    let asked_again_at = Instant::now();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(130));
    assert!(asked_again_at.elapsed() < SLACK);
    drop(silent);
}

#[test]
fn who_was_told_may_come_back_to_the_next_server() {
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
