//! More than a client has reason to send: bounded, then closed with 1008, and the others chat on.

mod harness;

use harness::client::Client;
use harness::raw_websocket::{CONTINUATION, FIN, Frame, PING, PONG, RawClient, TEXT, close_codes, frame};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;

const SAY: &[u8] = br#"{"type":"chat_message","msg":{"text":"again"}}"#;

fn ann(server: &Server) -> Client {
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    ann
}

fn chats_on(ann: &mut Client) {
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
}

/// What came of a flood.
struct Flood {
    /// All that the server sent to whoever sent it.
    frames: Vec<Frame>,
    /// The messages of it that somebody else was told.
    heard: usize,
}

/// Sends `flood` until the server has closed, and checks that it did so once, with 1008.
fn assert_flood_is_cut(server: &Server, begin: &[u8], flood: &[u8]) -> Flood {
    let mut ann = ann(server);
    let memory = server.proc_status("VmRSS");
    let mut eve = RawClient::join(server.address, "Eve");
    eve.wait_for("user_joined");
    eve.send(begin);
    let block = flood.repeat(64 * 1024 / flood.len());
    let mut writes = eve.stream.try_clone().expect("a descriptor");
    let (frames, heard) = std::thread::scope(|scope| {
        // It ends when the server takes no more.
        let flooding = scope.spawn(move || while std::io::Write::write_all(&mut writes, &block).is_ok() {});
        ann.say("meanwhile");
        let (mut chatted, mut left, mut heard) = (false, false, 0);
        while !(chatted && left) {
            let (kind, msg) = ann.event();
            chatted |= msg["text"] == "meanwhile";
            heard += usize::from(msg["from_user"] == "Eve");
            left |= kind == "user_left" && msg["username"] == "Eve";
        }
        let frames = eve.rest();
        flooding.join().expect("the flood");
        (frames, heard)
    });
    assert_eq!(close_codes(&frames), [1008], "{} frames", frames.len());
    assert!(server.proc_status("VmRSS") < memory + 16 * 1024, "a flood is not memory");
    chats_on(&mut ann);
    Flood { frames, heard }
}

#[test]
fn a_flood_of_pings_is_cut() {
    let server = Server::start(&[]);
    let flood = assert_flood_is_cut(&server, b"", &frame(FIN | PING, &[b'x'; 125]));
    let pongs = flood.frames.iter().filter(|frame| frame.opcode == PONG).count();
    assert!(pongs < 1000, "{pongs} pings were answered");
}

#[test]
fn a_flood_of_pongs_is_cut() {
    assert_flood_is_cut(&Server::start(&[]), b"", &frame(FIN | PONG, b""));
}

#[test]
fn a_flood_of_empty_continuations_is_cut() {
    assert_flood_is_cut(&Server::start(&[]), &frame(TEXT, b""), &frame(CONTINUATION, b""));
}

#[test]
fn a_flood_of_pings_between_the_fragments_of_a_message_is_cut() {
    let both = [frame(FIN | PING, b""), frame(CONTINUATION, b"")].concat();
    assert_flood_is_cut(&Server::start(&[]), &frame(TEXT, b""), &both);
}

#[test]
fn a_flood_of_messages_is_told_and_then_cut() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "5"), ("ICH_MESSAGE_BURST", "10")]);
    let flood = assert_flood_is_cut(&server, b"", &frame(FIN | TEXT, SAY));
    let texts = flood.frames.iter().filter(|frame| frame.opcode == TEXT).map(Frame::json);
    let told = texts.filter(|frame| frame["msg"]["code"] == "rate_limited").count();
    assert!(flood.heard >= 10, "a burst is allowed, and {} were said", flood.heard);
    assert!(told >= 10, "each that was refused was told, and {told} were");
}

#[test]
fn messages_of_no_use_are_counted_too() {
    for flood in [frame(FIN | TEXT, b"not JSON"), frame(FIN | 0x2, b"binary"), frame(FIN | TEXT, b"")] {
        assert_flood_is_cut(&Server::start(&[]), b"", &flood);
    }
}

#[test]
fn who_is_told_and_slows_down_stays() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "5"), ("ICH_MESSAGE_BURST", "10")]);
    let mut bob = server.join("Bob");
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    let mut refused = 0;
    for round in 0..3 {
        // The burst, and one or two that are too many.
        while !bob_says_is_refused(&mut bob, &format!("{round}")) {}
        refused += 1;
        wait_for("a message to be taken again", || {
            std::thread::sleep(std::time::Duration::from_millis(250));
            (!bob_says_is_refused(&mut bob, "slowly")).then_some(())
        });
    }
    assert_eq!(refused, 3);
}

/// Says something, and reads what comes of it.
fn bob_says_is_refused(bob: &mut Client, text: &str) -> bool {
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
fn zero_turns_the_bound_on_messages_off() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut bob = server.join("Bob");
    (0..500).for_each(|number| bob.say(&number.to_string()));
    assert_eq!(bob.texts_until("499").len(), 500);
}
