//! A client that does not read, in a busy lobby: it is cut, alone, when it is as far behind as it may be, and until then
//! costs no more memory than that.

mod harness;

use std::net::{SocketAddr, TcpStream};

use harness::client::Client;
use harness::http::get;
use harness::raw_websocket::{CLOSE, FIN, RawClient, TEXT, close_codes, frame};
use harness::server::Server;
use serde_json::json;
use socket2::{Domain, Socket, Type};

const SETTINGS: &[(&str, &str)] =
    &[("ICH_MAX_MESSAGES_PER_SECOND", "0"), ("ICH_OUTBOX_BYTES", "262144"), ("ICH_PING_INTERVAL_SECONDS", "600")];
/// What is said before the slow one must have been cut: its bound, what the kernels of both sides hold, and as much
/// again.
const BYTES_MAX: usize = 6 * 1024 * 1024;
const TEXT_BYTES: usize = 4000;

/// Joins with a small buffer for what it does not read.
fn join_and_never_read(address: SocketAddr, name: &str) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("an option");
    socket.connect(&address.into()).expect("connecting");
    RawClient::join_on(TcpStream::from(socket), name, &[])
}

/// A lobby in which everybody reads but for some.
struct Lobby {
    server: Server,
    readers: Vec<Client>,
    said: usize,
}

impl Lobby {
    fn new() -> Lobby {
        let server = Server::start(SETTINGS);
        let mut readers: Vec<_> = ["Ann", "Bob", "Cid"].map(|name| server.join(name)).into();
        readers.iter_mut().for_each(|reader| reader.wait_for("user_joined", &json!({"username": "Cid"})));
        Lobby { server, readers, said: 0 }
    }

    /// Ann says something long; each reader gets it as the very next message. Those who left meanwhile are given back,
    /// as the last reader was told.
    fn say(&mut self) -> Vec<String> {
        let text = format!("{:0>width$}", self.said, width = TEXT_BYTES);
        self.said += 1;
        self.readers[0].say(&text);
        let mut left = Vec::new();
        for reader in &mut self.readers {
            left.clear();
            loop {
                let (kind, msg) = reader.event();
                match kind.as_str() {
                    "chat_message" => {
                        assert_eq!(msg["text"], text, "a message is missing, or too many");
                        break;
                    }
                    "user_left" => left.push(msg["username"].as_str().expect("a name").to_owned()),
                    "user_joined" => {}
                    other => panic!("{other} {msg}"),
                }
            }
        }
        left
    }

    fn bytes_said(&self) -> usize {
        self.said * TEXT_BYTES
    }

    fn metric(&self, name: &str) -> u64 {
        let text = get(self.server.address, "/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
        value.trim().parse().expect("a number")
    }
}

#[test]
fn who_never_reads_is_cut_alone_and_the_others_get_every_message() {
    let mut lobby = Lobby::new();
    let descriptors = lobby.server.descriptors();
    let slow: Vec<_> =
        (0..10).map(|number| join_and_never_read(lobby.server.address, &format!("Slow {number}"))).collect();
    let memory = lobby.server.proc_status("VmRSS");
    let mut left = Vec::new();
    while lobby.bytes_said() < BYTES_MAX {
        left.extend(lobby.say());
    }
    // They go some seconds after the close frame that they do not read.
    for reader in &mut lobby.readers[..1] {
        while left.len() < slow.len() {
            let (kind, msg) = reader.event();
            assert_eq!(kind, "user_left");
            left.push(msg["username"].as_str().expect("a name").to_owned());
        }
    }
    assert!(left.iter().all(|name| name.starts_with("Slow ")), "{left:?}");
    assert_eq!(lobby.metric("ich_sessions_ended_total{reason=\"too_slow\"}"), slow.len() as u64);
    let grown = lobby.server.proc_status("VmRSS").saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB more, and {} KiB were said", lobby.bytes_said() / 1024);
    harness::wait_for("their descriptors", || (lobby.server.descriptors() <= descriptors).then_some(()));
    lobby.readers[0].say("still here");
    lobby.readers[0].wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
    drop(slow);
}

#[test]
fn who_reads_again_finds_whole_frames_and_why_it_was_cut() {
    let mut lobby = Lobby::new();
    let mut slow = join_and_never_read(lobby.server.address, "Slow");
    // It is cut when what is delivered is one less for each message.
    lobby.say();
    loop {
        let before = lobby.metric("ich_deliveries_total");
        (0..10).for_each(|_| drop(lobby.say()));
        let delivered = lobby.metric("ich_deliveries_total") - before;
        if delivered <= 35 {
            break;
        }
        assert!(lobby.bytes_said() < BYTES_MAX, "not cut");
    }
    let frames = slow.rest();
    assert_eq!(close_codes(&frames), [1013], "{} frames", frames.len());
    assert_eq!(frames.last().map(|last| last.opcode), Some(CLOSE));
    let texts = frames.iter().filter(|frame| frame.opcode == TEXT).map(|frame| frame.json());
    let said: Vec<usize> = texts
        .filter(|frame| frame["type"] == "chat_message")
        .map(|frame| frame["msg"]["text"].as_str().and_then(|text| text.parse().ok()).expect("a number"))
        .collect();
    let expected: Vec<usize> = (0..said.len()).collect();
    assert_eq!(said, expected, "what it got has no gap");
    assert!(said.len() < lobby.said);
}

#[test]
fn who_reads_slowly_and_is_never_too_far_behind_stays() {
    let mut lobby = Lobby::new();
    let mut slow = join_and_never_read(lobby.server.address, "Slow");
    for _ in 0..10 {
        // Less than the bound at once.
        let first = lobby.said;
        while (lobby.said - first) * TEXT_BYTES < 200_000 {
            lobby.say();
        }
        let last = format!("{:0>width$}", lobby.said - 1, width = TEXT_BYTES);
        while slow.wait_for("chat_message")["text"] != last {}
    }
    assert!(lobby.bytes_said() >= 2_000_000);
    assert_eq!(lobby.metric("ich_sessions_ended_total{reason=\"too_slow\"}"), 0);
}

#[test]
fn who_sends_and_never_reads_does_not_stop_the_lobby() {
    let mut lobby = Lobby::new();
    let slow = join_and_never_read(lobby.server.address, "Slow");
    let mistakes = frame(FIN | TEXT, b"not JSON").repeat(100);
    // Each of these is answered with an error frame that it does not read.
    let mut writes = slow.stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..500 {
                if std::io::Write::write_all(&mut writes, &mistakes).is_err() {
                    return;
                }
            }
        });
        (0..50).for_each(|_| drop(lobby.say()));
    });
    // It goes with its unread errors; the lobby stays.
    drop(slow);
    lobby.say();
}
