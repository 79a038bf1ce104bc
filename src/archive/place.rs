//! [`Place`]: where the archive is, and how to connect to it. The callers do not know which database it is.

use std::path::PathBuf;

use super::store::{ArchiveError, ArchiveStore, Page, Select};
use super::{postgres as in_postgres, sqlite as in_sqlite};
use crate::accounts::postgres::connector::{Connector, describe};
use crate::config::{Config, Secret};

/// Where the archive is: where the accounts are.
pub(crate) enum Place {
    /// In the file in this folder.
    Sqlite(PathBuf),
    /// In this database.
    Postgres(Connector),
}

/// One connection to the database, for reading.
pub(crate) enum Open {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Client),
}

/// The database was made by an older version.
pub(super) const NO_ARCHIVE: &str = "it has no archive: start a server with ICH_ARCHIVE=on";

impl Place {
    /// The place that the settings name.
    ///
    /// # Errors
    /// A text for the operator: the URL of the database cannot be used.
    pub(crate) fn of(config: &Config) -> Result<Place, String> {
        match &config.database_url {
            None => Ok(Place::Sqlite(config.data_dir.clone())),
            Some(Secret(url)) => Connector::new(url).map(Place::Postgres),
        }
    }

    /// The database, for the log.
    pub(super) fn description(&self) -> String {
        match self {
            Place::Sqlite(folder) => format!("the archive in SQLite in {}", folder.display()),
            Place::Postgres(connector) => {
                format!("the archive in the database at {} (ICH_DATABASE_URL)", connector.name())
            }
        }
    }

    /// The writing end. Connects later.
    pub(crate) fn store(&self) -> Box<dyn ArchiveStore> {
        match self {
            Place::Sqlite(folder) => Box::new(in_sqlite::open(folder)),
            Place::Postgres(connector) => Box::new(in_postgres::PostgresArchive::new(connector.clone())),
        }
    }

    /// Connects, and migrates the schema. `session` begins a session in PostgreSQL.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    pub(super) fn open(&self, session: &str) -> Result<Open, ArchiveError> {
        match self {
            Place::Sqlite(folder) => in_sqlite::connect(folder).map(Open::Sqlite),
            Place::Postgres(connector) => {
                connector.connect(session).map(Open::Postgres).map_err(|reason| in_postgres::unavailable(&reason))
            }
        }
    }

    /// Connects for reading only, to an archive that exists.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`], also if there is no archive.
    pub(super) fn connect_to_existing(&self) -> Result<Open, ArchiveError> {
        match self {
            Place::Sqlite(folder) => in_sqlite::connect_to_existing(folder).map(Open::Sqlite),
            Place::Postgres(connector) => {
                let mut client = connector
                    .connect_only("SET default_transaction_read_only = on")
                    .map_err(|reason| in_postgres::unavailable(&reason))?;
                let has_archive = in_postgres::has_archive(&mut client)
                    .map_err(|error| in_postgres::unavailable(&describe(&error)))?;
                if has_archive { Ok(Open::Postgres(client)) } else { Err(in_postgres::unavailable(NO_ARCHIVE)) }
            }
        }
    }
}

/// Some of the selected messages, at most `rows_max` with `bytes_max` bytes of text, at least one; none if the message in
/// `select` is not in the archive, or if the archive has not read up to the offset in `select`.
///
/// # Errors
/// [`ArchiveError::Unavailable`].
pub(super) fn page(
    open: &mut Open,
    select: &Select,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Option<Page>, ArchiveError> {
    match open {
        Open::Sqlite(connection) => {
            in_sqlite::page(connection, select, rows_max, bytes_max).map_err(|error| in_sqlite::unavailable(&error))
        }
        Open::Postgres(client) => in_postgres::page(client, select, rows_max, bytes_max)
            .map_err(|error| in_postgres::unavailable(&describe(&error))),
    }
}
