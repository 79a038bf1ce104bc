//! One fan-out thread, run by hand over sockets in memory.

use crossbeam_channel::{Sender, unbounded};

use super::super::Admission;
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
}

impl Bench {
    fn new() -> Self {
        let (commands, waiting) = unbounded();
        let (_, used_credits) = unbounded();
        let health = HealthTimes { ping_interval: PING_INTERVAL, pong_timeout: Duration::from_secs(10) };
        let metrics = Arc::new(Metrics::new(Arc::default()));
        let settings = Settings { outbox_bytes_max: OUTBOX_BYTES_MAX, health, metrics };
        Bench { thread: FanOutThread::new(waiting, used_credits, settings), commands }
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

    /// Sends these commands at once and has the thread take rounds until none waits.
    fn send(&mut self, commands: impl IntoIterator<Item = Command<FakeSocket>>) {
        commands.into_iter().for_each(|command| self.commands.send(command).unwrap());
        while let Ok(command) = self.thread.commands.try_recv() {
            self.thread.take_round(command);
        }
    }

    /// Writes again what the sockets did not take.
    fn retry(&mut self) {
        self.thread.retry_lagging(Instant::now() + Duration::from_secs(60));
    }
}

fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::put_text(payload, &mut frame);
    frame
}

/// A frame for everybody, and the sessions that become live before it.
fn events(frames: &[u8], admitted: &[(u64, Vec<Piece>)]) -> Command<FakeSocket> {
    let admission =
        |(session, list): &(u64, Vec<Piece>)| Admission { session: SessionId(*session), list: list.clone(), origin: 0 };
    let admissions = admitted.iter().map(admission).collect();
    Command::Events(Batch { frames: frames.into(), events: 1, has_presence: false, admissions })
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
fn a_ping_that_meets_a_full_socket_goes_out_when_the_socket_has_room() {
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
fn a_client_has_the_whole_time_for_its_pong_from_when_the_ping_went_out() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([1_000]);
    bench.send([events(b"", &[(1, list(0))])]);
    let pinged_at = Instant::now() + PING_INTERVAL;
    bench.thread.tick(pinged_at);
    bench.thread.tick(pinged_at + Duration::from_secs(11));
    assert!(bench.thread.outboxes[0].is_open(), "the ping did not go out yet");
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
fn direct_frames_that_a_client_does_not_read_count_against_its_bound() {
    let mut bench = Bench::new();
    let link = bench.open_live(1, FakeSocket::full());
    let (expected, commands) = direct_frames(1, 2_000);
    bench.send(commands);
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
    link.socket.take_everything();
    bench.retry();
    let (got, _) = frames(&link.socket.taken());
    assert!(got.len() < expected.len());
    assert_eq!(got.last().unwrap(), &wire::close(1013, End::TooSlow.row().words));
}

#[test]
fn a_client_that_is_answered_beyond_its_bound_before_its_list_is_closed_with_all_answers() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::open());
    let (expected, commands) = direct_frames(1, 2_000);
    bench.send(commands);
    assert_eq!(link.end(End::ClosedByClient), End::TooFast);
    let (got, rest) = frames(&link.socket.taken());
    assert_eq!(got[..got.len() - 1], expected[..got.len() - 1]);
    assert!(got.len() > 600, "{} frames", got.len());
    assert_eq!((got.last().unwrap(), rest), (&wire::close(1008, End::TooFast.row().words), 0));
}

#[test]
fn a_list_longer_than_the_bound_goes_to_a_slow_client_and_the_events_behind_it_too() {
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
fn events_behind_a_list_count_against_the_bound() {
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
fn a_client_that_takes_nothing_of_its_list_is_closed() {
    let mut bench = Bench::new();
    let link = bench.open(1, FakeSocket::full());
    link.socket.grant([10]);
    bench.send([events(b"", &[(1, list(5 * OUTBOX_BYTES_MAX))])]);
    bench.thread.tick(Instant::now() + Duration::from_secs(30));
    assert!(bench.thread.outboxes[0].is_open());
    bench.thread.tick(Instant::now() + Duration::from_secs(36));
    assert_eq!(link.end(End::ClosedByClient), End::TooSlow);
}
