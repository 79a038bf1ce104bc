//! [`LogFile`]: the path of the log. Each thread opens its own connection with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::sqlite::{self, OpenError, Schema};

const SCHEMA: Schema = Schema {
    content: "event log",
    migrations: &[include_str!("../../../sql/events/0001_records.sql")],
    synchronous: "normal",
    lock_timeout: Duration::from_secs(1),
    open_timeout: Duration::from_secs(1),
};

/// The identity of the file that a path leads to: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u64, pub(super) u64);

/// The path of the log.
#[derive(Debug)]
pub(super) struct LogFile(PathBuf);

/// A connection, and the identity of the file that it has opened.
pub(super) struct Opened {
    pub connection: Connection,
    pub identity: Identity,
}

/// Checks the file without a change: see [`sqlite::check`].
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    sqlite::check(path, &SCHEMA)
}

impl LogFile {
    pub fn new(path: PathBuf) -> Self {
        LogFile(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a connection. Creates the file if it is missing, but not its folder: if a volume is not mounted, the log
    /// must not be created below its empty mount point.
    pub fn open(&self) -> Result<Opened, OpenError> {
        let connection = sqlite::open(&self.0, &SCHEMA)?;
        let unavailable = |error: &dyn std::fmt::Display| {
            OpenError::Unavailable(format!(
                "cannot open {}: {error}: make sure that no other program removes it",
                self.0.display()
            ))
        };
        // The thread of `checkpoint.rs` runs all checkpoints.
        connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(|error| unavailable(&error))?;
        let identity = self.identity().ok_or_else(|| unavailable(&"it was removed again"))?;
        Ok(Opened { connection, identity })
    }

    /// The identity of the file that the path leads to now; `None` if there is no file.
    pub fn identity(&self) -> Option<Identity> {
        let metadata = fs::metadata(&self.0).ok()?;
        Some(Identity(metadata.dev(), metadata.ino()))
    }
}
