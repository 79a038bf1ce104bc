//! `ich chat` in a pipe: messages from standard input and to standard output, lost connections, and refusals.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use harness::archive::Archive;
use harness::certificates::Authority;
use harness::folder::Folder;
use harness::http::post;
use harness::relay::Relay;
use harness::server::{Server, command, token, token_for};
use harness::sqlite::DataFolder;
use harness::watcher::Watcher;
use harness::{PATIENCE, wait_for, wait_until};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const PASSWORD: &str = "a secret password";

/// `ich chat` with these settings and arguments. No server belongs to its folder.
fn chat(dir: &Path, url: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut chat = command(dir, settings);
    // The zone of the times that are printed.
    chat.env("TZ", "UTC").arg("chat").arg(url).args(arguments);
    chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    chat
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// Runs `ich chat` as Ann, with this standard input, until it ends.
fn run(server: &Server, arguments: &[&str], input: &str) -> Output {
    finish(chat(server.dir(), &url(server), &[("ICH_TOKEN", &token("Ann"))], arguments), input)
}

fn finish(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // A program that ends at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn fails(output: &Output, text: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains(text), "{output:?}");
    assert!(!errors.contains(PASSWORD), "{errors}");
}

fn register(server: &Server, name: &str) {
    let body = json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD});
    assert_eq!(post(server.address, "/createUser", &body.to_string()).status, 200);
}

/// A client that goes on until it is dropped.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Standard error.
    notices: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let lines = read_lines(child.stdout.take().unwrap(), |_| {});
        let notices = read_lines(child.stderr.take().unwrap(), |line| eprintln!("{line}"));
        Running { input: child.stdin.take(), child, lines, notices }
    }

    fn write(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line is this one, behind its time: none is missing, and none comes twice.
    fn expect(&self, line: &str) {
        let next = self.lines.recv_timeout(PATIENCE).expect("a line");
        assert_eq!(next.get("2026-11-23 10:00:09 ".len()..), Some(line), "{next}");
    }

    /// Waits for a line on standard error that contains this text.
    fn expect_notice(&self, text: &str) {
        let next = || self.notices.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no notice: {text}"));
        while !next().contains(text) {}
    }

    fn wait(&mut self) -> Option<i32> {
        wait_for("the end of the client", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a thread reads. `show` gets each one first.
fn read_lines(output: impl Read + Send + 'static, show: fn(&str)) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| {
            show(&line);
            sender.send(line)
        })
    });
    lines
}

fn texts(watcher: &Watcher) -> Vec<String> {
    watcher.frames().into_iter().filter(|frame| frame.kind == "chat_message").map(|frame| frame.text).collect()
}

#[test]
fn once_sends_each_line_once_and_ends() {
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    bob.say("0", "earlier");
    bob.wait_text("earlier");
    let output = run(&server, &["--once"], "one\n\n  \ntwo\r\nthree");
    assert!(output.status.success(), "{output:?}");
    bob.wait_frame("user_left", "Ann");
    assert_eq!(texts(&bob), ["earlier", "one", "two", "three"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = printed.lines().map(|line| &line["2026-11-23 10:00:09 ".len()..]).collect();
    assert_eq!(said, ["Ann: one", "Ann: two", "Ann: three"]);

    let output = run(&server, &["--once", "--json"], "four");
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&message["from_user"], &message["text"]), (&json!("Ann"), &json!("four")));
    assert!(message["event_id"].is_string() && message["sent_at"].is_string(), "{message}");
}

#[test]
fn more_lines_than_the_server_allows_are_sent_with_a_delay() {
    let server = Server::start(&[("ICH_MESSAGE_BURST", "3"), ("ICH_MAX_MESSAGES_PER_SECOND", "2")]);
    let bob = Watcher::join(&server, "Bob");
    let lines: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let output = run(&server, &["--once"], &lines.join("\n"));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("slowed down"), "{output:?}");
    bob.wait_frame("user_left", "Ann");
    assert_eq!(texts(&bob), lines);
}

#[test]
fn a_client_misses_nothing_when_the_server_is_killed() {
    let folder = DataFolder::new();
    let other = Server::start_in(folder.path(), &[]);
    let server = Server::start_in(folder.path(), &[]);
    let port = server.address.port().to_string();
    let bob = Watcher::join(&other, "Bob");
    bob.say("0", "zero");
    bob.wait_text("zero");
    let ann = chat(folder.path(), &url(&server), &[("ICH_TOKEN", &token("Ann"))], &[]);
    let mut ann = Running::start(ann);
    ann.expect("Bob: zero");
    ann.write("hello");
    ann.expect("Ann: hello");
    drop(server);
    bob.say("1", "one");
    bob.wait_text("one");
    ann.write("written offline");
    let _again = Server::start_in(folder.path(), &[("ICH_PORT", &port)]);
    ann.expect("Bob: one");
    ann.expect("Ann: written offline");
    // The end of standard input is not the end of the client.
    drop(ann.input.take());
    bob.say("2", "two");
    ann.expect("Bob: two");
    assert_eq!(texts(&bob), ["zero", "hello", "one", "written offline", "two"]);
}

#[test]
fn a_silent_network_is_noticed_and_the_client_resumes_by_itself_when_it_is_back() {
    let server = Server::start(&[]);
    let relay = Relay::start(server.address);
    let bob = Watcher::join(&server, "Bob");
    let url = format!("http://{}", relay.address);
    let mut ann = Running::start(chat(server.dir(), &url, &[("ICH_TOKEN", &token("Ann"))], &[]));
    ann.write("one");
    ann.expect("Ann: one");
    relay.silence();
    ann.write("into the silence");
    bob.say("2", "two");
    bob.wait_text("two");
    ann.expect_notice("not connected, trying again: the network does not answer");
    relay.restore();
    ann.expect("Bob: two");
    ann.expect("Ann: into the silence");
    ann.expect_notice("connected");
    bob.wait_text("into the silence");
    assert_eq!(texts(&bob), ["one", "two", "into the silence"]);
}

#[test]
fn messages_that_the_server_has_in_its_archive_only_are_printed_in_order() {
    let folder = DataFolder::new();
    let other = Server::start_in(folder.path(), &[("ICH_ARCHIVE", "on"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let settings = [("ICH_ARCHIVE", "on"), ("ICH_HISTORY_MESSAGES", "3")];
    let server = Server::start_in(folder.path(), &settings);
    let port = server.address.port().to_string();
    let bob = Watcher::join(&other, "Bob");
    let ann = chat(folder.path(), &url(&server), &[("ICH_TOKEN", &token("Ann"))], &[]);
    let ann = Running::start(ann);
    bob.wait_frame("user_joined", "Ann");
    bob.say("first", "first");
    ann.expect("Bob: first");
    drop(server);
    // More than two pages of `/history`.
    let texts: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    texts.iter().for_each(|text| bob.say(text, text));
    wait_until("the archived messages", || Archive::Sqlite(folder.path()).texts().len() == texts.len() + 1);
    let _again = Server::start_in(folder.path(), &[&settings[..], &[("ICH_PORT", &port)]].concat());
    texts.iter().for_each(|text| ann.expect(&format!("Bob: {text}")));
    bob.say("last", "last");
    ann.expect("Bob: last");
}

#[test]
fn a_signal_or_a_closed_pipe_ends_the_client_quietly() {
    // A connection that breaks would keep the user in the lobby for this time; one that is closed does not.
    let server = Server::start(&[("ICH_LEAVE_GRACE_SECONDS", "300")]);
    let bob = Watcher::join(&server, "Bob");
    let settings = [("ICH_TOKEN", &*token("Ann"))];
    let mut ann = Running::start(chat(server.dir(), &url(&server), &settings, &[]));
    bob.wait_frame("user_joined", "Ann");
    let pid = Pid::from_child(&ann.child);
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(ann.wait(), Some(0));
    bob.wait_frame("user_left", "Ann");

    let mut child = chat(server.dir(), &url(&server), &settings, &[]).spawn().unwrap();
    drop(child.stdout.take());
    wait_until("Ann", || bob.count("user_joined", "Ann") == 2);
    bob.say("1", "nobody reads this");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// A client that waits because its standard output is full: nobody reads it.
fn blocked_client(server: &Server) -> (Child, Pid) {
    let client = chat(server.dir(), &url(server), &[("ICH_TOKEN", &token("Ann"))], &[]).spawn().unwrap();
    let pid = Pid::from_child(&client);
    let output = client.stdout.as_ref().unwrap();
    let is_full = || ioctl_fionread(output).unwrap() > 60_000;
    wait_until("a thread that waits for a full pipe", || is_full() && waits_for_output(pid));
    (client, pid)
}

/// Whether a thread of this process is in a system call whose first argument is standard output.
fn waits_for_output(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let calls = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("syscall")).ok());
    calls.into_iter().any(|call| call.split_whitespace().nth(1) == Some("0x1"))
}

#[test]
fn signals_end_a_client_whose_output_nobody_reads() {
    let server = Server::start(&[("ICH_MESSAGE_BURST", "100"), ("ICH_MAX_MESSAGES_PER_SECOND", "100")]);
    let bob = Watcher::join(&server, "Bob");
    let text = "x".repeat(3_990);
    for number in 0..40 {
        bob.say(&number.to_string(), &text);
    }
    bob.say("last", "the last one");
    bob.wait_text("the last one");

    let (mut client, pid) = blocked_client(&server);
    kill_process(pid, Signal::TERM).unwrap();
    let status = wait_for("the end after one signal", || client.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));

    let (mut client, pid) = blocked_client(&server);
    kill_process(pid, Signal::TERM).unwrap();
    let status = wait_for("the end after a second signal", || {
        let status = client.try_wait().unwrap();
        if status.is_none() {
            kill_process(pid, Signal::INT).unwrap();
        }
        status
    });
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_refused_login_or_token_ends_the_client_with_the_reason() {
    let server = Server::start(&[]);
    register(&server, "Ann");
    let log_in = |password: &str, input: &str| {
        let arguments = ["--email", "Ann@example.com", "--once"];
        finish(chat(server.dir(), &url(&server), &[("ICH_PASSWORD", password)], &arguments), input)
    };
    assert!(log_in(PASSWORD, "hello").status.success());
    // Without an address: the server of the settings.
    let port = server.address.port().to_string();
    let mut local = command(server.dir(), &[("ICH_PORT", &port), ("ICH_PASSWORD", PASSWORD)]);
    local
        .args(["chat", "--email", "ann@example.com", "--once"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = finish(local, "hello");
    assert!(output.status.success(), "{output:?}");
    fails(&log_in("another password", "hello"), "the server answers 401: ");
    fails(&finish(chat(server.dir(), &url(&server), &[("ICH_TOKEN", "wrong")], &[]), ""), "token");
}

#[test]
fn without_an_address_the_client_joins_at_the_host_of_the_settings() {
    // `localhost` does not have this address.
    let host = ("ICH_HOST", "127.0.0.2");
    let server = Server::start(&[host]);
    let port = server.address.port().to_string();
    let mut chat = command(server.dir(), &[host, ("ICH_PORT", &port), ("ICH_TOKEN", &token("Ann"))]);
    chat.args(["chat", "--once", "--timeout", "5"]);
    chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(chat, "hello");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_server_that_cannot_be_reached_fails_after_the_timeout() {
    let folder = Folder::new();
    let settings = [("ICH_TOKEN", &*token("Ann"))];
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let arguments = ["--once", "--timeout", "1"];
    fails(
        &finish(chat(&folder.0, &format!("http://{unused}"), &settings, &arguments), "hello"),
        "not connected after 1 seconds",
    );
    // The login has the same limit. This server accepts connections and does not answer.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let arguments = ["--once", "--timeout", "1", "--email", "ann@example.com"];
    let output = finish(chat(&folder.0, &address, &[("ICH_PASSWORD", PASSWORD)], &arguments), "hello");
    fails(&output, "not logged in after 1 seconds");
    let output = finish(chat(&folder.0, "localhost:8080", &settings, &[]), "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("must look like http://"), "{output:?}");
}

#[test]
fn a_server_that_does_not_answer_is_named_with_the_time_that_the_client_waited() {
    let folder = Folder::new();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let mut client = chat(&folder.0, &address, &[("ICH_TOKEN", &token("Ann"))], &[]).spawn().unwrap();
    let mut notice = String::new();
    BufReader::new(client.stderr.take().unwrap()).read_line(&mut notice).unwrap();
    let expected =
        format!("not connected, trying again: no answer from {address}: it took longer than 10 seconds; check");
    assert!(notice.contains(&expected), "{notice}");
    client.kill().unwrap();
    client.wait().unwrap();
}

/// Registers an administrator. Returns a function that acts on Ann.
fn admin(server: &Server) -> impl Fn(&[&str]) + '_ {
    register(server, "Root");
    let promoted = command(server.dir(), &[]).args(["user", "promote", "Root"]).output().unwrap();
    assert!(promoted.status.success(), "{promoted:?}");
    let body = json!({"email": "Root@example.com", "password": PASSWORD}).to_string();
    let token = post(server.address, "/login", &body).json()["token"].as_str().unwrap().to_owned();
    move |action| {
        let mut act = command(server.dir(), &[("ICH_TOKEN", &token)]);
        let output = act.args(action).args(["--url", &url(server)]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_kicked_user_does_not_return() {
    let server = Server::start(&[]);
    let act = admin(&server);
    let bob = Watcher::join(&server, "Bob");
    let ann = chat(server.dir(), &url(&server), &[("ICH_TOKEN", &token("Ann"))], &[]).spawn().unwrap();
    bob.wait_frame("user_joined", "Ann");
    act(&["kick", "Ann", "--reason", "spam"]);
    let output = ann.wait_with_output().unwrap();
    fails(&output, "kicked by an administrator: spam");
    assert_eq!(bob.count("user_joined", "Ann"), 1);
}

#[test]
fn messages_of_a_muted_user_are_reported() {
    let server = Server::start(&[]);
    admin(&server)(&["mute", "Ann", "--reason", "noise"]);
    let output = run(&server, &["--once"], "hello\n");
    fails(&output, "not sent: hello: ");
    fails(&output, "noise");
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_others_are_sent() {
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    let input =
        format!("one\n{}\ntwo\n{}\nthree\n{}\nfour", "x".repeat(5_000), "y".repeat(20_000), "z".repeat(100_000));
    let output = run(&server, &["--once"], &input);
    fails(&output, "not sent: xxx");
    fails(&output, "the message is too long");
    fails(&output, "longer than 65536 bytes");
    bob.wait_text("four");
    assert_eq!(texts(&bob), ["one", "two", "three", "four"]);
}

/// A server in front of the real one that issues tokens of six seconds.
fn short_logins(server: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = logins.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 5];
            client.peek(&mut head).unwrap();
            if &head == b"POST " {
                counted.fetch_add(1, Ordering::SeqCst);
                let body = json!({"token": token_for("Ann", "Ann", Duration::from_secs(6))}).to_string();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let mut request = [0; 4096];
                let _ = client.read(&mut request);
                client.write_all(answer.as_bytes()).unwrap();
            } else {
                forward(client, TcpStream::connect(server).unwrap());
            }
        }
    });
    (address, logins)
}

fn forward(client: TcpStream, server: TcpStream) {
    for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
        thread::spawn(move || std::io::copy(&mut from, &mut to).map(|_| to.shutdown(std::net::Shutdown::Write)));
    }
}

#[test]
fn a_client_that_knows_the_password_renews_its_token() {
    let server = Server::start(&[]);
    let (address, logins) = short_logins(server.address);
    let bob = Watcher::join(&server, "Bob");
    let arguments = ["--email", "ann@example.com"];
    let ann = chat(server.dir(), &format!("http://{address}"), &[("ICH_PASSWORD", PASSWORD)], &arguments);
    let mut ann = Running::start(ann);
    bob.wait_frame("user_joined", "Ann");
    wait_until("the second renewal", || logins.load(Ordering::SeqCst) == 3);
    ann.write("still here");
    ann.expect("Ann: still here");
    assert_eq!(bob.count("user_left", "Ann"), 0, "the session went on");
}

/// A proxy with TLS in front of the server, for one connection.
fn tls_proxy(server: SocketAddr, authority: &Authority) -> u16 {
    let certificate = authority.issue("localhost", &["localhost"]);
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&certificate.certificate).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&certificate.key).unwrap()).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let acceptor = acceptor.clone();
            thread::spawn(move || {
                let Ok(mut client) = acceptor.accept(client) else { return };
                let mut server = TcpStream::connect(server).unwrap();
                client.get_ref().set_nonblocking(true).unwrap();
                server.set_nonblocking(true).unwrap();
                let mut buffer = [0; 4096];
                loop {
                    let mut is_idle = true;
                    match client.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(count) => (server.write_all(&buffer[..count]).unwrap(), is_idle = false).1,
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                    }
                    match server.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(count) => (client.write_all(&buffer[..count]).unwrap(), is_idle = false).1,
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                    }
                    if is_idle {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_server_behind_a_proxy_with_tls_must_have_a_valid_certificate() {
    let server = Server::start(&[]);
    let authority = Authority::new();
    let url = format!("https://localhost:{}", tls_proxy(server.address, &authority));
    let trusted = server.dir().join("authority.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let (token, trusted) = (token("Ann"), trusted.to_str().unwrap());
    let settings = [("ICH_TOKEN", token.as_str()), ("SSL_CERT_FILE", trusted)];
    let bob = Watcher::join(&server, "Bob");
    let output = finish(chat(server.dir(), &url, &settings, &["--once"]), "over TLS");
    assert!(output.status.success(), "{output:?}");
    bob.wait_text("over TLS");
    let output = finish(chat(server.dir(), &url, &settings[..1], &["--once", "--timeout", "2"]), "no");
    fails(&output, "the server has no valid certificate");
}
