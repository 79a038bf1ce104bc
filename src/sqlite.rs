//! The SQLite files in the data folder: creates, opens and migrates the file of the accounts and that of the event log.
//!
//! Only the owner may read a file (mode 0600; SQLite gives `-wal` and `-shm` beside it the same mode). Each file is in
//! WAL mode and has the version of its schema in `user_version`. Other processes may have the same file open.
//!
//! [`check_folder`] and [`check`] find out, before anything is opened, whether [`create_folder`] and [`open`] would fail
//! for a reason that an operator has to remove. They change nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, access};
use thiserror::Error;

/// The suffix of the write-ahead log.
const WAL_SUFFIX: &str = "-wal";
/// The pause between two attempts to open a file that another process keeps locked.
const OPEN_RETRY: Duration = Duration::from_millis(20);

/// How to open one kind of file.
pub(crate) struct Schema {
    /// A name of the content, for log lines.
    pub content: &'static str,
    /// The SQL of all migrations. The first N of them lead to version N of the schema.
    pub migrations: &'static [&'static str],
    /// The pragma `synchronous`: with `full` a commit is on the disk when it returns; with `normal` a power failure can
    /// undo the last commits, but never damages the file.
    pub synchronous: &'static str,
    /// How long a statement waits for the lock of another connection.
    pub lock_timeout: Duration,
    /// How long [`open`] tries again while other processes open the same file.
    pub open_timeout: Duration,
}

/// Why a file cannot be opened. Each text names the file and says what to do.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// Not a database, damaged, or from a later version of this program: an operator has to act.
    #[error("{0}")]
    Unusable(String),
    /// The folder or the file cannot be written.
    #[error("{0}")]
    NotWritable(String),
    /// An error that can pass by itself: a full disk, or another process that keeps the file locked.
    #[error("{0}")]
    Unavailable(String),
}

/// Creates the folder with mode 0700, unless it exists.
///
/// # Errors
/// The folder cannot be created.
pub(crate) fn create_folder(folder: &Path) -> Result<(), OpenError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| not_writable(folder, &error))
}

/// Opens the file and migrates it to the newest version of the schema. Creates a missing file.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    create_file(path).map_err(|error| not_writable(path, &error))?;
    let deadline = Instant::now() + schema.open_timeout;
    loop {
        match connect(path, schema) {
            // Turning on WAL and recovering after a crash need an exclusive lock, and do not wait for it
            // (`lock_timeout` has no effect on them).
            Err(ConnectError::Sqlite(error)) if is_locked(&error) && Instant::now() < deadline => {
                thread::sleep(OPEN_RETRY);
            }
            Err(error) => return Err(error.explain(path, schema)),
            Ok(connection) => return Ok(connection),
        }
    }
}

/// Checks that files can be created in the folder; if the folder is missing, that it can be created.
///
/// # Errors
/// [`OpenError::NotWritable`].
pub(crate) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    let existing = folder.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
    // An empty path is the working directory.
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let checked = if existing.is_dir() { check_access(existing) } else { Err(ErrorKind::NotADirectory.into()) };
    checked.map_err(|error| not_writable(folder, &error))
}

/// Checks the file as far as that is possible without a change: [`open`] can write it, and it is a database of a version
/// that this program knows. A missing file is valid.
///
/// # Errors
/// [`OpenError::Unusable`] or [`OpenError::NotWritable`].
pub(crate) fn check(path: &Path, schema: &Schema) -> Result<(), OpenError> {
    // SQLite keeps two more files beside a database that is in use. Another user may have created them.
    for suffix in ["", WAL_SUFFIX, "-shm"] {
        let path = &beside(path, suffix);
        let checked = if path.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { check_access(path) };
        match checked {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            checked => checked.map_err(|error| not_writable(path, &error))?,
        }
    }
    if !path.exists() {
        return Ok(());
    }
    match stored_version(path) {
        Ok(version) if usize::try_from(version).is_ok_and(|version| version <= schema.migrations.len()) => Ok(()),
        Ok(version) => Err(ConnectError::LaterVersion(version).explain(path, schema)),
        // A checkpoint may be running, or was interrupted: then the file is complete only with its write-ahead log.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) && has_wal(path) => Ok(()),
        Err(error) if is_damaged(&error) => Err(ConnectError::Sqlite(error).explain(path, schema)),
        // Anything else is found, and reported, when the file is opened.
        Err(_) => Ok(()),
    }
}

/// The file with this suffix beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether the database has a write-ahead log with content.
fn has_wal(path: &Path) -> bool {
    fs::metadata(beside(path, WAL_SUFFIX)).is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether this process may read and write the file, or use the folder.
fn check_access(path: &Path) -> io::Result<()> {
    let needed = if path.is_dir() {
        Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::READ_OK | Access::WRITE_OK
    };
    Ok(access(path, needed)?)
}

/// Reads the version in the file itself, without its write-ahead log. `immutable` keeps SQLite from creating files beside it.
fn stored_version(path: &Path) -> rusqlite::Result<i64> {
    let mut uri = String::from("file:");
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    version(&Connection::open_with_flags(uri, flags)?)
}

/// Opens the file as it is, for reading.
///
/// # Errors
/// [`OpenError::Unavailable`] if there is no such file, or if SQLite cannot open it; see [`OpenError`].
pub(crate) fn open_read_only(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Unavailable(format!("there is no {}: see ICH_DATA_DIR", path.display())));
    }
    let connect = || {
        // Not SQLITE_OPEN_READ_ONLY: the first connection to a file in WAL mode has to create the shared memory.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(schema.lock_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    connect().map_err(|error| ConnectError::Sqlite(error).explain(path, schema))
}

/// Whether another connection holds the lock.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the file is damaged or not a database: trying again does not help.
pub(crate) fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Creates the file, unless it exists. An existing file must not even be opened here: closing it again would release
/// the locks of all connections that this process has to the file.
fn create_file(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

fn not_writable(path: &Path, error: &io::Error) -> OpenError {
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            OpenError::Unavailable(format!("cannot write {path}: {error}: free space on its disk"))
        }
        _ => OpenError::NotWritable(format!(
            "cannot write {path}: {error}: make the data folder (ICH_DATA_DIR) and its files writable for the user of the \
             server"
        )),
    }
}

enum ConnectError {
    Sqlite(rusqlite::Error),
    LaterVersion(i64),
}

impl From<rusqlite::Error> for ConnectError {
    fn from(error: rusqlite::Error) -> Self {
        ConnectError::Sqlite(error)
    }
}

impl ConnectError {
    fn explain(self, path: &Path, schema: &Schema) -> OpenError {
        let path = path.display();
        match self {
            ConnectError::LaterVersion(version) => OpenError::Unusable(format!(
                "{path} has version {version} of the schema, and this server knows only {}: run a later version of the server",
                schema.migrations.len()
            )),
            ConnectError::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => {
                    OpenError::Unusable(format!("{path} is not a database: move it away, or restore it from a backup"))
                }
                Some(ErrorCode::DatabaseCorrupt) => {
                    OpenError::Unusable(format!("{path} is damaged: restore it from a backup"))
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    OpenError::NotWritable(format!(
                        "cannot write {path}: make the data folder (ICH_DATA_DIR) and its files writable for the user of \
                         the server"
                    ))
                }
                _ => OpenError::Unavailable(format!("cannot open {path}: {error}")),
            },
        }
    }
}

fn connect(path: &Path, schema: &Schema) -> Result<Connection, ConnectError> {
    // Without SQLITE_OPEN_CREATE: SQLite would create a file that was removed meanwhile with another mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(schema.lock_timeout)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let (content, path) = (schema.content, path.display());
        log::warn!("{content}: the file system of {path} does not support WAL mode: reads may wait for writes");
    }
    connection.pragma_update(None, "synchronous", schema.synchronous)?;
    migrate(&mut connection, schema.migrations)?;
    Ok(connection)
}

/// Runs the missing migrations and stores the new version, all in one transaction. Its write lock prevents other
/// processes from migrating at the same time.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), ConnectError> {
    let latest = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if version(connection)? == latest {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&transaction)?;
    let done = usize::try_from(version).ok().filter(|done| *done <= migrations.len());
    let Some(done) = done else { return Err(ConnectError::LaterVersion(version)) };
    for migration in &migrations[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", latest)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema {
        content: "test",
        migrations: &["CREATE TABLE numbers (number INTEGER)"],
        synchronous: "normal",
        lock_timeout: Duration::from_secs(1),
        open_timeout: Duration::from_secs(1),
    };

    /// A process that is killed during a checkpoint leaves such a file: its first page has the new length, and the other
    /// pages are only in the write-ahead log.
    #[test]
    fn a_file_whose_checkpoint_was_interrupted_is_valid_with_its_write_ahead_log_only() {
        let folder = std::env::temp_dir().join(format!("ich-interrupted-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, copy) = (folder.join("file"), folder.join("copy"));
        let connection = open(&path, &SCHEMA).unwrap();
        let many = "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i LIMIT 5000) \
                    INSERT INTO numbers SELECT n FROM i";
        connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {many}")).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        fs::copy(beside(&path, WAL_SUFFIX), beside(&copy, WAL_SUFFIX)).unwrap();
        let pages = fs::read(&path).unwrap();
        fs::write(&copy, &pages[..4096]).unwrap();

        assert!(stored_version(&copy).is_err_and(|error| is_damaged(&error)), "the test needs a damaged file");
        check(&copy, &SCHEMA).unwrap();
        let reopened = open(&copy, &SCHEMA).unwrap();
        let count: i64 = reopened.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 5000);
        drop(reopened);

        fs::write(&copy, &pages[..4096]).unwrap();
        assert!(matches!(check(&copy, &SCHEMA), Err(OpenError::Unusable(_))), "there is no write-ahead log any more");
        fs::remove_dir_all(&folder).unwrap();
    }
}
