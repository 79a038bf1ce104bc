//! A topic with a past: records of an instance that was there before, so that a server finds something to read.

use std::time::{Duration, Instant};

use ich::event_log::kafka;
use ich::event_log::kafka_settings::KafkaSettings;
use ich::event_log::{AppendError, Appender};
use ich::lobby::{Body, InstanceId, Record, SessionId};

const PATIENCE: Duration = Duration::from_secs(10);
const FLUSH: Duration = Duration::from_secs(60);
/// How often, in records, the instance of the past beat and published its roster.
const RECORDS_PER_BEAT: u64 = 50;
const RECORDS_PER_ROSTER: u64 = 500;

/// Appends `records` to `topic`, which is made if it is missing.
pub fn write(brokers: &str, topic: &str, records: u64) -> Result<(), String> {
    let settings = KafkaSettings { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaSettings::default() };
    let mut log = kafka::open(&settings).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = log.reader.rewind(1) {
        if Instant::now() > deadline {
            return Err(error.to_string());
        }
    }
    for seq in 1..=records {
        append(log.appender.as_ref(), &record(seq))?;
        if seq % 100_000 == 0 {
            eprintln!("wrote {seq} of {records} records of the past");
        }
    }
    log.appender.flush(Instant::now() + FLUSH);
    match log.undelivered.try_iter().count() {
        0 => Ok(()),
        lost => Err(format!("Kafka did not take {lost} of {records} records")),
    }
}

fn record(seq: u64) -> Record {
    let body = if seq % RECORDS_PER_ROSTER == 1 {
        Body::Roster { part: 0, parts: 1, sessions: Vec::new() }
    } else if seq.is_multiple_of(RECORDS_PER_BEAT) {
        Body::Beat { n: seq / RECORDS_PER_BEAT }
    } else {
        Body::Said { session: SessionId(1), text: "x".repeat(100).into(), id: None }
    };
    Record { from: InstanceId(1), seq, at: "2026-01-01T00:00:00.000000000+00:00".into(), body }
}

fn append(appender: &dyn Appender, record: &Record) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match appender.append(record.clone()) {
            Ok(()) => return Ok(()),
            Err(AppendError::Full) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.to_string()),
        }
    }
}
