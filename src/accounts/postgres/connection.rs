//! [`Database`]: one connection to PostgreSQL, and the statements on it. Runs on the threads of the pool.

use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Row, Statement};

use super::connector::{Connector, describe};
use crate::accounts::pool::{Backend, Failed};
use crate::accounts::store::{Account, CreateError, NewAccount, StoredAccount};

/// The names of the constraints in `0001_accounts.sql`.
const EMAIL_CONSTRAINT: &str = "accounts_email_key_unique";
const USERNAME_CONSTRAINT: &str = "accounts_username_key_unique";
/// How long a check of an idle connection may take.
const VALIDATION_TIMEOUT: Duration = Duration::from_millis(700);
/// The database stops a statement before the caller stops waiting, so that no statement runs without a caller.
const SESSION_LIMITS: &str = "SET statement_timeout = '1500ms'; SET lock_timeout = '1000ms'";

const INSERT: &str = "INSERT INTO accounts (email, email_key, username, username_key, password_hash) \
                      VALUES ($1, $2, $3, $4, $5) RETURNING id";
const FIND: &str = "SELECT id, email, username, password_hash FROM accounts WHERE email_key = $1";

pub(super) enum Request {
    Create(NewAccount),
    /// Finds the account with this email key.
    Find(String),
}

pub(super) enum Answer {
    Created(Result<i64, CreateError>),
    Found(Option<StoredAccount>),
}

/// The database. Shared by the threads of the pool.
pub(super) struct Database(pub(super) Connector);

pub(super) struct Connection {
    client: Client,
    insert: Statement,
    find: Statement,
}

impl Backend for Database {
    type Connection = Connection;
    type Request = Request;
    type Answer = Answer;

    fn connect(&self) -> Result<Connection, String> {
        let mut client = self.0.connect(SESSION_LIMITS)?;
        let mut prepare = |sql| client.prepare(sql).map_err(|error| describe(&error));
        let (insert, find) = (prepare(INSERT)?, prepare(FIND)?);
        Ok(Connection { client, insert, find })
    }

    fn probe(&self, connection: &mut Connection) -> Result<(), String> {
        connection.client.is_valid(VALIDATION_TIMEOUT).map_err(|error| describe(&error))
    }

    fn run(&self, connection: &mut Connection, request: &Request) -> Result<Answer, Failed> {
        // Detects a connection that broke while it was idle, before a statement is sent that must not run twice.
        self.probe(connection).map_err(Failed::not_connected)?;
        match request {
            // No retry: the statement may have succeeded, and only the answer was lost.
            Request::Create(account) => {
                create(connection, account).map(Answer::Created).map_err(|error| failed(&error, false))
            }
            Request::Find(email_key) => {
                find(connection, email_key).map(Answer::Found).map_err(|error| failed(&error, true))
            }
        }
    }
}

/// After most errors a new connection is made: the server may be stopping, may have been replaced by a read-only one,
/// or may have lost its tables. Not after a timeout of a statement or lock: a new connection would get the same error.
fn failed(error: &postgres::Error, may_retry: bool) -> Failed {
    let timeouts = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
    let connection_works = error.code().is_some_and(|code| timeouts.contains(code));
    Failed { reason: describe(error), may_retry, connection_works }
}

fn create(connection: &mut Connection, account: &NewAccount) -> Result<Result<i64, CreateError>, postgres::Error> {
    let NewAccount { email, email_key, username, username_key, password_hash } = account;
    let insert =
        connection.client.query_one(&connection.insert, &[email, email_key, username, username_key, password_hash]);
    let error = match insert.and_then(|row| row.try_get(0)) {
        Ok(id) => return Ok(Ok(id)),
        Err(error) => error,
    };
    match error.as_db_error().filter(|db| *db.code() == SqlState::UNIQUE_VIOLATION).and_then(|db| db.constraint()) {
        Some(EMAIL_CONSTRAINT) => Ok(Err(CreateError::EmailTaken)),
        // The database may check either constraint first; if both are violated, the email is reported.
        Some(USERNAME_CONSTRAINT) => Ok(Err(match find(connection, email_key)? {
            Some(_) => CreateError::EmailTaken,
            None => CreateError::UsernameTaken,
        })),
        _ => Err(error),
    }
}

fn find(connection: &mut Connection, email_key: &str) -> Result<Option<StoredAccount>, postgres::Error> {
    let row = connection.client.query_opt(&connection.find, &[&email_key])?;
    row.map(|row| stored_account(&row)).transpose()
}

fn stored_account(row: &Row) -> Result<StoredAccount, postgres::Error> {
    let account =
        Account { id: row.try_get::<_, i64>(0)?.to_string(), email: row.try_get(1)?, username: row.try_get(2)? };
    Ok(StoredAccount { account, password_hash: row.try_get(3)? })
}
