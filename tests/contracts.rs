//! `doc/openapi.yaml` and `doc/asyncapi.yaml` describe the running server: all paths, statuses, error codes and frames.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::client::Client;
use harness::http::{Answer, get, post, raw};
use harness::raw_websocket::handshake;
use harness::schema::{Document, texts};
use harness::server::{Server, token, token_for};
use ich::http::{ApiError, paths};
use ich::session::client_error::ErrorCode;
use ich::session::end::End;
use serde_json::{Value, json};

fn openapi() -> Document {
    Document::read("doc/openapi.yaml")
}

fn asyncapi() -> Document {
    Document::read("doc/asyncapi.yaml")
}

/// The status of an error code, as the program has it.
fn status_of(code: &str) -> u16 {
    let error = ApiError::ALL.iter().find(|error| error.row().code == code);
    error.unwrap_or_else(|| panic!("{code} is no code of the program")).row().status
}

/// The operations: path, method and description.
fn operations(document: &Document) -> Vec<(String, String, Value)> {
    let paths = document.0["paths"].as_object().expect("paths");
    let methods = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
    });
    methods.collect()
}

#[test]
fn all_paths_are_documented() {
    let document = openapi();
    document.check_references();
    let documented: BTreeSet<String> = operations(&document).into_iter().map(|(path, ..)| path).collect();
    // Without the files that the page loads, which are no part of the API.
    let served: BTreeSet<String> = paths().map(str::to_owned).collect();
    assert_eq!(documented, served);
}

#[test]
fn all_statuses_and_codes_of_errors_are_documented() {
    let document = openapi();
    let mut documented = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let codes = texts(&document.resolve(response)["x-errors"]);
            assert_eq!(codes.is_empty(), status.starts_with(['1', '2']), "{method} {path} {status}");
            for code in codes {
                let is_right = status == "default" || *status == status_of(code).to_string();
                assert!(is_right, "{method} {path} {status}: {code}");
                documented.insert(code.to_owned());
            }
        }
    }
    assert_eq!(documented, ApiError::ALL.map(|error| error.row().code.to_owned()).into());
    let listed = texts(&document.0["components"]["schemas"]["Error"]["properties"]["error"]["enum"]);
    assert_eq!(listed, ApiError::ALL.map(|error| error.row().code));
}

/// Checks that an answer has a documented status, and a documented body or error code.
fn assert_documented(document: &Document, path: &str, method: &str, answer: &Answer) {
    let at = format!("{method} {path}: {}", answer.status);
    let responses = &document.0["paths"][path][method.to_lowercase()]["responses"];
    let own = &responses[answer.status.to_string()];
    let error = (answer.status >= 400).then(|| answer.code());
    let names = |response: &Value| error.as_deref().is_none_or(|code| texts(&response["x-errors"]).contains(&code));
    let general = document.resolve(&responses["default"]);
    let response = if !own.is_null() && names(own) { own } else { general };
    assert!(!response.is_null() && names(response), "{at}: {error:?} is not documented");
    for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        assert!(answer.header(name).is_some(), "{at}: the header field {name} is missing: {answer:?}");
    }
    let Some(content) = response["content"].as_object() else { return };
    let content_type = answer.header("Content-Type").expect("a content type").split(';').next().expect("a type");
    let schema = content.get(content_type).unwrap_or_else(|| panic!("{at}: {content_type} is not documented"));
    if content_type == "application/json" {
        document.check(&schema["schema"], &answer.json(), &at);
    }
}

#[test]
fn the_answers_of_the_server_are_documented() {
    let document = openapi();
    let server = Server::start(&[("ICH_MAX_CONNECTIONS_PER_USER", "1"), ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "3")]);
    let account = |name: &str, password: &str| {
        json!({"email": format!("{name}@example.com"), "username": name, "password": password}).to_string()
    };
    let good = "a good password";
    let mut seen = BTreeMap::new();
    let mut check = |method: &str, path: &str, answer: Answer| {
        assert_documented(&document, path, method, &answer);
        *seen.entry((path.to_owned(), answer.status)).or_insert(0) += 1;
    };
    for body in [account("Ann", good), account("Ann", good), account("Bob", good), account("Eve", good)] {
        check("POST", "/createUser", post(server.address, "/createUser", &body));
    }
    for body in [account("Ann", good), account("Ann", "a bad password"), "{".to_owned(), "{}".to_owned()] {
        check("POST", "/login", post(server.address, "/login", &body));
    }
    for path in ["/createUser", "/login"] {
        check("POST", path, post(server.address, path, "{"));
        check("POST", path, post(server.address, path, &"x".repeat(20_000)));
        check("POST", path, raw(server.address, format!("POST {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()));
    }
    for path in ["/", "/health", "/ready", "/metrics"] {
        check("GET", path, get(server.address, path));
        check("GET", path, raw(server.address, format!("PUT {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()));
        check("GET", path, raw(server.address, format!("GET {path} HTTP/3\r\nHost: test\r\n\r\n").as_bytes()));
        check("GET", path, raw(server.address, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()));
        let long = format!("GET {path} HTTP/1.1\r\nHost: test\r\nx: {}\r\n\r\n", "y".repeat(20_000));
        check("GET", path, raw(server.address, long.as_bytes()));
    }
    check("GET", "/metrics", raw(server.address, b"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: text/plain\r\n\r\n"));
    for path in ["/createUser", "/login", "/history", "/join"] {
        for origin in ["http://test", "https://a.example"] {
            let asks = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n");
            let head = format!("OPTIONS {path} HTTP/1.1\r\nHost: test\r\n{asks}\r\n");
            check("OPTIONS", path, raw(server.address, head.as_bytes()));
        }
    }
    let with = |fields: &str| format!("GET /join HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let authorized = format!("Authorization: Bearer {}\r\n", token("Cid"));
    let mut fay = server.join("Fay");
    fay.say("hello");
    fay.texts_until("hello");
    for (query, fields) in [("", &*authorized), ("?limit=0", &authorized), ("?before=00-7", &authorized), ("", "")] {
        let head = format!("GET /history{query} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        check("GET", "/history", raw(server.address, head.as_bytes()));
    }
    check("GET", "/join", get(server.address, "/join"));
    check("GET", "/join", raw(server.address, with("Authorization: Bearer x\r\n").as_bytes()));
    check("GET", "/join", raw(server.address, with(&format!("{authorized}Origin: https://a.example\r\n")).as_bytes()));
    check("GET", "/join", raw(server.address, with("Upgrade: websocket\r\n").as_bytes()));
    check("GET", "/join", raw(server.address, handshake("Cid").replace("/join", "/join?last=x").as_bytes()));
    let _cid = server.join("Cid");
    check("GET", "/join", raw(server.address, handshake("Cid").as_bytes()));
    for path in ["/admin/kick", "/admin/mute", "/admin/ban", "/admin/unban"] {
        let with =
            |fields: &str| format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n{fields}\r\n{{}}");
        check("POST", path, raw(server.address, with("").as_bytes()));
        check("POST", path, raw(server.address, with(&authorized).as_bytes()));
    }
    check("GET", "/admin/bans", get(server.address, "/admin/bans"));
    for (path, status) in [
        ("/admin/kick", 401),
        ("/admin/kick", 403),
        ("/createUser", 200),
        ("/createUser", 400),
        ("/createUser", 409),
        ("/createUser", 413),
        ("/createUser", 429),
        ("/login", 200),
        ("/login", 401),
        ("/join", 400),
        ("/join", 401),
        ("/join", 403),
        ("/join", 426),
        ("/join", 429),
        ("/history", 200),
        ("/history", 204),
        ("/history", 400),
        ("/history", 401),
        ("/history", 404),
        ("/health", 200),
        ("/health", 405),
        ("/health", 431),
        ("/health", 505),
        ("/ready", 200),
        ("/metrics", 200),
        ("/login", 204),
        ("/login", 403),
    ] {
        assert!(seen.contains_key(&(path.to_owned(), status)), "{path} {status} was not seen: {seen:?}");
    }
}

#[test]
fn the_answers_of_a_server_that_is_not_ready_are_documented() {
    let document = openapi();
    let (_silent, port) = harness::postgres::silent_listener();
    let url = format!("postgres://ich@127.0.0.1:{port}/ich");
    let server = Server::launch(&[("ICH_DATABASE_URL", &url)]);
    let body = r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456"}"#;
    for path in ["/createUser", "/login"] {
        let answer = post(server.address, path, body);
        assert_eq!(answer.status, 503);
        assert_documented(&document, path, "POST", &answer);
    }
    let answer = get(server.address, "/ready");
    assert_eq!(answer.status, 503);
    assert_documented(&document, "/ready", "GET", &answer);
}

#[test]
fn all_codes_of_error_frames_and_all_close_codes_are_documented() {
    let document = asyncapi();
    document.check_references();
    let codes = texts(&document.0["components"]["schemas"]["ErrorCode"]["enum"]);
    assert_eq!(codes, ErrorCode::ALL.map(|code| code.row().code));
    let closes = document.0["channels"]["lobby"]["x-close-codes"].as_array().expect("a list");
    let closes: BTreeSet<_> = closes.iter().map(|close| (close["code"].as_u64(), close["reason"].as_str())).collect();
    let reasons = End::ALL.map(|end| (Some(u64::from(end.row().code)), Some(end.row().label)));
    assert_eq!(closes, BTreeSet::from(reasons));
}

/// The message of the operation with this `type`.
fn payload<'a>(document: &'a Document, operation: &str, kind: &str) -> &'a Value {
    let messages = document.0["operations"][operation]["messages"].as_array().expect("messages");
    let payloads = messages.iter().map(|message| &document.resolve(message)["payload"]);
    let mut payloads = payloads.filter(|payload| payload["properties"]["type"]["const"] == kind);
    payloads.next().unwrap_or_else(|| panic!("{operation}: {kind} is not documented"))
}

#[test]
fn the_frames_of_the_server_are_documented() {
    let document = asyncapi();
    let server = Server::start(&[("ICH_MESSAGE_BURST", "40")]);
    let mut seen = BTreeSet::new();
    let mut ann = server.join("Ann");
    let sends = [
        json!({"type": "chat_message", "id": "m1", "msg": {"text": "hello"}}),
        json!({"type": "chat_message", "msg": {"text": "hello again"}}),
        json!({"type": "token", "id": "t1", "msg": {"token": token_for("Ann", "Ann", Duration::from_secs(600))}}),
        json!({"type": "ping"}),
        json!({"type": "ping", "id": "p1"}),
    ];
    for message in &sends {
        let kind = message["type"].as_str().expect("a type");
        document.check(payload(&document, "receiveMessages", kind), message, kind);
        ann.send(&message.to_string());
    }
    // A duplicate, and other errors.
    ann.say_with_id("m1", "hello");
    for bad in ["{", "{}", r#"{"type":"x"}"#, r#"{"type":"chat_message","id":"e1","msg":{"text":""}}"#] {
        ann.send(bad);
    }
    let mut look = |client: &mut Client, until: &str| {
        loop {
            let frame = client.next();
            let kind = frame["type"].as_str().expect("a type").to_owned();
            document.check(payload(&document, "sendEvents", &kind), &frame, &kind);
            seen.insert(kind.clone());
            if kind == until {
                return;
            }
        }
    };
    // The session answers in order: with this error, the answers before it were seen.
    look(&mut ann, "error");
    let mut bob = Client::join_query(server.address, &token("Bob"), "last=10");
    look(&mut bob, "caught_up");
    bob.leave();
    look(&mut ann, "user_left");
    let messages = document.0["operations"]["sendEvents"]["messages"].as_array().expect("messages");
    let documented: BTreeSet<String> = messages
        .iter()
        .map(|message| {
            document.resolve(message)["payload"]["properties"]["type"]["const"].as_str().expect("a type").to_owned()
        })
        .collect();
    assert_eq!(seen, documented);
}
