//! Requests and frames that arrive byte by byte: the server closes the connection at a deadline, even if bytes keep
//! arriving, and serves other clients meanwhile.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::http::{get, post, read_answer};
use harness::raw_websocket::{CLOSE, FIN, RawClient, TEXT, close_codes, header};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;

/// Pause between two bytes: shorter than any plausible read timeout.
const PAUSE: Duration = Duration::from_millis(200);
/// The deadline is 10 seconds; the rest allows for a loaded machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Sends `begin`, then one byte per [`PAUSE`] until the server responds. Sends other requests and messages meanwhile.
/// Returns the response and how often the others were served.
fn send_slowly(server: &Server, begin: &str, byte: u8) -> (harness::http::Answer, usize) {
    let mut ann = server.join("Ann");
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.write_all(begin.as_bytes()).expect("sending");
    let started = Instant::now();
    let mut served = 0;
    while !has_answer(&stream) {
        assert!(started.elapsed() < CLOSED_WITHIN, "not closed in time");
        // The server may have closed the connection.
        let _ = stream.write_all(&[byte]);
        assert_eq!(get(server.address, "/health").status, 200);
        assert_eq!(post(server.address, "/login", "{}").status, 400);
        ann.say(&served.to_string());
        ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": served.to_string()}));
        served += 1;
        std::thread::sleep(PAUSE);
    }
    (read_answer(&mut stream), served)
}

fn has_answer(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("setting a socket option");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("setting a socket option");
    !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_slow_head_times_out_while_others_are_served() {
    let server = Server::start(&[]);
    let (answer, served) = send_slowly(&server, "GET /health HTTP/1.1\r\nHost: test\r\nx: ", b'y');
    assert_eq!((answer.status, answer.code().as_str()), (408, "too_late"), "{answer:?}");
    assert!(served >= 10, "others were served only {served} times meanwhile");
}

#[test]
fn a_slow_body_times_out_while_others_are_served() {
    let server = Server::start(&[]);
    let begin = "POST /createUser HTTP/1.1\r\nHost: test\r\nContent-Length: 16000\r\n\r\n{\"email\":\"";
    let (answer, served) = send_slowly(&server, begin, b'y');
    assert_eq!((answer.status, answer.code().as_str()), (408, "too_late"), "{answer:?}");
    assert!(served >= 10, "others were served only {served} times meanwhile");
}

#[test]
fn a_connection_without_a_request_times_out() {
    let server = Server::start(&[]);
    let descriptors = server.descriptors();
    let mut silent: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address).expect("connecting")).collect();
    let started = Instant::now();
    for stream in &mut silent {
        stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("setting a socket option");
        assert_eq!(read_answer(stream).status, 408);
    }
    assert!(started.elapsed() < CLOSED_WITHIN);
    // The clients keep their ends open; the server has released its descriptors.
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
}

#[test]
fn a_response_that_is_not_read_does_not_keep_the_connection_open() {
    let server = Server::start(&[]);
    let (descriptors, threads) = (server.descriptors(), server.proc_status("Threads"));
    let mut not_reading: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("connecting");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sending");
            stream
        })
        .collect();
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
    wait_for("the threads to end", || (server.proc_status("Threads") <= threads).then_some(()));
    // The response can still be read.
    assert!(not_reading.iter_mut().all(|stream| read_answer(stream).status == 200));
}

#[test]
fn a_client_that_keeps_sending_after_the_response_is_disconnected() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n").expect("sending");
    let started = Instant::now();
    while stream.write_all(&[b'x'; 1024]).is_ok() {
        assert!(started.elapsed() < CLOSED_WITHIN, "not closed in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_slow_frame_does_not_replace_a_pong() {
    let server = Server::start(&[("ICH_PING_INTERVAL_SECONDS", "1"), ("ICH_PONG_TIMEOUT_SECONDS", "2")]);
    let mut ann = server.join("Ann");
    let mut eve = RawClient::join(server.address, "Eve");
    ann.wait_for("user_joined", &json!({"username": "Eve"}));
    eve.send(&header(FIN | TEXT, 10_000));
    let started = Instant::now();
    let mut eve_writes = eve.stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while eve_writes.write_all(b"y").is_ok() {
                assert!(started.elapsed() < CLOSED_WITHIN, "not closed in time");
                std::thread::sleep(PAUSE);
            }
        });
        // Ann answers pings while she reads.
        ann.wait_for("user_left", &json!({"username": "Eve"}));
        let frames = eve.rest();
        assert_eq!(close_codes(&frames), [1001], "{frames:?}");
        assert_eq!(frames.last().map(|last| last.opcode), Some(CLOSE));
    });
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
}

#[test]
fn a_handshake_in_small_pieces_is_accepted() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    let request = harness::raw_websocket::handshake("Bob");
    for piece in request.as_bytes().chunks(7) {
        stream.write_all(piece).expect("sending");
        std::thread::yield_now();
    }
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101 ");
}
