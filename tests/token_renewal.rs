//! A client continues its session with a new token, and asks the server for signs of life.

mod harness;

use std::time::Duration;

use harness::client::Client;
use harness::http::get;
use harness::server::{Server, token_for};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;

const HOUR: Duration = Duration::from_secs(3600);

fn send_token(client: &mut Client, token: &str) {
    client.send(&json!({"type": "token", "id": "t1", "msg": {"token": token}}).to_string());
}

/// Reads frames until one that is not about the presence of users.
fn answer(client: &mut Client) -> Value {
    loop {
        let frame = client.next();
        if !["users_online", "user_joined", "user_left"].contains(&frame["type"].as_str().unwrap()) {
            return frame;
        }
    }
}

fn assert_closed_when_the_token_expires(mut client: Client) {
    let close = loop {
        if let Err(close) = client.next_or_close() {
            break close.expect("a close frame");
        }
    };
    assert_eq!(close.code, CloseCode::Policy);
    assert!(close.reason.contains("token expired"), "{close:?}");
}

#[test]
fn a_new_token_continues_the_session_and_others_end_with_theirs() {
    let server = Server::start(&[]);
    let mut bob = Client::join(server.address, &token_for("1", "Bob", Duration::from_secs(6)));
    let rob = Client::join(server.address, &token_for("2", "Rob", Duration::from_secs(9)));
    send_token(&mut bob, &token_for("1", "Bob", HOUR));
    let renewed = answer(&mut bob);
    assert_eq!((renewed["type"].as_str(), renewed["id"].as_str()), (Some("token"), Some("t1")), "{renewed}");
    let expires_in = renewed["msg"]["expires_in"].as_u64().expect("a number");
    assert!((3590..=3600).contains(&expires_in), "{renewed}");
    // The first token of Bob expires before that of Rob.
    assert_closed_when_the_token_expires(rob);
    bob.say("still here");
    bob.wait_for("chat_message", &json!({"from_user": "Bob", "text": "still here"}));
    assert!(get(server.address, "/metrics").body.contains("ich_tokens_renewed_total 1\n"));
}

#[test]
fn a_token_of_another_user_or_an_invalid_one_does_not_continue_the_session() {
    let server = Server::start(&[]);
    let mut bob = Client::join(server.address, &token_for("1", "Bob", Duration::from_secs(8)));
    let forged = format!("{}hunter2", token_for("1", "Bob", HOUR));
    for (token, code) in [
        (token_for("2", "Bob", HOUR), "other_user"),
        (token_for("1", "Rob", HOUR), "other_user"),
        (forged, "bad_token"),
        ("hunter2".to_owned(), "bad_token"),
        ("x".repeat(16_000), "bad_token"),
    ] {
        send_token(&mut bob, &token);
        let error = answer(&mut bob);
        assert_eq!((error["msg"]["code"].as_str(), error["id"].as_str()), (Some(code), Some("t1")), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    bob.send(r#"{"type":"token","msg":{}}"#);
    assert_eq!(answer(&mut bob)["msg"]["code"], "no_token");
    assert_closed_when_the_token_expires(bob);
}

#[test]
fn a_ping_of_a_page_is_answered_and_not_published() {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    let mut bob = server.join("Bob");
    bob.send(r#"{"type":"ping"}"#);
    let pong = answer(&mut bob);
    assert_eq!((pong["type"].as_str(), &pong["msg"], pong.get("id")), (Some("pong"), &json!({}), None), "{pong}");
    bob.send(r#"{"type":"ping","id":"p1","msg":{}}"#);
    assert_eq!(answer(&mut bob)["id"], "p1");
    bob.say("hi");
    assert_eq!(answer(&mut ann)["type"], "chat_message", "Ann gets no ping");
}
