//! Accounts in one SQLite file in the data folder: the store of a server that stands alone.
//!
//! Called on the threads of [`Accounts`](super::Accounts). Two connections: one writes, one reads, so that a login
//! never waits for a registration's `fsync`. Each is lent to one thread at a time. Other processes may have the same
//! file open.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::store::{Account, AccountStore, CreateError, NewAccount, StoreError, StoredAccount};
use crate::threads::lock;

/// The file's name in the data folder. SQLite puts `-wal` and `-shm` beside it, with the same mode.
pub const FILE_NAME: &str = "accounts.sqlite3";

/// Version N of the schema is what the first N of these made; the file says its own in `user_version`.
const MIGRATIONS: &[&str] = &[include_str!("../../sql/sqlite/0001_accounts.sql")];

/// Waiting for a connection and then for the lock of another process: together within
/// [`CALL_TIMEOUT`](super::store::CALL_TIMEOUT).
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(900);
const LOCK_TIMEOUT: Duration = Duration::from_millis(900);
/// How long opening goes on trying while other processes open the same file.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_RETRY: Duration = Duration::from_millis(20);

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
    make_file(data_dir, &path).map_err(|error| {
        StoreError::Unusable(format!("cannot write {}: {error}: make the data folder writable", path.display()))
    })?;
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        match open_file(&path) {
            // Turning on WAL and recovering a crash want the file alone for a moment, and then do not wait by
            // themselves.
            Err(OpenError::Sqlite(error)) if is_locked(&error) && Instant::now() < deadline => {
                thread::sleep(OPEN_RETRY);
            }
            Err(error) => return Err(error.into_store_error(&path)),
            Ok(store) => return Ok(store),
        }
    }
}

fn make_file(data_dir: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(())
}

enum OpenError {
    Sqlite(rusqlite::Error),
    LaterVersion(i64),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        OpenError::Sqlite(error)
    }
}

impl OpenError {
    fn into_store_error(self, path: &Path) -> StoreError {
        let path = path.display();
        match self {
            OpenError::LaterVersion(version) => StoreError::Unusable(format!(
                "{path} has schema {version}, this server knows {}: run a later version of it",
                MIGRATIONS.len()
            )),
            OpenError::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => {
                    StoreError::Unusable(format!("{path} is not a database: move it away, or restore it from a backup"))
                }
                Some(ErrorCode::DatabaseCorrupt) => {
                    StoreError::Unusable(format!("{path} is damaged: restore it from a backup"))
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    StoreError::Unusable(format!("cannot write {path}: make the data folder writable"))
                }
                _ => StoreError::Unavailable(format!("cannot open {path}: {error}")),
            },
        }
    }
}

fn open_file(path: &Path) -> Result<SqliteStore, OpenError> {
    let mut writer = connect(path)?;
    migrate(&mut writer)?;
    let reader = connect(path)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(SqliteStore { writer: Lent::new(writer), reader: Lent::new(reader) })
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    // Without SQLITE_OPEN_CREATE: a file that somebody takes away meanwhile is not made again with another mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        log::warn!(
            "accounts: the file system of {} does not allow WAL: logins may wait for registrations",
            path.display()
        );
    }
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// Runs the migrations that the file lacks, each at once with the version it leads to. The lock that writing takes
/// keeps other processes from doing the same.
fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).ok().filter(|done| *done <= MIGRATIONS.len());
    let Some(done) = done else { return Err(OpenError::LaterVersion(version)) };
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()?;
    Ok(())
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
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Unusable(format!("{FILE_NAME} is damaged: restore it from a backup: {error}"))
        }
        _ => StoreError::Unavailable(format!("{FILE_NAME}: {error}")),
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
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
