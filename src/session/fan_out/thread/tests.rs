//! One fan-out thread, stepped by the test, with sockets in memory.

use std::thread;

use crossbeam_channel::{Sender, unbounded};
use proptest::prelude::*;

use super::super::{Admission, OnSent};
use super::*;
use crate::metrics::Metrics;
use crate::session::outbox::{HealthTimes, Piece};
use crate::session::testing::{FakeSocket, frames};

/// The smallest value of `ICH_OUTBOX_BYTES`.
const OUTBOX_BYTES_MAX: usize = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING: &[u8] = &[0x89, 0];

struct Bench {
    thread: FanOutThread<FakeSocket>,
    commands: Sender<Command<FakeSocket>>,
    retry_at: Instant,
}

impl Bench {
    fn new() -> Self {
        let (commands, waiting) = unbounded();
        let (_, used_credits) = unbounded();
        let health = HealthTimes { ping_interval: PING_INTERVAL, pong_timeout: Duration::from_secs(10) };
        let metrics = Arc::new(Metrics::new(Arc::default(), &[]));
        let settings = Settings { outbox_bytes_max: OUTBOX_BYTES_MAX, health, metrics };
        Bench {
            thread: FanOutThread::new(waiting, used_credits, Turns::new(2), settings),
            commands,
            retry_at: Instant::now() + Duration::from_secs(60),
        }
    }

    /// A session that waits for its list.
    fn open(&mut self, session: u64, socket: FakeSocket) -> Arc<Link<FakeSocket>> {
        let link = Arc::new(Link::new(SessionId(session), socket));
        let token_expires_at = Instant::now() + Duration::from_secs(24 * 3600);
        self.send([Command::Open { link: link.clone(), token_expires_at }]);
        link
    }

    /// A session that gets events.
    fn open_live(&mut self, session: u64, socket: FakeSocket) -> Arc<Link<FakeSocket>> {
        let link = self.open(session, socket);
        self.send([events(b"", &[(session, list(0))])]);
        link
    }

    /// Queues these commands and runs rounds until the queue is empty.
    fn send(&mut self, commands: impl IntoIterator<Item = Command<FakeSocket>>) {
        commands.into_iter().for_each(|command| self.commands.send(command).unwrap());
        while let Ok(command) = self.thread.commands.try_recv() {
            self.thread.take_round(command);
        }
    }

    /// Writes the queued bytes again, at a time after the end of every pause.
    fn retry(&mut self) {
        self.retry_at += Duration::from_secs(1);
        self.thread.retry_lagging(self.retry_at);
    }
}

fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::put_text(payload, &mut frame);
    frame
}

/// A batch with these frames, and the sessions that become live before them.
fn events(frames: &[u8], admitted: &[(u64, Vec<Piece>)]) -> Command<FakeSocket> {
    let admission = |(session, list): &(u64, Vec<Piece>)| Admission {
        session: SessionId(*session),
        first_frames: list.clone(),
        origin: 0,
    };
    let admissions = admitted.iter().map(admission).collect();
    Command::Events(Batch {
        frames: frames.into(),
        events: 1,
        has_presence: false,
        oldest_append: None,
        on_sent: None,
        admissions,
    })
}

/// A list frame with a payload of this length, in several parts.
fn list(bytes: usize) -> Vec<Piece> {
    let frame = text_frame(&vec![b'n'; bytes]);
    let (head, rest) = frame.split_at(frame.len() - bytes);
    let mut pieces = vec![Piece::part(head.into(), false)];
    pieces.extend(rest.chunks(2_000).map(|part| Piece::part(part.into(), false)));
    pieces.push(Piece::part(Arc::from([]), true));
    pieces
}

fn direct(session: u64, frame: Vec<u8>) -> Command<FakeSocket> {
    Command::Direct { session: SessionId(session), frame }
}

/// Error frames, each one different.
fn direct_frames(session: u64, count: usize) -> (Vec<Vec<u8>>, Vec<Command<FakeSocket>>) {
    let frames: Vec<_> = (0..count).map(|number| text_frame(format!("{number:0>100}").as_bytes())).collect();
    let commands = frames.iter().map(|frame| direct(session, frame.clone())).collect();
    (frames, commands)
}

#[test]
fn a_batch_is_reported_sent_when_its_round_was_written() {
    let mut bench = Bench::new();
    let link = bench.open_live(1, FakeSocket::open());
    let (frame, (reports, reported)) = (text_frame(b"bye"), unbounded());
    let (expected, socket) = (frame.clone(), link.clone());
    let report = move || {
        let _ = reports.send(socket.socket.taken().ends_with(&expected));
    };
    let batch = Batch {
        frames: frame.into(),
        events: 1,
        has_presence: true,
        oldest_append: None,
        on_sent: Some(Arc::new(OnSent::new(report))),
        admissions: Vec::new(),
    };
    bench.send([Command::Events(batch)]);
    assert_eq!(reported.try_recv(), Ok(true));
}

#[test]
fn a_ping_that_meets_a_full_socket_is_sent_when_the_socket_has_room() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([1_000]);
    bench.send([events(b"", &[(1, list(0))])]);
    let before = link.socket.taken().len();
    bench.thread.tick(Instant::now() + PING_INTERVAL);
    assert_eq!(link.socket.taken().len(), before, "the socket is full");
    link.socket.take_everything();
    bench.retry();
    assert!(link.socket.taken().ends_with(PING), "the ping was not tried again");
}

#[test]
fn the_pong_timeout_begins_when_the_ping_was_sent() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([1_000]);
    bench.send([events(b"", &[(1, list(0))])]);
    let pinged_at = Instant::now() + PING_INTERVAL;
    bench.thread.tick(pinged_at);
    bench.thread.tick(pinged_at + Duration::from_secs(11));
    assert!(bench.thread.outboxes[0].is_open(), "the ping was not sent yet");
    link.socket.take_everything();
    bench.thread.retry_lagging(pinged_at + Duration::from_secs(12));
    bench.thread.tick(pinged_at + Duration::from_secs(21));
    assert!(bench.thread.outboxes[0].is_open());
    bench.thread.tick(pinged_at + Duration::from_secs(22));
    assert_eq!(link.end(End::ClosedByClient), End::PingTimeout);
}

#[test]
fn every_direct_frame_reaches_a_client_that_reads_however_many_there_are_in_one_round() {
    let mut bench = Bench::new();
    let link = bench.open_live(1, FakeSocket::open());
    let (expected, commands) = direct_frames(1, 2_000);
    bench.send(commands);
    let (got, _) = frames(&link.socket.taken());
    assert_eq!(got.len() - 1, expected.len());
    assert_eq!(got[1..], expected);
    assert_eq!(link.end(End::ClosedByClient), End::ClosedByClient);
}

#[test]
fn direct_frames_that_a_client_does_not_read_count_against_its_limit() {
    let mut bench = Bench::new();
    let link = bench.open_live(1, FakeSocket::full());
    let (expected, commands) = direct_frames(1, 2_000);
    bench.send(commands);
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
    link.socket.take_everything();
    bench.retry();
    let (got, _) = frames(&link.socket.taken());
    assert!(got.len() < expected.len());
    assert_eq!(got.last().unwrap(), &wire::close(1013, End::TooSlow.row().text));
}

#[test]
fn a_client_with_too_many_answers_before_its_list_gets_them_all_and_is_closed() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::open());
    let (expected, commands) = direct_frames(1, 2_000);
    bench.send(commands);
    assert_eq!(link.end(End::ClosedByClient), End::TooFast);
    let (got, rest) = frames(&link.socket.taken());
    assert_eq!(got[..got.len() - 1], expected[..got.len() - 1]);
    assert!(got.len() > 600, "{} frames", got.len());
    assert_eq!((got.last().unwrap(), rest), (&wire::close(1008, End::TooFast.row().text), 0));
}

#[test]
fn a_list_longer_than_the_limit_reaches_a_slow_client_and_so_do_the_events_after_it() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([10]);
    let event = text_frame(b"hello");
    bench.send([events(&event, &[(1, list(5 * OUTBOX_BYTES_MAX))])]);
    assert!(bench.thread.outboxes[0].is_open());
    bench.send([events(&event, &[])]);
    while frames(&link.socket.taken()).0.len() < 3 {
        link.socket.grant([1_000]);
        bench.retry();
    }
    let (got, rest) = frames(&link.socket.taken());
    assert_eq!((got[0].len(), &got[1..], rest), (5 * OUTBOX_BYTES_MAX + 10, &[event.clone(), event][..], 0));
}

#[test]
fn events_after_a_list_count_against_the_limit() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    let event = text_frame(&[b'x'; 8_000]);
    bench.send([events(&event, &[(1, list(5 * OUTBOX_BYTES_MAX))])]);
    for _ in 0..10 {
        bench.send([events(&event, &[])]);
    }
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
}

#[test]
fn a_client_that_reads_nothing_of_its_list_is_closed() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([10]);
    bench.send([events(b"", &[(1, list(5 * OUTBOX_BYTES_MAX))])]);
    bench.thread.tick(Instant::now() + Duration::from_secs(30));
    assert!(bench.thread.outboxes[0].is_open());
    bench.thread.tick(Instant::now() + Duration::from_secs(36));
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
}

const SESSIONS: u64 = 4;

/// One command, or something that the sockets do.
#[derive(Debug, Clone)]
enum Step {
    /// A batch of events with payloads of these lengths. The session of `admitted` becomes live after that many events.
    Events {
        events: Vec<usize>,
        admitted: Option<(u64, usize)>,
    },
    Direct {
        session: u64,
    },
    /// The most bytes that the socket of this session accepts from each of the next writes.
    Grant {
        session: u64,
        writes: Vec<usize>,
    },
    Retry,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..SESSIONS;
    let step = prop_oneof![
        5 => (prop::collection::vec(0usize..400, 0..4), prop::option::of((session.clone(), 0usize..4)))
            .prop_map(|(events, admitted)| Step::Events { events, admitted }),
        2 => session.clone().prop_map(|session| Step::Direct { session }),
        4 => (session, prop::collection::vec(0usize..1_500, 1..5))
            .prop_map(|(session, writes)| Step::Grant { session, writes }),
        1 => Just(Step::Retry),
    ];
    prop::collection::vec(step, 0..60)
}

/// The frames that one client must get.
#[derive(Default)]
struct Expected {
    is_live: bool,
    /// The list, and all events from then on.
    events: Vec<Vec<u8>>,
    direct: Vec<Vec<u8>>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every live client gets its list, then every event once and in order; direct frames keep their order among
    /// themselves and are never between the events of a round.
    #[test]
    fn every_client_gets_every_event_once_and_in_order_however_slow_each_is(steps in steps()) {
        let mut bench = Bench::new();
        let links: Vec<_> = (0..SESSIONS).map(|session| bench.open(session, FakeSocket::full())).collect();
        let mut expected: Vec<Expected> = (0..SESSIONS).map(|_| Expected::default()).collect();
        let mut number = 0;
        let mut frame = |kind: char, more_bytes: usize| {
            number += 1;
            text_frame(format!("{kind}{number:08}{}", "x".repeat(more_bytes)).as_bytes())
        };
        for step in steps {
            match step {
                Step::Events { events, admitted } => {
                    let events: Vec<_> = events.into_iter().map(|bytes| frame('e', bytes)).collect();
                    let mut admissions = Vec::new();
                    if let Some((session, first)) = admitted.filter(|(session, _)| !expected[*session as usize].is_live) {
                        let first = first.min(events.len());
                        let list = frame('e', 1_000);
                        let pieces = vec![Piece::part(list[..500].into(), false), Piece::part(list[500..].into(), true)];
                        let origin = events[..first].concat().len();
                        admissions.push(Admission { session: SessionId(session), first_frames: pieces, origin });
                        let client = &mut expected[session as usize];
                        client.is_live = true;
                        client.events = [vec![list], events[first..].to_vec()].concat();
                        for (other, client) in expected.iter_mut().enumerate().filter(|(_, client)| client.is_live) {
                            if other as u64 != session {
                                client.events.extend_from_slice(&events);
                            }
                        }
                    } else {
                        let live = expected.iter_mut().filter(|client| client.is_live);
                        live.for_each(|client| client.events.extend_from_slice(&events));
                    }
                    let count = events.len() as u64;
                    let frames = events.concat().into();
                    let batch =
                        Batch { frames, events: count, has_presence: false, oldest_append: None, on_sent: None, admissions };
                    bench.send([Command::Events(batch)]);
                }
                Step::Direct { session } => {
                    let frame = frame('d', 50);
                    expected[session as usize].direct.push(frame.clone());
                    bench.send([direct(session, frame)]);
                }
                Step::Grant { session, writes } => links[session as usize].socket.grant(writes),
                Step::Retry => bench.retry(),
            }
        }
        links.iter().for_each(|link| link.socket.take_everything());
        bench.retry();
        for (link, expected) in links.iter().zip(&expected) {
            let (got, rest) = frames(&link.socket.taken());
            prop_assert_eq!(rest, 0, "a frame is incomplete");
            if expected.is_live {
                let is_event = |frame: &Vec<u8>| frame[frame.len().min(if frame[1] < 126 { 2 } else { 4 })] == b'e';
                let (events, direct): (Vec<_>, Vec<_>) = got.into_iter().partition(is_event);
                prop_assert!(events == expected.events, "{} of {} events", events.len(), expected.events.len());
                // The direct frames of a client are sent with its next round.
                prop_assert!(direct == expected.direct, "{} of {} direct", direct.len(), expected.direct.len());
            } else {
                prop_assert_eq!(got.len(), 0, "a client got something before its list");
            }
        }
    }
}

#[test]
fn the_close_frame_follows_the_events_and_direct_frames_before_it_and_nothing_else() {
    let mut bench = Bench::new();
    let link = bench.open_live(1, FakeSocket::open());
    let other = bench.open_live(2, FakeSocket::open());
    let (event, answer, left) = (text_frame(b"event"), text_frame(b"answer"), text_frame(b"its user left"));
    let close = wire::close(1000, "");
    bench.send([
        direct(1, answer.clone()),
        events(&event, &[]),
        Command::Close { session: SessionId(1), frame: close.clone() },
        events(&left, &[]),
        Command::Forget(SessionId(1)),
    ]);
    let (got, rest) = frames(&link.socket.taken());
    assert_eq!((&got[1..], rest), (&[event.clone(), answer, close][..], 0));
    assert_eq!(frames(&other.socket.taken()).0[1..], [event, left]);
    assert_eq!(bench.thread.outboxes.len(), 1);
}

#[test]
fn a_client_whose_connection_breaks_harms_no_other_client() {
    let mut bench = Bench::new();
    let broken = bench.open_live(1, FakeSocket::open());
    let sound = bench.open_live(2, FakeSocket::open());
    broken.socket.break_connection();
    let event = text_frame(b"event");
    bench.send([events(&event, &[])]);
    bench.send([events(&event, &[])]);
    assert_eq!(frames(&sound.socket.taken()).0[1..], [event.clone(), event]);
    assert_eq!(broken.end(End::ClosedByClient), End::Disconnected);
}

#[test]
fn a_full_socket_costs_no_write_for_each_round() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    let event = text_frame(b"event");
    bench.send([events(&event, &[(1, list(0))])]);
    let tried = link.socket.times_full();
    let now = Instant::now();
    for _ in 0..100 {
        bench.thread.take(events(&event, &[]));
    }
    bench.thread.send_round();
    assert!(link.socket.times_full() - tried <= 1 + now.elapsed().as_millis() as usize);
}

#[test]
fn a_round_that_waits_for_its_turn_takes_later_events_too() {
    let (mut bench, turns) = (Bench::new(), Turns::new(2));
    let link = bench.open_live(1, FakeSocket::open());
    let before = link.socket.taken();
    let event = text_frame(b"event");
    let commands = bench.commands.clone();
    let mut timer = RoundTimer::new(turns.clone(), Instant::now());
    timer.end(timer.begin(), Duration::from_secs(60));
    bench.thread.round_timer = timer;
    let sending = turns.take();
    let deadline = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        scope.spawn(|| bench.thread.take_round(events(&event, &[])));
        commands.send(events(&event, &[])).unwrap();
        while !commands.is_empty() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(commands.is_empty() && link.socket.taken() == before);
        drop(sending);
    });
    assert_eq!(frames(&link.socket.taken()).0[1..], [event.clone(), event]);
}
