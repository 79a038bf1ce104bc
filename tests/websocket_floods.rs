//! Floods of frames: the server limits them and closes the connection with 1008; other clients are not affected.

mod harness;

use harness::client::Client;
use harness::raw_websocket::{CONTINUATION, FIN, Frame, PING, PONG, RawClient, TEXT, close_codes, frame};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;

const SAY: &[u8] = br#"{"type":"chat_message","msg":{"text":"again"}}"#;

fn join_ann(server: &Server) -> Client {
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    ann
}

fn assert_can_chat(ann: &mut Client) {
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
}

/// The result of a flood.
struct Flood {
    /// All frames that the server sent to the flooding client.
    frames: Vec<Frame>,
    /// How many of its messages another client received.
    delivered: usize,
}

/// Sends `begin`, then `flood` repeatedly until the server has closed. Asserts one close frame with 1008.
fn assert_flood_is_closed(server: &Server, begin: &[u8], flood: &[u8]) -> Flood {
    let mut ann = join_ann(server);
    let memory = server.proc_status("VmRSS");
    let mut eve = RawClient::join(server.address, "Eve");
    eve.wait_for("user_joined");
    eve.send(begin);
    let block = flood.repeat(64 * 1024 / flood.len());
    let mut writes = eve.stream.try_clone().expect("a descriptor");
    let (frames, delivered) = std::thread::scope(|scope| {
        // A write fails when the server has closed the connection.
        let flooding = scope.spawn(move || while std::io::Write::write_all(&mut writes, &block).is_ok() {});
        ann.say("meanwhile");
        let (mut chatted, mut left, mut delivered) = (false, false, 0);
        while !(chatted && left) {
            let (kind, msg) = ann.event();
            chatted |= msg["text"] == "meanwhile";
            delivered += usize::from(msg["from_user"] == "Eve");
            left |= kind == "user_left" && msg["username"] == "Eve";
        }
        let frames = eve.rest();
        flooding.join().expect("the flood");
        (frames, delivered)
    });
    assert_eq!(close_codes(&frames), [1008], "{} frames", frames.len());
    assert!(server.proc_status("VmRSS") < memory + 16 * 1024, "the flood increased the resident memory");
    assert_can_chat(&mut ann);
    Flood { frames, delivered }
}

#[test]
fn a_flood_of_pings_is_closed() {
    let server = Server::start(&[]);
    let flood = assert_flood_is_closed(&server, b"", &frame(FIN | PING, &[b'x'; 125]));
    let pongs = flood.frames.iter().filter(|frame| frame.opcode == PONG).count();
    assert!(pongs < 1000, "{pongs} pings were answered");
}

#[test]
fn a_flood_of_pongs_is_closed() {
    assert_flood_is_closed(&Server::start(&[]), b"", &frame(FIN | PONG, b""));
}

#[test]
fn a_flood_of_empty_continuations_is_closed() {
    assert_flood_is_closed(&Server::start(&[]), &frame(TEXT, b""), &frame(CONTINUATION, b""));
}

#[test]
fn a_flood_of_pings_between_the_fragments_of_a_message_is_closed() {
    let both = [frame(FIN | PING, b""), frame(CONTINUATION, b"")].concat();
    assert_flood_is_closed(&Server::start(&[]), &frame(TEXT, b""), &both);
}

#[test]
fn a_flood_of_messages_gets_errors_and_is_then_closed() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "5"), ("ICH_MESSAGE_BURST", "10")]);
    let flood = assert_flood_is_closed(&server, b"", &frame(FIN | TEXT, SAY));
    let texts = flood.frames.iter().filter(|frame| frame.opcode == TEXT).map(Frame::json);
    let errors = texts.filter(|frame| frame["msg"]["code"] == "rate_limited").count();
    assert!(flood.delivered >= 10, "a burst of 10 is allowed, {} were delivered", flood.delivered);
    assert!(errors >= 10, "only {errors} rejected messages got an error frame");
}

#[test]
fn invalid_messages_count_towards_the_limit() {
    for flood in [frame(FIN | TEXT, b"not JSON"), frame(FIN | 0x2, b"binary"), frame(FIN | TEXT, b"")] {
        assert_flood_is_closed(&Server::start(&[]), b"", &flood);
    }
}

#[test]
fn a_client_that_slows_down_after_an_error_stays_connected() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "5"), ("ICH_MESSAGE_BURST", "10")]);
    let mut bob = server.join("Bob");
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    let mut rejected = 0;
    for round in 0..3 {
        // Sends the burst and the first message above it.
        while !message_is_rejected(&mut bob, &format!("{round}")) {}
        rejected += 1;
        wait_for("a message to be accepted again", || {
            std::thread::sleep(std::time::Duration::from_millis(250));
            (!message_is_rejected(&mut bob, "slowly")).then_some(())
        });
    }
    assert_eq!(rejected, 3);
}

/// Sends a message and reads the response. Returns whether it was rejected.
fn message_is_rejected(bob: &mut Client, text: &str) -> bool {
    bob.say(text);
    match bob.event() {
        (kind, msg) if kind == "error" => {
            assert_eq!(msg["code"], "rate_limited");
            true
        }
        (kind, msg) => {
            assert_eq!((kind.as_str(), &msg["text"]), ("chat_message", &json!(text)));
            false
        }
    }
}

#[test]
fn zero_disables_the_message_limit() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut bob = server.join("Bob");
    (0..500).for_each(|number| bob.say(&number.to_string()));
    assert_eq!(bob.texts_until("499").len(), 500);
}
