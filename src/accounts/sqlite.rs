//! [`SqliteStore`]: accounts in a SQLite file in the data folder, the store of a single instance.
//!
//! Called on the threads of [`Accounts`](super::Accounts). One connection writes and another one reads, so that a login does
//! not wait for the `fsync` of a registration. One thread at a time uses a connection. Other processes may have the same
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

/// In the data folder. SQLite creates `-wal` and `-shm` beside it, with the same mode.
const FILE_NAME: &str = "accounts.sqlite3";

/// The first N of these make version N of the schema. The file has its version in `user_version`.
const MIGRATIONS: &[&str] = &[include_str!("../../sql/sqlite/0001_accounts.sql")];

/// How long a call waits for the connection, and then for the lock of another process. Together less than
/// [`CALL_TIMEOUT`](super::store::CALL_TIMEOUT).
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(900);
const LOCK_TIMEOUT: Duration = Duration::from_millis(900);
/// How long opening is retried while other processes open the same file.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_RETRY: Duration = Duration::from_millis(20);

/// See the module. Dropping it merges the write-ahead log into the file and closes the file.
pub struct SqliteStore {
    writer: ExclusiveConnection,
    reader: ExclusiveConnection,
}

/// Opens the store in this folder, and migrates the schema. Creates the folder (mode 0700) and the file (mode 0600) if they
/// are missing. Blocks for at most 10 seconds.
///
/// # Errors
/// [`StoreError::Unusable`] if the folder cannot be written, or the file is not a database or is from a later version of
/// this server. [`StoreError::Unavailable`] if another process keeps the file locked. The texts name the file.
pub fn open(data_dir: &Path) -> Result<SqliteStore, StoreError> {
    let path = data_dir.join(FILE_NAME);
    create_file(data_dir, &path).map_err(|error| {
        StoreError::Unusable(format!("cannot write {}: {error}: make the data folder writable", path.display()))
    })?;
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        match open_file(&path) {
            // To turn on WAL, or to recover after a crash, SQLite needs the file exclusively for a moment; if it is
            // locked, SQLite fails at once.
            Err(OpenError::Sqlite(error)) if is_locked(&error) && Instant::now() < deadline => {
                thread::sleep(OPEN_RETRY);
            }
            Err(error) => return Err(error.into_store_error(&path)),
            Ok(store) => return Ok(store),
        }
    }
}

fn create_file(data_dir: &Path, path: &Path) -> io::Result<()> {
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
    Ok(SqliteStore { writer: ExclusiveConnection::new(writer), reader: ExclusiveConnection::new(reader) })
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    // Without SQLITE_OPEN_CREATE: if the file is removed meanwhile, SQLite must not create it with another mode.
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

/// Runs the missing migrations and sets the version, in one transaction. It takes the write lock first, so that no other
/// process migrates at the same time.
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

/// Finds out the violated constraint while the transaction holds the write lock, so that no other write comes between.
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

/// Most errors are temporary (disk full, locked, I/O). The texts of SQLite contain tables and columns, never values.
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

/// A connection that one thread at a time may use. A thread waits for the permit, with a deadline; then the mutex is free.
/// A mutex alone has no deadline.
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
