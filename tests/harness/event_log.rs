//! Records to append and ways to read them back, for the tests of event logs.

use std::time::{Duration, Instant};

use ich::event_log::{Entry, EventLog, ReadError, Reader, Span};
use ich::lobby::{Body, InstanceId, Record, SessionId};

/// How long tests wait for what must happen. Reached only when it does not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The `seq`-th record of an instance, with a text of some length.
pub fn record_of(from: u64, seq: u64, text_bytes: usize) -> Record {
    let body = Body::Said { session: SessionId(1), text: "x".repeat(text_bytes).into(), id: None };
    Record { from: InstanceId(from), seq, at: "2026-11-23T10:00:00.000000001+01:00".into(), body }
}

/// As [`record_of`], of instance 1 and of usual length.
pub fn record(seq: u64) -> Record {
    record_of(1, seq, 60)
}

/// Rewinds, for as long as the log does not answer.
pub fn rewind(reader: &mut dyn Reader, records: u64) -> Span {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reader.rewind(records) {
            Ok(span) => return span,
            Err(ReadError::Unavailable(reason)) if Instant::now() < deadline => eprintln!("not yet: {reason}"),
            Err(error) => panic!("rewind: {error}"),
        }
    }
}

/// Reads until `count` entries came out.
pub fn read(reader: &mut dyn Reader, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while entries.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} entries came out", entries.len());
        reader.poll(Duration::from_millis(100), count, &mut entries).expect("polling");
    }
    entries
}

/// Reads until the position is at least `end`.
pub fn read_to(reader: &mut dyn Reader, end: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while reader.position() < end {
        assert!(Instant::now() < deadline, "the position stays at {} and should get to {end}", reader.position());
        reader.poll(Duration::from_millis(100), usize::MAX, &mut entries).expect("polling");
    }
    entries
}

/// The `seq` of each entry.
pub fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.record.seq).collect()
}

/// What is handed back until nothing more comes for a moment.
pub fn handed_back(log: &EventLog) -> Vec<u64> {
    std::iter::from_fn(|| log.undelivered.recv_timeout(Duration::from_millis(200)).ok()).map(|it| it.seq).collect()
}
