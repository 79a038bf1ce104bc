//! Pages of other origins: which of them may join, and what their browsers let them read (CORS).

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use harness::PATIENCE;
use harness::http::{Answer, get, raw};
use harness::raw_websocket::handshake;
use harness::server::{Server, token};

const ALLOWED: (&str, &str) =
    ("ICH_ALLOWED_ORIGINS", "https://a.example, https://b.example:8443,tauri://localhost,capacitor://localhost,null");

/// The status of a join on `host` by a page of `origin`.
fn join(address: SocketAddr, host: &str, origin: &str) -> u16 {
    let fields = format!("Host: {host}\r\nOrigin: {origin}\r\n");
    let request = handshake("Bob").replacen("Host: test\r\n", &fields, 1);
    let mut stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(request.as_bytes()).expect("sending");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    String::from_utf8_lossy(&start[9..]).parse().expect("a status")
}

#[test]
fn pages_of_the_own_host_and_of_allowed_origins_may_join() {
    let server = Server::start(&[ALLOWED]);
    for (host, origin) in [
        ("chat.example", "https://chat.example"),
        ("chat.example", "http://chat.example"),
        ("chat.example", "ws://chat.example"),
        ("chat.example", "wss://chat.example"),
        ("chat.example:443", "https://chat.example"),
        ("chat.example:80", "http://chat.example"),
        ("Chat.Example", "https://chat.example"),
        ("localhost:8080", "ws://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("chat.example", "https://a.example"),
        ("chat.example", "HTTPS://A.example:443"),
        ("chat.example", "wss://b.example:8443"),
        ("chat.example", "tauri://localhost"),
        ("chat.example", "capacitor://localhost"),
        ("chat.example", "null"),
    ] {
        assert_eq!(join(server.address, host, origin), 101, "{origin} on {host}");
    }
    for (host, origin) in [
        ("chat.example", "https://chat.example:8443"),
        ("chat.example:8080", "http://chat.example"),
        ("chat.example:80", "https://chat.example"),
        ("chat.example", "https://chat.example.evil.example"),
        ("chat.example", "https://evil.example"),
        ("chat.example", "http://a.example"),
        ("chat.example", "https://b.example"),
        ("chat.example", "ionic://localhost"),
        ("localhost", "app://localhost"),
        ("chat.example", "chat.example"),
        ("chat.example", "https://chat.example/"),
        ("chat.example", ""),
    ] {
        assert_eq!(join(server.address, host, origin), 403, "{origin} on {host}");
    }
    let strict = Server::start(&[]);
    assert_eq!(join(strict.address, "chat.example", "null"), 403);
}

fn request(address: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: chat.example\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    raw(address, format!("{head}{body}").as_bytes())
}

#[test]
fn a_preflight_of_an_allowed_page_is_accepted() {
    let server = Server::start(&[ALLOWED]);
    let preflight = |path, origin| {
        let fields = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
        );
        request(server.address, "OPTIONS", path, &fields, "")
    };
    for (path, method) in [("/login", "POST"), ("/createUser", "POST"), ("/join", "GET")] {
        for origin in ["https://a.example", "tauri://localhost", "null"] {
            let answer = preflight(path, origin);
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(origin));
            assert_eq!(answer.header("Access-Control-Allow-Methods"), Some(method));
            let fields = answer.header("Access-Control-Allow-Headers").map(str::to_ascii_lowercase);
            assert!(fields.is_some_and(|it| it.contains("content-type") && it.contains("authorization")), "{answer:?}");
            assert!(answer.header("Access-Control-Max-Age").is_some() && answer.header("Vary") == Some("Origin"));
            assert_eq!(answer.header("Content-Length"), None, "RFC 9110, section 8.6");
        }
        let refused = preflight(path, "https://evil.example");
        assert_eq!((refused.status, refused.code().as_str()), (403, "origin_not_allowed"));
        assert_eq!(refused.header("Access-Control-Allow-Origin"), None);
    }
    assert_eq!(preflight("/metrics", "https://a.example").status, 405);
    assert_eq!(preflight("/nowhere", "https://a.example").status, 404);
    let plain = request(server.address, "OPTIONS", "/login", "Origin: https://a.example\r\n", "");
    assert_eq!((plain.status, plain.header("Allow")), (405, Some("POST")), "not a preflight");
}

#[test]
fn an_allowed_page_may_read_every_answer_to_its_requests() {
    let server = Server::start(&[ALLOWED]);
    let bob = r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456"}"#;
    let large = "x".repeat(20_000);
    let authorization = format!("Authorization: Bearer {}\r\n", token("Bob"));
    for (method, path, fields, body, status) in [
        ("POST", "/createUser", "", bob, 200),
        ("POST", "/createUser", "", bob, 409),
        ("POST", "/login", "", bob, 200),
        ("POST", "/login", "", "{}", 400),
        ("POST", "/login", "", &large, 413),
        ("POST", "/login", "Content-Length: 1\r\n", "{}", 400),
        ("DELETE", "/login", "", "", 405),
        ("GET", "/join", "Authorization: Bearer x\r\n", "", 401),
        ("GET", "/join", &authorization, "", 426),
    ] {
        let answer = |origin| request(server.address, method, path, &format!("Origin: {origin}\r\n{fields}"), body);
        // A head that is not valid has no origin.
        let is_valid = !fields.starts_with("Content-Length");
        let allowed = answer("https://a.example");
        assert_eq!(allowed.status, status, "{path}: {allowed:?}");
        assert_eq!(
            allowed.header("Access-Control-Allow-Origin"),
            is_valid.then_some("https://a.example"),
            "{allowed:?}"
        );
        let exposed = allowed.header("Access-Control-Expose-Headers").unwrap_or_default();
        assert_eq!(exposed.contains("Retry-After"), is_valid, "{allowed:?}");
        assert_eq!(answer("https://evil.example").header("Access-Control-Allow-Origin"), None);
    }
    let plain = get(server.address, "/health");
    assert_eq!(plain.header("Access-Control-Allow-Origin"), None);
    let metrics = request(server.address, "GET", "/metrics", "Origin: https://a.example\r\n", "");
    assert_eq!((metrics.status, metrics.header("Access-Control-Allow-Origin")), (200, None), "for operators only");
}
