//! The service under systemd: notifications over the socket that systemd passes, and the hardening of the unit.

mod harness;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::folder::Folder;
use harness::postgres::silent_listener;
use harness::server::Server;
use harness::{PATIENCE, skip};
use rustix::process::Signal;

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _folder: Folder,
}

impl Manager {
    fn new() -> Manager {
        let folder = Folder::new();
        let path = folder.0.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
        Manager { socket, path: path.to_str().expect("text").to_owned(), _folder: folder }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    }

    /// Reads notifications until this one. Returns those before it, except pings.
    fn until(&self, expected: &str) -> Vec<String> {
        let others = std::iter::from_fn(|| Some(self.next()).filter(|next| next != expected));
        others.filter(|notification| notification != "WATCHDOG=1").collect()
    }
}

#[test]
fn systemd_is_told_when_the_server_starts_is_ready_and_stops() {
    let manager = Manager::new();
    let mut server = Server::start(&[("NOTIFY_SOCKET", &manager.path), ("WATCHDOG_USEC", "100000")]);
    assert!(manager.until("READY=1").is_empty());
    manager.until("STATUS=ready");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    server.signal(Signal::TERM);
    assert!(manager.until("STOPPING=1").is_empty());
    assert_eq!(server.wait().code(), Some(0));
}

/// systemd would end a server that is not started in time. A server that waits for its database must not be ended.
#[test]
fn a_server_that_waits_has_started_and_says_what_it_waits_for() {
    let manager = Manager::new();
    let (_silent, port) = silent_listener();
    let url = format!("postgres://ich@127.0.0.1:{port}/ich");
    let _server = Server::launch(&[("NOTIFY_SOCKET", &manager.path), ("ICH_DATABASE_URL", &url)]);
    assert!(manager.until("READY=1").is_empty());
    manager.until("STATUS=not ready: the database of accounts does not answer");
    // Nothing asked for pings.
    manager.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("setting a socket option");
    let mut buffer = [0; 1024];
    while let Ok(length) = manager.socket.recv(&mut buffer) {
        assert!(!buffer[..length].starts_with(b"WATCHDOG"));
    }
}

#[test]
fn a_service_manager_that_does_not_read_does_not_delay_the_server() {
    let manager = Manager::new();
    let other = UnixDatagram::unbound().expect("a socket");
    other.connect(&manager.path).expect("connecting");
    other.set_nonblocking(true).expect("setting a socket option");
    while other.send(b"STATUS=full").is_ok() {}
    let mut server = Server::start(&[("NOTIFY_SOCKET", &manager.path), ("WATCHDOG_USEC", "100000")]);
    server.join("Bob").leave();
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(manager.next(), "STATUS=full");
}

#[test]
fn the_unit_leaves_little_open() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/ich.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&unit)
        .output();
    let Ok(output) = output else { return skip("systemd-analyze") };
    let text = String::from_utf8_lossy(&output.stdout);
    let level = text.lines().last().unwrap_or_default();
    // The option needs systemd 250; the exit code tells whether the level is above the threshold, 2.0.
    assert!(
        output.status.success() && level.contains("exposure level"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
