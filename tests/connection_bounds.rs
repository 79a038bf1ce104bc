//! More connections than the limit: the server refuses the excess, the chat continues, and connections are accepted
//! again as soon as others have closed.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::client::Client;
use harness::http::{Answer, connect_from, get, read_answer};
use harness::server::{Server, command, new_dir, token};
use harness::{PATIENCE, wait_for};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

fn lobby_of_two(address: SocketAddr) -> [Client; 2] {
    let mut lobby = ["Ann", "Bob"].map(|name| Client::join(address, &token(name)));
    lobby.iter_mut().for_each(|client| client.wait_for("user_joined", &json!({"username": "Bob"})));
    lobby
}

fn chat(lobby: &mut [Client; 2], text: &str) {
    lobby[0].say(text);
    lobby.iter_mut().for_each(|client| client.wait_for("chat_message", &json!({"from_user": "Ann", "text": text})));
}

/// Opens a connection and sends a part of a request.
fn half_open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    // The connection may be refused already.
    let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHo");
    stream
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    assert!(answer.header("Retry-After").is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{answer:?}");
}

/// The answers of the refused connections. The server answers these at once, and the others with 408 after the timeout.
fn refusals(streams: &mut [TcpStream]) -> Vec<Answer> {
    streams.iter_mut().map(read_answer).filter(|answer| answer.status != 408).collect()
}

#[test]
fn twice_as_many_idle_sockets_as_allowed_do_not_stop_a_chat() {
    const LIMIT: usize = 20;
    let server = Server::start(&[("ICH_MAX_CONNECTIONS", "20"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut lobby = lobby_of_two(server.address);
    let threads = server.proc_status("Threads");
    let mut idle: Vec<_> = (0..2 * LIMIT).map(|_| half_open(server.address)).collect();
    assert_refused(&get(server.address, "/health"), 503, "full");
    assert_eq!(Client::try_join(server.address, &token("Cid")).err(), Some(503));
    for number in 0..100 {
        chat(&mut lobby, &number.to_string());
    }
    assert!(server.proc_status("Threads") <= threads + LIMIT as u64, "a refused connection has no thread");
    let refused = refusals(&mut idle);
    assert!(refused.len() >= 2 * LIMIT - (LIMIT - lobby.len()), "{} were refused", refused.len());
    refused.iter().for_each(|answer| assert_refused(answer, 503, "full"));
    drop(idle);
    let mut cid = wait_for("a free connection", || Client::try_join(server.address, &token("Cid")).ok());
    assert_eq!(cid.event(), ("users_online".into(), json!({"list": ["Ann", "Bob"]})));
}

#[test]
fn each_address_has_its_own_limit() {
    let server = Server::start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "5")]);
    let here = || connect_from([127, 0, 0, 1], server.address);
    let mut all: Vec<_> = (0..10).map(|_| here()).collect();
    // The server accepts connections in order, so the tenth is refused.
    let mut last = all.pop().expect("the tenth");
    assert_refused(&read_answer(&mut last), 429, "too_many_connections");
    let mut elsewhere = connect_from([127, 0, 0, 2], server.address);
    elsewhere.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").expect("sending");
    assert_eq!(read_answer(&mut elsewhere).status, 200);
    drop(all);
    wait_for("a free connection for this address", || (get(server.address, "/health").status == 200).then_some(()));
}

#[test]
fn two_thousand_half_open_connections_do_not_stop_a_chat() {
    const HALF_OPEN: u64 = 2000;
    let server = Server::start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "0"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut lobby = lobby_of_two(server.address);
    let (threads, descriptors, memory) =
        (server.proc_status("Threads"), server.descriptors(), server.proc_status("VmRSS"));
    // The server closes each after ten seconds: on a slow machine, 2,000 at once need more than 2,000 in total.
    let mut open = Vec::new();
    wait_for("two thousand at once", || {
        open.extend((0..200).map(|_| half_open(server.address)));
        (server.proc_status("Threads") >= threads + HALF_OPEN).then_some(())
    });
    for number in 0..100 {
        chat(&mut lobby, &number.to_string());
    }
    assert_eq!(get(server.address, "/health").status, 200);
    let grown = server.proc_status("VmRSS").saturating_sub(memory);
    // Less than half of a stack each, also in a debug build.
    assert!(grown < 96 * open.len() as u64, "{grown} KiB for {} connections", open.len());
    drop(open);
    wait_for("the threads to end", || (server.proc_status("Threads") <= threads).then_some(()));
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
    chat(&mut lobby, "still here");
}

#[test]
fn a_server_without_descriptors_recovers() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut lobby = lobby_of_two(server.address);
    // From now on only five more descriptors exist, and the maximum of connections is higher.
    let limit = server.descriptors() as u64 + 5;
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a process id");
    let lower = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(pid), Resource::Nofile, lower).expect("a lower limit");
    let waiting: Vec<_> = (0..50).map(|_| half_open(server.address)).collect();
    wait_for("the warning about descriptors", || server.log().contains("cannot accept connections").then_some(()));
    for number in 0..100 {
        chat(&mut lobby, &number.to_string());
    }
    drop(waiting);
    assert_eq!(get(server.address, "/health").status, 200, "as soon as descriptors are free");
    let mut cid = server.join("Cid");
    assert_eq!(cid.event(), ("users_online".into(), json!({"list": ["Ann", "Bob"]})));

    // Again, and this time the limit is raised.
    let _waiting: Vec<_> = (0..50).map(|_| half_open(server.address)).collect();
    prlimit(Some(pid), Resource::Nofile, before).expect("the previous limit");
    assert_eq!(get(server.address, "/health").status, 200);
    chat(&mut lobby, "still here");
}

/// The program, started by a shell with a limit on descriptors. Ended on drop.
struct Limited {
    child: Child,
    address: SocketAddr,
    dir: PathBuf,
}

impl Limited {
    fn start(descriptors: u32) -> Limited {
        let dir = new_dir();
        let ich = command(&dir, &[("ICH_LOG", "warn")]);
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\"")])
            .arg(ich.get_program())
            .current_dir(&dir)
            .env_clear()
            .envs(ich.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.join("log")).expect("the log"))
            .spawn()
            .expect("starting the server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the first line");
        let after = line.split_once("http://").map_or("", |(_, after)| after);
        let address = after.split_whitespace().next().and_then(|address| address.parse().ok());
        let limited = Limited { child, address: address.unwrap_or_else(|| panic!("no address in {line:?}")), dir };
        wait_for("a ready server", || (get(limited.address, "/ready").status == 200).then_some(()));
        limited
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).expect("the log")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_low_limit_on_descriptors_limits_the_connections() {
    let server = Limited::start(160);
    let mut lobby = lobby_of_two(server.address);
    let mut waiting: Vec<_> = (0..200).map(|_| half_open(server.address)).collect();
    assert_refused(&get(server.address, "/health"), 503, "full");
    chat(&mut lobby, "enough descriptors");
    let log = server.log();
    let is_refusal = |line: &str| line.contains("refused a request of 127.0.0.1: full");
    assert!(log.lines().all(is_refusal), "the server refuses connections before it has no descriptors: {log}");
    let refused = refusals(&mut waiting).len();
    assert!((100..200).contains(&refused), "{refused} were refused");
    wait_for("a free connection", || (get(server.address, "/health").status == 200).then_some(()));
}

#[test]
fn a_server_with_very_few_descriptors_still_answers() {
    let server = Limited::start(64);
    let waiting: Vec<_> = (0..100).map(|_| half_open(server.address)).collect();
    drop(waiting);
    wait_for("an answer", || (get(server.address, "/health").status == 200).then_some(()));
    wait_for("a free connection", || Client::try_join(server.address, &token("Ann")).ok());
}
