//! The contract of an archive's store. [`super::sqlite`] and [`super::postgres`] implement it; `tests/archive_stores.rs`
//! tests it on both.

use std::borrow::Cow;

use thiserror::Error;

use super::archiver::{Batch, Message, Position};
use crate::lobby::EventId;

/// Why a call to a store failed. The texts are for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveError {
    /// The database does not answer, or cannot be used now.
    #[error("{0}")]
    Unavailable(String),
    /// The stored position is not the one of the batch: another instance has archived meanwhile.
    #[error("another instance has archived meanwhile")]
    Conflict,
}

/// The writing end, for the archive thread. A call may block for as long as the database does. After an error the store
/// connects again by itself when [`ArchiveStore::take_lead`] is called.
pub trait ArchiveStore: Send {
    /// Makes this store the only one that archives. False: another one is. The lead ends when the store or its process
    /// ends. To be called again after every error.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    fn take_lead(&mut self) -> Result<bool, ArchiveError>;

    /// The last record that the archive has read; none in a new archive.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    fn position(&mut self) -> Result<Option<Position>, ArchiveError>;

    /// Stores the messages, the gap and the position of a batch in one transaction. Messages that are in the archive
    /// already are skipped. `now` is the time in seconds since 1970. Returns how many messages were added.
    ///
    /// # Errors
    /// After [`ArchiveError::Conflict`] nothing was stored. After [`ArchiveError::Unavailable`] the store has all of the
    /// batch or nothing: [`ArchiveStore::position`] tells.
    fn append(&mut self, batch: &Batch, now: i64) -> Result<u64, ArchiveError>;

    /// Deletes the oldest messages that were archived before the time `before`, at most `count`. Returns how many.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`].
    fn delete(&mut self, before: i64, count: u32) -> Result<u64, ArchiveError>;
}

/// One archived message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The order of the archive.
    pub id: i64,
    /// See [`Message`].
    pub event_id: String,
    /// See [`Message`].
    pub sent_at: String,
    /// The account of the author.
    pub from_id: String,
    /// The name of the author.
    pub from_user: String,
    /// The text.
    pub text: String,
}

/// Selects messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// The newest messages, the newest first.
    Newest,
    /// Messages before this one, the newest first.
    Before(EventId),
    /// Messages before one that the archive may not have: it was deleted, or is in a gap. The newest first.
    BeforeMissing {
        /// The offset of the message in the event log.
        offset: u64,
        /// The ids of the message and of all later ones that the archive may have, in their order.
        ids: Vec<EventId>,
    },
    /// Messages behind this [`Row::id`], the oldest first.
    AfterRow(i64),
    /// Messages after this one, the oldest first.
    After(EventId),
}

/// Some of the selected messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages.
    pub rows: Vec<Row>,
    /// Whether further messages were selected.
    pub has_more: bool,
}

impl Page {
    /// Takes rows until there are `rows_max` or their texts have `bytes_max` bytes, at least one.
    pub(super) fn take<E>(
        rows_max: usize,
        bytes_max: usize,
        mut next: impl FnMut() -> Result<Option<Row>, E>,
    ) -> Result<Page, E> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = next()? {
            let is_full = rows.len() >= rows_max || (bytes > 0 && bytes + row.text.len() > bytes_max);
            if is_full {
                return Ok(Page { rows, has_more: true });
            }
            bytes += row.text.len();
            rows.push(row);
        }
        Ok(Page { rows, has_more: false })
    }
}

/// A text as it is stored: PostgreSQL cannot store U+0000, so both stores have U+FFFD instead.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// The columns of a message that are texts, in the order of the table: `event_id`, `sent_at`, `from_id`, `from_user`,
/// `text`.
pub(super) fn columns(message: &Message) -> [String; 5] {
    let Message { event_id, sent_at, user, text } = message;
    let texts = [&**sent_at, &*user.id, &*user.username, &**text].map(|text| storable(text).into_owned());
    let [sent_at, from_id, from_user, text] = texts;
    [event_id.to_string(), sent_at, from_id, from_user, text]
}

/// The position in the columns of a store.
pub(super) fn position_of(offset: i64, record: &str) -> Result<Position, ArchiveError> {
    match (u64::try_from(offset), record.parse()) {
        (Ok(offset), Ok(record)) => Ok(Position { offset, record }),
        _ => Err(ArchiveError::Unavailable(format!(
            "the table archive_position has an invalid row ({offset}, {record}): restore it from a backup"
        ))),
    }
}

pub(super) fn sql_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

impl super::archiver::GapCause {
    /// As the stores have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::AnotherLog => "another log",
        }
    }
}
