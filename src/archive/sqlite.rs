//! The archive in the SQLite file of the accounts.
//!
//! A lock on a file beside it makes one process the archiver: the system releases the lock when the process ends, however
//! it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::archiver::{Batch, Position};
use super::place::NO_ARCHIVE;
use super::store::{ArchiveError, ArchiveStore, Page, Row, Select, columns, position_of, sql_offset};
use crate::accounts::sqlite as accounts;
use crate::lobby::EventId;

/// In the data folder.
const LOCK_FILE_NAME: &str = "archive.lock";

const INSERT: &str = "INSERT INTO messages (event_id, sent_at, from_id, from_user, text, archived_at) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (event_id) DO NOTHING";
const INSERT_GAP: &str = "INSERT INTO archive_gaps (noticed_at, cause, from_offset, to_offset, last_event_id) \
                          VALUES (?1, ?2, ?3, ?4, (SELECT event_id FROM messages ORDER BY id DESC LIMIT 1))";
/// Deletes no message that is newer than one that has to stay.
const DELETE: &str = "DELETE FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT ?2) AND id < \
                      coalesce((SELECT min(id) FROM (SELECT id, archived_at FROM messages ORDER BY id LIMIT ?2) \
                                WHERE archived_at >= ?1), 9223372036854775807)";

/// The writing end.
pub struct SqliteArchive {
    data_dir: PathBuf,
    lock: Option<File>,
    connection: Option<Connection>,
}

/// The archive in this folder. Opens nothing yet.
#[must_use]
pub fn open(data_dir: &Path) -> SqliteArchive {
    SqliteArchive { data_dir: data_dir.to_owned(), lock: None, connection: None }
}

impl ArchiveStore for SqliteArchive {
    fn take_lead(&mut self) -> Result<bool, ArchiveError> {
        if self.lock.is_none() {
            self.lock = try_lock(&self.data_dir.join(LOCK_FILE_NAME))?;
        }
        if self.lock.is_none() {
            return Ok(false);
        }
        if self.connection.is_none() {
            self.connection = Some(connect(&self.data_dir)?);
        }
        Ok(true)
    }

    fn position(&mut self) -> Result<Option<Position>, ArchiveError> {
        let found = self.with(|connection| stored_position(connection))?;
        found.map(|(offset, record)| position_of(offset, &record)).transpose()
    }

    fn append(&mut self, batch: &Batch, now: i64) -> Result<u64, ArchiveError> {
        let added = self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !move_position(&transaction, batch)? {
                return Ok(None);
            }
            let added = insert(&transaction, batch, now)?;
            transaction.commit()?;
            Ok(Some(added))
        })?;
        added.ok_or(ArchiveError::Conflict)
    }

    fn delete(&mut self, before: i64, count: u32) -> Result<u64, ArchiveError> {
        self.with(|connection| Ok(connection.prepare_cached(DELETE)?.execute(params![before, count])? as u64))
    }
}

impl SqliteArchive {
    /// After an error the connection is not used again.
    fn with<R>(&mut self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<R>) -> Result<R, ArchiveError> {
        let mut connection = self.connection.take().ok_or_else(|| unavailable(&"not connected"))?;
        let result = run(&mut connection).map_err(|error| unavailable(&error))?;
        self.connection = Some(connection);
        Ok(result)
    }
}

/// The offset and the id of the record.
fn stored_position(connection: &Connection) -> rusqlite::Result<Option<(i64, String)>> {
    connection
        .prepare_cached("SELECT log_offset, record FROM archive_position")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// False: another archiver has moved it.
fn move_position(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<bool> {
    let (offset, record) = (sql_offset(batch.position.offset), batch.position.record.to_string());
    let changed = match batch.after {
        None => transaction
            .prepare_cached(
                "INSERT INTO archive_position (only_row, log_offset, record) VALUES (1, ?1, ?2) \
                 ON CONFLICT (only_row) DO NOTHING",
            )?
            .execute(params![offset, record])?,
        Some(after) => transaction
            .prepare_cached(
                "UPDATE archive_position SET log_offset = ?1, record = ?2 WHERE log_offset = ?3 AND record = ?4",
            )?
            .execute(params![offset, record, sql_offset(after.offset), after.record.to_string()])?,
    };
    Ok(changed == 1)
}

fn insert(transaction: &Transaction<'_>, batch: &Batch, now: i64) -> rusqlite::Result<u64> {
    if let Some(gap) = batch.gap {
        let (from, to) = (sql_offset(gap.from), sql_offset(gap.to));
        transaction.prepare_cached(INSERT_GAP)?.execute(params![now, gap.cause.as_str(), from, to])?;
    }
    let mut insert = transaction.prepare_cached(INSERT)?;
    let mut added = 0;
    for message in &batch.messages {
        let [event_id, sent_at, from_id, from_user, text] = columns(message);
        added += insert.execute(params![event_id, sent_at, from_id, from_user, text, now])? as u64;
    }
    Ok(added)
}

/// A connection for archiving or reading.
///
/// # Errors
/// [`ArchiveError::Unavailable`].
pub(super) fn connect(data_dir: &Path) -> Result<Connection, ArchiveError> {
    let connection = accounts::connect(data_dir).map_err(|error| ArchiveError::Unavailable(error.to_string()))?;
    // A power failure can undo the last commits of the event log, too, and a commit without fsync costs no disk a write.
    connection.pragma_update(None, "synchronous", "normal").map_err(|error| unavailable(&error))?;
    Ok(connection)
}

/// A connection that changes nothing, to a file that has to exist.
///
/// # Errors
/// [`ArchiveError::Unavailable`], also if the file has no archive.
pub(super) fn connect_to_existing(data_dir: &Path) -> Result<Connection, ArchiveError> {
    let opened = accounts::connect_read_only(data_dir);
    let connection = opened.map_err(|error| ArchiveError::Unavailable(error.to_string()))?;
    let has_archive = connection.table_exists(None, "messages").map_err(|error| unavailable(&error))?;
    if has_archive { Ok(connection) } else { Err(unavailable(&NO_ARCHIVE)) }
}

/// See [`super::place::page`].
///
/// # Errors
/// Those of SQLite.
pub(super) fn page(
    connection: &Connection,
    select: &Select,
    rows_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Option<Page>> {
    const OLDER: &str = "SELECT id, event_id, sent_at, from_id, from_user, text FROM messages \
                         WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
    const NEWER: &str = "SELECT id, event_id, sent_at, from_id, from_user, text FROM messages \
                         WHERE id > ?1 ORDER BY id LIMIT ?2";
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let (sql, id) = match select {
        Select::Newest => (OLDER, Some(i64::MAX)),
        Select::AfterRow(id) => (NEWER, Some(*id)),
        Select::Before(event_id) => (OLDER, row_of(connection, *event_id)?),
        Select::After(event_id) => (NEWER, row_of(connection, *event_id)?),
        Select::BeforeMissing { offset, ids } => match stored_position(connection)? {
            Some((read, _)) if read >= sql_offset(*offset) => {
                (OLDER, first_row_of(connection, ids)?.or(Some(i64::MAX)))
            }
            _ => (OLDER, None),
        },
    };
    let Some(id) = id else { return Ok(None) };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id, limit])?;
    let next = || -> rusqlite::Result<Option<Row>> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let row = Row {
            id: row.get(0)?,
            event_id: row.get(1)?,
            sent_at: row.get(2)?,
            from_id: row.get(3)?,
            from_user: row.get(4)?,
            text: row.get(5)?,
        };
        Ok(Some(row))
    };
    Page::take(rows_max, bytes_max, next).map(Some)
}

fn row_of(connection: &Connection, event_id: EventId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM messages WHERE event_id = ?1")?
        .query_row([event_id.to_string()], |row| row.get(0))
        .optional()
}

/// The row of the first of these messages that the archive has.
fn first_row_of(connection: &Connection, event_ids: &[EventId]) -> rusqlite::Result<Option<i64>> {
    event_ids.iter().find_map(|event_id| row_of(connection, *event_id).transpose()).transpose()
}

/// None: another process holds the lock.
fn try_lock(path: &Path) -> Result<Option<File>, ArchiveError> {
    let failed = |error: &dyn std::fmt::Display| {
        ArchiveError::Unavailable(format!("cannot lock {}: {error}: make the data folder writable", path.display()))
    };
    let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).clone();
    let file = options.open(path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

pub(super) fn unavailable(error: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Unavailable(format!("{}: {error}", accounts::FILE_NAME))
}
