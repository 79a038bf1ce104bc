//! Accounts in PostgreSQL: the store that many instances share.
//!
//! Called on the threads of [`Accounts`](super::Accounts), which wait here; the clients live on the threads of a
//! `Pool`, since their calls have no deadline. So the database may be down, frozen or restarted: calls
//! fail in time, and work again by themselves.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::{Client, Config, Row, Statement};
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};

use super::pool::{Backend, Failed, Pool, PoolSettings};
use super::store::{Account, AccountStore, CALL_TIMEOUT, CreateError, NewAccount, StoreError, StoredAccount};
use crate::supervisor::Supervisor;

/// Version N of the schema is what the first N of these made; the table `ich_schema_migrations` says which were run.
const MIGRATIONS: &[&str] = &[include_str!("../../sql/postgres/0001_accounts.sql")];
/// The names of the constraints in `0001_accounts.sql`.
const EMAIL_CONSTRAINT: &str = "accounts_email_key_unique";
const USERNAME_CONSTRAINT: &str = "accounts_username_key_unique";
/// Any number that no other program takes for its own locks: "ich" and a version, as bytes.
const MIGRATION_LOCK: i64 = 0x69_63_68_00_01;

/// Connections of one instance. Ten instances stay well below the 100 that a server allows by default.
const CONNECTIONS: usize = 4;
/// Threads that hang in a call and were replaced; each keeps about 100 KiB until its call returns.
const MAX_ABANDONED: usize = 16;
/// For each address of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// To connect and to migrate: longer than `MIGRATION_LIMITS` allows each step.
const CONNECT_AND_MIGRATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Whether a connection that was idle still works is asked with this deadline.
const VALIDATION_TIMEOUT: Duration = Duration::from_millis(700);
/// What the network may be silent before a connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// The server gives up before the caller does, so that nothing goes on that nobody waits for.
const SESSION_LIMITS: &str = "SET statement_timeout = '1500ms'; SET lock_timeout = '1000ms'";
/// Other instances may be migrating: that is worth waiting for.
const MIGRATION_LIMITS: &str = "SET LOCAL statement_timeout = '25s'; SET LOCAL lock_timeout = '25s'";

const INSERT: &str = "INSERT INTO accounts (email, email_key, username, username_key, password_hash) \
                      VALUES ($1, $2, $3, $4, $5) RETURNING id";
const FIND: &str = "SELECT id, email, username, password_hash FROM accounts WHERE email_key = $1";

/// Where distributions keep the certificates of public authorities.
const SYSTEM_CA_FILES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Accounts in a database that may come and go.
pub struct PostgresStore {
    pool: Pool<Database>,
}

/// Accounts in the database of this URL, `postgres://user:password@host:5432/database`, with further hosts, and with
/// parameters as in libpq. TLS by `sslmode`: `disable`, `prefer` (the default), `require`, `verify-ca` and
/// `verify-full`, the last two, and `require` with it, by the certificates in `sslrootcert` (a PEM file; the system's
/// when it is missing or `system`).
///
/// Does not wait for the database: it is connected to, and its schema brought up to date, in the background. Until then
/// [`AccountStore::is_ready`] is false, and the log says why. `supervisor` starts the threads that hold the connections.
///
/// # Errors
/// [`StoreError::Unusable`] when the URL or its certificates cannot be used; the text has no part of the URL.
pub fn open(url: &str, supervisor: &Supervisor) -> Result<PostgresStore, StoreError> {
    let database = Database::new(url).map_err(StoreError::Unusable)?;
    let settings = PoolSettings {
        name: "postgres",
        threads: CONNECTIONS,
        max_abandoned: MAX_ABANDONED,
        call_timeout: CALL_TIMEOUT,
        connect_timeout: CONNECT_AND_MIGRATE_TIMEOUT,
    };
    let pool = Pool::start(database, settings, supervisor)
        .map_err(|error| StoreError::Unavailable(format!("no threads for the connections to PostgreSQL: {error}")))?;
    Ok(PostgresStore { pool })
}

/// Finds what is wrong with the URL and its certificates without connecting: as [`open`] would.
///
/// # Errors
/// What is wrong; the text has no part of the URL.
pub fn check_url(url: &str) -> Result<(), String> {
    Database::new(url).map(drop)
}

impl AccountStore for PostgresStore {
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError> {
        match self.call(Request::Create(account.clone()))? {
            Answer::Created(result) => result,
            Answer::Found(_) => Err(CreateError::Store(mismatch())),
        }
    }

    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        match self.call(Request::Find(email_key.to_owned()))? {
            Answer::Found(found) => Ok(found),
            Answer::Created(_) => Err(mismatch()),
        }
    }

    fn is_ready(&self) -> bool {
        self.pool.is_ready()
    }
}

impl PostgresStore {
    fn call(&self, request: Request) -> Result<Answer, StoreError> {
        self.pool.call(request).map_err(|reason| StoreError::Unavailable(format!("PostgreSQL: {reason}")))
    }
}

fn mismatch() -> StoreError {
    StoreError::Unavailable("PostgreSQL: the answer to another question".to_owned())
}

enum Request {
    Create(NewAccount),
    Find(String),
}

enum Answer {
    Created(Result<i64, CreateError>),
    Found(Option<StoredAccount>),
}

/// How to connect; what the pool's threads share.
struct Database {
    config: Config,
    tls: MakeTlsConnector,
}

struct Connection {
    client: Client,
    insert: Statement,
    find: Statement,
}

impl Backend for Database {
    type Connection = Connection;
    type Request = Request;
    type Answer = Answer;

    fn connect(&self) -> Result<Connection, String> {
        let connect = || {
            let mut client = self.config.connect(self.tls.clone())?;
            client.batch_execute(SESSION_LIMITS)?;
            migrate(&mut client)?;
            let (insert, find) = (client.prepare(INSERT)?, client.prepare(FIND)?);
            Ok(Connection { client, insert, find })
        };
        connect().map_err(|error: ConnectError| error.to_string())
    }

    fn probe(&self, connection: &mut Connection) -> Result<(), String> {
        connection.client.is_valid(VALIDATION_TIMEOUT).map_err(|error| describe(&error))
    }

    fn run(&self, connection: &mut Connection, request: &Request) -> Result<Answer, Failed> {
        // A connection that died while it was idle is found out before anything is sent that may be done twice.
        self.probe(connection).map_err(Failed::not_connected)?;
        match request {
            // After an error the answer may be what was lost, and not the request.
            Request::Create(account) => {
                create(connection, account).map(Answer::Created).map_err(|error| failed(&error, false))
            }
            Request::Find(email_key) => {
                find(connection, email_key).map(Answer::Found).map_err(|error| failed(&error, true))
            }
        }
    }
}

/// After most errors the connection is made anew, as they may come from a server that stops, was replaced by a
/// read-only one or lost its tables. Not after a limit: the next connection would run into it too.
fn failed(error: &postgres::Error, may_retry: bool) -> Failed {
    let limits = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
    let connection_works = error.code().is_some_and(|code| limits.contains(code));
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
        // Which of the two is looked at first is the database's affair; we always report the email.
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

/// Why connecting failed, for the operator.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{}", describe(.0))]
    Postgres(#[from] postgres::Error),
    #[error("the database has schema {0}, this server knows {known}: run a later version of it", known = MIGRATIONS.len())]
    LaterVersion(i32),
}

/// Brings the schema up to date. All instances do that at once, so: under a lock of the database's, which ends with the
/// transaction.
fn migrate(client: &mut Client) -> Result<(), ConnectError> {
    // Usually there is nothing to do; that must not take the lock, nor the right to create tables.
    let exists: bool = client.query_one("SELECT to_regclass('ich_schema_migrations') IS NOT NULL", &[])?.try_get(0)?;
    if exists && missing_migrations(client)?.is_empty() {
        return Ok(());
    }
    let mut transaction = client.transaction()?;
    transaction.batch_execute(MIGRATION_LIMITS)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])?;
    transaction.batch_execute(
        "CREATE TABLE IF NOT EXISTS ich_schema_migrations \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    )?;
    for (version, migration) in missing_migrations(&mut transaction)? {
        transaction.batch_execute(migration)?;
        transaction.execute("INSERT INTO ich_schema_migrations (version) VALUES ($1)", &[&version])?;
        log::info!("accounts: the database has schema {version} now");
    }
    transaction.commit()?;
    Ok(())
}

/// The migrations that were not run, with the version that each leads to.
fn missing_migrations(client: &mut impl postgres::GenericClient) -> Result<Vec<(i32, &'static str)>, ConnectError> {
    let newest: i32 =
        client.query_one("SELECT coalesce(max(version), 0) FROM ich_schema_migrations", &[])?.try_get(0)?;
    let missing: Vec<_> = (1..).zip(MIGRATIONS.iter().copied()).filter(|(version, _)| *version > newest).collect();
    match usize::try_from(newest) {
        Ok(newest) if newest <= MIGRATIONS.len() => Ok(missing),
        _ => Err(ConnectError::LaterVersion(newest)),
    }
}

/// The error with its cause, and what to do about it. The server's detail is left out: it quotes what was stored.
fn describe(error: &postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let advice = match *db.code() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            ": check user and password in ICH_DATABASE_URL"
        }
        SqlState::INVALID_CATALOG_NAME => ": create the database, or correct its name in ICH_DATABASE_URL",
        SqlState::INSUFFICIENT_PRIVILEGE => ": grant the user of ICH_DATABASE_URL the right to create and use tables",
        SqlState::TOO_MANY_CONNECTIONS => ": raise max_connections of the database",
        _ => "",
    };
    format!("{} ({}){advice}", db.message(), db.code().code())
}

impl Database {
    fn new(url: &str) -> Result<Self, String> {
        // What the parser says may quote the password, where a character in it was taken for the end of it.
        let not_understood = || {
            "ICH_DATABASE_URL is not understood: write postgres://user:password@host:5432/database?sslmode=require, with \
             special characters in the password percent-encoded (@ as %40), and parameters as in libpq"
                .to_owned()
        };
        // The parser would take the rest of the password for the name of a host, and look it up.
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
        if authority.is_some_and(|authority| authority.matches('@').count() > 1) {
            return Err(not_understood());
        }
        let (url, tls) = TlsSettings::take_from(url).ok_or_else(not_understood)?;
        let mut config: Config = url.parse().map_err(|_| not_understood())?;
        config.ssl_mode(tls.mode);
        if config.get_application_name().is_none() {
            config.application_name("ich");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        config
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        let tls = tls.connector().map_err(|error| format!("ICH_DATABASE_URL: sslrootcert cannot be used: {error}"))?;
        Ok(Database { config, tls })
    }
}

/// What the URL says about TLS. The client library knows three modes and no certificates, so these two parameters are
/// taken out of the URL before it sees it.
#[derive(Debug, PartialEq)]
struct TlsSettings {
    mode: SslMode,
    verify: Verify,
    /// `None`: the system's.
    root_cert: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verify {
    Nothing,
    Certificate,
    CertificateAndHost,
}

impl TlsSettings {
    /// The URL without `sslmode` and `sslrootcert`, and what these say. `None` when it makes no sense.
    fn take_from(url: &str) -> Option<(String, TlsSettings)> {
        let after_scheme = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let after_password = after_scheme.split_once('@').map_or(after_scheme, |(_, rest)| rest);
        let (mut mode, mut root_cert) = ("prefer".to_owned(), None);
        let Some((_, query)) = after_password.split_once('?') else {
            return Some((url.to_owned(), Self::from_parameters(&mode, root_cert)?));
        };
        let mut others = Vec::new();
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = percent_decoded(value)?,
                Some(("sslrootcert", value)) => root_cert = Some(percent_decoded(value)?),
                _ => others.push(parameter),
            }
        }
        let base = url.strip_suffix(query)?;
        Some((format!("{base}{}", others.join("&")), Self::from_parameters(&mode, root_cert)?))
    }

    fn from_parameters(mode: &str, root_cert: Option<String>) -> Option<Self> {
        let (mode, verify) = match mode {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
            "require" if root_cert.is_none() => (SslMode::Require, Verify::Nothing),
            "require" | "verify-ca" => (SslMode::Require, Verify::Certificate),
            "verify-full" => (SslMode::Require, Verify::CertificateAndHost),
            _ => return None,
        };
        Some(TlsSettings { mode, verify, root_cert: root_cert.filter(|path| path != "system") })
    }

    fn connector(&self) -> Result<MakeTlsConnector, openssl::error::ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        set_postgresql_alpn(&mut builder)?;
        if self.verify == Verify::Nothing {
            builder.set_verify(SslVerifyMode::NONE);
        } else {
            let system = || SYSTEM_CA_FILES.iter().copied().find(|path| Path::new(path).exists());
            if let Some(path) = self.root_cert.as_deref().or_else(system) {
                builder.set_ca_file(path)?;
            }
        }
        let mut connector = MakeTlsConnector::new(builder.build());
        let check_host = self.verify == Verify::CertificateAndHost;
        connector.set_callback(move |connection, _host| {
            connection.set_verify_hostname(check_host);
            Ok(())
        });
        Ok(connector)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        rest = others;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (hex, others) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = others;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
