//! The publisher with a log that accepts every record; the test decides which records are read back.

use std::sync::Mutex;

use super::*;
use crate::limits::PRESENCE_UNSENT_MAX;
use crate::lobby::{Action, Body, Lobby};

const OLD: InstanceId = InstanceId(1);
const NEW: InstanceId = InstanceId(2);

/// An appender that keeps what was appended.
#[derive(Default)]
struct Taken(Mutex<Vec<Record>>);

impl Appender for Taken {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        lock(&self.0).push(record);
        Ok(())
    }
}

fn ready() -> (Arc<Publisher>, PublisherDriver, Arc<Taken>) {
    let taken = Arc::new(Taken::default());
    let (publisher, mut driver) = open(OLD, taken.clone());
    driver.set_health(Health::Ready);
    (publisher, driver, taken)
}

fn user() -> User {
    User { id: "4".into(), username: "Bob".into() }
}

/// Appends as many joins as may be unsent.
fn fill_window(publisher: &Publisher) {
    while lock(&publisher.state).window.has_room() {
        publisher.open_session(publisher.new_session(), user(), None, || false).unwrap();
    }
}

#[test]
fn an_undelivered_record_of_an_earlier_incarnation_makes_no_room_in_the_window() {
    let (publisher, mut driver, taken) = ready();
    fill_window(&publisher);
    driver.reincarnate(NEW);
    fill_window(&publisher);
    let records = std::mem::take(&mut *lock(&taken.0));
    let (old, new): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.from == OLD);
    assert_eq!(old.len(), new.len());
    old.iter().for_each(|record| driver.on_undelivered(record));
    assert!(!lock(&publisher.state).window.has_room());
    driver.on_undelivered(&new[0]);
    assert!(lock(&publisher.state).window.has_room());
}

#[test]
fn the_request_of_a_session_is_forgotten_when_it_is_answered_when_the_session_ends_and_with_its_incarnation() {
    let (publisher, mut driver, _) = ready();
    let open = || {
        let session = publisher.new_session();
        publisher.open_session(session, user(), Some(history::Request::Last(7)), || false).unwrap();
        session
    };
    let session = open();
    assert_eq!(driver.take_request(session), Some(history::Request::Last(7)));
    assert_eq!(driver.take_request(session), None);
    publisher.close_session(open());
    assert!(lock(&publisher.state).requests.is_empty());
    open();
    driver.reincarnate(NEW);
    assert!(lock(&publisher.state).requests.is_empty());
}

#[test]
fn leaves_beyond_the_window_are_appended_when_joins_were_read_back_and_sent() {
    let (publisher, mut driver, taken) = ready();
    fill_window(&publisher);
    let joined = std::mem::take(&mut *lock(&taken.0));
    for record in &joined {
        let Body::Joined { session, .. } = record.body else { panic!("{record:?}") };
        publisher.close_session(session);
    }
    assert_eq!(*lock(&taken.0), []);
    let (mut lobby, mut events) = (Lobby::default(), Vec::new());
    for (offset, record) in (0..).zip(&joined) {
        lobby.apply(record, offset, &mut events);
        driver.on_own_record(record, &lobby);
    }
    assert_eq!(*lock(&taken.0), []);
    drop(driver.take_unsent());
    let left = lock(&taken.0).iter().filter(|record| matches!(record.body, Body::Left { .. })).count();
    assert_eq!(left, joined.len());
}

fn moderation(action: Action) -> Moderation {
    let (username, by, reason) = ("BOB".into(), "Ann".into(), "spam".into());
    Moderation { action, username, by, reason, at_ms: 5, until_ms: None }
}

fn left_of(taken: &Taken) -> Vec<SessionId> {
    let left = |record: &Record| if let Body::Left { session } = record.body { Some(session) } else { None };
    lock(&taken.0).iter().filter_map(left).collect()
}

/// Fills the window, lets eight joins wait for their turn, calls `release` with one of the unsent joins, and checks
/// that all these joins fail with `expected`.
fn check_waiting_joins(
    publisher: &Publisher,
    taken: &Taken,
    has_left: bool,
    release: impl FnOnce(&Record),
    expected: OpenError,
) {
    fill_window(publisher);
    let joined = lock(&taken.0)[0].clone();
    let (sender, results) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| sender.send(publisher.open_session(publisher.new_session(), user(), None, || has_left)));
        }
        assert!(results.recv_timeout(Duration::from_millis(200)).is_err(), "the joins wait");
        release(&joined);
        for _ in 0..8 {
            // Less than the longest wait for a turn.
            assert_eq!(results.recv_timeout(WINDOW_WAIT_MAX / 2), Ok(Err(expected)));
        }
    });
    assert_eq!(lock(&taken.0).len(), PRESENCE_UNSENT_MAX, "no join is appended");
}

#[test]
fn a_join_is_unsent_until_all_fan_out_threads_have_sent_it() {
    let (publisher, mut driver, taken) = ready();
    fill_window(&publisher);
    let joined = lock(&taken.0)[0].clone();
    let mut lobby = Lobby::default();
    lobby.apply(&joined, 0, &mut Vec::new());
    driver.on_own_record(&joined, &lobby);
    let unsent = driver.take_unsent();
    assert!(unsent.is_some() && driver.take_unsent().is_none());
    assert!(!lock(&publisher.state).window.has_room());
    drop(unsent);
    assert!(lock(&publisher.state).window.has_room());
}

#[test]
fn joins_that_wait_for_their_turn_are_refused_when_the_log_does_not_answer() {
    let (publisher, mut driver, taken) = ready();
    check_waiting_joins(&publisher, &taken, false, |_| driver.set_health(Health::Stalled), OpenError::Unavailable);
}

#[test]
fn a_refused_join_wakes_the_next_one() {
    let (publisher, mut driver, taken) = ready();
    // After the window is full: the user has to join until then.
    let ban = |joined: &Record| {
        publisher.sanctions().apply(&moderation(Action::Ban));
        driver.on_undelivered(joined);
    };
    check_waiting_joins(&publisher, &taken, false, ban, OpenError::Banned);
}

#[test]
fn a_join_whose_client_has_left_while_it_waited_is_not_appended() {
    let (publisher, mut driver, taken) = ready();
    check_waiting_joins(&publisher, &taken, true, |joined| driver.on_undelivered(joined), OpenError::Left);
}

#[test]
fn a_muted_user_cannot_write_and_a_banned_one_cannot_join() {
    let (publisher, _driver, taken) = ready();
    let session = publisher.new_session();
    publisher.open_session(session, user(), None, || false).unwrap();
    publisher.sanctions().apply(&moderation(Action::Mute));
    let refused = publisher.say(session, "hello".into(), None);
    assert!(matches!(refused, Err(SayError::Muted(mute)) if &*mute.reason == "spam"));
    assert!(!lock(&taken.0).iter().any(|record| matches!(record.body, Body::Said { .. })));
    publisher.sanctions().apply(&Moderation { at_ms: 6, ..moderation(Action::Ban) });
    assert_eq!(publisher.open_session(publisher.new_session(), user(), None, || false), Err(OpenError::Banned));
    publisher.sanctions().apply(&Moderation { at_ms: 7, ..moderation(Action::Unban) });
    assert_eq!(publisher.say(session, "hello".into(), None), Ok(()));
}

#[test]
fn an_ended_session_leaves_once_and_cannot_write() {
    let (publisher, _driver, taken) = ready();
    let session = publisher.new_session();
    publisher.open_session(session, user(), None, || false).unwrap();
    let reason: Arc<str> = "spam".into();
    let ended = publisher.end_sessions(|name| (name == "Bob").then(|| reason.clone()));
    assert_eq!(ended, [(session, reason)]);
    assert_eq!(publisher.say(session, "hello".into(), None), Err(SayError::Unavailable));
    publisher.close_session(session);
    assert_eq!(left_of(&taken), [session]);
}

#[test]
fn an_ended_session_cannot_write_while_its_leave_waits_and_does_not_delay_a_stop() {
    let (publisher, _driver, taken) = ready();
    fill_window(&publisher);
    let ended = publisher.end_sessions(|_| Some("spam".into()));
    assert_eq!((ended.len(), left_of(&taken).len()), (PRESENCE_UNSENT_MAX, 0));
    assert_eq!(publisher.say(ended[0].0, "hello".into(), None), Err(SayError::Unavailable));
    publisher.begin_drain();
    assert_eq!(publisher.session_count(), 0);
    assert!(lock(&publisher.state).ended.is_empty());
}

#[test]
fn a_broken_session_leaves_after_its_grace_period_or_when_the_user_joins_again() {
    let (publisher, mut driver, taken) = ready();
    let open = || {
        let session = publisher.new_session();
        publisher.open_session(session, user(), None, || false).unwrap();
        session
    };
    let (long, first) = (Duration::from_secs(300), open());
    publisher.close_broken_session(first, long);
    publisher.close_session(first);
    driver.tick(&Lobby::default());
    assert_eq!(left_of(&taken), []);
    let second = open();
    assert_eq!(left_of(&taken), [first]);
    publisher.close_broken_session(second, Duration::ZERO);
    assert_eq!(left_of(&taken), [first, second]);
    let third = open();
    publisher.close_broken_session(third, Duration::from_nanos(1));
    driver.tick(&Lobby::default());
    assert_eq!(left_of(&taken), [first, second, third]);
    publisher.close_broken_session(open(), long);
    publisher.begin_drain();
    assert_eq!(publisher.session_count(), 0);
}
