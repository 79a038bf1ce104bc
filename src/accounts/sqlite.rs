//! [`SqliteStore`]: accounts in a SQLite file in the data folder, the store of a single instance.
//!
//! Called on the threads of [`Accounts`](super::Accounts). One connection writes and another one reads, so that a login
//! does not wait for the `fsync` of a registration. One thread at a time uses a connection. Other processes may have
//! the same file open. The archive of messages is in the same file and has connections of its own ([`connect`]).

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, TransactionBehavior, params};

use super::rules::{self, username_key};
use super::store::{
    self, Account, AccountStore, Change, CreateError, NewAccount, PAGE_ACCOUNTS, SANCTIONS_MAX, StoreError,
    StoredAccount, loaded_time, stored_time,
};
use crate::clock;
use crate::moderation::{Sanction, SanctionKind};
use crate::sqlite::{self, OpenError, Schema};
use crate::threads::lock;

/// The name of the file in the data folder.
pub(crate) const FILE_NAME: &str = "accounts.sqlite3";

/// How long a call waits for the connection. With the `lock_timeout` below less than
/// [`CALL_TIMEOUT`](super::store::CALL_TIMEOUT).
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(900);

const SCHEMA: Schema = Schema {
    content: "accounts",
    migrations: &[
        include_str!("../../sql/sqlite/0001_accounts.sql"),
        include_str!("../../sql/sqlite/0002_username_skeletons.sql"),
        include_str!("../../sql/sqlite/0003_messages.sql"),
        include_str!("../../sql/sqlite/0004_moderation.sql"),
    ],
    synchronous: "full",
    lock_timeout: Duration::from_millis(900),
    open_timeout: Duration::from_secs(10),
};

const FIND_BY_EMAIL: &str = "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE email_key = ?1";
const FIND_BY_USERNAME: &str =
    "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE username_key = ?1";
const LIST: &str =
    "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE id > ?1 ORDER BY id LIMIT ?2";
const PUT_SANCTION: &str = "INSERT INTO sanctions (kind, username_key, username, by_user, reason, at_ms, until_ms) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, username_key) DO UPDATE SET username = excluded.username, \
    by_user = excluded.by_user, reason = excluded.reason, at_ms = excluded.at_ms, until_ms = excluded.until_ms \
    WHERE excluded.at_ms > sanctions.at_ms";
const SELECT_SANCTIONS: &str = "SELECT kind, username, by_user, reason, at_ms, until_ms FROM sanctions \
    ORDER BY until_ms IS NULL OR (until_ms > ?1 AND until_ms > at_ms) DESC, at_ms DESC LIMIT ?2";

/// Accounts in a SQLite file. Dropping it merges the write-ahead log into the file and closes the file.
pub struct SqliteStore {
    writer: ExclusiveConnection,
    reader: ExclusiveConnection,
}

/// Opens the store in this folder, and migrates the schema. Creates the folder (mode 0700) and the file (mode 0600) if
/// they are missing. Blocks for at most 10 seconds.
///
/// # Errors
/// [`StoreError::Unusable`] if the folder cannot be written, or the file is not a database or is from a later version
/// of this server. [`StoreError::Unavailable`] if another process keeps the file locked. The texts name the file.
pub fn open(data_dir: &Path) -> Result<SqliteStore, StoreError> {
    let path = data_dir.join(FILE_NAME);
    let open = || {
        sqlite::create_folder(data_dir)?;
        let writer = sqlite::open(&path, &SCHEMA)?;
        let reader = sqlite::open(&path, &SCHEMA)?;
        Ok((writer, reader))
    };
    let (mut writer, reader) = open().map_err(open_error)?;
    fill_skeletons(&mut writer).map_err(store_error)?;
    reader.pragma_update(None, "query_only", true).map_err(store_error)?;
    Ok(SqliteStore { writer: ExclusiveConnection::new(writer), reader: ExclusiveConnection::new(reader) })
}

/// Checks the file in this folder like [`open`], as far as that is possible without a change.
///
/// # Errors
/// See [`open`].
pub(crate) fn check(data_dir: &Path) -> Result<(), StoreError> {
    sqlite::check(&data_dir.join(FILE_NAME), &SCHEMA).map_err(open_error)
}

fn open_error(error: OpenError) -> StoreError {
    match error {
        OpenError::Unusable(text) | OpenError::NotWritable(text) => StoreError::Unusable(text),
        OpenError::Unavailable(text) => StoreError::Unavailable(text),
    }
}

/// Another connection to the file, for the archive. Creates and migrates the file like [`open`].
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn connect(data_dir: &Path) -> Result<Connection, OpenError> {
    sqlite::open(&data_dir.join(FILE_NAME), &SCHEMA)
}

/// A connection that reads the file as it is: it creates, migrates and changes nothing.
///
/// # Errors
/// [`OpenError::Unavailable`], also if there is no file.
pub(crate) fn connect_read_only(data_dir: &Path) -> Result<Connection, OpenError> {
    sqlite::open_read_only(&data_dir.join(FILE_NAME), &SCHEMA)
}

impl AccountStore for SqliteStore {
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError> {
        self.writer.with(|connection| insert(connection, account))?.map_err(store_error)?
    }

    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.reader.with(|connection| find(connection, FIND_BY_EMAIL, email_key))?.map_err(store_error)
    }

    fn find_by_username_key(&self, username_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.reader.with(|connection| find(connection, FIND_BY_USERNAME, username_key))?.map_err(store_error)
    }

    fn list(&self, after_id: i64) -> Result<Vec<StoredAccount>, StoreError> {
        self.reader.with(|connection| list(connection, after_id))?.map_err(store_error)
    }

    fn change(&self, id: i64, change: &Change) -> Result<bool, StoreError> {
        let changed = self.writer.with(|connection| match change {
            Change::Admin(is_admin) => {
                connection.execute("UPDATE accounts SET is_admin = ?2 WHERE id = ?1", params![id, is_admin])
            }
            Change::PasswordHash(hash) => {
                connection.execute("UPDATE accounts SET password_hash = ?2 WHERE id = ?1", params![id, hash])
            }
            Change::Remove => connection.execute("DELETE FROM accounts WHERE id = ?1", [id]),
        })?;
        Ok(changed.map_err(store_error)? == 1)
    }

    fn put_sanctions(&self, sanctions: &[Sanction]) -> Result<(), StoreError> {
        self.writer.with(|connection| put_sanctions(connection, sanctions))?.map_err(store_error)
    }

    fn sanctions(&self) -> Result<Vec<Sanction>, StoreError> {
        self.reader.with(|connection| select_sanctions(connection))?.map_err(store_error)
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// Computes the skeletons of accounts that an earlier version created. If two of them look the same, the older one
/// reserves the name, and both go on working.
fn fill_skeletons(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut select =
        transaction.prepare("SELECT id, username FROM accounts WHERE username_skeleton IS NULL ORDER BY id")?;
    let accounts: Vec<(i64, String)> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    drop(select);
    for (id, username) in accounts {
        let skeleton = rules::username_skeleton(&username);
        let set = "UPDATE OR IGNORE accounts SET username_skeleton = ?2 WHERE id = ?1";
        if transaction.prepare_cached(set)?.execute(params![id, skeleton])? == 0 {
            transaction.prepare_cached(set)?.execute(params![id, store::colliding_skeleton(&skeleton, id)])?;
        }
    }
    transaction.commit()
}

/// Inserts an account. If it violates a constraint, finds out which one within the same transaction, so that no other
/// write comes between.
fn insert(connection: &mut Connection, account: &NewAccount) -> rusqlite::Result<Result<i64, CreateError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO accounts (email, email_key, username, username_key, username_skeleton, password_hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .insert(params![
            account.email,
            account.email_key,
            account.username,
            account.username_key,
            account.username_skeleton,
            account.password_hash
        ]);
    match inserted {
        Ok(id) => {
            transaction.commit()?;
            Ok(Ok(id))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            let exists = |sql: &str, key: &str| transaction.prepare_cached(sql)?.exists([key]);
            if exists("SELECT 1 FROM accounts WHERE email_key = ?1", &account.email_key)? {
                return Ok(Err(CreateError::EmailTaken));
            }
            if exists("SELECT 1 FROM accounts WHERE username_key = ?1", &account.username_key)?
                || exists("SELECT 1 FROM accounts WHERE username_skeleton = ?1", &account.username_skeleton)?
            {
                return Ok(Err(CreateError::UsernameTaken));
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn find(connection: &Connection, sql: &str, key: &str) -> rusqlite::Result<Option<StoredAccount>> {
    connection.prepare_cached(sql)?.query_row([key], stored_account).optional()
}

fn list(connection: &Connection, after_id: i64) -> rusqlite::Result<Vec<StoredAccount>> {
    let mut select = connection.prepare_cached(LIST)?;
    select.query_map(params![after_id, PAGE_ACCOUNTS], stored_account)?.collect()
}

fn stored_account(row: &Row<'_>) -> rusqlite::Result<StoredAccount> {
    let account = Account { id: row.get::<_, i64>(0)?.to_string(), email: row.get(1)?, username: row.get(2)? };
    Ok(StoredAccount { account, password_hash: row.get(3)?, is_admin: row.get(4)? })
}

fn put_sanctions(connection: &mut Connection, sanctions: &[Sanction]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for Sanction { kind, username, by, reason, at_ms, until_ms } in sanctions {
        let until_ms = until_ms.map(stored_time);
        transaction.prepare_cached(PUT_SANCTION)?.execute(params![
            kind.name(),
            username_key(username),
            username,
            by,
            reason,
            stored_time(*at_ms),
            until_ms
        ])?;
    }
    transaction.commit()
}

fn select_sanctions(connection: &Connection) -> rusqlite::Result<Vec<Sanction>> {
    let mut select = connection.prepare_cached(SELECT_SANCTIONS)?;
    let rows = select.query_map(params![stored_time(clock::unix_millis()), SANCTIONS_MAX], |row| {
        let Some(kind) = SanctionKind::stored(row.get_ref(0)?.as_str()?) else { return Ok(None) };
        let until_ms = row.get::<_, Option<i64>>(5)?.map(loaded_time);
        let (username, by, reason) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Some(Sanction { kind, username, by, reason, at_ms: loaded_time(row.get(4)?), until_ms }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// Most errors are temporary (disk full, locked, I/O). The texts of SQLite contain tables and columns, never values.
fn store_error(error: rusqlite::Error) -> StoreError {
    if sqlite::is_damaged(&error) {
        StoreError::Unusable(format!("{FILE_NAME} is damaged: restore it from a backup: {error}"))
    } else {
        StoreError::Unavailable(format!("{FILE_NAME}: {error}"))
    }
}

/// A connection that one thread at a time may use. A thread waits for the permit, with a deadline; then the mutex is
/// free. A mutex alone has no deadline.
struct ExclusiveConnection {
    connection: Mutex<Connection>,
    /// The permit is the one message that this channel can hold.
    permit: Sender<()>,
    permits: Receiver<()>,
}

impl ExclusiveConnection {
    fn new(connection: Connection) -> Self {
        let (permit, permits) = bounded(1);
        // Cannot fail: the channel is empty.
        let _ = permit.try_send(());
        ExclusiveConnection { connection: Mutex::new(connection), permit, permits }
    }

    fn with<R>(&self, run: impl FnOnce(&mut Connection) -> R) -> Result<R, StoreError> {
        self.permits
            .recv_timeout(CONNECTION_TIMEOUT)
            .map_err(|_| StoreError::Unavailable(format!("{FILE_NAME}: the disk is too slow")))?;
        let _permit = Permit(&self.permit);
        // After a panic the connection can still be used: the transaction was rolled back when it was dropped.
        let mut connection = lock(&self.connection);
        Ok(run(&mut connection))
    }
}

/// Is released on drop, also after a panic.
struct Permit<'a>(&'a Sender<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests;
