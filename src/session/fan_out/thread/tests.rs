//! One fan-out thread, stepped by the test, with sockets in memory.

mod every_client;

use std::sync::Mutex;
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use super::super::{Admission, OnSent};
use super::*;
use crate::session::link::Link;
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
        self.send([open(link.clone())]);
        link
    }

    /// A session that gets events.
    fn open_live(&mut self, session: u64, socket: FakeSocket) -> Arc<Link<FakeSocket>> {
        let link = self.open(session, socket);
        self.send([events(b"", &[(session, list(0))])]);
        link
    }

    /// Queues these commands and runs rounds until all clients have got everything.
    fn send(&mut self, commands: impl IntoIterator<Item = Command<FakeSocket>>) {
        commands.into_iter().for_each(|command| self.commands.send(command).unwrap());
        self.run_rounds();
    }

    /// Runs rounds until all clients have got everything.
    fn run_rounds(&mut self) {
        while !self.thread.commands.is_empty() || !self.thread.pending.is_empty() {
            self.thread.round();
        }
    }

    fn is_open(&self, session: u64) -> bool {
        self.thread.sessions.get(SessionId(session)).unwrap().is_open()
    }

    /// Writes the queued bytes again, at a time after the end of every pause.
    fn retry(&mut self) {
        self.retry_at += Duration::from_secs(1);
        self.thread.sessions.retry_lagging(self.retry_at);
    }
}

fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::put_text(payload, &mut frame);
    frame
}

fn open(link: Arc<Link<FakeSocket>>) -> Command<FakeSocket> {
    Command::Open { link, token_expires_at: Instant::now() + Duration::from_secs(24 * 3600) }
}

/// A batch with these frames, and the sessions that become live before them.
fn events(frames: &[u8], admitted: &[(u64, Vec<Piece>)]) -> Command<FakeSocket> {
    let admission = |(session, list): &(u64, Vec<Piece>)| Admission {
        session: SessionId(*session),
        first_frames: list.clone(),
        origin: 0,
    };
    Command::Events(batch(frames, 1, None, admitted.iter().map(admission).collect()))
}

fn batch(frames: &[u8], events: u64, on_sent: Option<OnSent>, admissions: Vec<Admission>) -> Batch {
    let on_sent = on_sent.map(Arc::new);
    Batch { frames: frames.into(), events, has_presence: false, oldest_append: None, on_sent, admissions }
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

/// Events that a round takes after it has begun.
struct LateEvents {
    bench: Bench,
    links: Vec<Arc<Link<FakeSocket>>>,
    /// The frames of each client when the late events were reported as sent.
    reported: crossbeam_channel::Receiver<Vec<usize>>,
}

/// More than two looks at the clock.
const CLIENTS: u64 = 3 * SESSIONS_PER_LOOK as u64;

impl LateEvents {
    /// The client with this index is the last one that gets an early event before the late event is queued.
    fn new(last_before: usize) -> Self {
        let mut bench = Bench::new();
        bench.thread.commands_interval = Duration::ZERO;
        let links: Vec<_> = (0..CLIENTS).map(|session| bench.open_live(session, FakeSocket::open())).collect();
        let (reports, reported) = unbounded();
        let receivers = links.clone();
        let report = move || {
            let _ = reports.send(frame_counts(&receivers));
        };
        let late = batch(&text_frame(b"late"), 1, Some(OnSent::new(report)), Vec::new());
        let late = Mutex::new(Some(Command::Events(late)));
        let commands = bench.commands.clone();
        links[last_before].socket.on_write(move || {
            late.lock().unwrap().take().into_iter().for_each(|late| commands.send(late).unwrap());
        });
        bench.thread.take(events(&text_frame(b"early"), &[]));
        LateEvents { bench, links, reported }
    }
}

/// The number of frames that each client has got, without its list.
fn frame_counts(links: &[Arc<Link<FakeSocket>>]) -> Vec<usize> {
    links.iter().map(|link| frames(&link.socket.taken()).0.len() - 1).collect()
}

#[test]
fn a_round_takes_later_events_and_the_next_one_begins_with_those_who_have_not_got_them() {
    let LateEvents { mut bench, links, reported } = LateEvents::new(SESSIONS_PER_LOOK);
    let behind = 2 * SESSIONS_PER_LOOK;
    bench.thread.round();
    let expected = |index: usize| if index < behind { 1 } else { 2 };
    assert_eq!(frame_counts(&links), (0..links.len()).map(expected).collect::<Vec<_>>());
    assert!(reported.try_recv().is_err(), "some clients have not got the late event");
    let writes: Vec<_> = links.iter().map(|link| link.socket.writes()).collect();
    bench.thread.round();
    assert_eq!(reported.try_recv(), Ok(vec![2; links.len()]));
    assert!(bench.thread.pending.is_empty());
    let written = |(link, before): (&Arc<Link<FakeSocket>>, usize)| link.socket.writes() - before;
    let written: Vec<_> = links.iter().zip(writes).map(written).collect();
    assert_eq!(written, (0..links.len()).map(|index| usize::from(index < behind)).collect::<Vec<_>>());
    assert!(
        links.iter().all(|link| frames(&link.socket.taken()).0[1..] == [text_frame(b"early"), text_frame(b"late")])
    );
}

#[test]
fn a_client_that_joins_in_the_middle_of_a_round_gets_its_list_and_the_later_events_in_this_round() {
    let LateEvents { mut bench, links, .. } = LateEvents::new(SESSIONS_PER_LOOK);
    let joining = Arc::new(Link::new(SessionId(CLIENTS), FakeSocket::open()));
    bench.thread.take(open(joining.clone()));
    let commands = bench.commands.clone();
    links[0].socket.on_write(move || commands.send(events(&text_frame(b"joined"), &[(CLIENTS, list(0))])).unwrap());
    bench.thread.round();
    assert_eq!(frames(&joining.socket.taken()).0[1..], [text_frame(b"joined"), text_frame(b"late")]);
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_round_gets_the_events_before_its_end() {
    let LateEvents { mut bench, links, .. } = LateEvents::new(SESSIONS_PER_LOOK);
    let commands = bench.commands.clone();
    let close = wire::close(1000, "");
    let frame = close.clone();
    links[SESSIONS_PER_LOOK + 1].socket.on_write(move || {
        let closed = Command::Close { session: SessionId(1), frame: frame.clone() };
        [Command::Forget(SessionId(0)), closed].into_iter().for_each(|command| commands.send(command).unwrap());
    });
    bench.thread.round();
    let (early, late) = (text_frame(b"early"), text_frame(b"late"));
    assert_eq!(frames(&links[0].socket.taken()).0[1..], [early.clone(), late.clone()]);
    assert_eq!(frames(&links[1].socket.taken()).0[1..], [early, late, close]);
    assert_eq!(bench.thread.sessions.len() as u64, CLIENTS - 1);
}

#[test]
fn a_client_whose_place_has_passed_gets_its_list_at_the_end_of_the_round() {
    let mut bench = Bench::new();
    bench.thread.commands_interval = Duration::ZERO;
    let joining = bench.open(CLIENTS, FakeSocket::open());
    let links: Vec<_> = (0..CLIENTS).map(|session| bench.open_live(session, FakeSocket::open())).collect();
    let commands = bench.commands.clone();
    links[0].socket.on_write(move || commands.send(events(&text_frame(b"joined"), &[(CLIENTS, list(0))])).unwrap());
    bench.thread.take(events(&text_frame(b"early"), &[]));
    bench.thread.round();
    assert_eq!(frame_counts(&links[..1]), [1]);
    assert_eq!(frames(&joining.socket.taken()).0[1..], [text_frame(b"joined")]);
}

#[test]
fn all_sessions_that_are_ended_in_the_middle_of_a_round_get_the_events_before_their_end() {
    let LateEvents { mut bench, links, .. } = LateEvents::new(0);
    let commands = bench.commands.clone();
    links[1].socket.on_write(move || {
        let later = events(&text_frame(b"later"), &[]);
        [Command::CloseAll(End::Restarting), later].into_iter().for_each(|command| commands.send(command).unwrap());
    });
    bench.run_rounds();
    let expected = [
        text_frame(b"early"),
        text_frame(b"late"),
        wire::close(End::Restarting.row().code, End::Restarting.row().text),
    ];
    assert!(links.iter().all(|link| frames(&link.socket.taken()).0[1..] == expected));
}

#[test]
fn a_round_takes_later_events_a_limited_number_of_times() {
    let mut bench = Bench::new();
    bench.thread.commands_interval = Duration::ZERO;
    let count = 3 * SESSIONS_PER_LOOK * TAKES_PER_ROUND_MAX;
    let links: Vec<_> = (0..count as u64).map(|session| bench.open_live(session, FakeSocket::open())).collect();
    for link in &links {
        let commands = bench.commands.clone();
        link.socket.on_write(move || commands.send(events(&text_frame(b"later"), &[])).unwrap());
    }
    bench.thread.take(events(&text_frame(b"early"), &[]));
    bench.thread.round();
    let mut versions = frame_counts(&links);
    versions.dedup();
    assert!((TAKES_PER_ROUND_MAX / 2..=TAKES_PER_ROUND_MAX + 1).contains(&versions.len()), "{versions:?}");
}

#[test]
fn the_bytes_of_the_pending_events_are_bounded_also_in_the_middle_of_a_round() {
    let LateEvents { mut bench, links, .. } = LateEvents::new(0);
    let commands = bench.commands.clone();
    let event = text_frame(&[b'x'; 8_000]);
    let count = 5 * crate::limits::ROUND_BYTES_MAX / event.len();
    let mut queued = Some(event.clone());
    links[1].socket.on_write(move || {
        let event = queued.take();
        event.into_iter().for_each(|event| (0..count).for_each(|_| commands.send(events(&event, &[])).unwrap()));
    });
    bench.thread.round();
    assert!(!bench.thread.commands.is_empty(), "a round without a bound takes all commands");
    bench.run_rounds();
    assert!(frame_counts(&links).iter().all(|frames| *frames == 2 + count));
    assert_eq!(links[0].end(End::ClosedByClient), End::ClosedByClient);
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
    assert!(bench.is_open(1), "the ping was not sent yet");
    link.socket.take_everything();
    bench.thread.sessions.retry_lagging(pinged_at + Duration::from_secs(12));
    bench.thread.tick(pinged_at + Duration::from_secs(21));
    assert!(bench.is_open(1));
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
    assert!(bench.is_open(1));
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
    assert!(bench.is_open(1));
    bench.thread.tick(Instant::now() + Duration::from_secs(36));
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
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
    assert_eq!(bench.thread.sessions.len(), 1);
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
        bench.thread.send_round();
    }
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
        scope.spawn(|| {
            bench.thread.take(events(&event, &[]));
            bench.thread.round();
        });
        commands.send(events(&event, &[])).unwrap();
        while !commands.is_empty() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(commands.is_empty() && link.socket.taken() == before);
        drop(sending);
    });
    assert_eq!(frames(&link.socket.taken()).0[1..], [event.clone(), event]);
}
