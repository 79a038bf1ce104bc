//! The event log within one process: a bounded queue. A record is removed when it is read, because there is only one
//! reader.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::{AppendError, Appender, Entry, EventLog, ReadError, Reader, Span};
use crate::lobby::Record;

/// How many records may wait to be read. If each has a text of 16 KiB, they take 128 MiB.
pub const QUEUE_RECORDS: usize = 8192;

/// Opens an empty log. The order of the queue is the order of the log.
#[must_use]
pub fn open() -> EventLog {
    let (queue, records) = bounded(QUEUE_RECORDS);
    EventLog {
        appender: Arc::new(MemoryAppender { queue }),
        reader: Box::new(MemoryReader { records, next_offset: 0 }),
        undelivered: crossbeam_channel::never(),
        skipped: Arc::default(),
        open_reader: None,
    }
}

struct MemoryAppender {
    queue: Sender<Arc<Record>>,
}

impl Appender for MemoryAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        self.queue.try_send(Arc::new(record)).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Full,
            TrySendError::Disconnected(_) => AppendError::Unavailable,
        })
    }

    fn queued_records(&self) -> usize {
        self.queue.len()
    }
}

struct MemoryReader {
    records: Receiver<Arc<Record>>,
    next_offset: u64,
}

impl MemoryReader {
    fn entry(&mut self, record: Arc<Record>) -> Entry {
        let offset = self.next_offset;
        self.next_offset += 1;
        Entry { offset, record }
    }
}

impl Reader for MemoryReader {
    /// Does not move: the log starts with this process.
    fn rewind(&mut self, _records: u64) -> Result<Span, ReadError> {
        Ok(Span { start: self.next_offset, end: self.next_offset, from_the_beginning: true })
    }

    fn position(&self) -> u64 {
        self.next_offset
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        match self.records.recv_timeout(timeout) {
            Ok(record) => {
                let entry = self.entry(record);
                entries.push(entry);
            }
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ReadError::Unavailable("all appenders were dropped".into()));
            }
        }
        while entries.len() < max {
            let Ok(record) = self.records.try_recv() else { break };
            let entry = self.entry(record);
            entries.push(entry);
        }
        Ok(())
    }
}
