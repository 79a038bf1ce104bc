//! [`Handover`]: the writer gives committed records to the reader of the same process and wakes it, so that the reader
//! need not read them from the file.
//!
//! The reader takes only records whose offsets follow its position without a gap: then no other process has committed a
//! record in between. In all other cases it reads the file, which has these records too.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::file::Identity;
use crate::event_log::Entry;
use crate::threads::lock;

/// The most records that wait for the reader: a few batches of the writer. If there are more, the reader reads the file.
const RECORDS_MAX: usize = 4096;
/// The most bytes of these records, as JSON.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A committed record.
pub(super) struct Committed {
    pub entry: Entry,
    /// The length of its JSON.
    pub bytes: usize,
}

/// What [`Handover::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Entries were added. This offset is the new position of the reader.
    UpTo(u64),
    /// No record waits.
    Nothing,
    /// The reader has to read the file: another process has committed the next records, or too many records waited.
    InFile,
}

#[derive(Default)]
pub(super) struct Handover {
    state: Mutex<State>,
    changed: Condvar,
    /// Why the log cannot be used, if the writer has found that out.
    unusable: OnceLock<String>,
}

#[derive(Default)]
struct State {
    /// How many times [`Handover::give`] and [`Handover::make_unusable`] were called.
    changes: u64,
    /// The file that the waiting records are in.
    file: Option<Identity>,
    /// In the order of their offsets.
    waiting: VecDeque<Committed>,
    waiting_bytes: usize,
    /// Records were dropped because the reader did not take them.
    is_overflown: bool,
}

impl State {
    fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn pop(&mut self) -> Option<Committed> {
        let committed = self.waiting.pop_front()?;
        self.waiting_bytes -= committed.bytes;
        Some(committed)
    }
}

impl Handover {
    /// Gives records that were committed to this file, with consecutive offsets.
    pub fn give(&self, file: Identity, records: Vec<Committed>) {
        let bytes: usize = records.iter().map(|committed| committed.bytes).sum();
        let mut state = lock(&self.state);
        if state.file != Some(file) {
            state.clear();
            state.file = Some(file);
        }
        if state.waiting.len() + records.len() > RECORDS_MAX || state.waiting_bytes + bytes > BYTES_MAX {
            state.clear();
            state.is_overflown = true;
        } else {
            state.waiting.extend(records);
            state.waiting_bytes += bytes;
        }
        state.changes += 1;
        self.changed.notify_one();
    }

    /// Adds the records of this file from `position` on to `entries`, at most `max`. Drops the records before `position`.
    pub fn take(&self, file: Option<Identity>, position: u64, max: usize, entries: &mut Vec<Entry>) -> Taken {
        let mut state = lock(&self.state);
        let is_overflown = std::mem::take(&mut state.is_overflown);
        if state.file != file && !state.waiting.is_empty() {
            state.clear();
            return Taken::InFile;
        }
        while state.waiting.front().is_some_and(|committed| committed.entry.offset < position) {
            state.pop();
        }
        let mut end = position;
        for _ in 0..max {
            if state.waiting.front().is_none_or(|committed| committed.entry.offset != end) {
                break;
            }
            entries.extend(state.pop().map(|committed| committed.entry));
            end += 1;
        }
        if end > position {
            Taken::UpTo(end)
        } else if is_overflown || !state.waiting.is_empty() {
            Taken::InFile
        } else {
            Taken::Nothing
        }
    }

    /// Drops the waiting records: the reader moves to another position and reads the file from there on.
    pub fn clear(&self) {
        lock(&self.state).clear();
    }

    /// The number of changes so far.
    pub fn changes(&self) -> u64 {
        lock(&self.state).changes
    }

    /// Waits up to `timeout` until there are more changes than `seen`. False after a time-out.
    pub fn wait(&self, seen: u64, timeout: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, timeout, |state| state.changes == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.changes != seen
    }

    /// Makes the reader end with [`ReadError::Unusable`](crate::event_log::ReadError::Unusable) and this text. Only the
    /// first call has an effect.
    pub fn make_unusable(&self, text: String) {
        let _ = self.unusable.set(text);
        lock(&self.state).changes += 1;
        self.changed.notify_one();
    }

    pub fn unusable(&self) -> Option<String> {
        self.unusable.get().cloned()
    }
}

#[cfg(test)]
mod tests;
