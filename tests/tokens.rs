//! Authentication at `/join`: which tokens are valid, how they may be sent, which origins are allowed, and which keys
//! sign tokens.

mod harness;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::client::Client;
use harness::folder::Folder;
use harness::http::{Answer, post, raw, read_answer};
use harness::jwt::{base64_url, sign, sign_with_secret};
use harness::raw_websocket::handshake_with;
use harness::server::{SECRET, Server, command, token, token_for};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;

const REGISTRATION: &str = r#"{"email":"bob@example.com","username":"Bob","password":"12345678"}"#;
const LOGIN: &str = r#"{"email":"bob@example.com","password":"12345678"}"#;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a valid token.
fn claims() -> Value {
    json!({"id": "1", "username": "Bob", "iss": "ich", "exp": now() + 3600})
}

/// As [`claims`], with one claim changed, or removed if the value is null.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let fields = claims.as_object_mut().unwrap();
    fields.remove(name);
    if !value.is_null() {
        fields.insert(name.to_owned(), value);
    }
    claims
}

/// The response to a handshake that must be rejected.
fn rejection(address: SocketAddr, fields: &str) -> Answer {
    raw(address, handshake_with(fields).as_bytes())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn assert_unauthorized(server: &Server, what: &str, fields: &str) {
    let answer = rejection(server.address, fields);
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{what}: {answer:?}");
    assert!(answer.header("WWW-Authenticate").is_some_and(|value| value.starts_with("Bearer")), "{what}");
}

#[test]
fn an_invalid_token_is_rejected() {
    let server = Server::start(&[]);
    let hs256 = |claims: &Value| sign_with_secret("HS256", claims, SECRET.as_bytes());
    let valid = hs256(&claims());
    let parts: Vec<&str> = valid.split('.').collect();
    let none =
        |header: &str| format!("{}.{}", base64_url(header.as_bytes()), base64_url(claims().to_string().as_bytes()));
    let other_payload = base64_url(claims_with("username", json!("Eve")).to_string().as_bytes());
    let mut other_signature = parts[2].to_owned();
    let first = if other_signature.starts_with('A') { "B" } else { "A" };
    other_signature.replace_range(..1, first);

    for (what, token) in [
        ("alg none, no signature", format!("{}.", none(r#"{"alg":"none","typ":"JWT"}"#))),
        ("alg None", format!("{}.", none(r#"{"alg":"None","typ":"JWT"}"#))),
        ("alg none with the signature", format!("{}.{}", none(r#"{"alg":"none"}"#), parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("HS384", sign_with_secret("HS384", &claims(), SECRET.as_bytes())),
        ("HS512", sign_with_secret("HS512", &claims(), SECRET.as_bytes())),
        ("another secret", sign_with_secret("HS256", &claims(), b"another secret of more than 32 bytes")),
        ("an empty secret", sign_with_secret("HS256", &claims(), b"")),
        ("another payload", format!("{}.{other_payload}.{}", parts[0], parts[2])),
        ("another signature", format!("{}.{}.{other_signature}", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{valid}.{}", parts[2])),
        ("no exp", hs256(&claims_with("exp", Value::Null))),
        ("expired", hs256(&claims_with("exp", json!(now() - 70)))),
        ("exp as a string", hs256(&claims_with("exp", json!((now() + 3600).to_string())))),
        ("exp below zero", hs256(&claims_with("exp", json!(-1)))),
        ("not yet", hs256(&claims_with("nbf", json!(now() + 3600)))),
        ("another issuer", hs256(&claims_with("iss", json!("another issuer")))),
        ("no issuer", hs256(&claims_with("iss", Value::Null))),
        ("issuers", hs256(&claims_with("iss", json!(["ich"])))),
        ("no id", hs256(&claims_with("id", Value::Null))),
        ("an empty id", hs256(&claims_with("id", json!("")))),
        ("an id that is not whole", hs256(&claims_with("id", json!(1.5)))),
        ("no username", hs256(&claims_with("username", Value::Null))),
        ("an invalid username", hs256(&claims_with("username", json!("Bob\u{202E}")))),
        ("nothing", String::new()),
        ("not a token", "abc".into()),
        ("a token of 15 KiB", "x".repeat(15 * 1024)),
    ] {
        assert_unauthorized(&server, what, &bearer(&token));
    }
    assert_unauthorized(&server, "no field", "");
    assert_unauthorized(&server, "another scheme", &format!("Authorization: Basic {valid}\r\n"));
    assert_unauthorized(&server, "no scheme", &format!("Authorization: {valid}\r\n"));
    assert!(Client::try_join(server.address, &valid).is_ok(), "the valid token was rejected, too");
}

#[test]
fn a_token_of_a_megabyte_is_rejected_before_it_is_read() {
    let server = Server::start(&[]);
    let before = server.proc_status("VmRSS");
    let answer = rejection(server.address, &bearer(&"x".repeat(1 << 20)));
    assert_eq!((answer.status, answer.code().as_str()), (431, "head_too_large"));
    assert!(server.proc_status("VmHWM") < before + 4096, "the server buffered the token");
}

#[test]
fn a_session_ends_when_its_token_expires() {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    let joined_at = Instant::now();
    let mut bob = Client::join(server.address, &token_for("Bob", "Bob", Duration::from_secs(4)));
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    let close = loop {
        if let Err(close) = bob.next_or_close() {
            break close.expect("a close frame");
        }
    };
    assert_eq!(close.code, CloseCode::Policy);
    assert!(close.reason.contains("token"), "{close:?}");
    let lifetime = joined_at.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(60)).contains(&lifetime), "{lifetime:?}");
    ann.wait_for("user_left", &json!({"username": "Bob"}));
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
}

#[test]
fn a_browser_joins_with_its_token_as_a_subprotocol() {
    let server = Server::start(&[]);
    let offer = |value: String| Client::try_join_with(server.address, &[("Sec-WebSocket-Protocol", value)]);
    let (mut bob, response) = offer(format!("ich, bearer.{}", token("Bob"))).unwrap();
    let protocol = response.headers().get("Sec-WebSocket-Protocol");
    assert_eq!(protocol.map(|value| value.to_str().unwrap()), Some("ich"), "the token must not be repeated");
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    assert!(offer(format!("bearer.{}, ich", token("Ann"))).is_ok(), "the order does not matter");
    assert_eq!(offer("ich, bearer.abc".into()).err(), Some(401));
    assert_eq!(offer("ich".into()).err(), Some(401));
}

#[test]
fn a_page_joins_from_the_servers_origin_or_an_allowed_one() {
    let server = Server::start(&[("ICH_ALLOWED_ORIGINS", "https://chat.example, http://localhost:3000")]);
    let join = |origin: &str| {
        let authorization = format!("Bearer {}", token("Bob"));
        Client::try_join_with(server.address, &[("Authorization", authorization), ("Origin", origin.to_owned())]).err()
    };
    for allowed in [
        format!("http://{}", server.address),
        format!("https://{}", server.address),
        "https://chat.example".into(),
        "HTTPS://Chat.Example".into(),
        "http://localhost:3000".into(),
    ] {
        assert_eq!(join(&allowed), None, "{allowed}");
    }
    for foreign in [
        "https://evil.example",
        "http://chat.example",
        "https://chat.example:444",
        "https://chat.example.evil.example",
        "https://evil.example/https://chat.example",
        "http://localhost",
        "http://127.0.0.1",
        "null",
        "",
    ] {
        assert_eq!(join(foreign), Some(403), "{foreign:?}");
    }
    let rejected = rejection(server.address, &format!("{}Origin: https://evil.example\r\n", bearer(&token("Bob"))));
    assert_eq!((rejected.status, rejected.code().as_str()), (403, "origin_not_allowed"));
    assert!(Client::try_join(server.address, &token("Bob")).is_ok(), "a program sends no origin");
}

#[test]
fn other_origins_are_rejected_by_default() {
    let server = Server::start(&[]);
    let fields = format!("{}Origin: https://chat.example\r\n", bearer(&token("Bob")));
    assert_eq!(rejection(server.address, &fields).status, 403);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

#[test]
fn the_generated_secret_is_kept_and_readable_only_by_its_owner() {
    let folder = Folder::new();
    // An empty value counts as not set.
    let settings = [("ICH_JWT_SECRET", "")];
    let mut server = Server::start_in(&folder.0, &settings);
    let data = folder.0.join("data");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("jwt-secret")), 0o600);
    assert_eq!(mode(&data.join("accounts.sqlite3")), 0o600);
    let secret = fs::read(data.join("jwt-secret")).unwrap();
    assert!(secret.len() >= 32, "{} bytes", secret.len());

    assert_eq!(post(server.address, "/createUser", REGISTRATION).status, 200);
    let token = post(server.address, "/login", LOGIN).json()["token"].as_str().unwrap().to_owned();
    assert_eq!(Client::try_join(server.address, &harness::server::token("Eve")).err(), Some(401), "another secret");
    assert!(server.stop().success());

    let server = Server::start_in(&folder.0, &settings);
    assert_eq!(fs::read(data.join("jwt-secret")).unwrap(), secret);
    assert!(Client::try_join(server.address, &token).is_ok(), "the token from before the restart");
}

#[test]
fn each_data_folder_has_its_own_secret() {
    let (one, two) = (Folder::new(), Folder::new());
    let secrets = [&one, &two].map(|folder| {
        Server::start_in(&folder.0, &[("ICH_JWT_SECRET", "")]);
        fs::read(folder.0.join("data/jwt-secret")).unwrap()
    });
    assert_ne!(secrets[0], secrets[1]);
}

#[test]
fn tokens_of_an_external_issuer_are_checked_with_its_public_key() {
    let folder = Folder::new();
    let key = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let key = PKey::from_ec_key(key).unwrap();
    let public = key.public_key_to_pem().unwrap();
    fs::write(folder.0.join("issuer.pem"), &public).unwrap();
    let issuer = "https://issuer.example";
    let server = Server::start_in(
        &folder.0,
        &[("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", "issuer.pem"), ("ICH_JWT_ISSUER", issuer)],
    );
    let claims = claims_with("iss", json!(issuer));
    let es256 = |claims: &Value| sign(&json!({"alg": "ES256"}), claims, &key);
    let mut bob = Client::join(server.address, &es256(&claims));
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    assert_unauthorized(&server, "another issuer", &bearer(&es256(&claims_with("iss", json!("ich")))));
    for (what, secret) in
        [("the secret of other tests", SECRET.as_bytes()), ("the public key as a secret", &public), ("", b"")]
    {
        assert_unauthorized(&server, what, &bearer(&sign_with_secret("HS256", &claims, secret)));
    }
    assert!(!folder.0.join("data/jwt-secret").exists(), "an unused secret was generated");

    for (path, body, what_to_do) in [("/login", LOGIN, "get one there"), ("/createUser", REGISTRATION, "sign up there")]
    {
        let answer = post(server.address, path, body);
        assert_eq!((answer.status, answer.code().as_str()), (403, "outside_issuer"), "{answer:?}");
        assert!(answer.body.contains(what_to_do), "{answer:?}");
    }
    let mut list = command(&folder.0, &[("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", "issuer.pem")]);
    let accounts = list.args(["user", "list"]).output().expect("running ich user list");
    assert!(accounts.status.success() && accounts.stdout.is_empty(), "an account was created: {accounts:?}");
}

#[test]
fn the_first_message_may_come_in_the_same_packet_as_the_token() {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    let text = br#"{"type":"chat_message","msg":{"text":"at once"}}"#;
    let mut bytes = handshake_with(&bearer(&token("Bob"))).into_bytes();
    // A text frame with a mask of zeros.
    bytes.extend([0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(text);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&bytes).unwrap();
    ann.wait_for("chat_message", &json!({"from_user": "Bob", "text": "at once"}));
    drop(stream);
    ann.wait_for("user_left", &json!({"username": "Bob"}));
}

#[test]
fn a_token_in_the_url_is_rejected() {
    let server = Server::start(&[]);
    let request = handshake_with("").replace("/join", &format!("/join?token={}", token("Bob")));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 401);
}
