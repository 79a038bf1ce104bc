//! The metrics of the server, in the text format of OpenMetrics 1.0, for `GET /metrics`. `doc/monitoring.md` has the
//! same list; a test compares both.
//!
//! What changes with each event is counted when it happens, once per poll, batch or round and not once per client. What
//! can be read at any time is sampled when the metrics are requested ([`Sample`], and the figures of the process).

mod process;
mod register;

pub(crate) mod classic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::lobby::Action;
use crate::threads::lock;

type Labels = [(&'static str, String); 1];

/// The upper bounds of the buckets for the time from append to delivery, in seconds.
const DELIVERY_SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// The same for the duration of a login. A password hash takes some 30 ms, and a login waits 5 seconds at most.
const LOGIN_SECONDS: [f64; 8] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// The first bucket of the bytes of a round; each further bucket is twice as large. The last is 64 KiB, and a round has
/// [`crate::limits::ROUND_BYTES_MAX`] and one batch at most.
const ROUND_BYTES_FIRST: f64 = 128.0;
const ROUND_BYTES_BUCKETS: u16 = 10;

/// All metrics of one server. Any thread may call any method; a call costs one or two atomic additions.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_responses: Family<Labels, Counter>,
    sessions: Gauge,
    sessions_ended: Family<Labels, Counter>,
    users_online: Gauge,
    records_applied: Counter,
    messages_accepted: Counter,
    deliveries: Counter,
    history_messages: Gauge,
    duplicates_refused: Counter,
    records_skipped: Counter,
    /// Counted by the reader of the event log; copied into `records_skipped` when the metrics are encoded.
    skipped_by_reader: Arc<AtomicU64>,
    account_requests_refused: Family<Labels, Counter>,
    tokens_refused: Family<Labels, Counter>,
    tokens_renewed: Counter,
    moderations: Family<Labels, Counter>,
    archived_messages: Counter,
    archive_gaps: Counter,
    is_archiver: Gauge,
    archive_lag_seconds: Gauge,
    /// Since when the archive is behind the event log. Becomes `archive_lag_seconds` when the metrics are encoded.
    archive_behind_since: Mutex<Option<Instant>>,
    http_errors: Family<Labels, Counter>,
    error_frames: Family<Labels, Counter>,
    delivery_seconds: Histogram,
    round_bytes: Histogram,
    login_seconds: Histogram,
    outbox_bytes: Gauge,
    ready: Gauge,
    dependency_available: Family<Labels, Gauge>,
    event_log_queue: Gauge,
    records_in_flight: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
}

/// What is sampled when the metrics are requested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// `/ready` answers 200.
    pub(crate) is_ready: bool,
    pub(crate) has_event_log: bool,
    pub(crate) has_accounts: bool,
    /// Records that wait for the event log.
    pub(crate) queued_records: usize,
    pub(crate) records_in_flight: usize,
    /// The age of the oldest record in flight.
    pub(crate) lag: Duration,
}

impl Metrics {
    /// Creates all metrics with the value 0. The reader of the event log counts `records_skipped`. `end_reasons` are
    /// all values of the label `reason` of `ich_sessions_ended_total`, so that each is exported before its first
    /// session.
    #[must_use]
    pub fn new(records_skipped: Arc<AtomicU64>, end_reasons: &[&'static str]) -> Self {
        let mut metrics = Metrics {
            registry: Registry::default(),
            http_responses: Family::default(),
            sessions: Gauge::default(),
            sessions_ended: Family::default(),
            users_online: Gauge::default(),
            records_applied: Counter::default(),
            messages_accepted: Counter::default(),
            deliveries: Counter::default(),
            history_messages: Gauge::default(),
            duplicates_refused: Counter::default(),
            records_skipped: Counter::default(),
            skipped_by_reader: records_skipped,
            account_requests_refused: Family::default(),
            http_errors: Family::default(),
            error_frames: Family::default(),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            round_bytes: Histogram::new(exponential_buckets(ROUND_BYTES_FIRST, 2.0, ROUND_BYTES_BUCKETS)),
            login_seconds: Histogram::new(LOGIN_SECONDS),
            outbox_bytes: Gauge::default(),
            ready: Gauge::default(),
            dependency_available: Family::default(),
            event_log_queue: Gauge::default(),
            records_in_flight: Gauge::default(),
            lag_seconds: Gauge::default(),
            tokens_refused: Family::default(),
            tokens_renewed: Counter::default(),
            moderations: Family::default(),
            archived_messages: Counter::default(),
            archive_gaps: Counter::default(),
            is_archiver: Gauge::default(),
            archive_lag_seconds: Gauge::default(),
            archive_behind_since: Mutex::default(),
        };
        metrics.register();
        for reason in end_reasons {
            drop(metrics.sessions_ended.get_or_create(&label("reason", reason)));
        }
        for action in Action::ALL {
            drop(metrics.moderations.get_or_create(&label("action", action.name())));
        }
        metrics
    }

    /// Exports these codes of HTTP errors and of error frames before their first error.
    #[must_use]
    pub(crate) fn with_codes(self, http: &[&'static str], frames: &[&'static str]) -> Self {
        http.iter().for_each(|code| drop(self.http_errors.get_or_create(&label("code", code))));
        frames.iter().for_each(|code| drop(self.error_frames.get_or_create(&label("code", code))));
        self
    }

    /// Counts an HTTP response; status 101 is a join.
    pub(crate) fn response_sent(&self, status: u16) {
        self.http_responses.get_or_create(&label("status", &status.to_string())).inc();
    }

    pub(crate) fn session_opened(&self) {
        self.sessions.inc();
    }

    /// `reason` is one of the reasons that [`Metrics::new`] got.
    pub(crate) fn session_ended(&self, reason: &'static str) {
        self.sessions.dec();
        self.sessions_ended.get_or_create(&label("reason", reason)).inc();
    }

    /// Counts a chat message that the event log accepted.
    pub(crate) fn message_accepted(&self) {
        self.messages_accepted.inc();
    }

    /// Counts records that were applied; `users` is the number of users in the lobby after them.
    pub(crate) fn applied(&self, records: usize, users: usize) {
        self.records_applied.inc_by(records as u64);
        self.set_online(users);
    }

    pub(crate) fn set_online(&self, users: usize) {
        self.users_online.set(i64::try_from(users).unwrap_or(i64::MAX));
    }

    /// Counts the events of a batch that were passed to all outboxes. `deliveries` is the number of events times the
    /// number of clients.
    pub(crate) fn delivered(&self, deliveries: u64) {
        self.deliveries.inc_by(deliveries);
    }

    /// Observes the bytes of events that a round has sent to each client, on average.
    pub(crate) fn round_sent(&self, bytes: usize) {
        self.round_bytes.observe(bytes as f64);
    }

    /// Observes the time from the append of the oldest own message of a batch until all clients were sent the batch.
    pub(crate) fn delivered_after(&self, time: Duration) {
        self.delivery_seconds.observe(time.as_secs_f64());
    }

    /// The outboxes of a fan-out thread have `now` bytes queued, and had `before` when the thread last called this.
    pub(crate) fn queued_bytes_changed(&self, before: usize, now: usize) {
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.outbox_bytes.inc_by(signed(now) - signed(before));
    }

    /// Counts an HTTP error answer; `code` is the code of the answer.
    pub(crate) fn error_sent(&self, code: &'static str) {
        self.http_errors.get_or_create(&label("code", code)).inc();
    }

    /// Counts an error frame.
    pub(crate) fn error_frame_sent(&self, code: &'static str) {
        self.error_frames.get_or_create(&label("code", code)).inc();
    }

    /// Observes a login whose password was checked.
    pub(crate) fn login_checked(&self, time: Duration) {
        self.login_seconds.observe(time.as_secs_f64());
    }

    /// Sets what is sampled.
    pub(crate) fn set_sample(&self, sample: &Sample) {
        let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.ready.set(sample.is_ready.into());
        for (dependency, is_available) in [("event_log", sample.has_event_log), ("accounts", sample.has_accounts)] {
            self.dependency_available.get_or_create(&label("dependency", dependency)).set(is_available.into());
        }
        self.event_log_queue.set(signed(sample.queued_records));
        self.records_in_flight.set(signed(sample.records_in_flight));
        self.lag_seconds.set(sample.lag.as_secs_f64());
    }

    /// Sets how many messages are kept for clients that return.
    pub(crate) fn set_history(&self, messages: usize) {
        self.history_messages.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// Counts a message that was not published because its author's account had used its id before.
    pub(crate) fn duplicate_refused(&self) {
        self.duplicates_refused.inc();
    }

    /// Counts a registration or login that a limit refused; `reason` is the code of the answer.
    pub(crate) fn account_request_refused(&self, reason: &'static str) {
        self.account_requests_refused.get_or_create(&label("reason", reason)).inc();
    }

    /// Counts a token that was refused; `reason` is one word.
    pub(crate) fn token_refused(&self, reason: &'static str) {
        self.tokens_refused.get_or_create(&label("reason", reason)).inc();
    }

    /// Counts a token that continued an open session.
    pub(crate) fn token_renewed(&self) {
        self.tokens_renewed.inc();
    }

    /// Counts an action of an administrator; `action` is its name.
    pub(crate) fn moderated(&self, action: &'static str) {
        self.moderations.get_or_create(&label("action", action)).inc();
    }

    /// Counts messages that were stored in the archive, and gaps that were recorded.
    pub(crate) fn archived(&self, messages: u64, gaps: u64) {
        self.archived_messages.inc_by(messages);
        self.archive_gaps.inc_by(gaps);
    }

    pub(crate) fn set_archiver(&self, is_archiver: bool) {
        self.is_archiver.set(i64::from(is_archiver));
    }

    /// Whether the archive has everything that was read from the event log, as far as this instance knows.
    pub(crate) fn set_archive_up_to_date(&self, is_up_to_date: bool) {
        let mut since = lock(&self.archive_behind_since);
        if is_up_to_date {
            *since = None;
        } else {
            since.get_or_insert_with(Instant::now);
        }
    }

    /// All metrics as the body of `GET /metrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        let skipped = self.skipped_by_reader.load(Ordering::Relaxed);
        self.records_skipped.inc_by(skipped.saturating_sub(self.records_skipped.get()));
        let lag = lock(&self.archive_behind_since).map_or(0, |since| since.elapsed().as_secs());
        self.archive_lag_seconds.set(i64::try_from(lag).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    [(name, value.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_events_are_encoded() {
        let metrics = Metrics::new(Arc::default(), &["too_slow", "internal"]);
        metrics.response_sent(404);
        metrics.session_opened();
        metrics.session_ended("too_slow");
        let text = metrics.encode();
        assert!(text.contains("ich_http_responses_total{status=\"404\"} 1"), "{text}");
        assert!(text.contains("ich_sessions_ended_total{reason=\"too_slow\"} 1"), "{text}");
        assert!(text.contains("ich_sessions_ended_total{reason=\"internal\"} 0"), "{text}");
        assert!(text.contains("ich_start_time_seconds "), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
