//! The decisions of an archiver on logs of a few dozen records. The simulation has long ones.

use super::*;
use crate::lobby::testing::*;
use crate::lobby::{Body, InstanceId};

const WINDOW: u64 = 10;
const SPANS: Spans = Spans { first: 20, widen_times: 2, history_max: 0 };

/// A log, of which retention has removed the records before `first`.
struct Log {
    records: Vec<Arc<Record>>,
    first: u64,
}

impl Log {
    /// One instance with one user, and a message behind each heartbeat.
    fn chat(messages: u64) -> Log {
        let mut log = Log { records: Vec::new(), first: 0 };
        log.put(X, roster(&[(1, "Ann")]));
        for n in 1..=messages {
            log.put(X, heartbeat(n));
            log.put(X, said(1, &n.to_string()));
        }
        log
    }

    fn put(&mut self, from: InstanceId, body: Body) {
        let seq = 1 + self.records.iter().filter(|record| record.from == from).count() as u64;
        self.records.push(Arc::new(record(from, seq, body)));
    }

    /// A record that has the log twice.
    fn repeat(&mut self, offset: usize) {
        self.records.push(self.records[offset].clone());
    }

    fn position(&self, offset: u64) -> Option<Position> {
        Some(Position { offset, record: self.records[usize::try_from(offset).unwrap()].event_id() })
    }

    /// Resumes behind `position` and reads the whole log. Also returns how often the reader was moved.
    fn archive(&self, position: Option<Position>) -> (Batch, usize) {
        let mut archiver = Archiver::resume(position, WINDOW, SPANS);
        let end = self.records.len() as u64;
        for seeks in 1.. {
            let start = archiver.first_offset().clamp(self.first, end);
            let mut next = archiver.begin(Span { start, end, from_the_beginning: start == 0 });
            let entries = (0..).zip(&self.records).skip(usize::try_from(start).unwrap());
            for (offset, record) in entries {
                if next == Next::Record {
                    next = archiver.apply(&Entry { offset, record: record.clone() });
                }
            }
            if next == Next::Record {
                let empty = Batch {
                    after: position,
                    messages: Vec::new(),
                    gap: None,
                    position: position.unwrap_or(Position { offset: 0, record: self.records[0].event_id() }),
                };
                return (archiver.take_batch().unwrap_or(empty), seeks);
            }
        }
        unreachable!("the loop has no end")
    }

    fn texts(&self, position: Option<Position>) -> Vec<String> {
        self.archive(position).0.messages.iter().map(|message| message.text.to_string()).collect()
    }
}

#[test]
fn a_new_archive_gets_every_message_from_the_beginning() {
    let log = Log::chat(3);
    let (batch, _) = log.archive(None);
    assert_eq!(log.texts(None), ["1", "2", "3"]);
    assert_eq!((batch.after, batch.gap, Some(batch.position)), (None, None, log.position(6)));
    let message = &batch.messages[0];
    assert_eq!(
        (message.event_id, &*message.sent_at, &*message.user.username),
        (log.records[2].event_id(), "any time", "Ann")
    );
}

#[test]
fn a_new_archive_of_a_log_without_its_beginning_has_a_gap_up_to_where_the_sessions_are_exact() {
    let mut log = Log::chat(40);
    log.first = 50;
    log.put(X, roster(&[(1, "Ann")]));
    let exact = log.records.len() as u64;
    log.put(X, said(1, "known"));
    let (batch, _) = log.archive(None);
    assert_eq!(batch.gap, Some(Gap { from: 50, to: exact, cause: GapCause::Retention }));
    assert_eq!(log.texts(None), ["known"]);
}

#[test]
fn an_archiver_continues_behind_any_position_as_if_it_had_read_everything() {
    let log = Log::chat(60);
    let all = log.texts(None);
    for offset in 0..log.records.len() as u64 {
        let (batch, _) = log.archive(log.position(offset));
        assert_eq!(batch.gap, None, "offset {offset}");
        let done = usize::try_from(offset / 2).unwrap();
        assert_eq!(log.texts(log.position(offset)), all[done..], "offset {offset}");
    }
}

#[test]
fn ignored_and_repeated_messages_are_not_archived() {
    let mut log = Log::chat(20);
    log.put(X, said_with_id(1, "a"));
    log.put(X, said_with_id(1, "a"));
    log.put(X, said(2, "of no session"));
    log.put(Y, said(1, "of no member"));
    log.repeat(40);
    let position = log.position(40);
    assert_eq!(log.texts(position), ["text"]);
    assert_eq!(log.texts(log.position(41)), Vec::<String>::new(), "the use of the id is before the position");
}

#[test]
fn a_span_that_is_not_enough_is_widened() {
    let mut log = Log::chat(40);
    // Y has its roster long before the position.
    let before = log.records.len();
    log.put(Y, roster(&[(1, "Bob")]));
    for n in 0..30 {
        log.put(X, heartbeat(100 + n));
        log.put(Y, heartbeat(n + 1));
    }
    let position = log.position(log.records.len() as u64 - 1);
    log.put(Y, said(1, "from Bob"));
    assert_eq!(log.texts(position), ["from Bob"]);
    let (batch, seeks) = log.archive(position);
    assert!(seeks > 1 && batch.gap.is_none(), "{seeks} {batch:?}");
    // Where retention has removed that roster, Bob's session is not known.
    log.first = before as u64 + 1;
    let (batch, _) = log.archive(position);
    assert_eq!(batch.messages, []);
}

#[test]
fn records_that_retention_has_removed_are_a_gap_up_to_where_the_sessions_are_exact() {
    let mut log = Log::chat(40);
    log.first = 41;
    log.put(X, roster(&[(1, "Ann")]));
    let exact = log.records.len() as u64;
    log.put(X, said(1, "known"));
    let (batch, _) = log.archive(log.position(10));
    assert_eq!(batch.gap, Some(Gap { from: 11, to: exact, cause: GapCause::Retention }));
    assert_eq!(log.texts(log.position(10)), ["known"]);
}

#[test]
fn a_position_at_which_the_sessions_are_not_known_any_more_is_the_begin_of_a_gap() {
    let mut log = Log::chat(40);
    log.first = 70;
    log.put(X, roster(&[(1, "Ann")]));
    for n in 0..20 {
        log.put(X, heartbeat(100 + n));
    }
    log.put(X, said(1, "known"));
    let (batch, _) = log.archive(log.position(75));
    let gap = batch.gap.unwrap();
    assert_eq!((gap.from, gap.cause), (76, GapCause::Retention));
    assert!(gap.to > 81 && gap.to < log.records.len() as u64, "{gap:?}");
    assert_eq!(log.texts(log.position(75)), ["known"]);
}

#[test]
fn another_log_is_recognized_and_read_from_its_beginning() {
    let (old, new) = (Log::chat(40), {
        let mut new = Log { records: Vec::new(), first: 0 };
        new.put(Z, roster(&[(1, "Ann")]));
        (0..50).for_each(|n| new.put(Z, said(1, &format!("new {n}"))));
        new
    });
    for offset in [0, 20, 50, 51, 80] {
        let (batch, _) = new.archive(old.position(offset));
        assert_eq!(batch.gap, Some(Gap { from: offset + 1, to: 0, cause: GapCause::AnotherLog }), "offset {offset}");
        assert_eq!(batch.messages.len(), 50);
        assert_eq!(batch.after, old.position(offset));
    }
}
