//! A client that does not read, in a busy lobby: only this client is disconnected when its outbox is full, and it uses
//! no more memory than its outbox may have.

mod harness;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::http::get;
use harness::raw_websocket::{CLOSE, FIN, RawClient, TEXT, close_codes, frame};
use harness::server::{SECRET, Server, new_dir, tokens};
use harness::wait_for;
use ich::accounts::sqlite;
use ich::config::Config;
use ich::event_log::{Appender, memory};
use ich::lobby::{Body, InstanceId, Record, RosterEntry, SessionId, User};
use ich::server::Backends;
use serde_json::json;
use socket2::{Domain, Socket, Type};

const SETTINGS: &[(&str, &str)] =
    &[("ICH_MAX_MESSAGES_PER_SECOND", "0"), ("ICH_OUTBOX_BYTES", "262144"), ("ICH_PING_INTERVAL_SECONDS", "600")];
/// A slow client is disconnected before this many bytes were sent: twice its outbox and the kernel buffers of both
/// sides.
const BYTES_MAX: usize = 6 * 1024 * 1024;
const TEXT_BYTES: usize = 4000;

/// Joins with a small receive buffer, and reads nothing.
fn join_and_never_read(address: SocketAddr, name: &str) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("an option");
    socket.connect(&address.into()).expect("connecting");
    RawClient::join_on(TcpStream::from(socket), name, &[])
}

/// A lobby with three clients that read everything. A test adds slow clients.
struct Lobby {
    server: Server,
    readers: Vec<Client>,
    /// The number of messages that were sent.
    sent: usize,
}

impl Lobby {
    fn new() -> Lobby {
        let server = Server::start(SETTINGS);
        let mut readers: Vec<_> = ["Ann", "Bob", "Cid"].map(|name| server.join(name)).into();
        readers.iter_mut().for_each(|reader| reader.wait_for("user_joined", &json!({"username": "Cid"})));
        Lobby { server, readers, sent: 0 }
    }

    /// Ann sends a long message. Asserts that it is the next message that each reader gets. Returns the users who left
    /// before it, from the frames of the last reader.
    fn say(&mut self) -> Vec<String> {
        let text = format!("{:0>width$}", self.sent, width = TEXT_BYTES);
        self.sent += 1;
        self.readers[0].say(&text);
        let mut left = Vec::new();
        for reader in &mut self.readers {
            left.clear();
            loop {
                let (kind, msg) = reader.event();
                match kind.as_str() {
                    "chat_message" => {
                        assert_eq!(msg["text"], text, "a message is missing or duplicated");
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

    fn bytes_sent(&self) -> usize {
        self.sent * TEXT_BYTES
    }

    fn metric(&self, name: &str) -> u64 {
        let text = get(self.server.address, "/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
        value.trim().parse().expect("a number")
    }
}

#[test]
fn only_the_clients_that_never_read_are_disconnected() {
    let mut lobby = Lobby::new();
    let descriptors = lobby.server.descriptors();
    let slow: Vec<_> =
        (0..10).map(|number| join_and_never_read(lobby.server.address, &format!("Slow {number}"))).collect();
    let memory = lobby.server.proc_status("VmRSS");
    let mut left = Vec::new();
    while lobby.bytes_sent() < BYTES_MAX {
        left.extend(lobby.say());
    }
    // They leave some seconds after the close frame, which they do not read.
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
    assert!(grown < 8 * 1024, "{grown} KiB more, after messages of {} KiB", lobby.bytes_sent() / 1024);
    harness::wait_for("closed sockets", || (lobby.server.descriptors() <= descriptors).then_some(()));
    lobby.readers[0].say("after the disconnect");
    lobby.readers[0].wait_for("chat_message", &json!({"from_user": "Ann", "text": "after the disconnect"}));
    drop(slow);
}

#[test]
fn a_disconnected_client_can_read_complete_frames_and_the_close_code() {
    let mut lobby = Lobby::new();
    let mut slow = join_and_never_read(lobby.server.address, "Slow");
    lobby.readers[0].wait_for("user_joined", &json!({"username": "Slow"}));
    // After the disconnect, each message is delivered to one client less.
    lobby.say();
    loop {
        let before = lobby.metric("ich_deliveries_total");
        (0..10).for_each(|_| drop(lobby.say()));
        let delivered = lobby.metric("ich_deliveries_total") - before;
        if delivered <= 35 {
            break;
        }
        assert!(lobby.bytes_sent() < BYTES_MAX, "the slow client was not disconnected");
    }
    let frames = slow.rest();
    assert_eq!(close_codes(&frames), [1013], "{} frames", frames.len());
    assert_eq!(frames.last().map(|last| last.opcode), Some(CLOSE));
    let texts = frames.iter().filter(|frame| frame.opcode == TEXT).map(|frame| frame.json());
    let received: Vec<usize> = texts
        .filter(|frame| frame["type"] == "chat_message")
        .map(|frame| frame["msg"]["text"].as_str().and_then(|text| text.parse().ok()).expect("a number"))
        .collect();
    let expected: Vec<usize> = (0..received.len()).collect();
    assert_eq!(received, expected, "a gap in the messages");
    assert!(received.len() < lobby.sent);
}

#[test]
fn a_client_that_reads_slowly_within_the_limit_stays_connected() {
    let mut lobby = Lobby::new();
    let mut slow = join_and_never_read(lobby.server.address, "Slow");
    lobby.readers[0].wait_for("user_joined", &json!({"username": "Slow"}));
    for _ in 0..10 {
        // Less than the outbox holds.
        let first = lobby.sent;
        while (lobby.sent - first) * TEXT_BYTES < 200_000 {
            lobby.say();
        }
        let last = format!("{:0>width$}", lobby.sent - 1, width = TEXT_BYTES);
        while slow.wait_for("chat_message")["text"] != last {}
    }
    assert!(lobby.bytes_sent() >= 2_000_000);
    assert_eq!(lobby.metric("ich_sessions_ended_total{reason=\"too_slow\"}"), 0);
}

#[test]
fn a_client_that_sends_and_never_reads_does_not_stop_the_lobby() {
    let mut lobby = Lobby::new();
    let slow = join_and_never_read(lobby.server.address, "Slow");
    let invalid = frame(FIN | TEXT, b"not JSON").repeat(100);
    // The server answers each message with an error frame, which the client does not read.
    let mut writes = slow.stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..500 {
                if std::io::Write::write_all(&mut writes, &invalid).is_err() {
                    return;
                }
            }
        });
        (0..50).for_each(|_| drop(lobby.say()));
    });
    // Its unread error frames are dropped with its session.
    drop(slow);
    lobby.say();
}

/// The minimum of `ICH_OUTBOX_BYTES`.
const OUTBOX_BYTES_MIN: &str = "65536";
/// Users and the length of their names: a list of 2 MB, more than the outbox and the kernel buffers of both sides.
const LIST_USERS: u64 = 4_000;
const LIST_NAME_BYTES: usize = 500;

/// A simulated second instance, which only appends records: a roster of many users, and heartbeats.
struct OtherInstance {
    log: Arc<dyn Appender>,
    seq: u64,
}

impl OtherInstance {
    fn append(&mut self, body: Body) {
        self.seq += 1;
        let record = Record { from: InstanceId(u64::MAX), seq: self.seq, at: "2026-01-01T00:00:00Z".into(), body };
        self.log.append(record).expect("room in the log");
    }

    fn append_roster(&mut self) {
        let entry = |number| {
            let name = format!("{number:0>LIST_NAME_BYTES$}");
            RosterEntry { session: SessionId(number), user: User { id: name.as_str().into(), username: name.into() } }
        };
        self.append(Body::Roster { part: 0, parts: 1, sessions: (0..LIST_USERS).map(entry).collect() });
    }

    /// Keeps the lease until `done`, with fewer heartbeats than the server, so that the lease of the server does not
    /// expire.
    fn send_heartbeats(mut self, done: &AtomicBool) {
        for n in 1.. {
            self.append(Body::Heartbeat { n });
            let next = Instant::now() + Duration::from_secs(2);
            while Instant::now() < next {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Ends the thread of a test, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_slow_client_gets_a_list_longer_than_its_outbox_and_the_events_after_it() {
    let dir = new_dir();
    let values = [
        ("ICH_HOST", "127.0.0.1"),
        ("ICH_PORT", "0"),
        ("ICH_JWT_SECRET", SECRET),
        ("ICH_OUTBOX_BYTES", OUTBOX_BYTES_MIN),
        ("ICH_PING_INTERVAL_SECONDS", "600"),
    ];
    let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let config = Config::from_values(&values, Vec::new()).expect("settings");
    let log = memory::open();
    let mut other = OtherInstance { log: log.appender.clone(), seq: 0 };
    let store = Arc::new(sqlite::open(&dir).expect("accounts"));
    let backends = Backends { store, log, description: String::new() };
    let tokens = tokens(Duration::from_secs(3600));
    let server = ich::server::Server::start_on(&config, tokens, backends).expect("a server");
    wait_for("a ready server", || server.is_ready().then_some(()));
    other.append_roster();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| other.send_heartbeats(&done));
        let _done = SetOnDrop(&done);
        let mut slow = join_and_never_read(server.address(), "Slow");
        let mut ann = Client::join(server.address(), &harness::server::token("Ann"));
        ann.wait_for("user_joined", &json!({"username": "Ann"}));
        // Events follow the list before the slow client has read a byte of it.
        for number in 0..20 {
            let text = number.to_string();
            ann.say(&text);
            ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": text}));
        }
        let list = slow.next().expect("a frame");
        assert_eq!(list.opcode, TEXT);
        let list = list.json();
        assert_eq!(list["type"], "users_online");
        assert!(list["msg"]["list"].as_array().expect("a list").len() >= LIST_USERS as usize);
        for number in 0..20 {
            assert_eq!(slow.wait_for("chat_message")["text"], number.to_string());
        }
    });
    let text = get(server.address(), "/metrics").body;
    assert!(text.contains("ich_sessions_ended_total{reason=\"too_slow\"} 0"), "{text}");
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
}
