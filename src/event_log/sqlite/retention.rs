//! [`Retention`] and [`Cleaner`]: which records are deleted, and in which steps.
//!
//! The writer calls the cleaner within its transactions. A step deletes few records, so that no commit takes long, and
//! usually goes along with records that are appended, so that retention adds no commits of its own. Only when much is
//! due (after a long time without a server, or when a setting was lowered) are there steps between them.
//!
//! Deleted space is used again by later records: the file does not grow beyond the limit, and does not shrink. (Giving
//! space back to the file system, `auto_vacuum`, would move pages for nothing, as the next records need them.)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction};

use crate::lobby::bootstrap::SPANS;

/// Retention by age keeps at least this many of the newest records: those that a start reads first. So a server that was
/// stopped for long, or a clock that jumps, leaves enough for the next start.
const KEPT_RECORDS: i64 = SPANS.first as i64;
/// How many records a step deletes, while much is due.
const STEP_RECORDS: i64 = 512;
/// Between two steps, while much is due.
const STEP_INTERVAL: Duration = Duration::from_millis(20);
/// While little is due, a step follows so many appended records or so much time.
const RECORDS_PER_STEP: i64 = 64;
const TIME_PER_STEP: Duration = Duration::from_secs(1);
/// What a record takes in the file beside its text.
const RECORD_OVERHEAD_BYTES: i64 = 24;

/// What is kept of the log. The newest record is kept whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older records are deleted.
    pub age: Duration,
    /// The oldest records are deleted while the log is larger.
    pub bytes: u64,
}

/// The state of deleting.
pub(super) struct Cleaner {
    age_seconds: i64,
    bytes_max: i64,
    stepped_at: Option<Instant>,
    appended_since: i64,
    /// The last step found more than it was to delete.
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

    /// When a step is due even if nothing is appended; none when nothing is known to be due.
    pub fn due_in(&self) -> Option<Duration> {
        self.is_behind.then(|| self.stepped_at.map_or(Duration::ZERO, |at| STEP_INTERVAL.saturating_sub(at.elapsed())))
    }

    /// Deletes what is due, a step of it, in a transaction that has appended so many records.
    pub fn step(&mut self, transaction: &Transaction<'_>, appended: usize) -> rusqlite::Result<()> {
        self.appended_since = self.appended_since.saturating_add(i64::try_from(appended).unwrap_or(i64::MAX));
        let since = self.stepped_at.map_or(Duration::MAX, |at| at.elapsed());
        let records_max = if self.is_behind && since >= STEP_INTERVAL {
            STEP_RECORDS
        } else if self.appended_since >= RECORDS_PER_STEP || since >= TIME_PER_STEP {
            // Twice what was appended, so that what is due gets less.
            (2 * self.appended_since + 2).min(STEP_RECORDS)
        } else {
            return Ok(());
        };
        self.stepped_at = Some(Instant::now());
        self.appended_since = 0;
        self.is_behind = self.delete(transaction, records_max, unix_seconds())? == records_max;
        Ok(())
    }

    /// Deletes at most so many records. Gives how many.
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

/// The pages of the file that hold something.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT (page_count - freelist_count) * page_size \
             FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
        )?
        .query_row([], |row| row.get(0))
}

/// The wall clock. It decides about nothing but age.
pub(super) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
