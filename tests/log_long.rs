//! A long event log in SQLite: a start reads only its end.

mod harness;

use std::time::Instant;

use harness::returning::{Returning, complete, incomplete};
use harness::server::Server;
use harness::sqlite::{DataFolder, KEEP_ALL, open};
use ich::lobby::bootstrap::SPANS;

/// Sixty times what a start reads.
const RECORDS: u64 = 1_000_000;
/// What an instance wrote until it was killed: rosters, heartbeats, and messages of its only session.
const INSERT: &str = r#"
    WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?1)
    INSERT INTO records (offset, appended_at, record)
    SELECT i, unixepoch(),
        '{"v":1,"from":"0000000000000001","seq":' || (i + 1) || ',"at":"2026-11-23T10:00:00.000000001+01:00",' ||
        CASE
            WHEN i % 500 = 0 THEN
                '"type":"roster","part":0,"parts":1,"sessions":[{"session":1,"user":{"id":"1","username":"Ann"}}]}'
            WHEN i % 50 = 0 THEN '"type":"beat","n":' || (i / 50) || '}'
            ELSE '"type":"said","session":1,"text":"message ' || i || '"}'
        END
    FROM numbers"#;

#[test]
fn a_start_reads_only_the_end_of_the_log() {
    let folder = DataFolder::new();
    drop(open(folder.file().parent().expect("the data folder"), KEEP_ALL));
    let filled_at = Instant::now();
    folder.connect().execute(INSERT, [i64::try_from(RECORDS).expect("a number")]).expect("inserting");
    eprintln!("filled with {RECORDS} records in {:?}", filled_at.elapsed());

    let started_at = Instant::now();
    let server = Server::start_in(folder.path(), &[]);
    eprintln!("ready {:?} after the start, with {RECORDS} records", started_at.elapsed());
    let expected = format!("read the event log from {} to {RECORDS}", RECORDS - SPANS.first);
    assert!(server.log().contains(&expected), "{}", server.log());

    let (bob, caught_up) = Returning::join_query(&server, "Bob", "last=2");
    assert_eq!(
        (caught_up, bob.texts),
        (complete(2), [2, 1].map(|back| format!("message {}", RECORDS - back)).to_vec())
    );
    // Of the id below, the server knows no message: it is an earlier one.
    let old = Some("0000000000000001-2".to_owned());
    assert_eq!(Returning::resume(&server, "Ann", old, Vec::new()).expect("a join").1, incomplete(1000));
}
