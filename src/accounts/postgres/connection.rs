//! [`Database`]: one connection to PostgreSQL, and the statements on it. Runs on the threads of the pool.
//!
//! A connection pooler may give each transaction another connection to the database. So a transaction has everything that
//! it needs: its own limits, and statements without names, which the server forgets at once.

use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Row};

use super::diagnosis::{describe, describe_connect};
use super::target::Target;
use super::{moderation, schema, skeletons};
use crate::accounts::pool::{Backend, Failed};
use crate::accounts::store::{Account, Change, CreateError, NewAccount, PAGE_ACCOUNTS, StoredAccount};
use crate::moderation::Sanction;

/// The names of the constraints in the migrations.
const EMAIL_CONSTRAINT: &str = "accounts_email_key_unique";
const USERNAME_CONSTRAINT: &str = "accounts_username_key_unique";
const SKELETON_CONSTRAINT: &str = "accounts_username_skeleton_unique";
/// How long a check of an idle connection may take.
const VALIDATION_TIMEOUT: Duration = Duration::from_millis(700);
/// The database stops a statement before the caller stops waiting, so that no statement runs without a caller.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '1500ms'; SET LOCAL lock_timeout = '1000ms'";

const INSERT: &str = "INSERT INTO accounts (email, email_key, username, username_key, username_skeleton, password_hash) \
                      VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
const FIND: &str = "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE email_key = $1";
const FIND_BY_USERNAME: &str =
    "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE username_key = $1";
const LIST: &str =
    "SELECT id, email, username, password_hash, is_admin FROM accounts WHERE id > $1 ORDER BY id LIMIT $2";

pub(super) enum Request {
    Create(NewAccount),
    /// Finds the account with this email key.
    FindByEmail(String),
    /// Finds the account with this username key.
    FindByUsername(String),
    List {
        after_id: i64,
    },
    Change(i64, Change),
    PutSanctions(Vec<Sanction>),
    Sanctions,
}

pub(super) enum Answer {
    Created(Result<i64, CreateError>),
    Found(Vec<StoredAccount>),
    /// The number of rows.
    Changed(u64),
    Sanctions(Vec<Sanction>),
}

/// Shared by the threads of the pool.
pub(super) struct Database(pub(super) Target);

impl Backend for Database {
    type Connection = Client;
    type Request = Request;
    type Answer = Answer;

    fn name(&self) -> String {
        format!("the database at {} (ICH_DATABASE_URL)", self.0.name)
    }

    fn silence(&self) -> &'static str {
        "check that PostgreSQL listens there; if it is a connection pooler, check that its database is reachable and that \
         its pool has free connections"
    }

    fn connect(&self) -> Result<Client, String> {
        let mut client = self.0.connect().map_err(|error| describe_connect(&error, self.0.mode))?;
        // A pooler accepts a connection also while its database is away.
        client.batch_execute("").map_err(|error| describe_connect(&error, self.0.mode))?;
        Ok(client)
    }

    fn prepare(&self, client: &mut Client) -> Result<(), String> {
        schema::migrate(client)?;
        skeletons::fill(client).map_err(|error| describe(&error))
    }

    fn probe(&self, client: &mut Client) -> Result<(), String> {
        client.is_valid(VALIDATION_TIMEOUT).map_err(|error| describe(&error))
    }

    fn run(&self, client: &mut Client, request: &Request) -> Result<Answer, Failed> {
        // Detects a connection that broke while it was idle, before a statement is sent that must not run twice.
        self.probe(client).map_err(Failed::not_connected)?;
        match request {
            // No retry: the statement may have succeeded, and only the answer was lost.
            Request::Create(account) => {
                create(client, account).map(Answer::Created).map_err(|error| failed(&error, false))
            }
            Request::FindByEmail(key) => found(client, FIND, &[(key, Type::TEXT)]),
            Request::FindByUsername(key) => found(client, FIND_BY_USERNAME, &[(key, Type::TEXT)]),
            Request::List { after_id } => {
                let most = i64::from(PAGE_ACCOUNTS);
                found(client, LIST, &[(after_id, Type::INT8), (&most, Type::INT8)])
            }
            // Each of these can be repeated: the second time it changes nothing. Only the answer to a removal differs.
            Request::Change(id, change) => {
                let changed = in_transaction(client, |client| moderation::change(client, *id, change));
                changed.map(Answer::Changed).map_err(|error| failed(&error, !matches!(change, Change::Remove)))
            }
            Request::PutSanctions(sanctions) => {
                let put = in_transaction(client, |client| moderation::put_sanctions(client, sanctions));
                put.map(|()| Answer::Changed(0)).map_err(|error| failed(&error, true))
            }
            Request::Sanctions => {
                let sanctions = in_transaction(client, moderation::sanctions);
                sanctions.map(Answer::Sanctions).map_err(|error| failed(&error, true))
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

/// Runs `statements` with the limits of [`BEGIN`].
fn in_transaction<R>(
    client: &mut Client,
    statements: impl FnOnce(&mut Client) -> Result<R, postgres::Error>,
) -> Result<R, postgres::Error> {
    client.batch_execute(BEGIN)?;
    let result = statements(client);
    let end = client.batch_execute(if result.is_ok() { "COMMIT" } else { "ROLLBACK" });
    // A connection whose transaction cannot be ended is broken; that error decides what happens to the connection.
    end.and(result)
}

fn create(client: &mut Client, account: &NewAccount) -> Result<Result<i64, CreateError>, postgres::Error> {
    let NewAccount { email, email_key, username, username_key, username_skeleton, password_hash } = account;
    let error = match in_transaction(client, |client| {
        let columns = [email, email_key, username, username_key, username_skeleton, password_hash];
        client.query_typed_one(INSERT, &columns.map(|column| (column as &(dyn ToSql + Sync), Type::TEXT)))?.try_get(0)
    }) {
        Ok(id) => return Ok(Ok(id)),
        Err(error) => error,
    };
    match error.as_db_error().filter(|db| *db.code() == SqlState::UNIQUE_VIOLATION).and_then(|db| db.constraint()) {
        Some(EMAIL_CONSTRAINT) => Ok(Err(CreateError::EmailTaken)),
        // The database may check any constraint first; if several are violated, the email is reported.
        Some(USERNAME_CONSTRAINT | SKELETON_CONSTRAINT) => {
            let found = in_transaction(client, |client| find(client, FIND, &[(email_key, Type::TEXT)]))?;
            Ok(Err(if found.is_empty() { CreateError::UsernameTaken } else { CreateError::EmailTaken }))
        }
        _ => Err(error),
    }
}

fn found(client: &mut Client, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Answer, Failed> {
    let found = in_transaction(client, |client| find(client, sql, parameters));
    found.map(Answer::Found).map_err(|error| failed(&error, true))
}

fn find(
    client: &mut Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<StoredAccount>, postgres::Error> {
    client.query_typed(sql, parameters)?.iter().map(stored_account).collect()
}

fn stored_account(row: &Row) -> Result<StoredAccount, postgres::Error> {
    let account =
        Account { id: row.try_get::<_, i64>(0)?.to_string(), email: row.try_get(1)?, username: row.try_get(2)? };
    Ok(StoredAccount { account, password_hash: row.try_get(3)?, is_admin: row.try_get(4)? })
}
