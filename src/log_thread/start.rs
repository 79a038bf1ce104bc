//! The start of the log thread: it reads the log until the state is exact and the history is full, or until it has read
//! the whole log. The log thread does the same after [`ReadError::Truncated`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::{LogThread, LogThreadEnd, POLL_WAIT};
use crate::event_log::{Entry, ReadError, Span};
use crate::limits::POLL_RECORDS_MAX;
use crate::lobby::bootstrap::SPANS;
use crate::lobby::{Body, Bootstrap, Event, Lobby};
use crate::session::online_list::OnlineList;
use crate::session::protocol;
use crate::threads::lock;

/// The pause between two attempts to reach a log that does not answer.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// The interval at which the log thread checks `abandon` during this pause.
const ABANDON_CHECK: Duration = Duration::from_millis(50);

impl LogThread {
    /// Reads enough of the log to know which users are online, which message ids were used, and the newest messages.
    pub(super) fn build_state(&mut self) -> Result<(), LogThreadEnd> {
        let started_at = Instant::now();
        let mut records = SPANS.first;
        loop {
            let Some((span, bootstrap)) = self.replay(records)? else { continue };
            let read_all = span.end.saturating_sub(span.start) < records;
            let longer = bootstrap.next_span(&SPANS, records, &self.lobby, span.end, lock(&self.history).is_full());
            let Some(longer) = longer.filter(|_| !read_all) else {
                let (users, messages, took) = (self.online.len(), lock(&self.history).len(), started_at.elapsed());
                info!(
                    "read the event log from {} to {}: {users} users online, {messages} messages kept, {took:.1?}",
                    span.start, span.end
                );
                self.bootstrap = Some(bootstrap);
                let _ = self.on_state_built.try_send(());
                return Ok(());
            };
            info!("the last {records} records of the event log are not enough: reading more");
            records = longer;
        }
    }

    /// Builds a new state from the last `records` records of the log. `None`: the log did not answer; try again.
    fn replay(&mut self, records: u64) -> Result<Option<(Span, Bootstrap)>, LogThreadEnd> {
        let span = match self.log.reader.rewind(records) {
            Ok(span) => span,
            Err(error) => return self.wait_out(&error).map(|()| None),
        };
        self.lobby = Lobby::default();
        lock(&self.history).restart(span.from_the_beginning);
        let mut bootstrap = Bootstrap::new(span.start, span.from_the_beginning);
        while self.log.reader.position() < span.end {
            if self.abandon.load(Ordering::Acquire) {
                return Err(LogThreadEnd::Abandoned);
            }
            self.entries.clear();
            if let Err(error) = self.log.reader.poll(POLL_WAIT, POLL_RECORDS_MAX, &mut self.entries) {
                return self.wait_out(&error).map(|()| None);
            }
            let entries = std::mem::take(&mut self.entries);
            entries.iter().for_each(|entry| self.replay_entry(entry, &mut bootstrap));
            self.entries = entries;
        }
        self.online = OnlineList::default();
        self.lobby.names_online().for_each(|name| self.online.insert(name));
        self.metrics.set_online(self.online.len());
        self.metrics.set_history(lock(&self.history).len());
        Ok(Some((span, bootstrap)))
    }

    fn replay_entry(&mut self, entry: &Entry, bootstrap: &mut Bootstrap) {
        let Entry { offset, record } = entry;
        self.lobby.apply(record, *offset, &mut self.events);
        bootstrap.on_record(record, *offset, &self.lobby);
        if let Body::Moderated(moderation) = &record.body {
            self.driver.publisher().sanctions().apply(moderation);
        }
        for event in self.events.drain(..) {
            if matches!(event, Event::Said { .. }) && bootstrap.is_exact() {
                let mut frame = Vec::new();
                protocol::put_event(&event, record, &mut frame);
                lock(&self.history).push(record.event_id(), *offset, &frame);
            }
        }
    }

    /// Logs the error and waits [`RETRY_WAIT`]. Fails if waiting cannot help, or if `abandon` is set.
    pub(super) fn wait_out(&self, error: &ReadError) -> Result<(), LogThreadEnd> {
        match error {
            ReadError::Unusable(text) => return Err(LogThreadEnd::Unusable(text.clone())),
            ReadError::Unavailable(_) | ReadError::Truncated(_) => {
                let text = error.to_string();
                if let Some(more) = self.read_errors.may_log(&text, Instant::now())
                    && !self.abandon.load(Ordering::Acquire)
                {
                    warn!("{text}; trying again{more}");
                }
            }
        }
        let until = Instant::now() + RETRY_WAIT;
        while Instant::now() < until {
            if self.abandon.load(Ordering::Acquire) {
                return Err(LogThreadEnd::Abandoned);
            }
            std::thread::sleep(ABANDON_CHECK);
        }
        Ok(())
    }
}
