//! The contract of an archive's store, on SQLite and on PostgreSQL.

mod harness;

use std::sync::Arc;

use harness::folder::Folder;
use harness::postgres::{Database, database};
use harness::wait_until;
use ich::archive::archiver::{Batch, Gap, GapCause, Message, Position};
use ich::archive::store::{ArchiveError, ArchiveStore};
use ich::archive::{postgres, sqlite};
use ich::lobby::{EventId, InstanceId, User};
use rusqlite::Connection;

/// The storage of an archive. A test may open it several times, like several instances.
trait Storage {
    fn open(&self) -> Box<dyn ArchiveStore>;
    /// The number that a query returns.
    fn number(&self, sql: &str) -> i64;
    fn execute(&self, sql: &str);
}

impl Folder {
    fn connect(&self) -> Connection {
        Connection::open(self.0.join("accounts.sqlite3")).unwrap()
    }
}

impl Storage for Folder {
    fn open(&self) -> Box<dyn ArchiveStore> {
        Box::new(sqlite::open(&self.0))
    }

    fn number(&self, sql: &str) -> i64 {
        self.connect().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.connect().execute_batch(sql).unwrap();
    }
}

impl Storage for Database {
    fn open(&self) -> Box<dyn ArchiveStore> {
        Box::new(postgres::open(&self.url).unwrap())
    }

    fn number(&self, sql: &str) -> i64 {
        Database::number(self, sql)
    }

    fn execute(&self, sql: &str) {
        Database::execute(self, sql);
    }
}

/// Makes two tests of each function: one on SQLite, one on PostgreSQL.
macro_rules! contract {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(&super::Folder::new()); })*
        }
        mod on_postgres {
            $(#[test] fn $name() { if let Some(database) = super::database() { super::$name(&database); } })*
        }
    };
}

contract! {
    a_batch_is_stored_with_its_position
    only_one_store_has_the_lead_and_another_takes_over
    a_batch_behind_another_position_changes_nothing
    a_message_is_stored_once
    any_text_can_be_stored
    the_oldest_messages_are_deleted_in_steps
}

fn position(offset: u64) -> Position {
    Position { offset, record: EventId { from: InstanceId(7), seq: offset + 1 } }
}

fn message(seq: u64, text: &str) -> Message {
    let user = User { id: "4".into(), username: "Bob".into() };
    let sent_at = Arc::from("2026-11-23T10:00:00.000000001+01:00");
    Message { event_id: EventId { from: InstanceId(9), seq }, sent_at, user, text: text.into() }
}

fn batch(after: Option<u64>, offset: u64, seqs: std::ops::Range<u64>) -> Batch {
    let messages = seqs.map(|seq| message(seq, &format!("text {seq}"))).collect();
    Batch { after: after.map(position), messages, gap: None, position: position(offset) }
}

fn open_leading(storage: &dyn Storage) -> Box<dyn ArchiveStore> {
    let mut store = storage.open();
    assert_eq!(store.take_lead(), Ok(true));
    store
}

fn a_batch_is_stored_with_its_position(storage: &dyn Storage) {
    let mut store = open_leading(storage);
    assert_eq!(store.position(), Ok(None));
    assert_eq!(store.append(&batch(None, 10, 0..3), 1000), Ok(3));
    assert_eq!(store.position(), Ok(Some(position(10))));
    let gap = Some(Gap { from: 11, to: 15, cause: GapCause::Retention });
    assert_eq!(store.append(&Batch { gap, ..batch(Some(10), 20, 3..3) }, 1001), Ok(0));
    assert_eq!(store.position(), Ok(Some(position(20))));
    assert_eq!(storage.number("SELECT count(*) FROM messages WHERE archived_at = 1000 AND from_id = '4'"), 3);
    let gaps = "SELECT count(*) FROM archive_gaps WHERE noticed_at = 1001 AND cause = 'retention' AND from_offset = 11 \
                AND to_offset = 15 AND last_event_id = '0000000000000009-2'";
    assert_eq!(storage.number(gaps), 1);
    drop(store);
    assert_eq!(open_leading(storage).position(), Ok(Some(position(20))));
}

fn only_one_store_has_the_lead_and_another_takes_over(storage: &dyn Storage) {
    let mut one = open_leading(storage);
    let mut other = storage.open();
    assert_eq!(other.take_lead(), Ok(false));
    assert_eq!(one.take_lead(), Ok(true), "it keeps the lead");
    assert_eq!(other.take_lead(), Ok(false));
    drop(one);
    wait_until("the lead", || other.take_lead() == Ok(true));
    assert_eq!(storage.open().take_lead(), Ok(false));
}

fn a_batch_behind_another_position_changes_nothing(storage: &dyn Storage) {
    let mut store = open_leading(storage);
    for after in [Some(5), None] {
        let expected = if after.is_some() { Err(ArchiveError::Conflict) } else { Ok(2) };
        assert_eq!(store.append(&batch(after, 10, 0..2), 1000), expected);
    }
    for after in [Some(9), Some(11), None] {
        assert_eq!(store.append(&batch(after, 20, 2..4), 1000), Err(ArchiveError::Conflict));
    }
    let another_log =
        Batch { after: Some(Position { record: position(3).record, ..position(10) }), ..batch(None, 20, 2..4) };
    assert_eq!(store.append(&another_log, 1000), Err(ArchiveError::Conflict));
    assert_eq!((store.position(), storage.number("SELECT count(*) FROM messages")), (Ok(Some(position(10))), 2));
    assert_eq!(store.append(&batch(Some(10), 20, 2..4), 1000), Ok(2));
}

fn a_message_is_stored_once(storage: &dyn Storage) {
    let mut store = open_leading(storage);
    assert_eq!(store.append(&batch(None, 10, 0..3), 1000), Ok(3));
    assert_eq!(store.append(&batch(Some(10), 20, 1..5), 1001), Ok(2));
    assert_eq!(storage.number("SELECT count(*) FROM messages WHERE archived_at = 1000"), 3);
    assert_eq!(storage.number("SELECT count(*) FROM messages"), 5);
}

fn any_text_can_be_stored(storage: &dyn Storage) {
    let mut store = open_leading(storage);
    let texts = ["'; DROP TABLE messages; --", "日本語 ﷺ 🦀", "%s$1?1\\", "a\0b", "{\"a\",NULL}", "\u{202e}\u{7f}\n"];
    let messages: Vec<_> = (0..).zip(texts).map(|(seq, text)| message(seq, text)).collect();
    assert_eq!(store.append(&Batch { messages, ..batch(None, 10, 0..0) }, 1000), Ok(6));
    for text in ["日本語 ﷺ 🦀", "%s$1?1\\", "a\u{fffd}b", "{\"a\",NULL}"] {
        assert_eq!(storage.number(&format!("SELECT count(*) FROM messages WHERE text = '{text}'")), 1, "{text}");
    }
    let long = "ΐ".repeat(100_000);
    let messages = (10..30).map(|seq| message(seq, &long)).collect();
    assert_eq!(store.append(&Batch { messages, ..batch(Some(10), 20, 0..0) }, 1000), Ok(20));
    assert_eq!(storage.number("SELECT sum(length(text)) FROM messages WHERE length(text) > 1000"), 2_000_000);
}

fn the_oldest_messages_are_deleted_in_steps(storage: &dyn Storage) {
    let mut store = open_leading(storage);
    assert_eq!(store.append(&batch(None, 10, 0..10), 1000), Ok(10));
    assert_eq!(store.append(&batch(Some(10), 20, 10..20), 2000), Ok(10));
    assert_eq!(store.append(&batch(Some(20), 30, 20..25), 1500), Ok(5));
    assert_eq!(store.delete(1000, 4), Ok(0));
    assert_eq!(store.delete(1600, 4), Ok(4));
    assert_eq!(store.delete(1600, 100), Ok(6), "not those behind a newer one");
    assert_eq!(storage.number("SELECT min(archived_at) FROM messages"), 1500);
    assert_eq!(storage.number("SELECT count(*) FROM messages"), 15);
    assert_eq!(store.delete(2001, 100), Ok(15));
    assert_eq!(store.delete(2001, 100), Ok(0));
}

#[test]
fn a_store_in_postgres_recovers_when_its_connection_is_killed() {
    let Some(database) = database() else { return };
    let mut store = open_leading(&database);
    assert_eq!(store.append(&batch(None, 10, 0..2), 1000), Ok(2));
    let mut other = Storage::open(&database);
    assert_eq!(other.take_lead(), Ok(false));
    database.kill_connections();
    assert!(matches!(store.append(&batch(Some(10), 20, 2..4), 1000), Err(ArchiveError::Unavailable(_))));
    // Either of the two takes the lead; both know where the archive ends.
    wait_until("a lead", || store.take_lead() == Ok(true));
    assert_eq!(store.position(), Ok(Some(position(10))));
    assert_eq!(store.append(&batch(Some(10), 20, 2..4), 1000), Ok(2));
    assert!(matches!(other.take_lead(), Err(ArchiveError::Unavailable(_))), "its connection was killed, too");
    assert_eq!(other.take_lead(), Ok(false));
}

#[test]
fn an_archive_that_an_older_server_made_is_empty() {
    let folder = Folder::new();
    drop(ich::accounts::sqlite::open(&folder.0).unwrap());
    folder.execute(
        "DROP TABLE messages; DROP TABLE archive_position; DROP TABLE archive_gaps; DROP TABLE sanctions; \
         ALTER TABLE accounts DROP COLUMN is_admin; PRAGMA user_version = 2",
    );
    assert_eq!(open_leading(&folder).position(), Ok(None));
}
