//! [`KafkaReader`]: reads the records of the topic in order, from an offset that [`Reader::rewind`] computes.
//!
//! The log thread owns one, and the archive another; the owner makes all calls. Each call has a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};

use super::consumer::{KafkaConsumer, offset};
use super::diagnostics::Diagnostics;
use super::topic::GIVE_UP_CHECK;
use super::topic_setup::TopicSetup;
use crate::event_log::{Entry, ReadError, Reader, SeekingReader, Span, codec};
use crate::lobby::Record;

/// How long one [`Reader::rewind`] may take.
const REWIND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct KafkaReader {
    consumer: KafkaConsumer,
    setup: TopicSetup,
    diagnostics: Arc<Diagnostics>,
    /// The consumer cannot continue: the next `rewind` replaces it.
    is_broken: bool,
    position: u64,
    /// The end of the log at the last `rewind`.
    span_end: u64,
    /// An error that followed entries, kept for the next `poll`.
    pending_error: Option<ReadError>,
    skipped: Arc<AtomicU64>,
}

impl KafkaReader {
    /// `skipped` counts the messages that are not records.
    pub(super) fn new(
        consumer: KafkaConsumer,
        setup: TopicSetup,
        diagnostics: Arc<Diagnostics>,
        skipped: Arc<AtomicU64>,
    ) -> Self {
        KafkaReader {
            consumer,
            setup,
            diagnostics,
            is_broken: false,
            position: 0,
            span_end: 0,
            pending_error: None,
            skipped,
        }
    }

    fn on_error(&mut self, error: KafkaError) -> Result<(), ReadError> {
        match error {
            // The log may end with a transaction marker, or with records that compaction removed.
            KafkaError::PartitionEOF(_) => self.position = self.position.max(self.span_end),
            KafkaError::MessageConsumption(
                code @ (Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::LogTruncation
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId),
            ) => {
                // The topic may have been deleted and created again, and this consumer knows only the old topic.
                self.is_broken = true;
                return Err(ReadError::Truncated(format!("at offset {}: {code}", self.position)));
            }
            KafkaError::MessageConsumption(Code::TopicAuthorizationFailed) => {
                self.diagnostics.warn_no_read(&self.setup.admin.topic);
            }
            // Temporary: librdkafka reconnects. `KafkaContext` has logged the error.
            KafkaError::MessageConsumption(_) => {}
            other => {
                self.is_broken = true;
                return Err(ReadError::Truncated(format!("the consumer failed permanently: {other}")));
            }
        }
        Ok(())
    }

    /// Moves to the offset that `start` chooses from the first offset of the topic and the one after the last.
    fn move_to(&mut self, start: impl FnOnce(u64, u64) -> u64) -> Result<Span, ReadError> {
        let deadline = Instant::now() + REWIND_TIMEOUT;
        self.pending_error = None;
        self.diagnostics.reading_ends();
        if self.is_broken {
            self.consumer.replace()?;
            self.is_broken = false;
        }
        self.consumer.unassign()?;
        let (low, end) = self.setup.prepare(&mut self.consumer, deadline)?;
        let start = start(low, end);
        self.consumer.assign(start)?;
        (self.position, self.span_end) = (start, end);
        self.diagnostics.reading_begins();
        Ok(Span { start, end, from_the_beginning: start == 0 })
    }

    fn skip(&self, offset: u64, reason: &str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.diagnostics.throttle.may_log("skipped", Instant::now()) {
            log::warn!("skipped the record at offset {offset}: {reason}{more}");
        }
    }
}

/// Decodes a message of the topic as a record. The error says why the message is not a record.
fn record_of(message: &BorrowedMessage<'_>) -> Result<Record, String> {
    let payload = message.payload().ok_or("no payload")?;
    codec::decode(payload).map_err(|error| error.to_string())
}

impl SeekingReader for KafkaReader {
    fn seek(&mut self, offset: u64) -> Result<Span, ReadError> {
        self.move_to(|low, end| offset.clamp(low, end))
    }
}

impl Reader for KafkaReader {
    fn give_up_when(&mut self, flag: Arc<AtomicBool>) {
        self.consumer.give_up_when(flag);
    }

    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        self.move_to(|low, end| low.max(end.saturating_sub(records)))
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        if let Some(error) = self.pending_error.take() {
            return Err(error);
        }
        let deadline = Instant::now() + timeout;
        let before = entries.len();
        // Includes skipped messages, so that a log full of invalid messages does not keep the thread here.
        let mut seen = before;
        while seen < max && !self.consumer.is_given_up() {
            let is_first = entries.len() == before;
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if is_first { left.min(GIVE_UP_CHECK) } else { Duration::ZERO };
            let error = match self.consumer.poll(wait) {
                None if is_first && Instant::now() < deadline => continue,
                None => break,
                Some(Ok(message)) => {
                    seen += 1;
                    let offset = offset(message.offset());
                    match record_of(&message) {
                        Ok(record) => entries.push(Entry { offset, record: Arc::new(record) }),
                        Err(reason) => self.skip(offset, &reason),
                    }
                    self.position = offset + 1;
                    continue;
                }
                Some(Err(error)) => error,
            };
            if let Err(error) = self.on_error(error) {
                if entries.len() == before {
                    return Err(error);
                }
                self.pending_error = Some(error);
                break;
            }
        }
        Ok(())
    }
}
