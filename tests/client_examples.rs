//! The clients of `doc/clients.md` in three languages: each one joins a lobby with many users, comes back after the server
//! was killed, misses nothing, sends what was written meanwhile once, repeats what the server dropped, does not repeat a
//! message that is too long, and ends when its token is refused.

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use harness::client::Client;
use harness::server::{Server, token};
use harness::sqlite::DataFolder;
use harness::watcher::Watcher;
use harness::{PATIENCE, skip, wait_for};

/// Their list of names is longer than what Go's library reads by default, 32 KiB.
const USERS: usize = 700;

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/clients")
}

/// More than the server allows in a message, 16 KiB.
const TOO_LONG: usize = 17 * 1024;
/// More lines than the server allows at once, 20.
const LINES: usize = 25;

/// A running client.
struct Program {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command, server: &Server, token: &str) -> Program {
        let url = format!("ws://{}", server.address);
        command.args([url.as_str(), token]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting the client");
        let lines = read_lines(child.stdout.take().expect("a pipe"));
        let errors = read_lines(child.stderr.take().expect("a pipe"));
        Program { child, lines, errors }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("writing to the client");
    }

    /// The next line is this one: none is missing, and none comes twice.
    fn expect(&self, line: &str) {
        let next = self.lines.recv_timeout(PATIENCE);
        let errors = || self.errors.try_iter().collect::<Vec<_>>();
        assert_eq!(next.unwrap_or_else(|_| panic!("no line instead of {line:?}; its errors: {:?}", errors())), line);
    }

    fn expect_error(&self, text: &str) {
        let next = self.errors.recv_timeout(PATIENCE).expect("a line on standard error");
        assert!(next.contains(text), "{next}");
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the client", || self.child.try_wait().expect("waiting"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn check(new_command: impl Fn() -> Command) {
    let folder = DataFolder::new();
    // The users do not answer pings.
    let other = Server::start_in(folder.path(), &[("ICH_PING_INTERVAL_SECONDS", "300")]);
    let bob = Watcher::join(&other, "Bob");
    let users: Vec<Client> = (0..USERS).map(|number| other.join(&format!("{number:064}"))).collect();
    wait_for("all users", || (bob.online().len() == USERS + 1).then_some(()));

    let server = Server::start_in(folder.path(), &[]);
    let port = server.address.port().to_string();
    let mut program = Program::start(&mut new_command(), &server, &token("Ann"));
    bob.wait_frame("user_joined", "Ann");
    bob.say("1", "one");
    program.expect("Bob: one");
    program.write("hello");
    program.expect("Ann: hello");

    drop(server);
    bob.say("2", "two");
    bob.wait_text("two");
    program.write("written offline");
    let _again = Server::start_in(folder.path(), &[("ICH_PORT", &port)]);
    program.expect("Bob: two");
    program.expect("Ann: written offline");
    bob.say("3", "three");
    program.expect("Bob: three");
    drop(users);

    let lines: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    lines.iter().for_each(|line| program.write(line));
    lines.iter().for_each(|line| program.expect(&format!("Ann: {line}")));

    program.write(&"x".repeat(TOO_LONG));
    program.write("after it");
    program.expect("Ann: after it");
    program.expect_error("too long, not sent: xxx");
    let joins = bob.count("user_joined", "Ann");
    program.write("still here");
    program.expect("Ann: still here");
    bob.wait_text("still here");
    assert_eq!(bob.count("user_joined", "Ann"), joins, "it stays connected");

    let mut refused = Program::start(&mut new_command(), &other, "not a token");
    assert!(!refused.wait().success());
}

#[test]
fn the_client_in_javascript_reconnects_and_resumes() {
    // Since version 22, the option is on by default.
    let has_websocket = Command::new("node").args(["--experimental-websocket", "-e", "0"]).output();
    if !has_websocket.is_ok_and(|output| output.status.success()) {
        return skip("Node.js 20 or later");
    }
    check(|| {
        let mut command = Command::new("node");
        command.args(["--experimental-websocket", "--no-warnings"]).arg(clients().join("client.mjs"));
        command
    });
}

#[test]
fn the_client_in_python_reconnects_and_resumes() {
    // `tests/run` installs the library here.
    let libraries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let command = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &libraries);
        command
    };
    if !command().args(["-c", "import websockets.sync.client"]).output().is_ok_and(|output| output.status.success()) {
        return skip("Python's websockets: tests/run --prepare");
    }
    check(|| {
        let mut command = command();
        command.arg(clients().join("client.py"));
        command
    });
}

#[test]
fn the_client_in_go_reconnects_and_resumes() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client-go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".").current_dir(clients().join("go"));
    // Without C: `CC` is the compiler of this project (.cargo/config.toml).
    match build.env("CGO_ENABLED", "0").output() {
        Ok(output) if output.status.success() => check(|| Command::new(&program)),
        Ok(output) => skip(&format!("Go 1.24 or later: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(_) => skip("Go 1.24 or later"),
    }
}
