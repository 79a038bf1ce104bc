//! Event logs in SQLite, in temporary folders, and connections with which a test reads or locks them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ich::event_log::EventLog;
use ich::event_log::sqlite::{self, Retention};
use ich::supervisor::Supervisor;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::folder::Folder;

/// A retention that keeps everything that a test appends.
pub const KEEP_ALL: Retention = Retention { age: Duration::from_secs(24 * 3600), bytes: 1 << 30 };

/// A folder for one log.
pub struct LogFolder(Folder);

impl LogFolder {
    /// A new, empty folder.
    pub fn new() -> LogFolder {
        LogFolder(Folder::new())
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// The path of the log's file.
    pub fn file(&self) -> PathBuf {
        self.path().join(sqlite::FILE_NAME)
    }

    /// Opens the log, as another process would.
    pub fn open(&self) -> EventLog {
        open(self.path(), KEEP_ALL)
    }

    /// A connection of the test to the file.
    pub fn connect(&self) -> Connection {
        connect(&self.file())
    }

    /// The offset after the last record.
    pub fn end(&self) -> u64 {
        end(&self.connect())
    }
}

/// Opens the log in this folder.
pub fn open(folder: &Path, retention: Retention) -> EventLog {
    sqlite::open(folder, retention, &Supervisor::default()).expect("opening the log")
}

/// The offset after the last record.
pub fn end(connection: &Connection) -> u64 {
    let end: Option<i64> =
        connection.query_row("SELECT max(offset) + 1 FROM records", [], |row| row.get(0)).expect("the end");
    end.map_or(0, |end| u64::try_from(end).expect("an offset"))
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

/// A folder in which servers run.
pub struct DataFolder(Folder);

impl DataFolder {
    /// A new, empty folder.
    pub fn new() -> DataFolder {
        DataFolder(Folder::new())
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// The path of the event log's file.
    pub fn file(&self) -> PathBuf {
        self.path().join("data").join(sqlite::FILE_NAME)
    }

    /// Removes the file of the event log and those beside it. The server of this folder, if it runs, begins a new one.
    pub fn remove_log(&self) {
        for suffix in ["", "-wal", "-shm"] {
            // SQLite itself removes the last two when the server stops.
            let _ = std::fs::remove_file(format!("{}{suffix}", self.file().display()));
        }
    }

    /// A connection of the test to the event log's file.
    pub fn connect(&self) -> Connection {
        connect(&self.file())
    }

    /// The records of the event log, as JSON, in their order.
    pub fn records(&self) -> Vec<Value> {
        let connection = self.connect();
        let mut select = connection.prepare("SELECT record FROM records ORDER BY offset").expect("a query");
        let rows = select.query_map([], |row| row.get::<_, String>(0)).expect("the records");
        rows.map(|json| serde_json::from_str(&json.expect("a record")).expect("JSON")).collect()
    }
}
