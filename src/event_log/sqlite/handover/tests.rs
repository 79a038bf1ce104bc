use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::lobby::{Body, InstanceId, Record};

const FILE: Identity = Identity(1, 1);
const OTHER_FILE: Identity = Identity(1, 2);

fn give_to(handover: &Handover, file: Identity, offsets: Range<u64>, bytes: usize) {
    let committed = |offset| {
        let record = Record { from: InstanceId(1), seq: offset, at: "x".into(), body: Body::Bye { last: false } };
        Committed { entry: Entry { offset, record: Arc::new(record) }, bytes }
    };
    handover.give(file, offsets.map(committed).collect());
}

fn give(handover: &Handover, offsets: Range<u64>) {
    give_to(handover, FILE, offsets, 10);
}

/// What is taken, and the offsets of the entries.
fn take(handover: &Handover, position: u64, max: usize) -> (Taken, Vec<u64>) {
    let mut entries = Vec::new();
    let taken = handover.take(Some(FILE), position, max, &mut entries);
    (taken, entries.iter().map(|entry| entry.offset).collect())
}

#[test]
fn records_that_begin_at_the_position_are_taken_once() {
    let handover = Handover::default();
    assert_eq!(take(&handover, 5, 10), (Taken::Nothing, vec![]));
    give(&handover, 5..8);
    give(&handover, 8..9);
    assert_eq!(take(&handover, 5, 2), (Taken::UpTo(7), vec![5, 6]));
    assert_eq!(take(&handover, 7, 10), (Taken::UpTo(9), vec![7, 8]));
    assert_eq!(take(&handover, 9, 10), (Taken::Nothing, vec![]));
}

#[test]
fn records_behind_those_of_another_process_are_read_from_the_file() {
    let handover = Handover::default();
    give(&handover, 5..7);
    give(&handover, 9..11);
    assert_eq!(take(&handover, 5, 10), (Taken::UpTo(7), vec![5, 6]));
    assert_eq!(take(&handover, 7, 10), (Taken::InFile, vec![]));
    // The reader has read up to 10 there.
    assert_eq!(take(&handover, 10, 10), (Taken::UpTo(11), vec![10]));
    give(&handover, 11..12);
    assert_eq!(take(&handover, 12, 10), (Taken::Nothing, vec![]));
}

#[test]
fn records_of_another_file_are_not_taken() {
    let handover = Handover::default();
    give(&handover, 5..7);
    give_to(&handover, OTHER_FILE, 5..7, 10);
    assert_eq!(take(&handover, 5, 10), (Taken::InFile, vec![]));
    assert_eq!(take(&handover, 5, 10), (Taken::Nothing, vec![]));
    give_to(&handover, OTHER_FILE, 7..8, 10);
    let mut entries = Vec::new();
    assert_eq!(handover.take(None, 7, 10, &mut entries), Taken::InFile);
}

#[test]
fn what_waits_for_a_slow_reader_is_bounded() {
    let handover = Handover::default();
    let records_max = RECORDS_MAX as u64;
    give(&handover, 0..records_max);
    give(&handover, records_max..records_max + 1);
    assert_eq!(lock(&handover.state).waiting.len(), 0);
    assert_eq!(take(&handover, 0, 10), (Taken::InFile, vec![]));
    assert_eq!(take(&handover, records_max + 1, 10), (Taken::Nothing, vec![]));
    give_to(&handover, FILE, 0..2, BYTES_MAX / 2);
    give_to(&handover, FILE, 2..3, 1);
    assert_eq!(take(&handover, 0, 10), (Taken::InFile, vec![]));
}
