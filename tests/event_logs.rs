//! The contract of the event log, tested on all implementations: SQLite, memory and Kafka. And errors that only Kafka
//! has; `event_log_sqlite.rs` has those that only SQLite has.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::event_log::{PATIENCE, read, read_to, record, record_of, rewind, seqs};
use harness::kafka::{Broker, VERSIONS};
use harness::sqlite::LogFolder;
use harness::wait_for;
use ich::event_log::kafka::{self, KafkaSettings};
use ich::event_log::{AppendError, EventLog, ReadError, Reader, memory};
use ich::supervisor::Supervisor;

/// A log with a new, empty topic on the broker.
fn kafka_log(broker: &Broker) -> (EventLog, String) {
    let topic = broker.new_topic_name();
    (kafka::open(&broker.settings(&topic), &Supervisor::default()).expect("opening"), topic)
}

/// Runs each test of the contract on a new, empty log.
fn assert_contract(open: impl Fn() -> EventLog) {
    appended_records_are_read_in_order(open());
    each_appending_thread_keeps_its_order(open());
    polling_respects_its_limits(open());
    another_reader_begins_at_any_offset(open());
}

fn appended_records_are_read_in_order(mut log: EventLog) {
    let span = rewind(&mut *log.reader, 100);
    assert_eq!((span.start, span.end, span.from_the_beginning), (0, 0, true));
    for seq in 1..=1000 {
        log.appender.append(record_of(7, seq, (seq as usize * 37) % 2000)).expect("appending");
    }
    let entries = read(&mut *log.reader, 1000);
    for (entry, seq) in entries.iter().zip(1..) {
        assert_eq!(*entry.record, record_of(7, seq, (seq as usize * 37) % 2000));
    }
    assert!(entries.is_sorted_by(|a, b| a.offset < b.offset));
    assert_eq!(log.reader.position(), entries[999].offset + 1);
    assert!(log.undelivered.is_empty());
    assert_eq!(log.skipped.load(Ordering::Relaxed), 0);
}

fn each_appending_thread_keeps_its_order(mut log: EventLog) {
    rewind(&mut *log.reader, 100);
    thread::scope(|scope| {
        for from in 1..=4 {
            let appender = Arc::clone(&log.appender);
            scope
                .spawn(move || (1..=500).for_each(|seq| appender.append(record_of(from, seq, 10)).expect("appending")));
        }
    });
    let entries = read(&mut *log.reader, 2000);
    for from in 1..=4 {
        let from_thread = entries.iter().filter(|entry| entry.record.from.0 == from).map(|entry| entry.record.seq);
        assert!(from_thread.eq(1..=500), "the order of thread {from}");
    }
}

fn polling_respects_its_limits(mut log: EventLog) {
    rewind(&mut *log.reader, 100);
    let mut entries = Vec::new();
    let started = Instant::now();
    log.reader.poll(Duration::from_millis(50), 10, &mut entries).expect("polling");
    let waited = started.elapsed();
    assert!(entries.is_empty());
    assert!(waited >= Duration::from_millis(45) && waited < Duration::from_secs(5), "{waited:?}");

    (1..=50).for_each(|seq| log.appender.append(record(seq)).expect("appending"));
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while all.len() < 50 {
        assert!(Instant::now() < deadline);
        let mut some = Vec::new();
        log.reader.poll(Duration::from_millis(100), 7, &mut some).expect("polling");
        assert!(some.len() <= 7);
        all.append(&mut some);
    }
    assert!(seqs(&all).into_iter().eq(1..=50));
}

fn another_reader_begins_at_any_offset(mut log: EventLog) {
    let Some(open_reader) = &log.open_reader else { return };
    rewind(&mut *log.reader, 100);
    (1..=100).for_each(|seq| log.appender.append(record(seq)).expect("appending"));
    let entries = read(&mut *log.reader, 100);
    let (first, end) = (entries[0].offset, entries[99].offset + 1);
    let mut reader = open_reader().expect("another reader");
    for skipped in [40, 0, 99] {
        let offset = entries[skipped].offset;
        let span = wait_for("an answer", || reader.seek(offset).ok());
        assert_eq!((span.start, span.end, span.from_the_beginning), (offset, end, offset == 0));
        assert!(seqs(&read_to(&mut *reader, end)).into_iter().eq(skipped as u64 + 1..=100));
    }
    assert_eq!(wait_for("an answer", || reader.seek(end + 10).ok()).start, end);
    assert_eq!(wait_for("an answer", || reader.seek(0).ok()).start, first);
    // Both readers read what comes next.
    read_to(&mut *reader, end);
    log.appender.append(record(101)).expect("appending");
    assert_eq!(seqs(&read(&mut *reader, 1)), [101]);
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [101]);
}

#[test]
fn the_log_in_memory_fulfils_the_contract() {
    assert_contract(memory::open);
}

#[test]
fn the_log_in_sqlite_fulfils_the_contract() {
    let folders: Vec<LogFolder> = (0..4).map(|_| LogFolder::new()).collect();
    let unused = std::cell::RefCell::new(folders.iter());
    assert_contract(|| unused.borrow_mut().next().expect("a folder").open());
}

#[test]
fn the_log_in_memory_is_bounded() {
    let log = memory::open();
    let accepted = (1..=1_000_000).take_while(|seq| log.appender.append(record(*seq)).is_ok()).count();
    assert_eq!(accepted, memory::QUEUE_RECORDS);
    assert_eq!(log.appender.append(record(1)), Err(AppendError::Full));
}

#[test]
fn the_log_in_kafka_fulfils_the_contract() {
    let Some(broker) = Broker::shared() else { return };
    assert_contract(|| kafka_log(broker).0);
}

#[test]
fn the_log_in_the_previous_kafka_version_fulfils_the_contract() {
    let Some(broker) = Broker::own(VERSIONS[1], 1) else { return };
    assert_contract(|| kafka_log(&broker).0);
}

#[test]
fn a_missing_topic_is_created_once_by_ten_instances() {
    let Some(broker) = Broker::shared() else { return };
    let topic = broker.new_topic_name();
    let mut logs: Vec<EventLog> =
        (0..10).map(|_| kafka::open(&broker.settings(&topic), &Supervisor::default()).expect("opening")).collect();
    thread::scope(|scope| {
        for log in &mut logs {
            scope.spawn(|| rewind(&mut *log.reader, 100));
        }
    });
    let topic = broker.describe(&topic);
    assert_eq!((topic.partitions, topic.copies), (1, 1));
    for (log, from) in logs.iter().zip(1..) {
        log.appender.append(record_of(from, 1, 10)).expect("appending");
    }
    let first = read(&mut *logs[0].reader, 10);
    for log in &mut logs[1..] {
        let same = read(&mut *log.reader, 10);
        assert!(first.iter().zip(&same).all(|(a, b)| a.offset == b.offset && a.record == b.record));
    }
}

#[test]
fn a_topic_with_two_partitions_is_rejected_with_a_remedy() {
    let Some(broker) = Broker::shared() else { return };
    let topic = broker.new_topic_name();
    broker.create_topic(&topic, 2);
    let mut log = kafka::open(&broker.settings(&topic), &Supervisor::default()).expect("opening");
    let Err(ReadError::Unusable(text)) = log.reader.rewind(10) else { panic!("the topic was accepted") };
    assert!(text.contains("2 partitions") && text.contains("name a topic with 1 partition"), "{text}");
}

#[test]
fn rewinding_in_kafka_starts_at_the_requested_record() {
    let Some(broker) = Broker::shared() else { return };
    let (log, topic) = kafka_log(broker);
    rewinding_starts_at_the_requested_record(log, || broker.end(&topic));
}

#[test]
fn rewinding_in_sqlite_starts_at_the_requested_record() {
    let folder = LogFolder::new();
    rewinding_starts_at_the_requested_record(folder.open(), || folder.end());
}

/// For the logs that keep their records after they were read. `end` looks up the end of the log.
fn rewinding_starts_at_the_requested_record(mut log: EventLog, end: impl Fn() -> u64) {
    rewind(&mut *log.reader, 10);
    (1..=100).for_each(|seq| log.appender.append(record(seq)).expect("appending"));
    wait_for("100 records in the log", || (end() == 100).then_some(()));

    for (records, start) in [(30, 70), (0, 100), (100, 0), (1000, 0), (1, 99)] {
        // Rewinds in the middle of the earlier records, so that a leftover record would be noticed.
        let mut before = Vec::new();
        log.reader.poll(Duration::from_millis(20), 5, &mut before).expect("polling");
        let span = rewind(&mut *log.reader, records);
        assert_eq!((span.start, span.end, span.from_the_beginning), (start, 100, start == 0));
        assert_eq!(log.reader.position(), start);
        let entries = read_to(&mut *log.reader, span.end);
        assert!(seqs(&entries).into_iter().eq(start + 1..=100), "{records}: {:?}", seqs(&entries));
    }
}

#[test]
fn invalid_records_are_skipped_and_counted() {
    let Some(broker) = Broker::shared() else { return };
    let (mut log, topic) = kafka_log(broker);
    rewind(&mut *log.reader, 10);
    log.appender.append(record(1)).expect("appending");
    wait_for("a record in the topic", || (broker.end(&topic) == 1).then_some(()));
    let large = vec![b'['; 1_040_000];
    let invalid: [Option<&[u8]>; 6] =
        [None, Some(b""), Some(b"\xff\xfe\0"), Some(b"{}"), Some(br#"{"v":2,"beyond":"us"}"#), Some(&large)];
    broker.produce(&topic, &invalid);
    log.appender.append(record(2)).expect("appending");

    let entries = read(&mut *log.reader, 2);
    assert_eq!(seqs(&entries), [1, 2]);
    assert_eq!(entries[1].offset, 7);
    assert_eq!(log.skipped.load(Ordering::Relaxed), 6);
    // A log that ends with invalid records is also read to its end.
    broker.produce(&topic, &invalid);
    let span = rewind(&mut *log.reader, 6);
    assert!(read_to(&mut *log.reader, span.end).is_empty());
    assert_eq!(log.skipped.load(Ordering::Relaxed), 12);
}

#[test]
fn transaction_markers_are_skipped() {
    let Some(broker) = Broker::shared() else { return };
    let (mut log, topic) = kafka_log(broker);
    rewind(&mut *log.reader, 10);
    let json = ich::event_log::codec::encode(&record(1)).expect("encoding");
    broker.produce_transaction(&topic, json.as_bytes(), 3);
    // The broker writes the marker of the end after it has confirmed the commit.
    wait_for("the marker", || (broker.end(&topic) == 4).then_some(()));
    let span = rewind(&mut *log.reader, 10);
    assert_eq!((span.start, span.end), (0, 4));
    assert_eq!(read_to(&mut *log.reader, span.end).len(), 3);
    log.appender.append(record(2)).expect("appending");
    assert_eq!(read(&mut *log.reader, 1)[0].offset, 4);
}

/// Polls until the log reports that records were removed.
fn read_to_truncation(reader: &mut dyn Reader) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no truncation reported at offset {}", reader.position());
        match reader.poll(Duration::from_millis(100), 1000, &mut Vec::new()) {
            Err(ReadError::Truncated(reason)) => return reason,
            Err(ReadError::Unusable(text)) => panic!("{text}"),
            Ok(()) | Err(ReadError::Unavailable(_)) => {}
        }
    }
}

#[test]
fn records_removed_by_retention_are_reported_and_the_rest_is_read() {
    let Some(broker) = Broker::shared() else { return };
    let (mut log, topic) = kafka_log(broker);
    rewind(&mut *log.reader, 10);
    // More bytes than the consumer prefetches.
    let large = vec![b'['; 1_000_000];
    broker.produce(&topic, &vec![Some(&large[..]); 60]);
    let span = rewind(&mut *log.reader, 60);
    assert!(span.from_the_beginning);
    broker.delete_records_before(&topic, 59);
    log.appender.append(record(1)).expect("appending");
    let reason = read_to_truncation(&mut *log.reader);
    assert!(log.reader.position() < 59, "{reason}");

    let span = rewind(&mut *log.reader, 60);
    assert_eq!((span.start, span.from_the_beginning), (59, false));
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [1]);
}

#[test]
fn a_deleted_topic_is_reported_and_created_again() {
    let Some(broker) = Broker::shared() else { return };
    let (mut log, topic) = kafka_log(broker);
    rewind(&mut *log.reader, 10);
    (1..=20).for_each(|seq| log.appender.append(record(seq)).expect("appending"));
    read(&mut *log.reader, 20);
    broker.delete_topic(&topic);
    read_to_truncation(&mut *log.reader);

    let span = rewind(&mut *log.reader, 10);
    assert_eq!((span.start, span.end), (0, 0));
    // The producer may need a moment to notice the new topic.
    let deadline = Instant::now() + PATIENCE;
    let mut seq = 21;
    let mut entries = Vec::new();
    while entries.is_empty() {
        assert!(Instant::now() < deadline, "appended records are not read back");
        let _ = log.appender.append(record(seq));
        seq += 1;
        log.reader.poll(Duration::from_millis(200), 10, &mut entries).expect("polling");
    }
}

/// Settings with an unreachable broker. The tests below need no broker.
fn nowhere() -> KafkaSettings {
    KafkaSettings { brokers: "127.0.0.1:1".into(), topic: "ich-test".into(), ..KafkaSettings::default() }
}

#[test]
fn appends_to_an_unreachable_broker_are_bounded_and_reported_undelivered() {
    let log = kafka::open(&nowhere(), &Supervisor::default()).expect("opening");
    let started = Instant::now();
    let accepted = (1..=1_000_000).take_while(|seq| log.appender.append(record(*seq)) == Ok(())).count();
    assert_eq!(accepted, 65_536);
    assert_eq!(log.appender.append(record(1)), Err(AppendError::Full));
    // Usually 2 seconds. If a call blocked, it would take forever.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    // After 30 seconds: the records in the queue do not wait for a second time-out of the producer.
    for seq in 1..=65_536 {
        let record = log.undelivered.recv_timeout(PATIENCE).expect("a record reported undelivered");
        assert_eq!(record.seq, seq, "incomplete or out of order");
    }
    assert_eq!(log.appender.append(record(1)), Ok(()));
}

#[test]
fn large_records_are_rejected_and_the_queue_is_bounded_in_bytes() {
    let log = kafka::open(&nowhere(), &Supervisor::default()).expect("opening");
    assert_eq!(log.appender.append(record_of(1, 1, 1_100_000)), Err(AppendError::TooLarge));
    let accepted = (1..=1000).take_while(|seq| log.appender.append(record_of(1, *seq, 900_000)) == Ok(())).count();
    assert!((60..=75).contains(&accepted), "{accepted} records of 900 kB were accepted");
}

#[test]
fn an_unreachable_broker_is_an_error_when_reading_and_not_when_opening() {
    let started = Instant::now();
    let mut log = kafka::open(&nowhere(), &Supervisor::default()).expect("opening");
    assert!(started.elapsed() < Duration::from_secs(5));
    let Err(ReadError::Unavailable(reason)) = log.reader.rewind(10) else { panic!("there is no broker") };
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert!(reason.contains("127.0.0.1:1"), "{reason}");
    log.appender.append(record(1)).expect("appending");

    let dropping = Instant::now();
    drop(log);
    assert!(dropping.elapsed() < Duration::from_secs(5), "dropping took {:?}", dropping.elapsed());
}

#[test]
fn a_reader_that_waits_for_a_broker_stops_when_the_flag_is_set() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let brokers = [nowhere().brokers, silent.local_addr().expect("its address").to_string()];
    for brokers in brokers {
        let mut log = kafka::open(&KafkaSettings { brokers, ..nowhere() }, &Supervisor::default()).expect("opening");
        let give_up = Arc::new(AtomicBool::new(false));
        log.reader.give_up_when(Arc::clone(&give_up));
        thread::scope(|scope| {
            let rewinding = scope.spawn(|| log.reader.rewind(10));
            // The reader is waiting by now. If it has not started yet, it stops at once.
            thread::sleep(Duration::from_millis(300));
            give_up.store(true, Ordering::Release);
            let Ok(Err(ReadError::Unavailable(reason))) = rewinding.join() else { panic!("there is no broker") };
            // Without the flag it would end after some seconds with a network error.
            assert_eq!(reason, "reading was given up");
        });
        // Polling returns at once. Without the flag it would wait for a minute.
        log.reader.poll(PATIENCE, 10, &mut Vec::new()).expect("polling");
    }
}

#[test]
fn settings_for_tls_and_passwords_are_accepted() {
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let settings = KafkaSettings {
            security_protocol: Some("sasl_ssl".into()),
            sasl_mechanism: Some(mechanism.into()),
            username: Some("ich".into()),
            password: Some("geheim".into()),
            ..nowhere()
        };
        if let Err(error) = kafka::open(&settings, &Supervisor::default()) {
            panic!("{mechanism}: {error}");
        }
    }
}

#[test]
fn invalid_settings_are_rejected_without_revealing_secrets() {
    let secret = KafkaSettings {
        security_protocol: Some("sasl_ssl".into()),
        sasl_mechanism: Some("SCRAM-SHA-512".into()),
        username: Some("ich".into()),
        password: Some("geheim".into()),
        ..nowhere()
    };
    for (wrong, named) in [
        (KafkaSettings { security_protocol: Some("tls".into()), ..nowhere() }, "ICH_KAFKA_SECURITY_PROTOCOL"),
        (KafkaSettings { sasl_mechanism: Some("KERBEROS".into()), ..secret.clone() }, "KERBEROS"),
        (KafkaSettings { ca_file: Some("/does/not/exist.pem".into()), ..secret.clone() }, "ssl.ca.location"),
        (KafkaSettings { password: Some("geh\0eim".into()), ..secret.clone() }, "ICH_KAFKA_PASSWORD"),
        (KafkaSettings { topic: "a lobby".into(), ..nowhere() }, "ICH_KAFKA_TOPIC"),
    ] {
        let Err(error) = kafka::open(&wrong, &Supervisor::default()) else { panic!("{wrong:?} was accepted") };
        let text = error.to_string();
        assert!(text.contains(named), "{wrong:?}: {text}");
        assert!(!text.contains("eim"), "{text}");
    }
}
