//! The publisher with a log that accepts every record; the test decides which records are read back.

use std::sync::Mutex;

use super::*;
use crate::lobby::{Body, Lobby};

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

/// Appends as many joins as may be in flight.
fn fill_window(publisher: &Publisher) {
    while lock(&publisher.state).window.has_room() {
        publisher.open_session(publisher.new_session(), user(), None).unwrap();
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
        publisher.open_session(session, user(), Some(history::Request::Last(7))).unwrap();
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
fn leaves_beyond_the_window_are_appended_when_records_are_read_back() {
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
    let left = lock(&taken.0).iter().filter(|record| matches!(record.body, Body::Left { .. })).count();
    assert_eq!(left, joined.len());
}
