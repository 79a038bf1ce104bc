//! When a step is due, and which records it deletes.

use rusqlite::TransactionBehavior;

use super::*;

const DAY: i64 = 24 * 3600;

/// A log in memory with `records` records of `bytes` bytes each. One record was appended each second.
fn log(records: i64, bytes: usize) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../../../../sql/events/0001_records.sql")).unwrap();
    let insert = "INSERT INTO records (offset, appended_at, record) VALUES (?1, ?1, ?2)";
    let text = "x".repeat(bytes);
    connection.execute_batch("BEGIN").unwrap();
    for number in 0..records {
        connection.execute(insert, (number, &text)).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    connection
}

fn cleaner(age_seconds: u64, bytes: u64) -> Cleaner {
    Cleaner::new(Retention { age: Duration::from_secs(age_seconds), bytes })
}

fn delete(cleaner: &Cleaner, connection: &mut Connection, records_max: i64, now: i64) -> i64 {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let deleted = cleaner.delete(&transaction, records_max, now).unwrap();
    transaction.commit().unwrap();
    deleted
}

fn bounds(connection: &Connection) -> (i64, i64) {
    connection
        .query_row("SELECT min(offset), max(offset) FROM records", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

#[test]
fn old_records_are_deleted_in_steps_from_the_oldest_on() {
    let mut log = log(20_000, 10);
    let cleaner = cleaner(3600, u64::MAX);
    assert_eq!(delete(&cleaner, &mut log, 100, 3600), 0);
    // The first three are older than an hour.
    assert_eq!(delete(&cleaner, &mut log, 100, 3603), 3);
    assert_eq!(delete(&cleaner, &mut log, 100, 3700), 97);
    assert_eq!(delete(&cleaner, &mut log, 50, 4500), 50);
    assert_eq!(bounds(&log), (150, 19_999));
}

#[test]
fn the_records_that_a_start_reads_are_kept_whatever_their_age() {
    let mut log = log(20_000, 10);
    let cleaner = cleaner(3600, u64::MAX);
    assert_eq!(delete(&cleaner, &mut log, 10_000, 100 * DAY), 20_000 - KEPT_RECORDS);
    assert_eq!(delete(&cleaner, &mut log, 10_000, 200 * DAY), 0);
    assert_eq!(bounds(&log), (20_000 - KEPT_RECORDS, 19_999));
}

#[test]
fn a_log_that_is_too_large_shrinks_to_its_limit_and_keeps_the_newest_record() {
    let mut log = log(2_000, 1_000);
    let bytes = used_bytes(&log).unwrap();
    assert_eq!(delete(&cleaner(3600, bytes as u64), &mut log, 512, 0), 0);
    let deleted = delete(&cleaner(3600, bytes as u64 - 102_400), &mut log, 512, 0);
    assert_eq!(deleted, 100);
    let left = used_bytes(&log).unwrap();
    assert!((bytes - 120_000..=bytes - 90_000).contains(&left), "{bytes} became {left}");
    while delete(&cleaner(3600, 0), &mut log, 512, 0) > 0 {}
    assert_eq!(bounds(&log), (1_999, 1_999));
}

#[test]
fn the_space_of_deleted_records_is_reused() {
    let mut log = log(2_000, 1_000);
    let pages =
        |log: &Connection| log.query_row("SELECT * FROM pragma_page_count()", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = pages(&log);
    delete(&cleaner(3600, 0), &mut log, 1_000, 0);
    let text = "x".repeat(1_000);
    for number in 2_000..2_900 {
        log.execute("INSERT INTO records (offset, appended_at, record) VALUES (?1, 0, ?2)", (number, &text)).unwrap();
    }
    assert_eq!(pages(&log), before);
}

#[test]
fn a_step_needs_appended_records_unless_the_cleaner_is_behind() {
    let mut log = log(20_000, 10);
    let mut cleaner = cleaner(3600, u64::MAX);
    assert_eq!(cleaner.due_in(), Some(Duration::ZERO));
    let mut steps = 0;
    while cleaner.due_in().is_some() {
        cleaner.stepped_at = None;
        let transaction = log.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        cleaner.step(&transaction, 0).unwrap();
        transaction.commit().unwrap();
        steps += 1;
    }
    assert_eq!(bounds(&log).0, 20_000 - KEPT_RECORDS);
    assert_eq!(steps, (20_000 - KEPT_RECORDS) / STEP_RECORDS + 1);
}
