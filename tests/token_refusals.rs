//! A refused token is answered with its reason, logged once a minute for each reason, and counted. Nothing of the token is
//! in any of them.

mod harness;

use harness::http::{get, raw};
use harness::issuer::{claims, now};
use harness::jwt::sign_with_secret;
use harness::raw_websocket::handshake_with;
use harness::server::{SECRET, Server};
use serde_json::{Value, json};

fn token(changes: &Value) -> String {
    sign_with_secret("HS256", &claims(changes), SECRET.as_bytes())
}

#[test]
fn the_reason_is_in_the_answer_in_the_log_and_in_the_metrics() {
    let server = Server::start(&[]);
    let valid = token(&json!({}));
    let (head, _) = valid.rsplit_once('.').unwrap();
    let cases = [
        ("expired", "has expired", token(&json!({"exp": now() - 70}))),
        ("not_yet_valid", "not valid yet", token(&json!({"nbf": now() + 600}))),
        ("wrong_issuer", "another issuer", token(&json!({"iss": "hunter2"}))),
        ("wrong_audience", "another audience", token(&json!({"aud": "hunter2"}))),
        ("missing_claim", "no valid claim `username`", token(&json!({"username": ["hunter2"]}))),
        ("invalid_claim", "claim `id`", token(&json!({"id": "hunter2\n"}))),
        ("bad_signature", "the signature", format!("{head}.hunter2A")),
        ("malformed", "not a JWT", "hunter2".to_owned()),
    ];
    for (label, reason, token) in &cases {
        for _ in 0..3 {
            let answer = raw(server.address, handshake_with(&format!("Authorization: Bearer {token}\r\n")).as_bytes());
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{label}: {answer:?}");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(reason) && message.contains("log in"), "{label}: {message}");
            assert!(!message.contains("hunter2"), "{label}: {message}");
        }
    }
    let metrics = get(server.address, "/metrics").body;
    let log = server.log();
    for (label, reason, _) in &cases {
        assert!(metrics.contains(&format!("ich_tokens_refused_total{{reason=\"{label}\"}} 3\n")), "{label}: {metrics}");
        let lines = log.lines().filter(|line| line.contains("refused a token") && line.contains(reason)).count();
        assert_eq!(lines, 1, "{label}: {log}");
    }
    assert!(!log.contains("hunter2") && !metrics.contains("hunter2"));
}
