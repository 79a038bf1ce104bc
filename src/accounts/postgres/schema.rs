//! Creates the tables in PostgreSQL, and migrates them to the schema that this server knows. Runs on the threads of the
//! pool, after each connect.

use postgres::types::Type;
use postgres::{Client, GenericClient};

use super::diagnosis::describe;

/// The SQL of all migrations. The first N of them lead to version N of the schema. The table `ich_schema_migrations`
/// records which were run.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../sql/postgres/0001_accounts.sql"),
    include_str!("../../../sql/postgres/0002_username_skeletons.sql"),
    include_str!("../../../sql/postgres/0003_messages.sql"),
    include_str!("../../../sql/postgres/0004_moderation.sql"),
];
/// The key of an advisory lock, which must differ from the keys of other programs: "ich" and a version, as bytes.
pub(super) const MIGRATION_LOCK: i64 = 0x69_63_68_00_01;
/// A migration waits longer than other statements, because another instance may be migrating.
pub(super) const MIGRATION_LIMITS: &str = "SET LOCAL statement_timeout = '25s'; SET LOCAL lock_timeout = '25s'";

#[derive(Debug, thiserror::Error)]
enum SchemaError {
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    #[error(
        "the database has version {0} of the schema, and this server knows only {known}: run a later version of the server",
        known = MIGRATIONS.len()
    )]
    LaterVersion(i32),
}

/// Runs the missing migrations.
///
/// # Errors
/// A text for the operator.
pub(super) fn migrate(client: &mut Client) -> Result<(), String> {
    run_missing(client).map_err(|error| match error {
        SchemaError::Postgres(error) => describe(&error),
        SchemaError::LaterVersion(_) => error.to_string(),
    })
}

/// Runs the missing migrations in one transaction. It holds an advisory lock, because all instances migrate when they
/// start.
fn run_missing(client: &mut Client) -> Result<(), SchemaError> {
    // Usually no migration is missing. Then neither the lock nor the right to create tables is needed.
    let exists: bool =
        client.query_typed_one("SELECT to_regclass('ich_schema_migrations') IS NOT NULL", &[])?.try_get(0)?;
    if exists && missing_migrations(client)?.is_empty() {
        return Ok(());
    }
    let mut transaction = client.transaction()?;
    transaction.batch_execute(MIGRATION_LIMITS)?;
    transaction.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&MIGRATION_LOCK, Type::INT8)])?;
    transaction.batch_execute(
        "CREATE TABLE IF NOT EXISTS ich_schema_migrations \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    )?;
    for (version, migration) in missing_migrations(&mut transaction)? {
        transaction.batch_execute(migration)?;
        transaction
            .query_typed("INSERT INTO ich_schema_migrations (version) VALUES ($1)", &[(&version, Type::INT4)])?;
        log::info!("accounts: migrated the database to schema {version}");
    }
    transaction.commit()?;
    Ok(())
}

/// The migrations that were not run, each with the version that it makes.
fn missing_migrations(client: &mut impl GenericClient) -> Result<Vec<(i32, &'static str)>, SchemaError> {
    let newest: i32 =
        client.query_typed_one("SELECT coalesce(max(version), 0) FROM ich_schema_migrations", &[])?.try_get(0)?;
    let missing: Vec<_> = (1..).zip(MIGRATIONS.iter().copied()).filter(|(version, _)| *version > newest).collect();
    match usize::try_from(newest) {
        Ok(newest) if newest <= MIGRATIONS.len() => Ok(missing),
        _ => Err(SchemaError::LaterVersion(newest)),
    }
}
