//! `ICH_TRUSTED_PROXIES`: the server takes the address of the client from the header fields of these proxies only, and uses
//! it for all limits and in the log. In these tests, 127.0.0.1 is a proxy, and 127.0.0.2 is not.

mod harness;

use std::io::Write;

use harness::http::{Answer, connect_from, get, read_answer};
use harness::raw_websocket::{RawClient, handshake_with};
use harness::server::{Server, token};
use harness::{wait_for, wait_until};

const PROXY: [u8; 4] = [127, 0, 0, 1];
const NOT_TRUSTED: [u8; 4] = [127, 0, 0, 2];

fn start(settings: &[(&str, &str)]) -> Server {
    Server::start(&[settings, &[("ICH_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1")]].concat())
}

/// Sends a request with a JSON body. `fields` end with CR LF each.
fn post_from(from: [u8; 4], server: &Server, path: &str, fields: &str, body: &str) -> Answer {
    let mut stream = connect_from(from, server.address);
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{fields}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sending");
    read_answer(&mut stream)
}

fn failed_login(from: [u8; 4], server: &Server, fields: &str) -> u16 {
    let body = r#"{"email":"nobody@example.com","password":"wrong password"}"#;
    post_from(from, server, "/login", fields, body).status
}

/// Tries to join through the proxy; returns the client, or the refusal.
fn join(server: &Server, name: &str, fields: &str) -> Result<RawClient, Answer> {
    let request = handshake_with(&format!("Authorization: Bearer {}\r\n{fields}", token(name)));
    let mut stream = connect_from(PROXY, server.address);
    stream.write_all(request.as_bytes()).expect("sending");
    let mut first = [0; 12];
    let peeked = wait_for("an answer", || stream.peek(&mut first).ok().filter(|peeked| *peeked == first.len()));
    if first[..peeked].ends_with(b"101") { Ok(RawClient::upgrade(stream, b"")) } else { Err(read_answer(&mut stream)) }
}

#[test]
fn the_log_has_the_address_that_a_trusted_proxy_names() {
    let server = start(&[]);
    for (from, fields, address) in [
        (PROXY, "X-Forwarded-For: 203.0.113.1\r\n", "203.0.113.1"),
        (PROXY, "X-Forwarded-For: 203.0.113.9, 203.0.113.2\r\nX-Forwarded-For: 10.1.2.3\r\n", "203.0.113.2"),
        (PROXY, "Forwarded: for=\"[2001:db8::3]:4711\";proto=https, for=10.1.2.3\r\n", "2001:db8::3"),
        (PROXY, "X-Forwarded-For: [::ffff:203.0.113.4]:80\r\n", "203.0.113.4"),
        (PROXY, "X-Forwarded-For: 203.0.113.9, unknown, 10.1.2.5\r\n", "10.1.2.5"),
        (PROXY, "", "127.0.0.1"),
        (NOT_TRUSTED, "X-Forwarded-For: 203.0.113.6\r\nForwarded: for=203.0.113.6\r\n", "127.0.0.2"),
    ] {
        let line = format!("failed login from {address}\n");
        assert!(!server.log().contains(&line));
        assert_eq!(failed_login(from, &server, fields), 401);
        wait_until("the address in the log", || server.log().contains(&line));
    }
}

#[test]
fn a_proxy_that_names_two_clients_is_logged_and_its_own_address_counts() {
    let server = start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "2")]);
    let fields = "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=203.0.113.2\r\n";
    assert_eq!(failed_login(PROXY, &server, fields), 401);
    assert_eq!(failed_login(PROXY, &server, fields), 401);
    wait_until("the address in the log", || server.log().matches("failed login from 127.0.0.1\n").count() == 2);
    let warning = "the proxy 127.0.0.1 sends X-Forwarded-For and Forwarded with different clients";
    assert_eq!(server.log().matches(warning).count(), 1, "{}", server.log());
    // A client that makes a proxy contradict itself is not without limits.
    let _joined = ["Ann", "Bob"].map(|name| wait_for("a join", || join(&server, name, fields).ok()));
    let refused = join(&server, "Cid", fields).err().expect("a refusal");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_connections"));
}

#[test]
fn limits_on_requests_count_for_the_client() {
    let server = start(&[
        ("ICH_MAX_LOGINS_PER_MINUTE", "2"),
        ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "1"),
        ("ICH_MAX_HISTORY_REQUESTS_PER_MINUTE", "1"),
    ]);
    let history = |fields: &str| {
        let mut stream = connect_from(PROXY, server.address);
        let head =
            format!("GET /history HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n{fields}\r\n", token("Ann"));
        stream.write_all(head.as_bytes()).expect("sending");
        read_answer(&mut stream).status
    };
    for (number, client) in ["203.0.113.1", "203.0.113.2", "2001:db8::1"].iter().enumerate() {
        let fields = format!("X-Forwarded-For: {client}\r\n");
        // Another email each time: this limit is for each account, too.
        let login = |attempt: u32| {
            let body = format!(r#"{{"email":"{attempt}.{number}@example.com","password":"wrong password"}}"#);
            post_from(PROXY, &server, "/login", &fields, &body).status
        };
        assert_eq!([1, 2, 3].map(login), [401, 401, 429], "{client}");
        let register = |name: &str| {
            let body = format!(
                r#"{{"email":"{name}{number}@example.com","username":"{name}{number}","password":"qwerty123456"}}"#
            );
            post_from(PROXY, &server, "/createUser", &fields, &body).status
        };
        assert_eq!(["Ann", "Bob"].map(register), [200, 429], "{client}");
        assert_eq!([history(&fields), history(&fields)], [200, 429], "{client}");
    }
    wait_until("a refusal in the log", || server.log().contains("refused a request of 203.0.113.2: too_many_logins"));
}

#[test]
fn connections_count_for_the_client_and_not_for_the_proxy() {
    let server = start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "3"), ("ICH_MAX_CONNECTIONS", "30")]);
    let one = "X-Forwarded-For: 203.0.113.1\r\n";
    let mut joined: Vec<_> = (0..3).map(|_| join(&server, "Ann", one).expect("a join")).collect();
    let refused = join(&server, "Ann", one).err().expect("a refusal");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_connections"));
    wait_until("a refusal in the log", || {
        server.log().contains("refused a request of 203.0.113.1: too_many_connections")
    });
    // The answer to HEAD has no body, also if it is a refusal.
    let mut stream = connect_from(PROXY, server.address);
    stream.write_all(format!("HEAD / HTTP/1.1\r\nHost: test\r\n{one}\r\n").as_bytes()).expect("sending");
    let head = read_answer(&mut stream);
    assert_eq!((head.status, head.body.as_str()), (429, ""), "{head:?}");
    joined.push(join(&server, "Bob", "X-Forwarded-For: 203.0.113.2\r\n").expect("a join"));
    // Neither the connections whose client is not known yet, nor those that the proxy opens for itself.
    let idle: Vec<_> = (0..10).map(|_| connect_from(PROXY, server.address)).collect();
    joined.extend((0..5).map(|_| join(&server, "Cid", "").expect("a join")));
    assert_eq!(get(server.address, "/ready").status, 200);
    // A client that connects directly has the same limit as before.
    let direct: Vec<_> = (0..3).map(|_| connect_from(NOT_TRUSTED, server.address)).collect();
    let mut fourth = connect_from(NOT_TRUSTED, server.address);
    assert_eq!(read_answer(&mut fourth).code(), "too_many_connections");
    // The limit on all connections holds for the proxy, too.
    let more: Vec<_> = (0..10).map(|_| connect_from(PROXY, server.address)).collect();
    wait_until("a full server", || get(server.address, "/health").status == 503);
    drop((idle, direct, more));
    joined.remove(0);
    wait_for("a free connection for the client", || join(&server, "Ann", one).ok());
}
