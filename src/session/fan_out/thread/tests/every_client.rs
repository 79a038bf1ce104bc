//! Whatever arrives before and during the rounds, and however slow each client is: every live client gets its list, then
//! every event once and in order, then its close frame if it is closed.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// More than two looks at the clock. One of two sockets accepts only what is granted.
const SESSIONS: u64 = CLIENTS;

#[derive(Debug, Clone)]
enum Step {
    Open,
    /// A batch of events with payloads of these lengths. The session of `admitted` becomes live after that many events.
    Events {
        events: Vec<usize>,
        admitted: Option<(u64, usize)>,
    },
    Direct {
        session: u64,
    },
    Close {
        session: u64,
    },
    Forget {
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
        6 => Just(Step::Open),
        10 => (prop::collection::vec(0usize..400, 0..4), prop::option::of((session.clone(), 0usize..4)))
            .prop_map(|(events, admitted)| Step::Events { events, admitted }),
        2 => session.clone().prop_map(|session| Step::Direct { session }),
        1 => session.clone().prop_map(|session| Step::Close { session }),
        1 => session.clone().prop_map(|session| Step::Forget { session }),
        4 => (session, prop::collection::vec(0usize..1_500, 1..5))
            .prop_map(|(session, writes)| Step::Grant { session, writes }),
        1 => Just(Step::Retry),
    ];
    prop::collection::vec(step, 0..120)
}

/// Whether clients have got what they must get when a batch is reported as sent.
type Reports = Arc<Mutex<Vec<bool>>>;

/// What the test does next.
enum Action {
    Send(Command<FakeSocket>),
    Grant { session: usize, writes: Vec<usize> },
    Retry,
}

/// The frames that one client must get.
#[derive(Default)]
struct Expected {
    is_open: bool,
    is_live: bool,
    close: Option<Vec<u8>>,
    /// The list, and all events from then on until the session is closed.
    events: Vec<Vec<u8>>,
    direct: Vec<Vec<u8>>,
    /// The number of `events` when the session was forgotten.
    forgotten_at: Option<usize>,
}

impl Expected {
    fn gets_direct(&self) -> bool {
        self.is_open && self.close.is_none() && self.forgotten_at.is_none()
    }
}

/// The steps as actions, and what they lead to. The order of the actions is the order of the commands, so it does not
/// matter when each of them happens.
struct Plan {
    links: Vec<Arc<Link<FakeSocket>>>,
    actions: VecDeque<Action>,
    expected: Vec<Expected>,
    opened: u64,
    frames: u32,
    batches: usize,
    reports: Reports,
}

impl Plan {
    fn new(steps: Vec<Step>) -> Plan {
        let socket = |session: u64| if session.is_multiple_of(2) { FakeSocket::open() } else { FakeSocket::full() };
        let link = |session| Arc::new(Link::new(SessionId(session), socket(session)));
        let mut plan = Plan {
            links: (0..SESSIONS).map(link).collect(),
            actions: VecDeque::new(),
            expected: (0..SESSIONS).map(|_| Expected::default()).collect(),
            opened: 0,
            frames: 0,
            batches: 0,
            reports: Reports::default(),
        };
        // Most sessions are live from the beginning.
        for session in 0..SESSIONS * 2 / 3 {
            plan.open();
            plan.events(&[], Some((session, 0)));
        }
        steps.into_iter().for_each(|step| plan.add(step));
        plan
    }

    fn add(&mut self, step: Step) {
        match step {
            Step::Open => self.open(),
            Step::Events { events, admitted } => self.events(&events, admitted),
            Step::Direct { session } => {
                let frame = self.frame('d', 50);
                let client = &mut self.expected[session as usize];
                if client.gets_direct() {
                    client.direct.push(frame.clone());
                }
                self.send(direct(session, frame));
            }
            Step::Close { session } => {
                let frame = wire::close(1000, "bye");
                let client = &mut self.expected[session as usize];
                if client.gets_direct() {
                    client.close = Some(frame.clone());
                }
                self.send(Command::Close { session: SessionId(session), frame });
            }
            Step::Forget { session } => {
                let client = &mut self.expected[session as usize];
                if client.is_open {
                    client.forgotten_at.get_or_insert(client.events.len());
                    self.send(Command::Forget(SessionId(session)));
                }
            }
            Step::Grant { session, writes } => {
                self.actions.push_back(Action::Grant { session: session as usize, writes });
            }
            Step::Retry => self.actions.push_back(Action::Retry),
        }
    }

    fn send(&mut self, command: Command<FakeSocket>) {
        self.actions.push_back(Action::Send(command));
    }

    fn open(&mut self) {
        if let Some(link) = self.links.get(self.opened as usize).cloned() {
            self.expected[self.opened as usize].is_open = true;
            self.opened += 1;
            self.send(open(link));
        }
    }

    fn frame(&mut self, kind: char, more_bytes: usize) -> Vec<u8> {
        self.frames += 1;
        text_frame(format!("{kind}{:08}{}", self.frames, "x".repeat(more_bytes)).as_bytes())
    }

    fn events(&mut self, events: &[usize], admitted: Option<(u64, usize)>) {
        let events: Vec<_> = events.iter().map(|bytes| self.frame('e', *bytes)).collect();
        let list = self.frame('e', 1_000);
        let may_join = |client: &Expected| client.gets_direct() && !client.is_live;
        let admitted = admitted.filter(|(session, _)| may_join(&self.expected[*session as usize]));
        for client in self.expected.iter_mut().filter(|client| client.is_live && client.close.is_none()) {
            client.events.extend_from_slice(&events);
        }
        let admission = |(session, first): (u64, usize)| {
            let first = first.min(events.len());
            let pieces = vec![Piece::part(list[..500].into(), false), Piece::part(list[500..].into(), true)];
            let client = &mut self.expected[session as usize];
            client.is_live = true;
            client.events = [std::slice::from_ref(&list), &events[first..]].concat();
            Admission { session: SessionId(session), first_frames: pieces, origin: events[..first].concat().len() }
        };
        let admissions = admitted.map(admission).into_iter().collect();
        let on_sent = Some(self.on_sent());
        self.send(Command::Events(batch(&events.concat(), events.len() as u64, on_sent, admissions)));
    }

    /// Reports whether the clients that are always ready have got all events up to now.
    fn on_sent(&mut self) -> OnSent {
        self.batches += 1;
        let is_always_live = |client: &Expected| client.is_live && client.forgotten_at.is_none();
        let clients = self.links.iter().zip(&self.expected).step_by(2).filter(|(_, client)| is_always_live(client));
        let least: Vec<_> = clients.map(|(link, client)| (link.clone(), client.events.concat().len())).collect();
        let reports = self.reports.clone();
        OnSent::new(move || {
            let is_sent = least.iter().all(|(link, bytes)| link.socket.taken().len() >= *bytes);
            reports.lock().unwrap().push(is_sent);
        })
    }
}

/// Performs the actions: the next one after so many writes of a round, or when no round is running.
struct Feed {
    actions: VecDeque<Action>,
    writes_between: Vec<usize>,
    next: usize,
    writes_left: usize,
    commands: Sender<Command<FakeSocket>>,
    links: Vec<Arc<Link<FakeSocket>>>,
}

impl Feed {
    fn on_write(&mut self) {
        if self.writes_left == 0 {
            self.perform();
        }
        self.writes_left = self.writes_left.saturating_sub(1);
    }

    /// Performs the next action. True if it is to retry the lagging sessions, which only the caller can do.
    fn perform(&mut self) -> bool {
        self.writes_left = self.writes_between.get(self.next).copied().unwrap_or(1);
        self.next = (self.next + 1) % self.writes_between.len().max(1);
        match self.actions.pop_front() {
            Some(Action::Send(command)) => self.commands.send(command).unwrap(),
            Some(Action::Grant { session, writes }) => self.links[session].socket.grant(writes),
            Some(Action::Retry) => return true,
            None => {}
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_client_gets_every_event_once_and_in_order(
        steps in steps(),
        writes_between in prop::collection::vec(1usize..30, 0..20),
    ) {
        let mut bench = Bench::new();
        bench.thread.commands_interval = Duration::ZERO;
        let Plan { links, actions, expected, batches, reports, .. } = Plan::new(steps);
        let commands = bench.commands.clone();
        let feed = Feed { actions, writes_between, next: 0, writes_left: 0, commands, links: links.clone() };
        let feed = Arc::new(Mutex::new(feed));
        for link in &links {
            let feed = feed.clone();
            link.socket.on_write(move || feed.lock().unwrap().on_write());
        }
        while !feed.lock().unwrap().actions.is_empty() {
            let retry = feed.lock().unwrap().perform();
            if retry {
                bench.retry();
            }
            bench.run_rounds();
        }
        let reports = reports.lock().unwrap().clone();
        prop_assert_eq!(reports, vec![true; batches]);
        links.iter().for_each(|link| link.socket.take_everything());
        bench.retry();
        for (link, expected) in links.iter().zip(&expected) {
            check(link, expected)?;
        }
    }
}

fn check(link: &Link<FakeSocket>, expected: &Expected) -> Result<(), TestCaseError> {
    let (mut got, rest) = frames(&link.socket.taken());
    let is_always_open = link.session.0.is_multiple_of(2);
    if let Some(forgotten_at) = expected.forgotten_at.filter(|_| expected.close.is_none() || !is_always_open) {
        // It gets what its socket accepts, and perhaps more events until the end of the round.
        let is_event = |frame: &Vec<u8>| kind_of(frame) == Some(b'e');
        let events: Vec<_> = got.into_iter().filter(is_event).collect();
        prop_assert!(expected.events.starts_with(&events), "{} of {} events", events.len(), expected.events.len());
        prop_assert!(!is_always_open || events.len() >= forgotten_at, "{} of {forgotten_at} events", events.len());
        return Ok(());
    }
    prop_assert_eq!(rest, 0, "a frame is incomplete");
    if let Some(close) = &expected.close {
        prop_assert_eq!(got.pop(), Some(close.clone()));
    } else if !expected.is_live {
        prop_assert_eq!(got.len(), 0, "a client got something before its list");
        return Ok(());
    }
    let (events, direct): (Vec<_>, Vec<_>) = got.into_iter().partition(|frame| kind_of(frame) == Some(b'e'));
    prop_assert!(events == expected.events, "{} of {} events", events.len(), expected.events.len());
    prop_assert!(direct == expected.direct, "{} of {} direct", direct.len(), expected.direct.len());
    Ok(())
}

/// `e` for an event or a list, `d` for a direct frame; `None` for a close frame.
fn kind_of(frame: &[u8]) -> Option<u8> {
    let payload = frame.get(if frame[1] < 126 { 2 } else { 4 }..)?;
    payload.first().copied().filter(|_| frame[0] == 0x81)
}
