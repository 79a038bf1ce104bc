//! Requests that a limit or a setting refuses are in the log, with the address and the origin, and not once each.

mod harness;

use harness::client::Client;
use harness::http::{get, post, raw};
use harness::raw_websocket::handshake;
use harness::server::{Server, token};
use harness::wait_for;

/// The lines about refusals, when there are so many.
fn lines(server: &Server, count: usize) -> Vec<String> {
    wait_for("the lines", || {
        let lines: Vec<_> =
            server.log().lines().filter(|line| line.contains("refused a request")).map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn a_flood_of_refusals_is_a_few_warnings() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "1"), ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "1")]);
    let evil = handshake("Bob").replacen("\r\n", "\r\nOrigin: https://evil.example\r\n", 1);
    (0..50).for_each(|_| assert_eq!(raw(server.address, evil.as_bytes()).status, 403));
    let login = r#"{"email":"bob@example.com","password":"qwerty123456"}"#;
    let statuses: Vec<_> = (0..20).map(|_| post(server.address, "/login", login).status).collect();
    assert_eq!(statuses.last(), Some(&429));
    let found = lines(&server, 2);
    assert_eq!(found.len(), 2, "{found:?}");
    let expected = "refused a request of 127.0.0.1: origin_not_allowed, origin https://evil.example";
    assert!(found[0].contains("WARN") && found[0].ends_with(expected), "{found:?}");
    assert!(found[1].ends_with("refused a request of 127.0.0.1: too_many_logins"), "{found:?}");
}

#[test]
fn an_origin_cannot_forge_a_line_of_the_log() {
    let server = Server::start(&[]);
    let long = "x".repeat(4000);
    let evil = handshake("Bob").replacen("\r\n", &format!("\r\nOrigin: \u{85}\u{1b}[31m{long}\r\n"), 1);
    let status = raw(server.address, evil.as_bytes()).status;
    assert!(matches!(status, 400 | 403), "{status}");
    let evil = handshake("Bob").replacen("\r\n", &format!("\r\nOrigin: \u{85}[31m{long}\r\n"), 1);
    assert_eq!(raw(server.address, evil.as_bytes()).status, 403);
    let line = lines(&server, 1).remove(0);
    assert!(line.contains("\\u{85}[31mxx") && line.len() < 300, "{line:?}");
}

#[test]
fn connections_above_a_limit_are_logged() {
    let server = Server::start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "3")]);
    // The connections of earlier requests may count for a moment.
    let join = || wait_for("a join", || Client::try_join(server.address, &token("Ann")).ok());
    let open: Vec<_> = (0..3).map(|_| join()).collect();
    (0..20).for_each(|_| assert_eq!(get(server.address, "/health").status, 429));
    drop(open);
    let found = lines(&server, 1);
    assert!(found.len() == 1 && found[0].ends_with("127.0.0.1: too_many_connections"), "{found:?}");
}
