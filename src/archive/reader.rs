//! [`ArchiveReader`]: reads the archive for `/history`, on the threads of a [`Pool`].
//!
//! Connection threads call it. They wait at most two seconds, also while the disk or the database hangs, and use little
//! stack.

use std::io;
use std::time::Duration;

use super::place::{Open, Place, page};
use super::store::{ArchiveError, Page, Select};
use crate::accounts::pool::{Backend, Failed, Pool, PoolSettings};
use crate::accounts::postgres::connector::describe;
use crate::accounts::postgres::{CONNECT_TIMEOUT, SILENCE};
use crate::limits::HISTORY_PAGE_BYTES_MAX;
use crate::supervisor::Supervisor;

/// Connections of one instance.
const CONNECTIONS: usize = 2;
/// How many threads that hang are replaced.
const MAX_ABANDONED: usize = 8;
/// The most time of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The database stops a statement before the caller stops waiting.
const SESSION: &str = "SET statement_timeout = '1500ms'; SET lock_timeout = '1000ms'";
/// How long a check of an idle connection may take.
const VALIDATION_TIMEOUT: Duration = Duration::from_millis(700);

/// See the module.
pub(crate) struct ArchiveReader {
    pool: Pool<Place>,
}

/// What a call asks for.
pub(crate) struct Request {
    select: Select,
    rows_max: usize,
}

impl ArchiveReader {
    /// Starts the threads. They connect in the background.
    ///
    /// # Errors
    /// The system does not allow another thread.
    pub(crate) fn start(place: Place, supervisor: &Supervisor) -> io::Result<Self> {
        let settings = PoolSettings {
            name: "archive",
            threads: CONNECTIONS,
            max_abandoned: MAX_ABANDONED,
            call_timeout: CALL_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            silence: SILENCE,
        };
        Ok(ArchiveReader { pool: Pool::start(place, settings, supervisor)? })
    }

    /// Some of the selected messages, at most `rows_max`; none if the message in `select` is not in the archive, or if the
    /// archive has not read up to the offset in `select`.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    pub(crate) fn page(&self, select: Select, rows_max: usize) -> Result<Option<Page>, ArchiveError> {
        self.pool.call(Request { select, rows_max }).map_err(ArchiveError::Unavailable)
    }
}

impl Backend for Place {
    type Connection = Open;
    type Request = Request;
    type Answer = Option<Page>;

    fn name(&self) -> String {
        self.description()
    }

    fn silence(&self) -> &'static str {
        "check that PostgreSQL listens there, and that a connection pooler has free connections"
    }

    fn connect(&self) -> Result<Open, String> {
        self.open(SESSION).map_err(|error| error.to_string())
    }

    fn prepare(&self, _: &mut Open) -> Result<(), String> {
        Ok(())
    }

    fn probe(&self, open: &mut Open) -> Result<(), String> {
        match open {
            // A file does not go away; what else can fail is found out by the call.
            Open::Sqlite(_) => Ok(()),
            Open::Postgres(client) => client.is_valid(VALIDATION_TIMEOUT).map_err(|error| describe(&error)),
        }
    }

    fn run(&self, open: &mut Open, request: &Request) -> Result<Option<Page>, Failed> {
        self.probe(open).map_err(Failed::not_connected)?;
        // Reading changes nothing, so it may be tried again on a new connection.
        page(open, &request.select, request.rows_max, HISTORY_PAGE_BYTES_MAX).map_err(|error| Failed {
            reason: error.to_string(),
            may_retry: true,
            connection_works: false,
        })
    }
}
