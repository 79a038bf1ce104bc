//! The archive in the PostgreSQL database of the accounts.
//!
//! An advisory lock of the session makes one instance the archiver. PostgreSQL releases it when the connection ends; the
//! keep-alives of the session end it when the machine of the archiver has vanished.

use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::ToSql;
use postgres::{Client, Row as SqlRow, Transaction};

use super::archiver::{Batch, Position};
use super::store::{ArchiveError, ArchiveStore, Page, Row, Select, columns, position_of, sql_offset};
use crate::accounts::postgres::connector::{Connector, describe};
use crate::lobby::EventId;

/// The key of the advisory lock: "ich" and a number, as bytes. The migrations have another.
const LEADER_LOCK: i64 = 0x69_63_68_00_02;
/// The archive thread may wait longer than a caller of the accounts. A batch is small, so a statement that takes so long
/// meets a database that is not well.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
                       SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// The order of the rows is that of the arrays.
const INSERT: &str = "INSERT INTO messages (event_id, sent_at, from_id, from_user, text, archived_at) \
                      SELECT event_id, sent_at, from_id, from_user, text, $6::bigint \
                      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY \
                      AS new (event_id, sent_at, from_id, from_user, text, place) ORDER BY place \
                      ON CONFLICT (event_id) DO NOTHING";
const INSERT_GAP: &str = "INSERT INTO archive_gaps (noticed_at, cause, from_offset, to_offset, last_event_id) \
                          VALUES ($1, $2, $3, $4, (SELECT event_id FROM messages ORDER BY id DESC LIMIT 1))";
const FIRST_POSITION: &str = "INSERT INTO archive_position (only_row, log_offset, record) VALUES (1, $1, $2) \
                              ON CONFLICT (only_row) DO NOTHING";
const NEXT_POSITION: &str = "UPDATE archive_position SET log_offset = $1, record = $2 \
                             WHERE log_offset = $3 AND record = $4";
/// Deletes no message that is newer than one that has to stay.
const DELETE: &str = "WITH oldest AS (SELECT id, archived_at FROM messages ORDER BY id LIMIT $2) \
                      DELETE FROM messages WHERE id IN (SELECT id FROM oldest WHERE id < \
                      coalesce((SELECT min(id) FROM oldest WHERE archived_at >= $1), 9223372036854775807))";

/// The writing end.
pub struct PostgresArchive {
    connector: Connector,
    client: Option<Client>,
}

/// The archive in the database of this URL. Connects later.
///
/// # Errors
/// A text for the operator that contains no part of the URL.
pub fn open(url: &str) -> Result<PostgresArchive, String> {
    Ok(PostgresArchive::new(Connector::new(url)?))
}

impl ArchiveStore for PostgresArchive {
    fn take_lead(&mut self) -> Result<bool, ArchiveError> {
        if self.client.is_none() {
            self.client = Some(self.connector.connect(SESSION).map_err(|reason| unavailable(&reason))?);
        }
        // Each call counts: a session that has the lock gets it again, and has to release it as often. It never does.
        self.with(|client| client.query_one("SELECT pg_try_advisory_lock($1)", &[&LEADER_LOCK])?.try_get(0))
    }

    fn position(&mut self) -> Result<Option<Position>, ArchiveError> {
        let found = self.with(stored_position)?;
        found.map(|(offset, record)| position_of(offset, &record)).transpose()
    }

    fn append(&mut self, batch: &Batch, now: i64) -> Result<u64, ArchiveError> {
        let added = self.with(|client| {
            let mut transaction = client.transaction()?;
            if !move_position(&mut transaction, batch)? {
                return Ok(None);
            }
            let added = insert(&mut transaction, batch, now)?;
            transaction.commit()?;
            Ok(Some(added))
        })?;
        added.ok_or(ArchiveError::Conflict)
    }

    fn delete(&mut self, before: i64, count: u32) -> Result<u64, ArchiveError> {
        self.with(|client| client.execute(DELETE, &[&before, &i64::from(count)]))
    }
}

impl PostgresArchive {
    pub(super) fn new(connector: Connector) -> Self {
        PostgresArchive { connector, client: None }
    }

    /// After an error the connection is not used again, so the lock is released.
    fn with<R>(&mut self, run: impl FnOnce(&mut Client) -> Result<R, postgres::Error>) -> Result<R, ArchiveError> {
        let mut client = self.client.take().ok_or_else(|| unavailable("not connected"))?;
        let result = run(&mut client).map_err(|error| unavailable(&describe(&error)))?;
        self.client = Some(client);
        Ok(result)
    }
}

/// The offset and the id of the record.
fn stored_position(client: &mut Client) -> Result<Option<(i64, String)>, postgres::Error> {
    let row = client.query_opt("SELECT log_offset, record FROM archive_position", &[])?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// False: another archiver has moved it.
fn move_position(transaction: &mut Transaction<'_>, batch: &Batch) -> Result<bool, postgres::Error> {
    let (offset, record) = (sql_offset(batch.position.offset), batch.position.record.to_string());
    let changed = match batch.after {
        None => transaction.execute(FIRST_POSITION, &[&offset, &record])?,
        Some(after) => {
            let before = (sql_offset(after.offset), after.record.to_string());
            transaction.execute(NEXT_POSITION, &[&offset, &record, &before.0, &before.1])?
        }
    };
    Ok(changed == 1)
}

fn insert(transaction: &mut Transaction<'_>, batch: &Batch, now: i64) -> Result<u64, postgres::Error> {
    if let Some(gap) = batch.gap {
        let (from, to) = (sql_offset(gap.from), sql_offset(gap.to));
        transaction.execute(INSERT_GAP, &[&now, &gap.cause.as_str(), &from, &to])?;
    }
    if batch.messages.is_empty() {
        return Ok(0);
    }
    let mut arrays: [Vec<String>; 5] = Default::default();
    for message in &batch.messages {
        for (array, column) in arrays.iter_mut().zip(columns(message)) {
            array.push(column);
        }
    }
    let [event_id, sent_at, from_id, from_user, text] = &arrays;
    transaction.execute(INSERT, &[event_id, sent_at, from_id, from_user, text, &now])
}

/// See [`super::place::page`].
///
/// # Errors
/// Those of PostgreSQL.
pub(super) fn page(
    client: &mut Client,
    select: &Select,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Option<Page>, postgres::Error> {
    const OLDER: &str = "SELECT id, event_id, sent_at, from_id, from_user, text FROM messages \
                         WHERE id < $1 ORDER BY id DESC LIMIT $2";
    const NEWER: &str = "SELECT id, event_id, sent_at, from_id, from_user, text FROM messages \
                         WHERE id > $1 ORDER BY id LIMIT $2";
    let (sql, id) = match select {
        Select::Newest => (OLDER, Some(i64::MAX)),
        Select::AfterRow(id) => (NEWER, Some(*id)),
        Select::Before(event_id) => (OLDER, first_row_of(client, &[*event_id])?),
        Select::After(event_id) => (NEWER, first_row_of(client, &[*event_id])?),
        Select::BeforeMissing { offset, ids } => match stored_position(client)? {
            Some((read, _)) if read >= sql_offset(*offset) => (OLDER, first_row_of(client, ids)?.or(Some(i64::MAX))),
            _ => (OLDER, None),
        },
    };
    let Some(id) = id else { return Ok(None) };
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let parameters: [&dyn ToSql; 2] = [&id, &limit];
    // Row by row, so that long texts behind the end of the page are not kept.
    let mut rows = client.query_raw(sql, parameters)?;
    let next = || -> Result<Option<Row>, postgres::Error> { rows.next()?.map(|row| row_of(&row)).transpose() };
    Page::take(rows_max, bytes_max, next).map(Some)
}

/// The row of the first of these messages that the archive has.
fn first_row_of(client: &mut Client, event_ids: &[EventId]) -> Result<Option<i64>, postgres::Error> {
    let event_ids: Vec<String> = event_ids.iter().map(EventId::to_string).collect();
    client.query_one("SELECT min(id) FROM messages WHERE event_id = ANY($1)", &[&event_ids])?.try_get(0)
}

fn row_of(row: &SqlRow) -> Result<Row, postgres::Error> {
    Ok(Row {
        id: row.try_get(0)?,
        event_id: row.try_get(1)?,
        sent_at: row.try_get(2)?,
        from_id: row.try_get(3)?,
        from_user: row.try_get(4)?,
        text: row.try_get(5)?,
    })
}

/// Whether the database has an archive.
///
/// # Errors
/// Those of PostgreSQL.
pub(super) fn has_archive(client: &mut Client) -> Result<bool, postgres::Error> {
    client.query_one("SELECT to_regclass('messages') IS NOT NULL", &[])?.try_get(0)
}

pub(super) fn unavailable(reason: &str) -> ArchiveError {
    ArchiveError::Unavailable(format!("PostgreSQL: {reason}"))
}
