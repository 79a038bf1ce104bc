//! The session shown in the README, with exactly its requests and frames: account, login, join, message.

mod harness;

use harness::client::Client;
use harness::http::{get, post};
use harness::server::Server;
use serde_json::json;

#[test]
fn a_user_registers_logs_in_joins_and_sends_a_message() {
    let mut server = Server::start(&[]);
    let new = r#"{"email":"igor@example.com","username":"Igor","password":"qwerty123456"}"#;
    let created = post(server.address, "/createUser", new);
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(created.body, "{\"id\":\"1\",\"username\":\"Igor\",\"email\":\"igor@example.com\"}\n");

    let login = post(server.address, "/login", r#"{"email":"igor@example.com","password":"qwerty123456"}"#);
    assert_eq!(login.status, 200, "{login:?}");
    let login = login.json();
    assert_eq!((&login["id"], &login["username"]), (&json!("1"), &json!("Igor")));

    let mut igor = Client::join(server.address, login["token"].as_str().expect("a token"));
    assert_eq!(igor.event(), ("users_online".into(), json!({"list": []})));
    assert_eq!(igor.event(), ("user_joined".into(), json!({"username": "Igor"})));
    igor.send(r#"{"type":"chat_message","msg":{"text":"Hello!"}}"#);
    assert_eq!(igor.event(), ("chat_message".into(), json!({"from_user": "Igor", "text": "Hello!"})));
    igor.leave();

    assert!(get(server.address, "/metrics").body.contains("ich_messages_accepted_total 1"));
    assert!(server.stop().success());
}

#[test]
fn the_server_ignores_the_sender_and_time_that_a_client_sends() {
    let server = Server::start(&[]);
    let mut bob = server.join("Bob");
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    bob.send(r#"{"type":"chat_message","sent_at":"1999","msg":{"text":"hi","from_user":"Eve"}}"#);
    assert_eq!(bob.event(), ("chat_message".into(), json!({"from_user": "Bob", "text": "hi"})));
}
