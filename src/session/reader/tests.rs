//! A session with a socket in memory: the frames that its client sends, and the commands to the fan-out that follow.

use std::net::Shutdown;
use std::sync::Mutex;

use super::*;
use crate::event_log::{AppendError, Appender};
use crate::lobby::{Body, Health, InstanceId, Record, SessionId};
use crate::publisher::{self, PublisherDriver};
use crate::session::fan_out::DetachedThread;
use crate::session::renewal::TokenGrant;
use crate::session::testing::{FakeSocket, frames};
use crate::threads::lock;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const CLOSE: u8 = 0x8;
const SAY: &[u8] = br#"{"type":"chat_message","msg":{"text":"hi"},"id":"7"}"#;

/// An appender that keeps what was appended.
#[derive(Default)]
struct Taken(Mutex<Vec<Body>>);

impl Appender for Taken {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        lock(&self.0).push(record.body);
        Ok(())
    }
}

struct Bench {
    sessions: Sessions<FakeSocket>,
    fan_out: DetachedThread<FakeSocket>,
    taken: Arc<Taken>,
    driver: PublisherDriver,
}

impl Bench {
    fn new() -> Bench {
        let taken = Arc::new(Taken::default());
        let (publisher, mut driver) = publisher::open(InstanceId(1), taken.clone());
        driver.set_health(Health::Ready);
        let (fan_out, mut threads) = FanOut::detached(1);
        let config = crate::config::Config::from_values(&std::collections::BTreeMap::new(), Vec::new()).unwrap();
        let metrics = Arc::new(Metrics::new(Arc::default(), &[]));
        let check_token = Box::new(|token: String| match token.split_once(' ') {
            Some((id, name)) => {
                let user = User { id: id.into(), username: name.into() };
                Ok(TokenGrant { user, lifetime: Duration::from_secs(60) })
            }
            None => Err("the token has expired".to_owned()),
        });
        let sessions =
            Sessions { publisher, fan_out, limits: config.limits, metrics, check_token, leave_grace: Duration::ZERO };
        Bench { sessions, fan_out: threads.remove(0), taken, driver }
    }

    /// Runs a session whose client sends these frames and then closes its connection.
    fn run(&self, input: &[Vec<u8>]) -> Arc<Link<FakeSocket>> {
        let link = Arc::new(Link::new(SessionId(1), FakeSocket::with_input(&input.concat())));
        let user = User { id: "4".into(), username: "Bob".into() };
        let token_expires_at = Instant::now() + Duration::from_secs(3600);
        let new = NewSession { link: link.clone(), user, token_expires_at, request: None, after_head: Vec::new() };
        run(&self.sessions, new);
        link
    }

    /// The commands that the session sent, as text.
    fn commands(&self) -> Vec<String> {
        let payload = |frame: &[u8]| {
            let frame = frames(frame).0.remove(0);
            let start = if frame[1] < 126 { 2 } else { 4 };
            format!("{:x} {}", frame[0], String::from_utf8_lossy(&frame[start..]))
        };
        let words = |command: Command<FakeSocket>| match command {
            Command::Open { .. } => "open".to_owned(),
            Command::Direct { frame, .. } => format!("direct {}", payload(&frame)),
            Command::Close { frame, .. } => format!("close {}", u16::from_be_bytes([frame[2], frame[3]])),
            Command::Forget(_) => "forget".to_owned(),
            Command::Renew { .. } => "renew".to_owned(),
            _ => "other".to_owned(),
        };
        self.fan_out.commands.try_iter().map(words).collect()
    }

    fn appended(&self) -> Vec<&'static str> {
        let kind = |body: &Body| match body {
            Body::Joined { .. } => "joined",
            Body::Said { .. } => "said",
            Body::Left { .. } => "left",
            _ => "other",
        };
        lock(&self.taken.0).iter().map(kind).collect()
    }
}

/// A masked frame of at most 125 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[test]
fn a_session_opens_sends_is_answered_and_closes_in_this_order() {
    let bench = Bench::new();
    let input = [frame(TEXT, SAY), frame(PING, b"x"), frame(CLOSE, &1000u16.to_be_bytes())];
    let link = bench.run(&input);
    assert_eq!(bench.commands(), ["open", "direct 8a x", "close 1000", "forget"]);
    assert_eq!(bench.appended(), ["joined", "said", "left"]);
    assert_eq!(link.end(End::Internal), End::ClosedByClient);
}

#[test]
fn the_reader_never_writes_to_the_socket_and_lets_the_fan_out_close_it() {
    let bench = Bench::new();
    let link = bench.run(&[frame(TEXT, b"not JSON"), frame(0x3, b"a reserved opcode")]);
    assert_eq!((link.socket.taken(), link.socket.shutdowns()), (Vec::new(), Vec::<Shutdown>::new()));
    let commands = bench.commands();
    assert!(commands[1].contains("bad_json"), "{commands:?}");
    assert_eq!(commands[2..], ["close 1002", "forget"]);
}

#[test]
fn a_broken_connection_causes_a_left_and_no_close_frame() {
    let bench = Bench::new();
    let link = bench.run(&[frame(TEXT, SAY)]);
    assert_eq!(bench.commands(), ["open", "forget"]);
    assert_eq!(bench.appended(), ["joined", "said", "left"]);
    assert_eq!(link.end(End::Internal), End::Disconnected);
}

#[test]
fn while_the_log_does_not_answer_a_session_is_closed_at_once() {
    let mut bench = Bench::new();
    bench.driver.set_health(Health::Stalled);
    let link = bench.run(&[frame(TEXT, SAY)]);
    assert_eq!(bench.commands(), ["open", "close 1013", "forget"]);
    assert_eq!(bench.appended(), [""; 0]);
    assert_eq!(link.end(End::Internal), End::LogUnavailable);
}

#[test]
fn only_a_valid_token_of_the_same_user_continues_the_session() {
    let bench = Bench::new();
    let token =
        |token: &str| frame(TEXT, format!(r#"{{"type":"token","id":"t","msg":{{"token":"{token}"}}}}"#).as_bytes());
    bench.run(&[token("4 Bob"), token("4 Rob"), token("5 Bob"), token("old")]);
    let commands = bench.commands();
    assert_eq!((commands[0].as_str(), commands[1].as_str()), ("open", "renew"));
    assert!(commands[2].contains(r#""type":"token""#) && commands[2].contains(r#""id":"t","msg":{"expires_in":60}"#));
    for (answer, code) in commands[3..].iter().zip(["other_user", "other_user", "bad_token"]) {
        assert!(answer.contains(&format!(r#""id":"t","msg":{{"code":"{code}""#)), "{answer}");
    }
    assert_eq!(commands[6..], ["forget"]);
}

#[test]
fn a_flood_of_pings_is_answered_up_to_the_burst_and_then_closed() {
    let bench = Bench::new();
    let pings = vec![frame(PING, b"x"); 3 * CONTROL_FRAMES_BURST as usize];
    bench.run(&pings);
    let commands = bench.commands();
    let pongs = commands.iter().filter(|command| *command == "direct 8a x").count();
    assert!((CONTROL_FRAMES_BURST as usize..pings.len()).contains(&pongs), "{pongs} pongs");
    assert_eq!(commands[commands.len() - 2..], ["close 1008", "forget"]);
}

#[test]
fn a_client_whose_connection_ended_or_that_sent_a_close_frame_has_left() {
    for (input, expected) in [(vec![], true), (frame(CLOSE, &[]), true), (frame(TEXT, SAY), false)] {
        assert_eq!(has_left(&FakeSocket::with_input(&input)), expected, "{input:?}");
    }
}
