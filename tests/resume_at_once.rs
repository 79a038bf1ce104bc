//! Thousands of clients return at once, and each has missed hundreds of messages: they share one copy of these messages,
//! so the server needs hardly more memory than for as many clients that missed nothing.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use harness::raw_websocket::{Frame, RawClient, first_frame, handshake};
use harness::returning::Returning;
use harness::server::Server;
use harness::{PATIENCE, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

const CLIENTS: usize = 5_000;
const MESSAGES: usize = 500;
const TEXT_BYTES: usize = 250;
/// Threads of the test. Each has its share of the clients.
const THREADS: usize = 8;
/// Open files of a process that are not sockets of clients.
const OTHER_FILES: u64 = 256;
/// The most that the server keeps of earlier messages (`HISTORY_BYTES_MAX`).
const HISTORY_KIB: u64 = 4 * 1024;
/// What a client's outbox needs to refer to the blocks of the messages, and its `caught_up`.
const REFERENCES_KIB: u64 = 4;
/// A client's copy of the messages would take more than this.
const _: () = assert!((MESSAGES * TEXT_BYTES) as u64 > 16 * REFERENCES_KIB * 1024);
const SETTINGS: [(&str, &str); 6] = [
    ("ICH_MAX_CONNECTIONS", "0"),
    ("ICH_MAX_CONNECTIONS_PER_ADDRESS", "0"),
    ("ICH_MAX_CONNECTIONS_PER_USER", "0"),
    ("ICH_MAX_MESSAGES_PER_SECOND", "0"),
    // The clients do not answer pings.
    ("ICH_PING_INTERVAL_SECONDS", "600"),
    ("ICH_HISTORY_MESSAGES", "1000"),
];

/// How many clients the limit on open files allows.
fn clients() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).min(CLIENTS);
    if allowed < CLIENTS {
        let line = format!("ONLY {allowed} OF {CLIENTS} CLIENTS: ulimit -n is {files}");
        assert!(std::env::var_os("CI").is_none(), "{line}");
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    allowed
}

/// One client: it reads without blocking and compares its frames with those of another client.
struct Member {
    stream: TcpStream,
    unread: Vec<u8>,
    is_upgraded: bool,
    /// Frames that it has received.
    frames: usize,
}

impl Member {
    fn join(address: SocketAddr, request: &str) -> Member {
        let mut stream = TcpStream::connect(address).expect("connecting");
        stream.write_all(request.as_bytes()).expect("sending");
        stream.set_nonblocking(true).expect("an option");
        Member { stream, unread: Vec::new(), is_upgraded: false, frames: 0 }
    }

    /// Reads what is there. True when all `expected` frames were received.
    fn read(&mut self, expected: &[Frame], buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => panic!("closed after {} frames", self.frames),
            Ok(bytes) => self.unread.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error} after {} frames", self.frames),
        }
        let mut at = 0;
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
            assert!(self.unread.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&self.unread));
            (self.is_upgraded, at) = (true, end + 4);
        }
        while let Some((frame, bytes)) = first_frame(&self.unread[at..]) {
            assert!(is_like(&frame, &expected[self.frames]), "another frame {}: {frame:?}", self.frames);
            (self.frames, at) = (self.frames + 1, at + bytes);
        }
        self.unread.drain(..at);
        self.frames == expected.len()
    }
}

/// Messages are equal to the byte. `users_online` and `caught_up` have the time of the join.
fn is_like(frame: &Frame, expected: &Frame) -> bool {
    let is_message = |frame: &Frame| frame.payload.starts_with(br#"{"type":"chat_message""#);
    if is_message(expected) {
        return frame == expected;
    }
    let (frame, expected) = (frame.json(), expected.json());
    frame["type"] == expected["type"] && frame["msg"] == expected["msg"] && frame["event_id"] == expected["event_id"]
}

/// So many clients send `request` at once, and then read until each has received `expected`. Returns them.
fn join_at_once(clients: usize, address: SocketAddr, request: &str, expected: &[Frame]) -> Vec<Member> {
    let all_sent = Barrier::new(THREADS);
    let join_share = |first: usize| {
        let share = (first..clients).step_by(THREADS);
        let mut members: Vec<Member> = share.map(|_| Member::join(address, request)).collect();
        all_sent.wait();
        let mut waiting: Vec<&mut Member> = members.iter_mut().collect();
        let mut buffer = vec![0; 64 * 1024];
        let deadline = Instant::now() + 3 * PATIENCE;
        while !waiting.is_empty() {
            waiting.retain_mut(|member| !member.read(expected, &mut buffer));
            assert!(Instant::now() < deadline, "{} clients of a thread have not received all", waiting.len());
            thread::sleep(Duration::from_millis(1));
        }
        members
    };
    thread::scope(|scope| {
        let join_share = &join_share;
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || join_share(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of clients")).collect()
    })
}

/// The first frames that a client receives which sends this request.
fn first_frames(address: SocketAddr, query: &str, count: usize) -> Vec<Frame> {
    let stream = TcpStream::connect(address).expect("connecting");
    let mut client = RawClient::join_query_on(stream, "Users", query);
    (0..count).map(|_| client.next().expect("a frame")).collect()
}

#[test]
fn the_memory_does_not_grow_with_what_the_clients_missed() {
    let clients = clients();
    let server = Server::start(&SETTINGS);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("the last that they received");
    let after = format!("after={}", ann.last_id.clone().expect("an id"));
    (0..MESSAGES).for_each(|number| ann.say(&format!("{number:0>TEXT_BYTES$}")));
    // All clients are one user, who is online: nobody is told of their joins. So what they read is what they missed.
    let _users = Returning::join(&server, "Users");
    let threads = server.proc_status("Threads");
    let before = server.proc_status("VmRSS");

    let request = handshake("Users");
    let expected = first_frames(server.address, "", 1);
    let plain = join_at_once(clients, server.address, &request, &expected);
    let plain_kib = server.proc_status("VmHWM");
    drop(plain);
    wait_until("the end of all sessions", || server.proc_status("Threads") <= threads + 1);

    let expected = first_frames(server.address, &after, MESSAGES + 2);
    assert_eq!(expected[MESSAGES + 1].json()["msg"], json!({"complete": true, "messages": MESSAGES}));
    let request = request.replacen("/join", &format!("/join?{after}"), 1);
    let returned = join_at_once(clients, server.address, &request, &expected);
    let returned_kib = server.proc_status("VmHWM");
    let allowed_kib = plain_kib + HISTORY_KIB + REFERENCES_KIB * clients as u64;
    eprintln!(
        "{clients} clients: {before} KiB before, at most {plain_kib} KiB with plain joins, {returned_kib} KiB with \
         {MESSAGES} missed messages each"
    );
    assert!(returned_kib <= allowed_kib, "{returned_kib} KiB, more than {allowed_kib} KiB");
    drop(returned);
}
