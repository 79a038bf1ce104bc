//! `ich export`: writes the archive as JSON lines, the oldest message first. Called on the main thread of a program of its
//! own, beside running servers. It reads page by page, so its memory does not grow with the archive.

use std::io::{self, Write};

use serde::Serialize;
use thiserror::Error;

use super::place::{Place, page};
use super::store::{ArchiveError, Row, Select};
use crate::lobby::EventId;

/// One page.
const PAGE_ROWS: usize = 1000;
/// The same in bytes of text.
const PAGE_BYTES: usize = 1024 * 1024;

/// Why an export ended before the end of the archive.
#[derive(Debug, Error)]
pub(crate) enum ExportError {
    /// The database cannot be read.
    #[error("the archive cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    /// The message after which the export begins.
    #[error("the archive has no message {0}: it was deleted, or never archived")]
    UnknownMessage(EventId),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl ExportError {
    /// Whether the reader of the output wants no more.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, ExportError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event_id: &'a str,
    sent_at: &'a str,
    from_id: &'a str,
    from_user: &'a str,
    text: &'a str,
}

/// Writes all messages after the message `after`, or all messages.
///
/// # Errors
/// See [`ExportError`]. What was written before is complete lines, except after [`ExportError::Output`].
pub(crate) fn export(place: &Place, after: Option<EventId>, out: &mut impl Write) -> Result<(), ExportError> {
    let mut open = place.connect_to_existing()?;
    let mut select = after.map_or(Select::AfterRow(0), Select::After);
    loop {
        let found = match (page(&mut open, &select, PAGE_ROWS, PAGE_BYTES)?, after) {
            (Some(found), _) => found,
            (None, Some(unknown)) => return Err(ExportError::UnknownMessage(unknown)),
            // Only a selection by id finds no message.
            (None, None) => break,
        };
        for row in &found.rows {
            write_line(row, out)?;
        }
        match found.rows.last() {
            Some(last) if found.has_more => select = Select::AfterRow(last.id),
            _ => break,
        }
    }
    Ok(out.flush()?)
}

fn write_line(row: &Row, out: &mut impl Write) -> io::Result<()> {
    let Row { event_id, sent_at, from_id, from_user, text, .. } = row;
    serde_json::to_writer(&mut *out, &Line { event_id, sent_at, from_id, from_user, text })?;
    out.write_all(b"\n")
}
