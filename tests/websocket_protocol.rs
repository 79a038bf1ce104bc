//! Frames and handshakes that violate RFC 6455: the server answers each with exactly one close frame with the right
//! code, and other clients are not affected.

mod harness;

use harness::http::{Answer, raw};
use harness::raw_websocket::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RawClient, TEXT, close_codes, close_payload, frame, handshake, header,
};
use harness::server::{Server, token};
use harness::wait_for;
use serde_json::json;

const HELLO: &[u8] = br#"{"type":"chat_message","msg":{"text":"Hello!"}}"#;

/// Sends each violation from a client that has joined. Asserts that the server closes its connection with this code.
fn assert_closed_with(code: u16, violations: &[(&str, Vec<u8>)]) {
    let server = Server::start(&[]);
    let mut ann = server.join("Ann");
    ann.wait_for("user_joined", &json!({"username": "Ann"}));
    let descriptors = server.descriptors();
    for (what, bytes) in violations {
        let mut eve = RawClient::join(server.address, "Eve");
        eve.wait_for("user_joined");
        eve.send(bytes);
        let frames = eve.rest();
        assert_eq!(close_codes(&frames), [code], "{what}: {frames:?}");
        assert_eq!(frames.last().map(|last| last.opcode), Some(CLOSE), "{what}: {frames:?}");
        drop(eve);
        ann.wait_for("user_left", &json!({"username": "Eve"}));
    }
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
    assert!(!server.log().contains("panicked"));
}

#[test]
fn protocol_violations_close_with_1002() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let mut violations = vec![
        ("an unmasked text", unmasked(FIN | TEXT, HELLO)),
        ("an unmasked ping", unmasked(FIN | PING, b"")),
        ("an unmasked close", unmasked(FIN | CLOSE, &close_payload(1000, b""))),
        ("a ping in fragments", frame(PING, b"x")),
        ("a close in fragments", frame(CLOSE, &close_payload(1000, b""))),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126])),
        ("a pong of 126 bytes", frame(FIN | PONG, &[b'x'; 126])),
        ("a close of 126 bytes", frame(FIN | CLOSE, &close_payload(1000, &[b'x'; 124]))),
        ("a final continuation without a beginning", frame(FIN | CONTINUATION, b"x")),
        ("a continuation without a beginning", frame(CONTINUATION, b"x")),
        ("a text within a text", [frame(TEXT, b"x"), frame(FIN | TEXT, HELLO)].concat()),
        ("a binary within a text", [frame(TEXT, b"x"), frame(FIN | BINARY, b"x")].concat()),
        ("not a frame at all", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()),
    ];
    for reserved in [0x40, 0x20, 0x10] {
        violations.push(("a reserved bit", frame(FIN | reserved | TEXT, HELLO)));
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        violations.push(("a reserved opcode", frame(FIN | opcode, b"x")));
    }
    assert_closed_with(1002, &violations);
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    assert_closed_with(
        1007,
        &[
            ("a byte that is never valid in UTF-8", frame(FIN | TEXT, b"\"\xff\"")),
            ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80")),
            ("an overlong encoding", frame(FIN | TEXT, b"\xc0\xaf")),
            ("an incomplete character", frame(FIN | TEXT, b"\xe2\x82")),
            ("split over fragments", [frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"x")].concat()),
            ("at the end of fragments", [frame(TEXT, b"x"), frame(FIN | CONTINUATION, b"\xe2\x82")].concat()),
            ("in the reason of a close frame", frame(FIN | CLOSE, &close_payload(1000, b"\xff"))),
        ],
    );
}

#[test]
fn a_character_split_over_fragments_is_reassembled() {
    let server = Server::start(&[]);
    let mut bob = RawClient::join(server.address, "Bob");
    let text = r#"{"type":"chat_message","msg":{"text":"5 €"}}"#.as_bytes();
    let within = text.iter().position(|byte| *byte == 0xe2).expect("the euro sign") + 1;
    // A ping may come between the fragments.
    bob.send(
        &[frame(TEXT, &text[..within]), frame(FIN | PING, b"p"), frame(FIN | CONTINUATION, &text[within..])].concat(),
    );
    assert_eq!(bob.wait_for("chat_message"), json!({"from_user": "Bob", "text": "5 €"}));
}

#[test]
fn a_message_above_the_limit_closes_with_1009_before_it_is_received() {
    const LIMIT: u64 = 16_384;
    let half = vec![b'x'; LIMIT as usize / 2];
    assert_closed_with(
        1009,
        &[
            ("one byte above the limit", header(FIN | TEXT, LIMIT + 1)),
            ("binary, one byte above the limit", header(FIN | BINARY, LIMIT + 1)),
            ("4 GiB", header(FIN | TEXT, 1 << 32)),
            ("the largest length that can be encoded", header(FIN | TEXT, (1 << 63) - 1)),
            ("a length with the highest bit set", header(FIN | TEXT, u64::MAX)),
            (
                "one byte above the limit in fragments",
                [frame(TEXT, &half), frame(CONTINUATION, &half), frame(FIN | CONTINUATION, b"x")].concat(),
            ),
        ],
    );
}

#[test]
fn a_message_of_exactly_the_limit_is_accepted() {
    let server = Server::start(&[("ICH_MAX_TEXT_CHARS", "100000")]);
    let mut bob = RawClient::join(server.address, "Bob");
    let overhead = json!({"type": "chat_message", "msg": {"text": ""}}).to_string().len();
    let text = "x".repeat(16_384 - overhead);
    bob.send(&frame(FIN | TEXT, json!({"type": "chat_message", "msg": {"text": text}}).to_string().as_bytes()));
    assert_eq!(bob.wait_for("chat_message")["text"], text);
}

#[test]
fn an_invalid_close_frame_is_answered_with_1002() {
    let close = |payload: &[u8]| frame(FIN | CLOSE, payload);
    let mut violations = vec![("one byte", close(&[3]))];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        violations.push(("a code that must not be sent", close(&close_payload(code, b""))));
    }
    assert_closed_with(1002, &violations);
}

#[test]
fn a_close_frame_is_answered_once_with_the_same_code() {
    let server = Server::start(&[]);
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        let mut bob = RawClient::join(server.address, "Bob");
        // Frames after a close frame are ignored.
        let ignored = [frame(FIN | TEXT, HELLO), frame(FIN | CLOSE, &close_payload(1001, b""))].concat();
        bob.send(&[frame(FIN | CLOSE, &close_payload(code, b"bye")), ignored].concat());
        assert_eq!(close_codes(&bob.rest()), [code]);
    }
    let mut bob = RawClient::join(server.address, "Bob");
    bob.send(&frame(FIN | CLOSE, b""));
    assert_eq!(close_codes(&bob.rest()), [0], "a close without a code is answered without one");
}

#[test]
fn a_peer_that_never_answers_a_close_is_disconnected() {
    let server = Server::start(&[]);
    let (descriptors, threads) = (server.descriptors(), server.proc_status("Threads"));
    let mut peers: Vec<_> = (0..5).map(|number| RawClient::join(server.address, &format!("Eve {number}"))).collect();
    for peer in &mut peers {
        peer.send(&frame(FIN | 0x3, b""));
        assert_eq!(close_codes(&peer.rest()), [1002]);
    }
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
    wait_for("the threads to end", || (server.proc_status("Threads") <= threads).then_some(()));
    // The peers kept their ends open until here.
    drop(peers);
}

#[test]
fn the_first_frames_may_come_in_the_same_packet_as_the_request() {
    let server = Server::start(&[]);
    let mut bob = RawClient::join_with(server.address, "Bob", &frame(FIN | TEXT, HELLO));
    let types: Vec<_> = (0..3).map(|_| bob.next().expect("a frame").json()["type"].clone()).collect();
    assert_eq!(types, ["users_online", "user_joined", "chat_message"]);

    let frames = [frame(FIN | TEXT, HELLO), frame(FIN | CLOSE, &close_payload(1000, b""))].concat();
    let mut cid = RawClient::join_with(server.address, "Cid", &frames);
    assert_eq!(close_codes(&cid.rest()), [1000]);
    assert_eq!(bob.wait_for("user_joined"), json!({"username": "Cid"}));
    assert_eq!(bob.wait_for("chat_message"), json!({"from_user": "Cid", "text": "Hello!"}));
    assert_eq!(bob.wait_for("user_left"), json!({"username": "Cid"}));
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = Server::start(&[]);
    let mut bob = RawClient::join(server.address, "Bob");
    bob.wait_for("user_joined");
    for payload in [b"".as_slice(), b"payload", &[0xff; 125]] {
        bob.send(&frame(FIN | PING, payload));
        let pong = bob.next().expect("a frame");
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, payload));
    }
}

/// The response to a handshake in which `from` is replaced by `to`.
fn modified_handshake(server: &Server, from: &str, to: &str) -> Answer {
    let request = handshake("Bob");
    assert!(request.contains(from), "{from} is not in the request");
    raw(server.address, request.replacen(from, to, 1).as_bytes())
}

#[test]
fn a_handshake_without_a_valid_key_is_rejected() {
    let server = Server::start(&[]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for bad in [
        "",
        "Sec-WebSocket-Key:\r\n",
        "Sec-WebSocket-Key: x\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
        "Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let answer = modified_handshake(&server, key, bad);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_handshake"), "{bad:?}: {answer:?}");
    }
}

#[test]
fn an_unsupported_version_gets_426_with_the_supported_version() {
    let server = Server::start(&[]);
    for bad in ["", "Sec-WebSocket-Version: 12\r\n", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: x\r\n"] {
        let answer = modified_handshake(&server, "Sec-WebSocket-Version: 13\r\n", bad);
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Version")), (426, Some("13")), "{bad:?}: {answer:?}");
        assert_eq!(answer.header("Upgrade"), Some("websocket"));
    }
}

#[test]
fn an_invalid_upgrade_is_rejected() {
    let server = Server::start(&[]);
    let cases = [
        ("GET /join", "POST /join", 400),
        ("GET /join", "PUT /join", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade\r\n", "Connection: close\r\n", 400),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", 400),
        ("Upgrade: websocket\r\n", "", 426),
        ("Host: test\r\n", "Host: test\r\nContent-Length: 5\r\n", 400),
    ];
    for (from, to, status) in cases {
        let answer = modified_handshake(&server, from, to);
        assert_eq!(answer.status, status, "{to:?}: {answer:?}");
    }
    let twice = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(modified_handshake(&server, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", twice).status, 400);
    assert_eq!(modified_handshake(&server, &token("Bob"), "no token").status, 401);
    assert_eq!(server.join("Bob").event(), ("users_online".into(), json!({"list": []})));
}
