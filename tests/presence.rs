//! Presence events on one instance: the same order for all clients, and one join and leave per user.

mod harness;

use harness::client::Client;
use harness::raw_websocket::{CLOSE, FIN, Frame, RawClient, TEXT, close_codes, close_payload, frame};
use harness::server::{Server, token_for};
use serde_json::{Value, json};
use std::time::Duration;

fn joined(name: &str) -> (String, Value) {
    ("user_joined".into(), json!({ "username": name }))
}

fn left(name: &str) -> (String, Value) {
    ("user_left".into(), json!({ "username": name }))
}

fn chat(name: &str, text: &str) -> (String, Value) {
    ("chat_message".into(), json!({ "from_user": name, "text": text }))
}

#[test]
fn three_clients_join_and_leave_in_one_order() {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    assert_eq!(ann.event(), ("users_online".into(), json!({"list": []})));
    assert_eq!(ann.event(), joined("Ann"));

    let mut bob = server.join("Bob");
    assert_eq!(bob.event(), ("users_online".into(), json!({"list": ["Ann"]})));
    assert_eq!(bob.event(), joined("Bob"));
    assert_eq!(ann.event(), joined("Bob"));

    let mut cid = server.join("Cid");
    assert_eq!(cid.event(), ("users_online".into(), json!({"list": ["Ann", "Bob"]})));
    assert_eq!(cid.event(), joined("Cid"));
    assert_eq!(ann.event(), joined("Cid"));
    assert_eq!(bob.event(), joined("Cid"));

    bob.say("one");
    for client in [&mut ann, &mut bob, &mut cid] {
        assert_eq!(client.event(), chat("Bob", "one"));
    }
    bob.leave();
    assert_eq!(ann.event(), left("Bob"));
    assert_eq!(cid.event(), left("Bob"));
    cid.vanish();
    assert_eq!(ann.event(), left("Cid"));
    let mut dan = server.join("Dan");
    assert_eq!(dan.event(), ("users_online".into(), json!({"list": ["Ann"]})));
}

#[test]
fn two_tabs_are_one_user() {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));

    let mut first = server.join("Bob");
    assert_eq!(ann.event(), joined("Bob"));
    first.wait_for("user_joined", &json!({"username": "Bob"}));
    let mut second = server.join("Bob");
    assert_eq!(second.event(), ("users_online".into(), json!({"list": ["Ann", "Bob"]})));
    second.say("from the second session");
    for client in [&mut ann, &mut first, &mut second] {
        assert_eq!(client.event(), chat("Bob", "from the second session"));
    }
    first.leave();
    second.say("still here");
    assert_eq!(ann.event(), chat("Bob", "still here"));
    second.leave();
    assert_eq!(ann.event(), left("Bob"));
}

/// Clients that join at the same time keep the fan-out busy: then a leave and a close frame are in one round.
#[test]
fn a_client_never_gets_its_own_leave() {
    let server = Server::start(&[("ICH_EVENT_LOG", "memory")]);
    let closes = [frame(FIN | CLOSE, &close_payload(1000, b"")), frame(FIN | 0x3, b"a reserved opcode")];
    for round in 0..20 {
        let mut clients: Vec<_> =
            (0..10).map(|number| RawClient::join(server.address, &format!("user {round}.{number}"))).collect();
        clients.iter_mut().for_each(|client| drop(client.wait_for("user_joined")));
        clients.iter_mut().zip(closes.iter().cycle()).for_each(|(client, close)| client.send(close));
        for (number, client) in clients.iter_mut().enumerate() {
            let own = json!({"username": format!("user {round}.{number}")});
            let frames = client.rest();
            assert_eq!(close_codes(&frames).len(), 1, "{frames:?}");
            let is_own_leave = |frame: &&Frame| {
                frame.opcode == TEXT && frame.json()["type"] == "user_left" && frame.json()["msg"] == own
            };
            assert_eq!(frames.iter().find(is_own_leave), None, "in round {round}");
        }
    }
}

#[test]
fn all_clients_receive_concurrent_messages_in_the_same_order() {
    const CLIENTS: usize = 8;
    const MESSAGES: usize = 50;
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| server.join(&format!("user {number}"))).collect();
    let last = format!("user {}", CLIENTS - 1);
    clients.iter_mut().for_each(|client| client.wait_for("user_joined", &json!({ "username": last })));
    let seen: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    (0..MESSAGES).for_each(|number| client.say(&number.to_string()));
                    (0..CLIENTS * MESSAGES).map(|_| client.event().1).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    for other in &seen[1..] {
        assert_eq!(&seen[0], other);
    }
    for number in 0..CLIENTS {
        let from_sender: Vec<_> = seen[0].iter().filter(|msg| msg["from_user"] == format!("user {number}")).collect();
        let texts: Vec<_> = from_sender.iter().map(|msg| msg["text"].as_str().expect("text")).collect();
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
    }
}

/// An outside issuer may give one name to several accounts.
#[test]
fn accounts_with_one_name_are_shown_once_from_the_first_join_to_the_last_leave() {
    let server = Server::start(&[]);
    let hour = Duration::from_secs(3600);
    let join = |id| Client::join(server.address, &token_for(id, "Sam", hour));
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    let one = join("1");
    assert_eq!(ann.event(), joined("Sam"));
    let mut two = join("2");
    assert_eq!(two.event(), ("users_online".into(), json!({"list": ["Ann", "Sam"]})));
    two.say("from the second");
    assert_eq!(ann.event(), chat("Sam", "from the second"));
    one.leave();
    two.say("still here");
    assert_eq!(ann.event(), chat("Sam", "still here"));
    two.leave();
    assert_eq!(ann.event(), left("Sam"));
}
