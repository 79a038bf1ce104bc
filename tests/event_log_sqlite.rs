//! The event log in SQLite, and problems with its file: other processes, invalid records, retention, removal, a full
//! disk.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::event_log::{read, read_to, record, record_of, rewind, seqs};
use harness::sqlite::{KEEP_ALL, LogFolder, check_integrity, connect, end, open};
use harness::{tmpfs::Tmpfs, wait_for};
use ich::event_log::sqlite::{self, OpenError, Retention};
use ich::event_log::{AppendError, EventLog, ReadError, Reader};
use ich::supervisor::Supervisor;

/// Polls until the reader reports `Truncated`, and returns its text.
fn read_to_truncation(reader: &mut dyn Reader) -> String {
    wait_for("truncation", || match reader.poll(Duration::from_millis(50), 1000, &mut Vec::new()) {
        Err(ReadError::Truncated(reason)) => Some(reason),
        Err(ReadError::Unusable(text)) => panic!("{text}"),
        Ok(()) | Err(ReadError::Unavailable(_)) => None,
    })
}

/// Appends these records, and waits until all are in the file.
fn append(log: &EventLog, folder: &Path, seqs: impl IntoIterator<Item = u64>) {
    let file = connect(&folder.join(sqlite::FILE_NAME));
    let (before, mut count) = (end(&file), 0);
    for seq in seqs {
        log.appender.append(record(seq)).expect("appending");
        count += 1;
    }
    wait_for("the records in the file", || (end(&file) == before + count).then_some(()));
    assert!(log.undelivered.is_empty());
}

/// The `seq` of each record that was reported undelivered since the last call.
fn undelivered(log: &EventLog) -> Vec<u64> {
    log.undelivered.try_iter().map(|record| record.seq).collect()
}

#[test]
fn two_open_logs_on_one_file_have_one_order_and_both_read_all_records() {
    let folder = LogFolder::new();
    let mut logs = [folder.open(), folder.open()];
    for log in &mut logs {
        rewind(&mut *log.reader, 100);
    }
    for seq in 1..=500 {
        for (log, from) in logs.iter().zip(1..) {
            log.appender.append(record_of(from, seq, 10)).expect("appending");
        }
    }
    let [first, second] = &mut logs;
    let (first, second) = (read(&mut *first.reader, 1000), read(&mut *second.reader, 1000));
    assert!(first.iter().zip(&second).all(|(a, b)| a.offset == b.offset && a.record == b.record));
    for from in [1, 2] {
        let own = first.iter().filter(|entry| entry.record.from.0 == from).map(|entry| entry.record.seq);
        assert!(own.eq(1..=500), "the order of log {from}");
    }
}

#[test]
fn a_log_that_is_opened_again_has_its_records() {
    let folder = LogFolder::new();
    let mut log = folder.open();
    append(&log, folder.path(), 1..=10);
    drop(log);
    let modes = fs::read_dir(folder.path()).expect("the folder").map(|entry| {
        let entry = entry.expect("an entry");
        (entry.file_name(), entry.metadata().expect("metadata").permissions().mode() & 0o777)
    });
    modes.for_each(|(name, mode)| assert_eq!(mode, 0o600, "{name:?}"));
    log = folder.open();
    let span = rewind(&mut *log.reader, 4);
    assert_eq!((span.start, span.end, span.from_the_beginning), (6, 10, false));
    append(&log, folder.path(), [11]);
    assert_eq!(seqs(&read(&mut *log.reader, 5)), [7, 8, 9, 10, 11]);
}

#[test]
fn invalid_records_are_skipped_and_counted() {
    let folder = LogFolder::new();
    let mut log = folder.open();
    append(&log, folder.path(), [1]);
    let other = folder.connect();
    for garbage in ["''", "CAST(x'fffe00' AS TEXT)", "'{}'", r#"'{"v":2,"beyond":"us"}'"#] {
        let next = "(SELECT max(offset) + 1 FROM records)";
        other.execute(&format!("INSERT INTO records VALUES ({next}, 0, {garbage})"), []).expect("inserting");
    }
    append(&log, folder.path(), [2]);
    let span = rewind(&mut *log.reader, 10);
    let entries = read_to(&mut *log.reader, span.end);
    assert_eq!(seqs(&entries), [1, 2]);
    assert_eq!(entries[1].offset, 5);
    assert_eq!(log.skipped.load(Ordering::Relaxed), 4);
}

#[test]
fn a_reader_whose_records_retention_deleted_gets_an_error_and_no_offset_is_used_twice() {
    let folder = LogFolder::new();
    let mut log = folder.open();
    append(&log, folder.path(), 1..=20);
    rewind(&mut *log.reader, 20);
    // Another process, whose retention keeps as little as possible.
    let other = open(folder.path(), Retention { age: Duration::ZERO, bytes: 0 });
    wait_for("retention", || {
        let count: i64 =
            folder.connect().query_row("SELECT count(*) FROM records", [], |row| row.get(0)).expect("a count");
        (count == 1).then_some(())
    });
    let reason = read_to_truncation(&mut *log.reader);
    assert!(reason.contains("from 0 to 18"), "{reason}");
    append(&other, folder.path(), [21]);
    let span = rewind(&mut *log.reader, 20);
    assert!(!span.from_the_beginning);
    assert_eq!(span.end, 21);
    assert_eq!(read_to(&mut *log.reader, span.end).last().expect("an entry").offset, 20);
    check_integrity(&folder.connect());
}

#[test]
fn a_removed_log_is_created_again_and_its_reader_gets_an_error() {
    let folder = LogFolder::new();
    let mut log = folder.open();
    append(&log, folder.path(), 1..=20);
    rewind(&mut *log.reader, 20);
    read(&mut *log.reader, 20);
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", folder.file().display())).expect("removing");
    }
    let reason = read_to_truncation(&mut *log.reader);
    assert!(reason.contains("removed or replaced"), "{reason}");
    let span = rewind(&mut *log.reader, 20);
    assert_eq!((span.start, span.end, span.from_the_beginning), (0, 0, true));
    append(&log, folder.path(), [21]);
    let entries = read(&mut *log.reader, 1);
    assert_eq!((entries[0].offset, entries[0].record.seq), (0, 21));
}

#[test]
fn a_file_that_is_not_a_database_is_refused_with_a_remedy() {
    let folder = LogFolder::new();
    let diary = "this is a diary, not a database. ".repeat(200);
    fs::write(folder.file(), &diary).expect("writing");
    let opened = sqlite::open(folder.path(), KEEP_ALL, &Supervisor::default());
    let Err(OpenError::Unusable(text)) = opened else { panic!("it was opened") };
    assert!(text.contains("events.sqlite3 is not a database: move it away"), "{text}");
    assert_eq!(fs::read_to_string(folder.file()).expect("reading"), diary);
}

#[test]
fn a_log_that_another_process_keeps_locked_is_bounded_and_recovers() {
    let folder = LogFolder::new();
    let mut log = folder.open();
    append(&log, folder.path(), [1]);
    rewind(&mut *log.reader, 1);
    let other = folder.connect();
    assert_eq!(log.appender.append(record_of(1, 1, 1_100_000)), Err(AppendError::TooLarge));
    other.execute_batch("BEGIN IMMEDIATE").expect("locking");
    let taken = (2..=1_000_000).take_while(|seq| log.appender.append(record(*seq)) == Ok(())).count();
    assert_eq!(taken, sqlite::QUEUE_RECORDS);
    assert_eq!(log.appender.append(record(1)), Err(AppendError::Full));
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [1], "reading goes on");

    let mut reported = Vec::new();
    wait_for("all to be reported undelivered", || {
        reported.extend(undelivered(&log));
        (reported.len() == taken).then_some(())
    });
    assert!(reported.into_iter().eq(2..2 + taken as u64), "not in order");
    other.execute_batch("ROLLBACK").expect("unlocking");
    log.appender.append(record(7)).expect("appending");
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [7]);
}

#[test]
fn with_a_full_disk_records_are_reported_undelivered_and_the_log_recovers() {
    let Some(disk) = Tmpfs::mount(1024) else { return };
    let mut log = open(disk.path(), KEEP_ALL);
    append(&log, disk.path(), [1]);
    rewind(&mut *log.reader, 1);
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [1]);
    disk.fill();
    // More than one record, because the last block of the write-ahead log may still have room.
    (2..=200).for_each(|seq| log.appender.append(record_of(1, seq, 5_000)).expect("appending"));
    let (mut entries, mut reported) = (Vec::new(), Vec::new());
    wait_for("each record to be read or reported", || {
        log.reader.poll(Duration::from_millis(50), 1000, &mut entries).expect("reading goes on");
        reported.extend(undelivered(&log));
        (entries.len() + reported.len() == 199).then_some(())
    });
    assert!(!reported.is_empty(), "the disk was not full");
    assert!(seqs(&entries).into_iter().chain(reported).eq(2..=200));

    disk.free();
    append(&log, disk.path(), [201]);
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [201]);
    check_integrity(&connect(&disk.path().join(sqlite::FILE_NAME)));
}

#[test]
fn a_log_opened_on_a_full_disk_does_not_answer_until_there_is_room() {
    let Some(disk) = Tmpfs::mount(1024) else { return };
    disk.fill();
    let mut log = open(disk.path(), KEEP_ALL);
    let Err(ReadError::Unavailable(text)) = log.reader.rewind(10) else { panic!("the disk was not full") };
    assert!(text.contains(sqlite::FILE_NAME), "{text}");
    log.appender.append(record(1)).expect("appending");
    assert_eq!(wait_for("an undelivered record", || log.undelivered.try_recv().ok()), record(1));
    disk.free();
    assert_eq!(rewind(&mut *log.reader, 10).end, 0);
    append(&log, disk.path(), [2]);
    assert_eq!(seqs(&read(&mut *log.reader, 1)), [2]);
}
