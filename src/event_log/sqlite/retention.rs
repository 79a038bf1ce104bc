//! [`Retention`] and [`Cleaner`]: which records are deleted, and in which steps.
//!
//! A *step* deletes a few records within a transaction of the writer, so no commit takes long. Usually the transaction
//! also appends records, so retention adds no commits. Only when many records have to be deleted (after a long time
//! without a server, or when a setting was lowered), the writer also commits steps without appended records.
//!
//! Later records reuse the space of deleted ones: the file does not grow beyond the limit, and does not shrink.
//! `auto_vacuum` would return the space to the file system, but it would move pages for nothing, because the next
//! records need the space.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};

use crate::clock;
use crate::lobby::bootstrap::SPANS;

/// Retention by age keeps at least this many of the newest records: those that a start reads first. So the next start
/// has enough records even after a long time without a server, or after a jump of the clock.
const KEPT_RECORDS: i64 = SPANS.first as i64;
/// The most records that a step deletes.
const STEP_RECORDS: i64 = 512;
/// The minimum time between two steps while the cleaner is behind.
const STEP_INTERVAL: Duration = Duration::from_millis(20);
/// While the cleaner is not behind, it makes a step after this many appended records.
const RECORDS_PER_STEP: i64 = 64;
/// While the cleaner is not behind, it makes a step with the first commit after this time.
const TIME_PER_STEP: Duration = Duration::from_secs(1);
/// The bytes that a record takes in the file in addition to its JSON.
const RECORD_OVERHEAD_BYTES: i64 = 24;

/// The limits of the log. The newest record is kept in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this are deleted, except the newest `KEPT_RECORDS`.
    pub age: Duration,
    /// The oldest records are deleted while the used part of the file is larger than this.
    pub bytes: u64,
}

/// Decides when a step is due, and deletes the records.
pub(super) struct Cleaner {
    age_seconds: i64,
    bytes_max: i64,
    stepped_at: Option<Instant>,
    appended_since: i64,
    /// Whether more records may have to be deleted: the last step deleted as many as it was allowed to, or there was
    /// none.
    is_behind: bool,
}

impl Cleaner {
    pub fn new(retention: Retention) -> Self {
        Cleaner {
            age_seconds: i64::try_from(retention.age.as_secs()).unwrap_or(i64::MAX),
            bytes_max: i64::try_from(retention.bytes).unwrap_or(i64::MAX),
            stepped_at: None,
            appended_since: 0,
            is_behind: true,
        }
    }

    /// The time until a step is due even if nothing is appended; `None` if the cleaner is not behind.
    pub fn due_in(&self) -> Option<Duration> {
        self.is_behind.then(|| self.stepped_at.map_or(Duration::ZERO, |at| STEP_INTERVAL.saturating_sub(at.elapsed())))
    }

    /// Makes a step, if one is due, in a transaction that has appended `appended` records.
    pub fn step(&mut self, transaction: &Transaction<'_>, appended: usize) -> rusqlite::Result<()> {
        self.appended_since = self.appended_since.saturating_add(i64::try_from(appended).unwrap_or(i64::MAX));
        let since = self.stepped_at.map_or(Duration::MAX, |at| at.elapsed());
        let records_max = if self.is_behind && since >= STEP_INTERVAL {
            STEP_RECORDS
        } else if self.appended_since >= RECORDS_PER_STEP || since >= TIME_PER_STEP {
            // More than was appended, so that the number of records to delete falls.
            (2 * self.appended_since + 2).min(STEP_RECORDS)
        } else {
            return Ok(());
        };
        self.stepped_at = Some(Instant::now());
        self.appended_since = 0;
        self.is_behind = self.delete(transaction, records_max, clock::stored_unix_seconds())? == records_max;
        Ok(())
    }

    /// Deletes at most `records_max` records. Returns how many it deleted.
    fn delete(&self, transaction: &Transaction<'_>, records_max: i64, now: i64) -> rusqlite::Result<i64> {
        let newest: Option<i64> =
            transaction.prepare_cached("SELECT max(offset) FROM records")?.query_row([], |row| row.get(0))?;
        let Some(newest) = newest else { return Ok(0) };
        let mut excess = used_bytes(transaction)? - self.bytes_max;
        let (mut count, mut last) = (0, None);
        {
            let mut oldest = transaction.prepare_cached(
                "SELECT offset, appended_at, octet_length(record) FROM records ORDER BY offset LIMIT ?1",
            )?;
            let mut rows = oldest.query([records_max])?;
            while let Some(row) = rows.next()? {
                let (offset, appended_at, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let is_old = now.saturating_sub(appended_at) > self.age_seconds && newest - offset >= KEPT_RECORDS;
                if offset == newest || !(is_old || excess > 0) {
                    break;
                }
                excess -= bytes + RECORD_OVERHEAD_BYTES;
                count += 1;
                last = Some(offset);
            }
        }
        if let Some(last) = last {
            transaction.prepare_cached("DELETE FROM records WHERE offset <= ?1")?.execute([last])?;
        }
        Ok(count)
    }
}

/// The size of the pages in use.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT (page_count - freelist_count) * page_size \
             FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
        )?
        .query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests;
