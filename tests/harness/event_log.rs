//! Builds records and reads them back, for the tests of the event logs.

use std::time::{Duration, Instant};

use ich::event_log::{Entry, ReadError, Reader, Span};
use ich::lobby::{Body, InstanceId, Record, SessionId};

pub use super::PATIENCE;

/// The `seq`-th record of an instance: a message of `text_bytes` bytes.
pub fn record_of(from: u64, seq: u64, text_bytes: usize) -> Record {
    let body = Body::Said { session: SessionId(1), text: "x".repeat(text_bytes).into(), id: None };
    Record { from: InstanceId(from), seq, at: "2026-11-23T10:00:00.000000001+01:00".into(), body }
}

/// As [`record_of`], of instance 1 and with 60 bytes of text.
pub fn record(seq: u64) -> Record {
    record_of(1, seq, 60)
}

/// Rewinds, and repeats that while the log is unavailable.
pub fn rewind(reader: &mut dyn Reader, records: u64) -> Span {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reader.rewind(records) {
            Ok(span) => return span,
            Err(ReadError::Unavailable(reason)) if Instant::now() < deadline => eprintln!("unavailable: {reason}"),
            Err(error) => panic!("rewind: {error}"),
        }
    }
}

/// Polls until `count` entries were read.
pub fn read(reader: &mut dyn Reader, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while entries.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} entries were read", entries.len());
        reader.poll(Duration::from_millis(100), count, &mut entries).expect("polling");
    }
    entries
}

/// Polls until the position is at least `end`.
pub fn read_to(reader: &mut dyn Reader, end: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while reader.position() < end {
        assert!(Instant::now() < deadline, "the position is {} and should reach {end}", reader.position());
        reader.poll(Duration::from_millis(100), usize::MAX, &mut entries).expect("polling");
    }
    entries
}

/// The `seq` of each entry.
pub fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.record.seq).collect()
}
