//! Event logs in SQLite, in folders of their own, and connections that look into them or stand in their way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ich::event_log::EventLog;
use ich::event_log::sqlite::{self, Retention};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::server::new_dir;

/// Keeps everything that a test appends.
pub const KEEP_ALL: Retention = Retention { age: Duration::from_secs(24 * 3600), bytes: 1 << 30 };

/// A folder for one log, removed with the value.
pub struct LogFolder(PathBuf);

impl LogFolder {
    /// An empty one.
    pub fn new() -> LogFolder {
        LogFolder(new_dir())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of the log.
    pub fn file(&self) -> PathBuf {
        self.0.join(sqlite::FILE_NAME)
    }

    /// Opens the log, as one more process would.
    pub fn open(&self) -> EventLog {
        sqlite::open(&self.0, KEEP_ALL).expect("opening the log")
    }

    /// A connection of the test to the file.
    pub fn connect(&self) -> Connection {
        connect(&self.file())
    }
}

impl Drop for LogFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A connection of the test to a log.
pub fn connect(file: &Path) -> Connection {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("opening the file");
    connection.busy_timeout(super::PATIENCE).expect("a pragma");
    connection.pragma_update(None, "wal_autocheckpoint", 0).expect("a pragma");
    connection
}

/// SQLite's own check of the whole file.
pub fn check_integrity(connection: &Connection) {
    let answer: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("a check");
    assert_eq!(answer, "ok");
}

/// A number that changes with every commit of another connection.
pub fn data_version(connection: &Connection) -> i64 {
    connection.pragma_query_value(None, "data_version", |row| row.get(0)).expect("a pragma")
}

/// A folder for servers, removed with the value, after them.
pub struct DataFolder(LogFolder);

impl DataFolder {
    /// An empty one.
    pub fn new() -> DataFolder {
        DataFolder(LogFolder::new())
    }

    /// Where the servers run.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The file of their event log.
    pub fn file(&self) -> PathBuf {
        self.path().join("data").join(sqlite::FILE_NAME)
    }

    /// A connection of the test to that file.
    pub fn connect(&self) -> Connection {
        connect(&self.file())
    }

    /// The records that are in that file, as JSON, in their order.
    pub fn records(&self) -> Vec<Value> {
        let connection = self.connect();
        let mut select = connection.prepare("SELECT record FROM records ORDER BY offset").expect("a query");
        let rows = select.query_map([], |row| row.get::<_, String>(0)).expect("the records");
        rows.map(|json| serde_json::from_str(&json.expect("a record")).expect("JSON")).collect()
    }
}
