//! Fills an event log with the records of an earlier instance, so that a starting server has records to read (`--history`).

use std::path::Path;
use std::time::{Duration, Instant};

use ich::event_log::kafka::{self, KafkaSettings};
use ich::event_log::sqlite::{self, Retention};
use ich::event_log::{AppendError, Appender, Entry, EventLog};
use ich::lobby::{Body, InstanceId, Record, SessionId};
use ich::supervisor::Supervisor;

const TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
/// The earlier instance wrote a heartbeat and a roster once per this many records.
const RECORDS_PER_HEARTBEAT: u64 = 50;
const RECORDS_PER_ROSTER: u64 = 500;

/// Appends `records` records to `topic`, which is created if it is missing.
pub fn write_to_kafka(brokers: &str, topic: &str, records: u64) -> Result<(), String> {
    let settings = KafkaSettings { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaSettings::default() };
    write(records, || kafka::open(&settings, &Supervisor::default()).map_err(|error| error.to_string()))
}

/// Appends `records` records to the event log in this data folder.
pub fn write_to_sqlite(folder: &Path, records: u64) -> Result<(), String> {
    let retention = Retention { age: Duration::MAX, bytes: u64::MAX };
    write(records, || sqlite::open(folder, retention, &Supervisor::default()).map_err(|error| error.to_string()))
}

fn write(records: u64, open: impl FnOnce() -> Result<EventLog, String>) -> Result<(), String> {
    if records == 0 {
        return Ok(());
    }
    let mut log = open()?;
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = log.reader.rewind(1) {
        if Instant::now() > deadline {
            return Err(error.to_string());
        }
    }
    for seq in 1..=records {
        append(log.appender.as_ref(), &record(seq))?;
        if seq % 100_000 == 0 {
            eprintln!("wrote {seq} of {records} records of the history");
        }
    }
    wait_until_written(&mut log, records)
}

/// Waits until the last of `records` records is in the log.
fn wait_until_written(log: &mut EventLog, records: u64) -> Result<(), String> {
    let deadline = Instant::now() + WRITE_TIMEOUT;
    let mut entries = Vec::new();
    while entries.last().is_none_or(|last: &Entry| last.record.seq < records) {
        if !log.undelivered.is_empty() {
            return Err(format!("the event log did not accept {} of {records} records", log.undelivered.len()));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "the event log did not accept all of {records} records in {} s",
                WRITE_TIMEOUT.as_secs()
            ));
        }
        // A rewind by one record skips all records before it.
        log.reader.rewind(1).map_err(|error| error.to_string())?;
        entries.clear();
        log.reader.poll(POLL_TIMEOUT, 1, &mut entries).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn record(seq: u64) -> Record {
    let body = if seq % RECORDS_PER_ROSTER == 1 {
        Body::Roster { part: 0, parts: 1, sessions: Vec::new() }
    } else if seq.is_multiple_of(RECORDS_PER_HEARTBEAT) {
        Body::Heartbeat { n: seq / RECORDS_PER_HEARTBEAT }
    } else {
        Body::Said { session: SessionId(1), text: "x".repeat(100).into(), id: None }
    };
    Record { from: InstanceId(1), seq, at: "2026-01-01T00:00:00.000000000+00:00".into(), body }
}

fn append(appender: &dyn Appender, record: &Record) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match appender.append(record.clone()) {
            Ok(()) => return Ok(()),
            Err(AppendError::Full) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.to_string()),
        }
    }
}
