//! The start: the listener is opened first, an error is printed once, and the log reports `ready` when `/ready` does.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use harness::http::get;
use harness::postgres::{Server as Postgres, silent_listener};
use harness::server::{Server, command, new_dir};
use harness::wait_for;

/// The number of log lines that report that the server became ready.
fn ready_lines(log: &str) -> usize {
    log.lines().filter(|line| line.ends_with(": ready")).count()
}

#[test]
fn a_port_in_use_is_reported_once_and_nothing_else_is_started() {
    let dir = new_dir();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = occupied.local_addr().expect("its address").port().to_string();
    let kafka = TcpListener::bind("127.0.0.1:0").expect("a port");
    let brokers = kafka.local_addr().expect("its address").to_string();
    for settings in [&[("ICH_PORT", port.as_str())][..], &[("ICH_PORT", &port), ("ICH_KAFKA_BROKERS", &brokers)]] {
        let output = command(&dir, settings).output().expect("running the program");
        let errors = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert_eq!(errors.matches("cannot listen on 127.0.0.1:").count(), 1, "{errors}");
        assert!(!errors.contains(" ready") && !errors.contains("event log"), "threads were started:\n{errors}");
        assert!(!dir.join("data/accounts.sqlite3").exists(), "the accounts were opened");
    }
    kafka.set_nonblocking(true).expect("an option");
    assert!(kafka.accept().is_err(), "the broker was connected to");
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn an_error_is_printed_also_without_a_log() {
    let dir = new_dir();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = occupied.local_addr().expect("its address").port().to_string();
    let output = command(&dir, &[("ICH_PORT", &port), ("ICH_LOG", "off")]).output().expect("running the program");
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(errors.matches("cannot listen on 127.0.0.1:").count(), 1, "{errors}");
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn the_log_names_what_the_server_waits_for() {
    let (_silent, port) = silent_listener();
    let url = format!("postgres://ich@127.0.0.1:{port}/ich");
    let server = Server::launch(&[("ICH_DATABASE_URL", &url)]);
    wait_for("the log to name the database", || {
        server.log().contains("not ready: the database of accounts does not answer").then_some(())
    });
    let answer = get(server.address, "/ready");
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_ready"), "{answer:?}");
    assert!(answer.body.contains("the database of accounts"), "{answer:?}");
    assert_eq!(ready_lines(&server.log()), 0, "{}", server.log());
}

#[test]
fn the_log_follows_the_database_as_ready_does() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let server = Server::start(&[("ICH_DATABASE_URL", &database.url)]);
    wait_for("the first line", || (ready_lines(&server.log()) == 1).then_some(()));
    postgres.stop();
    wait_for("the end of readiness", || (get(server.address, "/ready").status == 503).then_some(()));
    wait_for("the log to name the database", || {
        server.log().contains("not ready: the database of accounts does not answer").then_some(())
    });
    postgres.launch();
    server.wait_ready();
    wait_for("the second line", || (ready_lines(&server.log()) == 2).then_some(()));
}

#[test]
fn a_ready_server_logs_it_once() {
    let dir = new_dir();
    let mut child = command(&dir, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starting");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let line = lines.by_ref().map(|line| line.expect("text")).find(|line| line.ends_with(": ready"));
    assert!(line.is_some());
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert_eq!(ready_lines(&rest.join("\n")), 0, "{rest:?}");
    assert_eq!(child.wait().expect("waiting").code(), Some(0));
    let _ = fs::remove_dir_all(dir);
}
