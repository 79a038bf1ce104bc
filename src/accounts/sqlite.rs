//! Accounts in one SQLite file in the data folder: the store of a server that stands alone.
//!
//! Called on the threads of [`Accounts`](super::Accounts). Two connections: one writes, one reads, so that a login never
//! waits for a registration's `fsync`. Each is lent to one thread at a time. Other processes may have
//! the same file open.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use super::store::{Account, AccountStore, CreateError, NewAccount, StoreError, StoredAccount};
use crate::sqlite::{self, OpenError, Schema};
use crate::threads::lock;

/// The file's name in the data folder.
pub const FILE_NAME: &str = "accounts.sqlite3";

/// Waiting for a connection and then for the lock of another process: together within
/// [`CALL_TIMEOUT`](super::store::CALL_TIMEOUT).
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(900);

const SCHEMA: Schema = Schema {
    content: "accounts",
    migrations: &[include_str!("../../sql/sqlite/0001_accounts.sql")],
    synchronous: "full",
    lock_timeout: Duration::from_millis(900),
    open_timeout: Duration::from_secs(10),
};

/// Accounts in a file. Dropping it writes everything into the main file and closes it.
pub struct SqliteStore {
    writer: Lent,
    reader: Lent,
}

/// Opens the accounts in this folder; makes both when they are missing (mode 0700 and 0600), and brings the file's
/// schema up to date.
///
/// # Errors
/// [`StoreError::Unusable`] when the folder cannot be written, the file is not a database or is from a later version of
/// this server; [`StoreError::Unavailable`] when another process keeps it locked. Both name the file.
pub fn open(data_dir: &Path) -> Result<SqliteStore, StoreError> {
    let path = data_dir.join(FILE_NAME);
    let open = || {
        sqlite::create_folder(data_dir)?;
        let writer = sqlite::open(&path, &SCHEMA)?;
        let reader = sqlite::open(&path, &SCHEMA)?;
        Ok((writer, reader))
    };
    let (writer, reader) = open().map_err(|error| match error {
        OpenError::Unusable(text) | OpenError::NotWritable(text) => StoreError::Unusable(text),
        OpenError::Unavailable(text) => StoreError::Unavailable(text),
    })?;
    reader.pragma_update(None, "query_only", true).map_err(store_error)?;
    Ok(SqliteStore { writer: Lent::new(writer), reader: Lent::new(reader) })
}

impl AccountStore for SqliteStore {
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError> {
        self.writer.with(|connection| insert(connection, account))?.map_err(store_error)?
    }

    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.reader.with(|connection| find(connection, email_key))?.map_err(store_error)
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// Who violates a constraint is asked while the write lock is held: nobody can come between.
fn insert(connection: &mut Connection, account: &NewAccount) -> rusqlite::Result<Result<i64, CreateError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO accounts (email, email_key, username, username_key, password_hash) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert(params![account.email, account.email_key, account.username, account.username_key, account.password_hash]);
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
            if exists("SELECT 1 FROM accounts WHERE username_key = ?1", &account.username_key)? {
                return Ok(Err(CreateError::UsernameTaken));
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn find(connection: &Connection, email_key: &str) -> rusqlite::Result<Option<StoredAccount>> {
    connection
        .prepare_cached("SELECT id, email, username, password_hash FROM accounts WHERE email_key = ?1")?
        .query_row([email_key], |row| {
            let account = Account { id: row.get::<_, i64>(0)?.to_string(), email: row.get(1)?, username: row.get(2)? };
            Ok(StoredAccount { account, password_hash: row.get(3)? })
        })
        .optional()
}

/// Nearly all can pass (disk full, locked, I/O). SQLite's texts name tables and columns, never values.
fn store_error(error: rusqlite::Error) -> StoreError {
    if sqlite::is_damaged(&error) {
        StoreError::Unusable(format!("{FILE_NAME} is damaged: restore it from a backup: {error}"))
    } else {
        StoreError::Unavailable(format!("{FILE_NAME}: {error}"))
    }
}

/// A connection that one thread at a time may have. Waiting for it has a deadline, which a mutex alone does not give:
/// whoever holds the permit finds the mutex free.
struct Lent {
    connection: Mutex<Connection>,
    permit: Sender<()>,
    permits: Receiver<()>,
}

impl Lent {
    fn new(connection: Connection) -> Self {
        let (permit, permits) = bounded(1);
        // There is room for one, and this is the one.
        let _ = permit.try_send(());
        Lent { connection: Mutex::new(connection), permit, permits }
    }

    fn with<R>(&self, run: impl FnOnce(&mut Connection) -> R) -> Result<R, StoreError> {
        self.permits
            .recv_timeout(CONNECTION_TIMEOUT)
            .map_err(|_| StoreError::Unavailable(format!("{FILE_NAME}: the disk is too slow")))?;
        let _permit = Permit(&self.permit);
        // After a panic the connection is as good as before: its transaction was rolled back when it was dropped.
        let mut connection = lock(&self.connection);
        Ok(run(&mut connection))
    }
}

/// Gives itself back when it is dropped, also by a panic.
struct Permit<'a>(&'a Sender<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests;
