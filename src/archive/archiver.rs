//! [`Archiver`]: decides which messages the archive gets, from the records of the event log. Pure: no I/O, no clock.
//!
//! The archive knows the last record that it has read, its [`Position`]. An archiver that takes over has to decide about
//! the next records as the lobbies of all instances do: whose sessions are effective, and which message repeats an earlier
//! one. So it begins before the position and folds those records without archiving them. It begins as far back as
//! [`Bootstrap`] says: until the sessions are exact and all repetitions are known at the position, or to the start of the
//! log.
//!
//! The caller moves its reader to [`Archiver::first_offset`], calls [`Archiver::begin`], and then [`Archiver::apply`] for
//! each record. If the answer is [`Next::Seek`], it moves the reader again. What is to be stored comes from
//! [`Archiver::take_batch`]. After any error, the caller drops the archiver, reads the position from the store and
//! resumes: the store has either all of a batch or nothing of it.
//!
//! **Gaps.** Four cases leave a gap, which the archive records: retention has deleted records behind the position;
//! retention has left too few records before it to know the sessions; the archive is new and retention has deleted the
//! beginning of the log; or the log is not the one that was archived, because it was deleted or has lost its end. The gap
//! ends where the sessions are exact. In a gap nothing is archived.

use std::sync::Arc;

use crate::event_log::{Entry, Span};
use crate::lobby::bootstrap::Spans;
use crate::lobby::{Bootstrap, Event, EventId, Lobby, Record, User};

/// The last record that the archive has read. Its id tells whether the log at this offset is still the same log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The offset of the record.
    pub offset: u64,
    /// The instance and the number of the record.
    pub record: EventId,
}

/// A published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that clients get.
    pub event_id: EventId,
    /// As clients get it: RFC 3339.
    pub sent_at: Arc<str>,
    /// The author.
    pub user: User,
    /// The text.
    pub text: Arc<str>,
}

/// Why messages may be missing from the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// Retention deleted records before they were archived, or records that were needed to decide about others.
    Retention,
    /// The log is not the one that was archived: it was deleted, or has lost its end.
    AnotherLog,
}

/// A part of the log that was not archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first offset behind the position; in a new archive, the first offset of the log.
    pub from: u64,
    /// The offset of the first record that was archived again; with [`GapCause::AnotherLog`] an offset in the other log.
    pub to: u64,
    /// The reason.
    pub cause: GapCause,
}

/// What the archive stores in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The position that the store must have before; none: the archive is new.
    pub after: Option<Position>,
    /// In the order of the log.
    pub messages: Vec<Message>,
    /// A gap before the first message.
    pub gap: Option<Gap>,
    /// The position after the batch.
    pub position: Position,
}

/// What the caller reads next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next record.
    Record,
    /// The records from [`Archiver::first_offset`] on, again with [`Archiver::begin`].
    Seek,
}

/// The fold of one archiver, from one resumption to the next.
#[derive(Debug)]
pub struct Archiver {
    repetition_window: u64,
    spans: Spans,
    /// The position when the archiver resumed.
    resumed_at: Option<Position>,
    /// The log is not the one of `resumed_at`.
    is_another_log: bool,
    /// How many records before the position are read.
    span: u64,

    lobby: Lobby,
    bootstrap: Bootstrap,
    /// The offset at which this span begins.
    start: u64,
    /// The position, until its record was read.
    ahead: Option<Position>,
    /// The first offset that may be missing, until the next record is archived.
    missing_from: Option<(u64, GapCause)>,
    events: Vec<Event>,

    stored: Option<Position>,
    read: Option<Position>,
    gap: Option<Gap>,
    messages: Vec<Message>,
    message_bytes: usize,
}

impl Archiver {
    /// Resumes behind `position`; `None`: the archive is new and begins with the first record of the log.
    /// `repetition_window` is that of the lobbies.
    #[must_use]
    pub fn resume(position: Option<Position>, repetition_window: u64, spans: Spans) -> Self {
        Archiver {
            repetition_window,
            spans,
            resumed_at: position,
            is_another_log: false,
            span: spans.first,
            lobby: Lobby::with_repetition_window(repetition_window),
            bootstrap: Bootstrap::new(0, true),
            start: 0,
            ahead: None,
            missing_from: None,
            events: Vec::new(),
            stored: position,
            read: None,
            gap: None,
            messages: Vec::new(),
            message_bytes: 0,
        }
    }

    /// Where the caller begins to read.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        match self.resumed_at {
            Some(position) if !self.is_another_log => (position.offset + 1).saturating_sub(self.span),
            _ => 0,
        }
    }

    /// The reader was moved to [`Archiver::first_offset`]; `span` is the result.
    pub fn begin(&mut self, span: Span) -> Next {
        self.lobby = Lobby::with_repetition_window(self.repetition_window);
        self.bootstrap = Bootstrap::new(span.start, span.from_the_beginning);
        self.start = span.start;
        self.ahead = None;
        self.missing_from = None;
        let Some(position) = self.resumed_at else {
            self.missing_from = (!span.from_the_beginning).then_some((span.start, GapCause::Retention));
            return Next::Record;
        };
        let behind = position.offset + 1;
        if self.is_another_log {
            self.missing_from = Some((behind, GapCause::AnotherLog));
        } else if span.end < behind {
            return self.on_another_log();
        } else if span.start > position.offset {
            self.missing_from = Some((behind, GapCause::Retention));
        } else {
            self.ahead = Some(position);
        }
        Next::Record
    }

    /// Reads the next record.
    pub fn apply(&mut self, entry: &Entry) -> Next {
        let Entry { offset, record } = entry;
        if let Some(position) = self.ahead {
            return self.replay(*offset, record, position);
        }
        // A record that makes the sessions exact was applied to sessions that were not.
        let is_exact = self.bootstrap.is_exact();
        self.fold(*offset, record);
        if is_exact {
            self.add(*offset, record);
        }
        Next::Record
    }

    /// Folds a record up to the position, and checks that the position is in this log.
    fn replay(&mut self, offset: u64, record: &Record, position: Position) -> Next {
        let is_there = offset < position.offset || (offset == position.offset && record.event_id() == position.record);
        if !is_there {
            return self.on_another_log();
        }
        self.fold(offset, record);
        if offset < position.offset {
            return Next::Record;
        }
        let behind = offset + 1;
        let has_read_all = self.start == 0 || self.start > self.first_offset();
        let longer = self.bootstrap.next_span(&self.spans, self.span, &self.lobby, behind, true);
        if let Some(longer) = longer.filter(|_| !has_read_all) {
            self.span = longer;
            return Next::Seek;
        }
        self.ahead = None;
        if !self.bootstrap.is_exact() {
            self.missing_from = Some((behind, GapCause::Retention));
        }
        Next::Record
    }

    fn on_another_log(&mut self) -> Next {
        self.is_another_log = true;
        Next::Seek
    }

    fn fold(&mut self, offset: u64, record: &Record) {
        self.events.clear();
        self.lobby.apply(record, offset, &mut self.events);
        self.bootstrap.on_record(record, offset, &self.lobby);
    }

    /// Adds the record that was folded last to the next batch.
    fn add(&mut self, offset: u64, record: &Record) {
        if let Some((from, cause)) = self.missing_from.take() {
            self.gap = Some(Gap { from, to: offset, cause });
        }
        self.read = Some(Position { offset, record: record.event_id() });
        for event in self.events.drain(..) {
            let Event::Said { user, text, .. } = event else { continue };
            self.message_bytes += text.len();
            self.messages.push(Message { event_id: record.event_id(), sent_at: record.at.clone(), user, text });
        }
    }

    /// Whether the next batch has a message or a gap.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.messages.is_empty() || self.gap.is_some()
    }

    /// The number of messages in the next batch, and the bytes of their texts.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.messages.len(), self.message_bytes)
    }

    /// How many records the position has moved since the last batch.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        let behind = |position: Option<Position>| position.map_or(0, |position| position.offset + 1);
        self.read.map_or(0, |read| (read.offset + 1).abs_diff(behind(self.stored)))
    }

    /// What has to be stored now; none if no record was archived since the last batch.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let position = self.read.take()?;
        let after = self.stored.replace(position);
        self.message_bytes = 0;
        Some(Batch { after, messages: std::mem::take(&mut self.messages), gap: self.gap.take(), position })
    }
}

#[cfg(test)]
mod tests;
