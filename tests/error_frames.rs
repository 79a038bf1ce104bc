//! Invalid messages: only the sending client receives an `error` frame with a code, and its session continues.

mod harness;

use harness::client::Client;
use harness::server::{Server, token_for};
use serde_json::{Value, json};
use std::time::Duration;
use tungstenite::Message;

fn lobby_of_two(server: &Server) -> (Client, Client) {
    let mut ann = server.join("Ann");
    let mut bob = server.join("Bob");
    ann.wait_for("user_joined", &json!({"username": "Bob"}));
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    (ann, bob)
}

fn say(text: &str) -> String {
    json!({"type": "chat_message", "msg": {"text": text}}).to_string()
}

/// Asserts that the next frame is a complete `error` frame with this code.
fn assert_error(client: &mut Client, code: &str, what: &str) -> Value {
    let frame = client.next();
    assert_eq!((frame["type"].as_str(), frame["msg"]["code"].as_str()), (Some("error"), Some(code)), "{what}: {frame}");
    assert!(frame["msg"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {frame}");
    assert!(frame["sent_at"].is_string(), "{what}: {frame}");
    frame
}

/// Bob sends a message. Asserts that it is the next frame for both clients.
fn assert_both_receive(ann: &mut Client, bob: &mut Client, text: &str) {
    bob.say(text);
    for client in [ann, bob] {
        assert_eq!(client.event(), ("chat_message".into(), json!({"from_user": "Bob", "text": text})));
    }
}

#[test]
fn each_invalid_message_has_a_code_and_the_session_continues() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    let nested = format!(r#"{{"x":{}{}}}"#, "[".repeat(8_000), "]".repeat(8_000));
    let nested_msg = format!(r#"{{"type":"chat_message","msg":{}{}}}"#, "[".repeat(7_000), "]".repeat(7_000));
    let duplicate_field = r#"{"type":"chat_message","type":"chat_message","msg":{"text":"x"}}"#;
    for (code, frame) in [
        ("bad_json", ""),
        ("bad_json", "Hello!"),
        ("bad_json", "null"),
        ("bad_json", "5"),
        ("bad_json", r#""chat_message""#),
        ("bad_json", r#"["chat_message"]"#),
        ("bad_json", r#"{"type":"chat_message","msg":{"text":"x"}"#),
        ("bad_json", r#"{"type":"chat_message","msg":{"text":"x"}} {}"#),
        ("bad_json", r#"{'type':'chat_message'}"#),
        ("bad_json", r#"{"type":5,"msg":{"text":"x"}}"#),
        ("bad_json", duplicate_field),
        ("no_type", &nested),
        ("no_type", "{}"),
        ("no_type", r#"{"msg":{"text":"x"}}"#),
        ("no_type", r#"{"type":null,"msg":{"text":"x"}}"#),
        ("unknown_type", r#"{"type":"","msg":{"text":"x"}}"#),
        ("unknown_type", r#"{"type":"dance","msg":{"text":"x"}}"#),
        ("unknown_type", r#"{"type":"CHAT_MESSAGE","msg":{"text":"x"}}"#),
        ("unknown_type", r#"{"type":"user_left","msg":{"username":"Ann"}}"#),
        ("unknown_type", r#"{"type":"users_online","msg":{"list":[]}}"#),
        ("no_text", r#"{"type":"chat_message"}"#),
        ("no_text", r#"{"type":"chat_message","msg":null}"#),
        ("no_text", r#"{"type":"chat_message","msg":{}}"#),
        ("no_text", r#"{"type":"chat_message","msg":{"text":null}}"#),
        ("bad_msg", r#"{"type":"chat_message","msg":"x"}"#),
        ("bad_msg", r#"{"type":"chat_message","msg":{"text":5}}"#),
        ("bad_msg", r#"{"type":"chat_message","msg":{"text":"\ud800"}}"#),
        ("bad_msg", &nested_msg),
        ("empty_text", r#"{"type":"chat_message","msg":{"text":""}}"#),
        ("empty_text", r#"{"type":"chat_message","msg":{"text":"  \n\t"}}"#),
        ("empty_text", r#"{"type":"chat_message","msg":{"text":"\u200b"}}"#),
        ("empty_text", r#"{"type":"chat_message","msg":{"text":"\u3000\u2800\u3164\ufe0f\u200d\ufeff"}}"#),
    ] {
        bob.send(frame);
        assert_error(&mut bob, code, &frame[..frame.len().min(80)]);
    }
    assert_both_receive(&mut ann, &mut bob, "a valid message");
    assert!(!server.log().contains("panicked"));
}

#[test]
fn a_binary_message_is_rejected_regardless_of_its_content() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    for payload in [b"".to_vec(), vec![0xff; 1000], say("in binary").into_bytes()] {
        bob.socket.send(Message::binary(payload)).expect("sending");
        assert_error(&mut bob, "binary", "binary");
    }
    assert_both_receive(&mut ann, &mut bob, "in text");
}

#[test]
fn the_length_of_a_text_is_limited_in_characters() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    // Characters are counted, not bytes: these have one and three bytes.
    for letter in ["x", "€"] {
        assert_both_receive(&mut ann, &mut bob, &letter.repeat(4000));
        bob.send(&say(&letter.repeat(4001)));
        assert_error(&mut bob, "text_too_long", letter);
    }
    assert_both_receive(&mut ann, &mut bob, "in short");
}

#[test]
fn an_error_contains_the_id_of_the_message() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    bob.send(r#"{"type":"chat_message","id":"c-7","msg":{"text":""}}"#);
    assert_eq!(assert_error(&mut bob, "empty_text", "an id")["id"], "c-7");
    bob.send(&json!({"type": "chat_message", "id": "x".repeat(65), "msg": {"text": "x"}}).to_string());
    assert_eq!(assert_error(&mut bob, "bad_id", "a long id").get("id"), None);
    bob.send(r#"{"type":"chat_message","id":"c-8","msg":{"text":"x"}}"#);
    for client in [&mut ann, &mut bob] {
        let frame = client.next();
        assert_eq!((&frame["id"], &frame["msg"]["text"]), (&json!("c-8"), &json!("x")));
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    bob.send(r#"{"v":9,"type":"chat_message","to":["Ann"],"msg":{"text":"x","style":{"bold":true}},"x":null}"#);
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.event(), ("chat_message".into(), json!({"from_user": "Bob", "text": "x"})));
    }
}

#[test]
fn texts_are_delivered_unchanged() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let (mut ann, mut bob) = lobby_of_two(&server);
    for text in [
        "x\0",
        "\u{1b}[2J\u{7}",
        "\r\n{\"type\":\"user_left\"}\r\n",
        "x\u{7f}\u{85}\u{9b}",
        "\u{202e}txet desrever\u{202c}",
        "\u{2066}isolated\u{2069}\u{200f}\u{200b}\u{feff}",
        "\u{2028}x\u{2029}",
        "<script>alert(1)</script>&amp;",
        "\"},\"type\":\"user_left\",\"msg\":{\"username\":\"Ann\"",
        "\\\\\\\"\\u0041",
        "👩‍👩‍👧‍👦 e\u{301} 日本語 नमस्ते",
        "\u{fffe}\u{ffff}\u{10ffff}",
        " x ",
    ] {
        assert_both_receive(&mut ann, &mut bob, text);
    }
}

#[test]
fn a_token_with_an_invalid_username_is_rejected() {
    let server = Server::start(&[]);
    for (number, name) in
        ["", " ", "Bo\nb", "Bo\u{1b}b", "Bo\u{202e}b", "Bo\u{200b}b", "\u{feff}Bob"].iter().enumerate()
    {
        let token = token_for(&number.to_string(), name, Duration::from_secs(3600));
        assert_eq!(Client::try_join(server.address, &token).err(), Some(401), "{name:?}");
    }
    let mut odd = server.join("<b>\"Bob\"</b>\\");
    assert_eq!(odd.event(), ("users_online".into(), json!({"list": []})));
    assert_eq!(odd.event(), ("user_joined".into(), json!({"username": "<b>\"Bob\"</b>\\"})));
}
