//! Clients that return get the messages that they missed: `GET /join?after=` and `GET /join?last=`.

mod harness;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::client::Client;
use harness::cluster::metric;
use harness::http;
use harness::raw_websocket::RawClient;
use harness::returning::{Returning, complete, incomplete};
use harness::server::{Server, token};
use serde_json::json;
use socket2::{Domain, Socket, Type};

const UNLIMITED: (&str, &str) = ("ICH_MAX_MESSAGES_PER_SECOND", "0");
/// A valid id that no message has.
const UNKNOWN_ID: &str = "00000000deadbeef-42";

#[test]
fn a_client_that_returns_gets_each_message_that_it_missed_once_and_unchanged() {
    let server = Server::start(&[]);
    let mut ann = Returning::join(&server, "Ann");
    assert_eq!(ann.last_id, None, "there was no message");
    let mut bob = Returning::join(&server, "Bob");
    ann.say("one");
    bob.read_until("one");
    let last_id = bob.last_id.expect("an id");
    bob.client.vanish();
    ann.client.wait_for("user_left", &json!({"username": "Bob"}));
    ann.client.say_with_id("m2", "two");
    let sent = ann.read().expect("a frame");
    ann.say("three");

    let mut bob = Client::join_query(server.address, &token("Bob"), &format!("after={last_id}"));
    let online = bob.next();
    assert_eq!((&online["type"], &online["event_id"]), (&json!("users_online"), &json!(ann.last_id)));
    assert_eq!(bob.next(), sent, "the frame is the one that others received");
    assert_eq!(bob.next()["msg"], json!({"from_user": "Ann", "text": "three"}));
    let caught_up = bob.next();
    let expected = json!({"type": "caught_up", "sent_at": online["sent_at"], "msg": {"complete": true, "messages": 2}});
    assert_eq!(caught_up, expected);
    assert_eq!(bob.event(), ("user_joined".into(), json!({"username": "Bob"})));
    ann.say("four");
    assert_eq!(bob.texts_until("four"), ["four"]);
}

/// Libraries for URLs may encode any character.
#[test]
fn a_query_may_be_percent_encoded() {
    let server = Server::start(&[]);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    let id = http::percent_encoded(ann.last_id.as_deref().expect("an id"));
    ann.say("two");
    for (number, query) in [&format!("after={id}"), &format!("%61fter={id}&x=%ff%"), "la%73t=%31"].iter().enumerate() {
        let (bob, caught_up) = Returning::join_query(&server, &format!("Bob {number}"), query);
        assert_eq!((bob.texts, caught_up), (vec!["two".to_owned()], complete(1)), "{query}");
    }
}

#[test]
fn without_a_query_no_earlier_message_is_sent() {
    let server = Server::start(&[]);
    Returning::join(&server, "Ann").say("before");
    let mut bob = Client::join_query(server.address, &token("Bob"), "x=1");
    assert_eq!(bob.event().0, "users_online");
    assert_eq!(bob.event(), ("user_joined".into(), json!({"username": "Bob"})));
}

/// Senders never pause, and clients return all the time: at `caught_up`, where the earlier messages end and the new
/// events begin, no message is missing and none is duplicated.
#[test]
fn no_message_is_missing_or_duplicated_at_caught_up_under_load() {
    const SENDERS: usize = 4;
    const RETURNING: usize = 4;
    const RETURNS: usize = 40;
    // The history has room for all messages that a client can miss.
    let server = Server::start(&[UNLIMITED, ("ICH_HISTORY_MESSAGES", "10000")]);
    let mut witness = Returning::join(&server, "Witness");
    let done = AtomicBool::new(false);
    let (witness, returned) = thread::scope(|scope| {
        let (server, done) = (&server, &done);
        let _stops_senders = SetOnDrop(done);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || send_until(done, Returning::join(server, &format!("Sender {sender}")))))
            .collect();
        witness.read_until("Sender 0 1");
        let returning: Vec<_> = (0..RETURNING)
            .map(|number| scope.spawn(move || return_often(server, &format!("R{number}"), RETURNS)))
            .collect();
        let mut returned: Vec<_> = returning.into_iter().map(|thread| thread.join().expect("a client")).collect();
        done.store(true, Ordering::Release);
        senders.into_iter().for_each(|thread| thread.join().expect("a sender"));
        witness.say("the end");
        returned.iter_mut().for_each(|client| client.read_until("the end"));
        (witness, returned)
    });
    for client in &returned {
        let first = witness.texts.iter().position(|text| *text == client.texts[0]).expect("the first message");
        assert!(client.texts.len() > RETURNS);
        assert!(client.texts == witness.texts[first..], "a client received other messages than the witness");
    }
}

/// Stops the senders also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Sends numbered messages, each after the server has returned the one before.
fn send_until(done: &AtomicBool, mut sender: Returning) {
    let name = sender.name.clone();
    for number in 0.. {
        if done.load(Ordering::Acquire) {
            return;
        }
        sender.say(&format!("{name} {number}"));
        sender.texts.clear();
    }
}

/// Joins, and then `times` times waits for a message and returns.
fn return_often(server: &Server, name: &str, times: usize) -> Returning {
    let mut client = Returning::join(server, name);
    for _ in 0..times {
        let known = client.texts.len();
        while client.texts.len() == known {
            client.read().expect("a frame");
        }
        let (returned, caught_up) = client.return_to(server);
        assert!(caught_up.complete, "{caught_up:?}");
        client = returned;
    }
    client
}

#[test]
fn a_client_that_returns_too_late_or_with_an_unknown_id_gets_the_newest_messages_as_incomplete() {
    let server = Server::start(&[UNLIMITED, ("ICH_HISTORY_MESSAGES", "5")]);
    let mut ann = Returning::join(&server, "Ann");
    let ids: Vec<_> = (0..9)
        .map(|number| {
            ann.say(&number.to_string());
            ann.last_id.clone().expect("an id")
        })
        .collect();
    assert_eq!(metric(&server, "ich_history_messages"), 5);
    for (id, caught_up) in [
        (&*ids[8], complete(0)),
        (&*ids[5], complete(3)),
        (&*ids[3], complete(5)),
        (&*ids[2], incomplete(5)),
        (UNKNOWN_ID, incomplete(5)),
        ("0", incomplete(5)),
    ] {
        let (bob, answer) = Returning::join_query(&server, "Bob", &format!("after={id}"));
        assert_eq!(answer, caught_up, "after {id}");
        assert_eq!(bob.texts, ann.texts[9 - caught_up.messages..]);
    }
}

#[test]
fn a_client_gets_the_last_messages_on_request() {
    let server = Server::start(&[("ICH_HISTORY_MESSAGES", "5")]);
    assert_eq!(Returning::join_query(&server, "Bob", "last=50").1, complete(0), "there was no message yet");
    let mut ann = Returning::join(&server, "Ann");
    (0..3).for_each(|number| ann.say(&number.to_string()));
    for (count, caught_up) in [(2, complete(2)), (3, complete(3)), (50, complete(3))] {
        let (bob, answer) = Returning::join_query(&server, "Bob", &format!("last={count}"));
        assert_eq!(answer, caught_up, "last {count}");
        assert_eq!(bob.texts, ann.texts[3 - caught_up.messages..]);
    }
    (3..9).for_each(|number| ann.say(&number.to_string()));
    assert_eq!(Returning::join_query(&server, "Bob", "last=5").1, complete(5));
    assert_eq!(Returning::join_query(&server, "Bob", "last=6").1, incomplete(5));
}

#[test]
fn without_a_history_a_client_that_missed_nothing_is_complete() {
    let server = Server::start(&[("ICH_HISTORY_MESSAGES", "0")]);
    let mut ann = Returning::join(&server, "Ann");
    ann.say("one");
    let (mut ann, caught_up) = ann.return_to(&server);
    assert_eq!(caught_up, complete(0));
    let first = ann.last_id.clone();
    ann.say("two");
    let (_, caught_up) = Returning::resume(&server, "Ann", first, Vec::new()).expect("a join");
    assert_eq!(caught_up, incomplete(0));
}

#[test]
fn a_query_that_is_not_valid_is_refused() {
    let server = Server::start(&[]);
    for query in ["after=", "after=x", "last=0", "last=1&after=0", "last=10001"] {
        assert_eq!(Client::try_join_query(server.address, &token("Bob"), query).err(), Some(400), "{query}");
        let request =
            format!("GET /join?{query} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n", token("Bob"));
        let answer = http::raw(server.address, request.as_bytes());
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("bad_query")), "{query}");
    }
    assert_eq!(Client::try_join_query(server.address, "not a token", "last=0").err(), Some(401));
}

/// The history is many times larger than the outbox of a slow client may become.
#[test]
fn the_missed_messages_do_not_count_against_the_outbox_limit() {
    const MESSAGES: usize = 500;
    const TEXT_BYTES: usize = 4_000;
    let server = Server::start(&[UNLIMITED, ("ICH_OUTBOX_BYTES", "65536"), ("ICH_PING_INTERVAL_SECONDS", "600")]);
    let mut ann = Returning::join(&server, "Ann");
    for number in 0..MESSAGES {
        ann.say(&format!("{number:0>TEXT_BYTES$}"));
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("an option");
    socket.connect(&server.address.into()).expect("connecting");
    let mut slow = RawClient::join_query_on(TcpStream::from(socket), "Slow", "last=500");
    ann.client.wait_for("user_joined", &json!({"username": "Slow"}));
    // The client has not read a byte of the messages when events follow them.
    (0..20).for_each(|number| ann.say(&format!("live {number}")));
    for number in 0..MESSAGES {
        assert_eq!(slow.wait_for("chat_message")["text"], format!("{number:0>TEXT_BYTES$}"));
    }
    assert_eq!(slow.wait_for("caught_up"), json!({"complete": true, "messages": MESSAGES}));
    for number in 0..20 {
        assert_eq!(slow.wait_for("chat_message")["text"], format!("live {number}"));
    }
}
