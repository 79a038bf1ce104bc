//! [`PostgresStore`]: accounts in PostgreSQL, the store that several instances share.
//!
//! Called on the threads of [`Accounts`](super::Accounts), which wait here. The connections belong to the threads of a
//! [`Pool`], because calls of the client library have no deadline. So when the database is stopped, frozen or
//! restarted, calls fail in time, and they succeed again without a restart of this process.

mod connection;
pub(crate) mod connector;
mod diagnosis;
mod moderation;
mod schema;
mod skeletons;
mod target;
mod tls_mode;
mod url;

use std::time::Duration;

use self::connection::{Answer, Database, Request};
use self::target::Target;
use super::pool::{Pool, PoolSettings};
use super::store::{AccountStore, CALL_TIMEOUT, Change, CreateError, NewAccount, StoreError, StoredAccount};
use crate::moderation::Sanction;
use crate::supervisor::Supervisor;

/// Connections of one instance. With ten instances, that is well below the 100 connections that PostgreSQL allows by
/// default.
const CONNECTIONS: usize = 4;
/// How many hanging threads are replaced at most. Each keeps about 100 KiB until its call returns.
const MAX_ABANDONED: usize = 16;
/// For connecting, and again for migrating: longer than the database allows for each step of a migration.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// When the log says that the database accepts a connection and does not answer.
pub(crate) const SILENCE: Duration = Duration::from_secs(7);

/// Accounts in PostgreSQL. Any thread; a call blocks for at most [`CALL_TIMEOUT`].
pub struct PostgresStore {
    pool: Pool<Database>,
}

/// Opens the store in the database of this URL, `postgres://user:password@host:5432/database`. The URL may have several
/// hosts, and parameters as in libpq. `sslmode` is `disable`, `allow`, `prefer` (the default), `require`, `verify-ca` or
/// `verify-full`. The last two, and `require` together with `sslrootcert`, check the server's certificate. `sslrootcert`
/// is a PEM file with the certificates of the trusted authorities; those of the system if it is missing or `system`.
/// `sslcert` and `sslkey` are PEM files with the certificate of this client and its key.
///
/// Does not wait for the database: the threads connect and migrate the schema in the background. Until then
/// [`AccountStore::is_ready`] is false, and the log has the reason. `supervisor` starts the threads.
///
/// # Errors
/// [`StoreError::Unusable`] if the URL or its certificates cannot be used; the text contains no part of the URL.
pub fn open(url: &str, supervisor: &Supervisor) -> Result<PostgresStore, StoreError> {
    let target = Target::parse(url).map_err(StoreError::Unusable)?;
    let settings = PoolSettings {
        name: "postgres",
        threads: CONNECTIONS,
        max_abandoned: MAX_ABANDONED,
        call_timeout: CALL_TIMEOUT,
        connect_timeout: CONNECT_TIMEOUT,
        silence: SILENCE,
    };
    let pool = Pool::start(Database(target), settings, supervisor)
        .map_err(|error| StoreError::Unavailable(format!("no threads for the connections to PostgreSQL: {error}")))?;
    Ok(PostgresStore { pool })
}

/// Checks the URL and its certificates like [`open`], without connecting.
///
/// # Errors
/// A text for the operator that contains no part of the URL.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    Target::parse(url).map(drop)
}

impl AccountStore for PostgresStore {
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError> {
        match self.call(Request::Create(account.clone()))? {
            Answer::Created(result) => result,
            _ => Err(CreateError::Store(mismatch())),
        }
    }

    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.find(Request::FindByEmail(email_key.to_owned()))
    }

    fn find_by_username_key(&self, username_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        self.find(Request::FindByUsername(username_key.to_owned()))
    }

    fn list(&self, after_id: i64) -> Result<Vec<StoredAccount>, StoreError> {
        match self.call(Request::List { after_id })? {
            Answer::Found(found) => Ok(found),
            _ => Err(mismatch()),
        }
    }

    fn change(&self, id: i64, change: &Change) -> Result<bool, StoreError> {
        match self.call(Request::Change(id, change.clone()))? {
            Answer::Changed(rows) => Ok(rows == 1),
            _ => Err(mismatch()),
        }
    }

    fn put_sanctions(&self, sanctions: &[Sanction]) -> Result<(), StoreError> {
        self.call(Request::PutSanctions(sanctions.to_vec())).map(drop)
    }

    fn sanctions(&self) -> Result<Vec<Sanction>, StoreError> {
        match self.call(Request::Sanctions)? {
            Answer::Sanctions(sanctions) => Ok(sanctions),
            _ => Err(mismatch()),
        }
    }

    fn is_ready(&self) -> bool {
        self.pool.is_ready()
    }
}

impl PostgresStore {
    fn find(&self, request: Request) -> Result<Option<StoredAccount>, StoreError> {
        match self.call(request)? {
            Answer::Found(found) => Ok(found.into_iter().next()),
            _ => Err(mismatch()),
        }
    }

    fn call(&self, request: Request) -> Result<Answer, StoreError> {
        self.pool.call(request).map_err(|reason| StoreError::Unavailable(format!("PostgreSQL: {reason}")))
    }
}

fn mismatch() -> StoreError {
    StoreError::Unavailable("PostgreSQL: the answer belongs to another request".to_owned())
}

#[cfg(test)]
mod tests;
