//! One outbox with a socket in memory: whatever frames it gets, and however few bytes the socket accepts at a time, the
//! client gets whole frames, in order, and all of them.

use proptest::prelude::*;

use super::*;
use crate::lobby::SessionId;
use crate::session::testing::{FakeSocket, frames};

/// Small, so that a few frames reach this limit.
const OUTBOX_BYTES_MAX: usize = 4_000;
const HEALTH: HealthTimes =
    HealthTimes { ping_interval: Duration::from_secs(25), pong_timeout: Duration::from_secs(10) };
const PING: &[u8] = &[0x89, 0];

/// One event in the life of an outbox.
#[derive(Debug, Clone)]
enum Step {
    /// The session is in the lobby: its list in parts of these lengths, then the messages that it missed, then the
    /// events from `origin` on.
    Admit {
        list: Vec<usize>,
        missed: Vec<usize>,
        events: Vec<usize>,
        origin: usize,
    },
    /// New events. With `again`, the events that were sent before them are pending too, because another session has
    /// not got them.
    Events {
        events: Vec<usize>,
        again: bool,
    },
    Direct {
        bytes: usize,
    },
    /// The most bytes that the socket accepts from each of the next writes.
    Grant {
        writes: Vec<usize>,
    },
    Wait {
        ms: u64,
    },
    Retry,
    Tick,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = |max: usize| prop::collection::vec(0..max, 0..5);
    let step = prop_oneof![
        2 => (lengths(4_000), lengths(4_000), lengths(300), 0usize..5)
            .prop_map(|(list, missed, events, origin)| Step::Admit { list, missed, events, origin }),
        8 => (lengths(300), any::<bool>()).prop_map(|(events, again)| Step::Events { events, again }),
        3 => (0usize..300).prop_map(|bytes| Step::Direct { bytes }),
        8 => prop::collection::vec(prop_oneof![0usize..4, 0usize..3_000], 1..6)
            .prop_map(|writes| Step::Grant { writes }),
        4 => (0u64..100).prop_map(|ms| Step::Wait { ms }),
        1 => (0u64..15_000).prop_map(|ms| Step::Wait { ms }),
        6 => Just(Step::Retry),
        3 => Just(Step::Tick),
    ];
    let maybe_close = prop::option::weighted(0.3, Just(Step::Close));
    (prop::collection::vec(step, 0..80), maybe_close).prop_map(|(mut steps, close)| {
        steps.extend(close);
        steps
    })
}

/// An outbox, and the frames that its client must get.
struct Model {
    outbox: Outbox<FakeSocket>,
    now: Instant,
    next_number: u32,
    is_live: bool,
    closed: Option<End>,
    /// The position after the last event.
    end: u64,
    /// The frames of the last events.
    last: Vec<u8>,
    /// Whole frames that were passed to the outbox, in the order in which it must send them.
    expected: Vec<Vec<u8>>,
    /// Direct frames that are sent with the next events.
    direct: Vec<Vec<u8>>,
}

impl Model {
    fn new() -> Model {
        let now = Instant::now();
        let link = Arc::new(Link::new(SessionId(1), FakeSocket::full()));
        let outbox = Outbox::new(link, now + Duration::from_secs(3600), now + HEALTH.ping_interval, now);
        Model {
            outbox,
            now,
            next_number: 0,
            is_live: false,
            closed: None,
            end: 0,
            last: Vec::new(),
            expected: Vec::new(),
            direct: Vec::new(),
        }
    }

    /// A new frame. Its payload is a number that no other frame has, and `more_bytes` more bytes.
    fn frame(&mut self, more_bytes: usize) -> Vec<u8> {
        self.next_number += 1;
        let mut frame = Vec::new();
        wire::put_text(format!("{:08}{}", self.next_number, "x".repeat(more_bytes)).as_bytes(), &mut frame);
        frame
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Admit { list, missed, events, origin } => self.admit(&list, &missed, &events, origin),
            Step::Events { events, again } => self.send(&events, 0, again),
            Step::Direct { bytes } => {
                let frame = self.frame(bytes);
                match self.outbox.add_direct(&frame, OUTBOX_BYTES_MAX) {
                    Ok(()) if self.closed.is_none() => self.direct.push(frame),
                    Ok(()) => {}
                    Err(end) => self.close(end),
                }
            }
            Step::Grant { writes } => self.outbox.link.socket.grant(writes),
            Step::Wait { ms } => self.now += Duration::from_millis(ms),
            Step::Retry => self.outbox.retry(self.now).unwrap(),
            Step::Tick => {
                if let Err(end) = self.outbox.tick(&HEALTH, self.now) {
                    self.close(end);
                }
            }
            Step::Close => self.close(End::Restarting),
        }
    }

    fn admit(&mut self, list: &[usize], missed: &[usize], events: &[usize], origin: usize) {
        if self.is_live || self.closed.is_some() {
            return;
        }
        let frame = self.frame(list.iter().sum());
        let mut rest = &frame[..];
        let mut pieces = Vec::new();
        for length in list {
            let (part, behind) = rest.split_at(*length);
            pieces.push(Piece::part(part.into(), false));
            rest = behind;
        }
        pieces.push(Piece::part(rest.into(), true));
        self.expected.push(frame);
        pieces.extend(self.missed(missed));
        self.is_live = true;
        let first = origin.min(events.len());
        let origin: usize = events.iter().take(first).map(|bytes| self.frame(*bytes).len()).sum();
        self.next_number -= u32::try_from(first).unwrap();
        self.outbox.admit(pieces, self.end + origin as u64, self.now);
        self.send(events, first, false);
    }

    /// A block of the history: a frame that the client already has, and then those that it missed. `None` if it missed
    /// none.
    fn missed(&mut self, missed: &[usize]) -> Option<Piece> {
        let known = b"\x81\x00";
        let frames: Vec<_> = missed.iter().map(|bytes| self.frame(*bytes)).collect();
        let block = [known.as_slice(), &frames.concat()].concat();
        self.expected.extend(frames);
        (!missed.is_empty()).then(|| Piece::frames(block.into(), known.len()))
    }

    /// Sends these events. The client gets those from the index `first` on.
    fn send(&mut self, events: &[usize], first: usize, again: bool) {
        let events: Vec<_> = events.iter().map(|bytes| self.frame(*bytes)).collect();
        if self.is_live && self.closed.is_none() {
            self.expected.extend_from_slice(&events[first..]);
            self.expected.append(&mut self.direct);
        }
        let before = if again { std::mem::take(&mut self.last) } else { Vec::new() };
        let begin = self.end - before.len() as u64;
        self.last = events.concat();
        let pending = EventBytes::new(begin, [before.as_slice(), &self.last].concat().into());
        self.end = pending.end();
        match self.outbox.send(&pending, OUTBOX_BYTES_MAX, self.now) {
            Ok(_) => {}
            Err(end) => self.close(end),
        }
    }

    /// Closes the session as the fan-out thread does, with one event that it has not got yet.
    fn close(&mut self, end: End) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(end);
        if end == End::TooSlow {
            self.outbox.close_slow_client(end, self.now);
        } else {
            let event = self.frame(5);
            let pending = EventBytes::new(self.end, event.as_slice().into());
            if self.is_live {
                self.expected.push(event);
            }
            self.expected.append(&mut self.direct);
            self.outbox.close(&pending, &wire::close(end.row().code, end.row().text), self.now);
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let first_bytes_max = 4 * 4_000 + 12 + 4 * 4_012;
        let behind_max = if self.closed.is_some() { usize::MAX } else { OUTBOX_BYTES_MAX + first_bytes_max };
        assert!(self.outbox.queue.bytes() <= behind_max, "{} bytes are queued", self.outbox.queue.bytes());
        let (mut got, _) = frames(&self.outbox.link.socket.taken());
        got.retain(|frame| frame != PING);
        if let Some(end) = self.closed
            && got.last() == Some(&wire::close(end.row().code, end.row().text))
        {
            got.pop();
            assert!(end == End::TooSlow || got.len() == self.expected.len(), "a frame was lost");
        }
        assert!(self.expected.starts_with(&got), "{:?} is not the beginning of {:?}", got.len(), self.expected.len());
    }

    /// What must hold when the socket has accepted everything.
    fn check_at_end(&mut self) {
        self.outbox.link.socket.take_everything();
        self.outbox.retry(self.now).unwrap();
        self.check();
        if self.outbox.stage == Stage::Gone {
            return;
        }
        assert_eq!(self.outbox.queue.bytes(), 0);
        let (mut got, rest) = frames(&self.outbox.link.socket.taken());
        assert_eq!(rest, 0, "a frame is incomplete");
        got.retain(|frame| frame != PING);
        match self.closed {
            None => assert!(got == self.expected, "{} of {} frames", got.len(), self.expected.len()),
            Some(end) => assert_eq!(got.pop(), Some(wire::close(end.row().code, end.row().text))),
        }
    }
}

proptest! {
    #[test]
    fn the_client_gets_all_frames_whole_and_in_order_with_any_pattern_of_partial_writes(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.perform(step);
            model.check();
        }
        model.check_at_end();
    }
}

#[test]
fn a_client_that_is_closed_with_the_end_of_its_list_unsent_gets_the_whole_list() {
    for unsent_bytes in 0..=12 {
        let mut model = Model::new();
        let list_bytes = model.frame(0).len() + 97;
        model.next_number = 0;
        model.outbox.link.socket.grant([list_bytes - unsent_bytes]);
        // The last part has 10 bytes.
        model.perform(Step::Admit { list: vec![42, 55], missed: vec![], events: vec![], origin: 0 });
        model.close(End::TooSlow);
        model.check_at_end();
    }
}
