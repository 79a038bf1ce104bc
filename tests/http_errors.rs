//! The rows of the table of HTTP errors: status, code, and header fields. (408 is in `slow_requests`, 503 `full` in
//! `connection_bounds`.)

mod harness;

use std::io::Write;
use std::net::TcpStream;

use harness::http::{Answer, get, post, raw, read_answer};
use harness::raw_websocket::handshake;
use harness::server::{Server, token};
use harness::wait_for;
use rustix::process::Signal;
use serde_json::json;

const BOB: &str = r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456"}"#;

/// Checks what all error answers have.
fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    assert!(answer.json()["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert_eq!(answer.json().as_object().expect("an object").len(), 2, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.header("Connection"), Some("close"));
}

/// Checks that the answer has a retry time, as each 429 and 503.
fn assert_retry_after(answer: &Answer) {
    let seconds: u64 = answer.header("Retry-After").expect("Retry-After").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{answer:?}");
}

#[test]
fn a_body_that_is_not_one_json_object_is_a_400() {
    let server = Server::start(&[]);
    let deep = "[".repeat(10_000);
    let deep_and_closed = format!(r#"{{"x":{}{}}}"#, "[".repeat(8_000), "]".repeat(8_000));
    let deep_objects = r#"{"x":"#.repeat(3_000);
    for path in ["/createUser", "/login"] {
        for bad in [
            "",
            "email=bob",
            "null",
            "[]",
            "5",
            r#""text""#,
            "{",
            r#"{"email":}"#,
            r#"{"email":"bob@example.com",}"#,
            r#"{"email":"bob@example.com"} {}"#,
            r#"{"email":"bob@example.com","email":"eve@example.com","username":"Bob","password":"qwerty123456"}"#,
            r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456","password":"qwerty123456"}"#,
            r#"{"email":"bob@example.com","username":"\ud800","password":"qwerty123456"}"#,
            r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456","x":1e400}"#,
            "{\"email\":\"bob\u{1}@example.com\"}",
            &deep,
            &deep_and_closed,
            &deep_objects,
        ] {
            assert_error(&post(server.address, path, bad), 400, "bad_json");
        }
    }
    let not_utf8 = b"POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 13\r\n\r\n{\"email\":\"\xff\"}";
    assert_error(&raw(server.address, not_utf8), 400, "bad_json");
    assert_eq!(post(server.address, "/createUser", BOB).status, 200, "none of them created an account");
}

#[test]
fn a_bad_field_is_a_400_that_names_it() {
    let server = Server::start(&[]);
    for (field, body) in [
        ("email", r#"{"username":"Bob","password":"qwerty123456"}"#.to_owned()),
        ("username", r#"{"email":"bob@example.com","password":"qwerty123456"}"#.to_owned()),
        ("password", r#"{"email":"bob@example.com","username":"Bob"}"#.to_owned()),
        ("email", BOB.replace(r#""bob@example.com""#, "5")),
        ("email", BOB.replace(r#""bob@example.com""#, "null")),
        ("username", BOB.replace(r#""Bob""#, r#"["Bob"]"#)),
        ("email", BOB.replace("bob@example.com", "nobody")),
        ("username", BOB.replace(r#""Bob""#, r#""""#)),
        ("username", BOB.replace("Bob", &"x".repeat(65))),
        ("password", BOB.replace("qwerty123456", "qwerty1")),
        ("password", BOB.replace("qwerty123456", &"x".repeat(129))),
        ("password", BOB.replace("qwerty123456", "qwerty\\u00003456")),
    ] {
        let answer = post(server.address, "/createUser", &body);
        assert_error(&answer, 400, "bad_field");
        let message = answer.json()["message"].clone();
        assert!(message.as_str().is_some_and(|message| message.starts_with(field)), "{body}: {message}");
    }
    assert_error(&post(server.address, "/login", r#"{"email":"bob@example.com"}"#), 400, "bad_field");
    assert_eq!(post(server.address, "/createUser", BOB).status, 200, "none of them created an account");
}

/// Otherwise the prompt of a shell follows the last line.
#[test]
fn each_json_answer_ends_with_a_line_end() {
    let server = Server::start(&[]);
    let created = post(server.address, "/createUser", BOB);
    let logged_in = post(server.address, "/login", BOB);
    for answer in
        [created, logged_in, get(server.address, "/health"), get(server.address, "/ready"), get(server.address, "/x")]
    {
        assert!(answer.body.ends_with("}\n") && answer.body.lines().count() == 1, "{answer:?}");
    }
}

#[test]
fn usernames_with_invisible_characters_are_refused() {
    let server = Server::start(&[]);
    for (name, bad) in [
        ("a line end", "Bo\\nb"),
        ("NUL", "Bo\\u0000b"),
        ("escape", "Bo\\u001bb"),
        ("delete", "Bo\u{7f}b"),
        ("a C1 control", "Bo\u{85}b"),
        ("right-to-left override", "Bo\u{202e}b"),
        ("right-to-left mark", "Bo\u{200f}b"),
        ("isolate", "Bo\u{2066}b"),
        ("zero width space", "Bo\u{200b}b"),
        ("byte order mark", "\u{feff}Bob"),
        ("line separator", "Bo\u{2028}b"),
        ("a space before it", " Bob"),
    ] {
        let answer = post(server.address, "/createUser", &BOB.replace("Bob", bad));
        assert_error(&answer, 400, "bad_field");
        assert!(
            answer.json()["message"].as_str().is_some_and(|message| message.starts_with("username")),
            "{name}: {answer:?}"
        );
    }
    for (number, good) in
        ["Łukasz", "日本語", "<b>Bob</b>", "O'Brien", "Bob 🦀", "علی\u{200c}رضا", "❤\u{fe0f}"].into_iter().enumerate()
    {
        let body = json!({"email": format!("{number}@example.com"), "username": good, "password": "qwerty123456"});
        let answer = post(server.address, "/createUser", &body.to_string());
        assert_eq!((answer.status, answer.json()["username"].as_str()), (200, Some(good)), "{answer:?}");
    }
}

#[test]
fn an_unknown_email_and_a_wrong_password_are_the_same_401() {
    let server = Server::start(&[]);
    assert_eq!(post(server.address, "/createUser", BOB).status, 200);
    let wrong = post(server.address, "/login", r#"{"email":"bob@example.com","password":"something else"}"#);
    let unknown = post(server.address, "/login", r#"{"email":"eve@example.com","password":"something else"}"#);
    assert_error(&wrong, 401, "wrong_credentials");
    assert_error(&unknown, 401, "wrong_credentials");
    assert_eq!(wrong.body, unknown.body);
}

#[test]
fn a_join_without_a_token_is_a_401() {
    let server = Server::start(&[]);
    let request = handshake("Bob");
    let (before, authorization) = request.split_once("Authorization").expect("the last field");
    let (_, token) = authorization.split_once("Bearer ").expect("a token");
    for bad in [
        "\r\n".to_owned(),
        "Authorization: Bearer\r\n\r\n".to_owned(),
        "Authorization: Bearer x\r\n\r\n".to_owned(),
        format!("Authorization: Basic {token}"),
        format!("Authorization: {token}"),
    ] {
        let answer = raw(server.address, format!("{before}{bad}").as_bytes());
        assert_error(&answer, 401, "unauthorized");
        assert!(answer.header("WWW-Authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")), "{answer:?}");
    }
}

#[test]
fn an_unknown_path_is_a_404() {
    let server = Server::start(&[]);
    for path in ["/nowhere", "/Login", "/login/", "//login", "/join/x", "/../login", "/app.js.map", "/%6cogin"] {
        assert_error(&get(server.address, path), 404, "not_found");
        assert_error(&post(server.address, path, BOB), 404, "not_found");
    }
    assert_eq!(get(server.address, "/health?verbose=1").status, 200, "a query is not a part of the path");
}

#[test]
fn a_wrong_method_is_a_405_that_lists_the_right_ones() {
    let server = Server::start(&[]);
    let ask = |method: &str, path: &str| {
        raw(server.address, format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
    };
    for (path, right, wrong) in [
        ("/login", "POST", ["GET", "PUT", "DELETE"]),
        ("/createUser", "POST", ["GET", "PATCH", "OPTIONS"]),
        ("/join", "GET", ["POST", "DELETE", "TRACE"]),
        ("/", "GET, HEAD", ["POST", "PUT", "BREW"]),
        ("/health", "GET, HEAD", ["POST", "DELETE", "OPTIONS"]),
        ("/ready", "GET, HEAD", ["POST", "PUT", "CONNECT"]),
        ("/metrics", "GET, HEAD", ["POST", "PUT", "PROPFIND"]),
    ] {
        for method in wrong {
            let answer = ask(method, path);
            assert_error(&answer, 405, "method_not_allowed");
            assert_eq!(answer.header("Allow"), Some(right), "{method} {path}");
        }
    }
}

#[test]
fn head_gets_no_body() {
    let server = Server::start(&[]);
    for (path, status) in [("/health", 200), ("/", 200), ("/nowhere", 404), ("/login", 405), ("/join", 405)] {
        let head = raw(server.address, format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_eq!((head.status, head.body.as_str()), (status, ""), "{path}: {head:?}");
        assert_ne!(head.header("Content-Length"), Some("0"), "{path}: the length that GET would get");
    }
    let without_host = raw(server.address, b"HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!((without_host.status, without_host.body.as_str()), (400, ""), "{without_host:?}");
}

#[test]
fn an_email_or_username_in_use_is_a_409() {
    let server = Server::start(&[]);
    assert_eq!(post(server.address, "/createUser", BOB).status, 200);
    let email = BOB.replace("Bob", "Other").replace("bob@", "BOB@");
    assert_error(&post(server.address, "/createUser", &email), 409, "email_taken");
    let username = BOB.replace("bob@", "other@").replace("Bob", "bOB");
    assert_error(&post(server.address, "/createUser", &username), 409, "username_taken");
}

#[test]
fn a_body_without_a_length_is_a_411() {
    let server = Server::start(&[]);
    for path in ["/createUser", "/login"] {
        let none = format!("POST {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_error(&raw(server.address, none.as_bytes()), 411, "length_required");
    }
}

#[test]
fn a_body_above_the_limit_is_a_413_and_takes_no_memory() {
    let server = Server::start(&[]);
    let before = server.proc_status("VmRSS");
    for length in ["16385", "70368744177664", "18446744073709551615", "99999999999999999999999999"] {
        let head = format!("POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        assert_error(&raw(server.address, head.as_bytes()), 413, "body_too_large");
    }
    assert!(server.proc_status("VmRSS") < before + 8 * 1024, "the server allocated memory for a length");
    let whole = format!(r#"{{"x":"{}","email":5}}"#, "y".repeat(16 * 1024 - 18));
    assert_eq!(whole.len(), 16 * 1024);
    assert_error(&post(server.address, "/login", &whole), 400, "bad_field");
    assert_error(&post(server.address, "/login", &format!("{whole} ")), 413, "body_too_large");
    // A client that sends everything before it reads gets the answer too, such as a proxy.
    for bytes in [200 * 1024, 900 * 1024, 8 << 20] {
        assert_error(&post(server.address, "/login", &"x".repeat(bytes)), 413, "body_too_large");
        assert_error(&post(server.address, "/nowhere", &"x".repeat(bytes)), 404, "not_found");
    }
}

#[test]
fn a_target_above_the_limit_is_a_414() {
    let server = Server::start(&[]);
    let longest = 8192 - "GET / HTTP/1.1\r\n".len();
    assert_error(&get(server.address, &format!("/{}", "x".repeat(longest))), 404, "not_found");
    assert_error(&get(server.address, &format!("/{}", "x".repeat(longest + 1))), 414, "target_too_long");
    assert_error(&get(server.address, &format!("/{}", "x".repeat(10 * 1024))), 414, "target_too_long");
    assert_error(&raw(server.address, "x".repeat(10 * 1024).as_bytes()), 414, "target_too_long");
}

/// A page cannot read the answer to its own websocket request.
#[test]
fn a_plain_join_gets_the_reason_why_a_websocket_would_be_refused() {
    let server = Server::start(&[]);
    let plain =
        |fields: &str| raw(server.address, format!("GET /join HTTP/1.1\r\nHost: test\r\n{fields}\r\n").as_bytes());
    assert_error(&plain("Authorization: Bearer x\r\n"), 401, "unauthorized");
    let valid = format!("Authorization: Bearer {}\r\n", token("Ann"));
    assert_error(&plain(&format!("{valid}Origin: https://elsewhere.example\r\n")), 403, "origin_not_allowed");
    assert_error(&plain(&valid), 426, "upgrade_required");
}

#[test]
fn a_join_without_a_websocket_handshake_is_a_426() {
    let server = Server::start(&[]);
    let answer = get(server.address, "/join");
    assert_error(&answer, 426, "upgrade_required");
    assert_eq!(answer.header("Upgrade"), Some("websocket"));
    assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
}

#[test]
fn too_many_logins_are_a_429_with_a_retry_time() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "2")]);
    let log_in = || post(server.address, "/login", r#"{"email":"bob@example.com","password":"qwerty123456"}"#);
    assert_error(&log_in(), 401, "wrong_credentials");
    assert_error(&log_in(), 401, "wrong_credentials");
    let refused = log_in();
    assert_error(&refused, 429, "too_many_logins");
    assert_retry_after(&refused);
    assert_eq!(post(server.address, "/createUser", BOB).status, 200, "only logins are counted");
}

#[test]
fn too_many_sessions_of_a_user_are_a_429_until_one_ends() {
    let server = Server::start(&[("ICH_MAX_CONNECTIONS_PER_USER", "2")]);
    let mut ann = server.join("Ann");
    let first = server.join("Bob");
    let _second = server.join("Bob");
    let refused = raw(server.address, handshake("Bob").as_bytes());
    assert_error(&refused, 429, "too_many_sessions");
    assert_retry_after(&refused);
    ann.say("another limit");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "another limit"}));
    first.leave();
    wait_for("a permit for Bob", || {
        harness::client::Client::try_join(server.address, &harness::server::token("Bob")).ok()
    });
}

#[test]
fn a_head_above_the_limit_is_a_431() {
    let server = Server::start(&[]);
    let head_of = |bytes: usize| {
        let shell = "GET /health HTTP/1.1\r\nHost: test\r\nx: \r\n\r\n".len();
        format!("GET /health HTTP/1.1\r\nHost: test\r\nx: {}\r\n\r\n", "y".repeat(bytes - shell))
    };
    assert_eq!(raw(server.address, head_of(16_384).as_bytes()).status, 200);
    assert_error(&raw(server.address, head_of(16_385).as_bytes()), 431, "head_too_large");
    assert_error(&raw(server.address, head_of(1 << 20).as_bytes()), 431, "head_too_large");
    let fields = |count: usize| {
        raw(
            server.address,
            format!("GET /health HTTP/1.1\r\nHost: test\r\n{}\r\n", "x: y\r\n".repeat(count)).as_bytes(),
        )
    };
    assert_eq!(fields(63).status, 200);
    assert_error(&fields(64), 431, "head_too_large");
}

#[test]
fn requests_that_began_before_a_stop_are_a_503() {
    let mut server = Server::start(&[]);
    let begun: Vec<(String, TcpStream)> = [handshake("Bob"), "GET /ready HTTP/1.1\r\nHost: test\r\n\r\n".into()]
        .map(|request| {
            let (begin, rest) = request.split_at(20);
            let mut stream = TcpStream::connect(server.address).expect("connecting");
            stream.write_all(begin.as_bytes()).expect("sending");
            (rest.to_owned(), stream)
        })
        .into();
    // The server accepts connections in order: with this answer, it has accepted those above.
    assert_eq!(get(server.address, "/health").status, 200);
    server.signal(Signal::TERM);
    wait_for("the listener to close", || TcpStream::connect(server.address).err());
    // The stop ends the reading of incomplete requests, so the rest comes too late.
    for (rest, mut stream) in begun {
        stream.write_all(rest.as_bytes()).expect("sending");
        let answer = read_answer(&mut stream);
        // The rest of `/ready` may come in time nevertheless. Then its answer has one field more.
        assert_eq!((answer.status, answer.code().as_str()), (503, "draining"), "{answer:?}");
        assert_retry_after(&answer);
    }
    assert!(server.wait().success());
}

#[test]
fn another_version_of_http_is_a_505() {
    let server = Server::start(&[]);
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"] {
        let answer = raw(server.address, format!("GET /health {version}\r\nHost: test\r\n\r\n").as_bytes());
        assert_error(&answer, 505, "http_version");
    }
}
