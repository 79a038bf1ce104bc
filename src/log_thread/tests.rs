//! The log thread, stepped by the test: a log in memory that can refuse `left` records, and a fan-out without
//! threads.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::*;
use crate::event_log::{AppendError, Appender, Reader, Span};
use crate::lobby::User;
use crate::lobby::state::LEASE_HEARTBEATS;
use crate::publisher::{self, Publisher};
use crate::session::fan_out::DetachedThread;
use crate::session::history::{History, Request};
use crate::session::outbox::Piece;
use crate::session::testing::frames;
use crate::threads::lock;

const ME: InstanceId = InstanceId(1);
const OTHER: InstanceId = InstanceId(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// An event log in memory, shared by its writing and its reading end.
#[derive(Default)]
struct FakeLog {
    records: Mutex<VecDeque<Arc<Record>>>,
    next_offset: AtomicU64,
    refuses_left: AtomicBool,
}

impl Appender for Arc<FakeLog> {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        if matches!(record.body, Body::Left { .. }) && self.refuses_left.load(Ordering::Relaxed) {
            return Err(AppendError::Full);
        }
        lock(&self.records).push_back(Arc::new(record));
        Ok(())
    }
}

impl Reader for Arc<FakeLog> {
    fn rewind(&mut self, _records: u64) -> Result<Span, ReadError> {
        Ok(Span { start: 0, end: 0, from_the_beginning: true })
    }

    fn position(&self) -> u64 {
        0
    }

    fn poll(&mut self, _timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let mut records = lock(&self.records);
        let count = max.min(records.len());
        let next_offset = || self.next_offset.fetch_add(1, Ordering::Relaxed);
        entries.extend(records.drain(..count).map(|record| Entry { offset: next_offset(), record }));
        Ok(())
    }
}

struct Bench {
    thread: LogThread,
    publisher: Arc<Publisher>,
    log: Arc<FakeLog>,
    undelivered: Sender<Record>,
    fan_out: DetachedThread,
}

impl Bench {
    /// A log thread that has built its state and is ready.
    fn ready() -> Bench {
        let log = Arc::new(FakeLog::default());
        let (undelivered, waiting) = unbounded();
        let event_log = EventLog {
            appender: Arc::new(log.clone()),
            reader: Box::new(log.clone()),
            undelivered: waiting,
            skipped: Arc::default(),
            open_reader: None,
        };
        let (publisher, driver) = publisher::open(ME, Arc::new(log.clone()));
        let (fan_out, mut detached) = FanOut::detached(1);
        let metrics = Arc::new(Metrics::new(Arc::default(), &[]));
        let history = Arc::new(Mutex::new(History::new(4)));
        let (on_state_built, state_built) = bounded(1);
        let mut thread = LogThread::new(event_log, driver, fan_out, history, metrics, Arc::default(), on_state_built);
        thread.build_state().unwrap();
        assert_eq!(state_built.try_iter().count(), 1);
        let mut bench = Bench { thread, publisher, log, undelivered, fan_out: detached.remove(0) };
        bench.run_until("the instance is ready", |bench| bench.publisher.is_ready());
        bench
    }

    /// One round of the log thread's loop.
    fn step(&mut self) {
        self.thread.poll(Duration::ZERO).unwrap();
        self.thread.report_undelivered();
        let ticked = self.thread.driver.tick(&self.thread.lobby);
        self.thread.set_health(ticked.health);
    }

    /// Runs the loop until a condition holds; some need time: a second roster is due after a second, for example.
    fn run_until(&mut self, what: &str, condition: impl Fn(&Bench) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            self.step();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Another instance appends ten heartbeats: the lease of this instance expires, and its sessions are removed.
    fn expire_lease(&self) {
        for seq in 1..=u64::from(LEASE_HEARTBEATS) {
            let record = Record { from: OTHER, seq, at: "now".into(), body: Body::Heartbeat { n: seq } };
            lock(&self.log.records).push_back(Arc::new(record));
        }
    }

    fn open(&mut self) -> SessionId {
        self.open_with(None)
    }

    fn open_with(&mut self, request: Option<Request>) -> SessionId {
        let session = self.publisher.new_session();
        let user = User { id: "4".into(), username: "Bob".into() };
        self.publisher.open_session(session, user, request, || false).unwrap();
        session
    }

    /// Sends a message and reads it back.
    fn say(&mut self, session: SessionId, id: &str) {
        self.publisher.say(session, "hi".into(), Some(id.into())).unwrap();
        self.step();
    }

    /// The first frames of a session that opens with this request.
    fn first_frames(&mut self, request: Option<Request>) -> Vec<String> {
        self.step();
        while self.fan_out.commands.try_recv().is_ok() {}
        let session = self.open_with(request);
        self.step();
        let admission = self.fan_out.commands.try_iter().find_map(|command| match command {
            Command::Events(batch) => batch.admissions.into_iter().find(|one| one.session == session),
            _ => None,
        });
        let pieces = admission.expect("an admission").first_frames;
        let bytes: Vec<u8> = pieces.iter().flat_map(Piece::rest).copied().collect();
        let text = |frame: &Vec<u8>| String::from_utf8_lossy(&frame[if frame[1] < 126 { 2 } else { 4 }..]).into_owned();
        frames(&bytes).0.iter().map(text).collect()
    }

    /// The direct frames that were sent to the fan-out since the last call, by session.
    fn direct_frames(&self) -> Vec<(SessionId, String)> {
        let direct = |command| match command {
            Command::Direct { session, frame } => Some((session, String::from_utf8_lossy(&frame).into_owned())),
            _ => None,
        };
        self.fan_out.commands.try_iter().filter_map(direct).collect()
    }
}

fn said(from: InstanceId, session: SessionId, id: &str) -> Record {
    Record { from, seq: 1000, at: "now".into(), body: Body::Said { session, text: "hi".into(), id: Some(id.into()) } }
}

#[test]
fn a_session_whose_left_is_undelivered_is_forgotten_with_the_next_roster() {
    let mut bench = Bench::ready();
    let (first, second) = (bench.open(), bench.open());
    bench.run_until("both sessions are live", |bench| bench.thread.live.len() == 2);
    bench.log.refuses_left.store(true, Ordering::Relaxed);
    bench.publisher.close_session(first);
    bench.run_until("the roster has removed the session", |bench| bench.thread.lobby.user_of(ME, first).is_none());
    assert_eq!(bench.thread.live, HashSet::from([second]));
}

#[test]
fn an_undelivered_message_of_an_earlier_incarnation_causes_no_error_frame() {
    let mut bench = Bench::ready();
    let session = bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 1);
    bench.direct_frames();
    bench.undelivered.send(said(OTHER, session, "of an earlier incarnation")).unwrap();
    bench.undelivered.send(said(ME, session, "mine")).unwrap();
    bench.step();
    let frames = bench.direct_frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert!(frames[0].0 == session && frames[0].1.contains(r#""id":"mine""#), "{frames:?}");
}

/// The payloads of a batch, and its admissions: session, list of users, and where the session's events begin.
type Payloads = (Vec<String>, Vec<(SessionId, String, usize)>);

/// The batches that were sent to the fan-out since the last call.
fn batches(bench: &Bench) -> Vec<Payloads> {
    let list = |pieces: &[Piece]| frames(&pieces.iter().flat_map(Piece::rest).copied().collect::<Vec<_>>()).0.remove(0);
    let text = |frame: &[u8]| String::from_utf8_lossy(&frame[if frame[1] < 126 { 2 } else { 4 }..]).into_owned();
    let batch = |command| match command {
        Command::Events(batch) => {
            let events = frames(&batch.frames).0.iter().map(|frame| text(frame)).collect();
            let admissions = batch.admissions.iter();
            Some((events, admissions.map(|one| (one.session, text(&list(&one.first_frames)), one.origin)).collect()))
        }
        _ => None,
    };
    bench.fan_out.commands.try_iter().filter_map(batch).collect()
}

#[test]
fn a_session_becomes_live_with_the_list_before_its_join_and_gets_its_own_join() {
    let mut bench = Bench::ready();
    bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 1);
    let before = batches(&bench);
    let first = before.last().unwrap();
    assert!(first.0[0].contains("user_joined") && first.1[0].1.contains(r#""list":[]"#), "{first:?}");
    assert_eq!(first.1[0].2, 0, "its events begin with its own join");
    let second = bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 2);
    let (events, admitted) = batches(&bench).pop().unwrap();
    // A second session of the same user: no `user_joined`.
    assert_eq!((events.len(), admitted.len(), admitted[0].0), (0, 1, second));
    assert!(admitted[0].1.contains(r#""list":["Bob"]"#), "{admitted:?}");
}

#[test]
fn the_log_says_why_an_instance_is_stalled() {
    let mut bench = Bench::ready();
    assert!(bench.thread.stall_cause().starts_with("the event log returns no heartbeats"));
    bench.expire_lease();
    bench.step();
    assert_eq!(bench.thread.health, Health::Stalled);
    assert!(bench.thread.stall_cause().starts_with("the other instances have removed this one"));
}

#[test]
fn the_author_of_an_ignored_message_gets_an_error() {
    let mut bench = Bench::ready();
    let session = bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 1);
    bench.expire_lease();
    bench.publisher.say(session, "hi".into(), Some("mine".into())).unwrap();
    bench.step();
    let frames = bench.direct_frames();
    assert!(frames.len() == 1 && frames[0].1.contains(r#""id":"mine""#), "{frames:?}");
    bench.run_until("the instance is ready again", |bench| bench.publisher.is_ready());
    assert_eq!(bench.thread.live, HashSet::from([session]));
}

#[test]
fn the_author_of_a_repeated_message_gets_an_error_and_no_client_gets_the_message() {
    let mut bench = Bench::ready();
    let session = bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 1);
    bench.say(session, "a");
    bench.direct_frames();
    bench.say(session, "a");
    let frames = bench.direct_frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert!(frames[0].1.contains(r#""code":"duplicate""#) && frames[0].1.contains(r#""id":"a""#), "{frames:?}");
    assert!(bench.thread.metrics.encode().contains("ich_duplicates_refused_total 1"));
    assert_eq!(lock(&bench.thread.history).len(), 1);
}

#[test]
fn a_session_gets_the_messages_that_it_asks_for_after_its_list_once() {
    let mut bench = Bench::ready();
    let session = bench.open();
    bench.run_until("the session is live", |bench| bench.thread.live.len() == 1);
    let first = bench.first_frames(None);
    assert!(first.len() == 1 && !first[0].contains("event_id"), "{first:?}");
    (1..=3).for_each(|id| bench.say(session, &id.to_string()));
    let last_id = lock(&bench.thread.history).last_id().unwrap();

    let frames = bench.first_frames(Some(Request::Last(2)));
    assert!(frames[0].contains(&format!(r#""event_id":"{last_id}""#)), "{frames:?}");
    assert!(frames[1].contains(r#""id":"2""#) && frames[2].contains(r#""id":"3""#), "{frames:?}");
    assert!(frames[3].contains(r#""msg":{"complete":true,"messages":2}"#), "{frames:?}");
    assert_eq!(frames.len(), 4);
    let frames = bench.first_frames(Some(Request::After(Some(last_id))));
    assert!(frames.len() == 2 && frames[1].contains(r#""msg":{"complete":true,"messages":0}"#), "{frames:?}");
    assert_eq!(bench.first_frames(None).len(), 1);
}
