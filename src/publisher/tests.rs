//! The publisher over a log that takes everything and gives nothing back.

use std::sync::Mutex;

use super::*;
use crate::lobby::{Body, Lobby};

const OLD: InstanceId = InstanceId(1);
const NEW: InstanceId = InstanceId(2);

/// Keeps what was appended.
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
        publisher.open_session(publisher.new_session(), user()).unwrap();
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
fn leaves_beyond_the_window_are_appended_when_records_come_back() {
    let (publisher, mut driver, taken) = ready();
    fill_window(&publisher);
    let joined = std::mem::take(&mut *lock(&taken.0));
    for record in &joined {
        let Body::Joined { session, .. } = record.body else { panic!("{record:?}") };
        publisher.close_session(session);
    }
    assert_eq!(*lock(&taken.0), []);
    let (mut lobby, mut events) = (Lobby::default(), Vec::new());
    for record in &joined {
        lobby.apply(record, &mut events);
        driver.on_own_record(record, &lobby);
    }
    let left = lock(&taken.0).iter().filter(|record| matches!(record.body, Body::Left { .. })).count();
    assert_eq!(left, joined.len());
}
