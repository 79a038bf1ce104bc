//! The metrics of the server, in the text format of OpenMetrics 1.0, for `GET /metrics`. `doc/operations.md` has the
//! same list; a test compares both.

pub(crate) mod classic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock;
use crate::threads::lock;

type Labels = [(&'static str, String); 1];

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
    archived_messages: Counter,
    archive_gaps: Counter,
    is_archiver: Gauge,
    archive_lag_seconds: Gauge,
    /// Since when the archive is behind the event log. Becomes `archive_lag_seconds` when the metrics are encoded.
    archive_behind_since: Mutex<Option<Instant>>,
}

impl Metrics {
    /// Creates all metrics with the value 0. The reader of the event log counts `records_skipped`. `end_reasons` are
    /// all values of the label `reason` of `ich_sessions_ended_total`, so that each is exported before its first
    /// session.
    #[must_use]
    pub fn new(records_skipped: Arc<AtomicU64>, end_reasons: &[&'static str]) -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("ich"),
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
            tokens_refused: Family::default(),
            tokens_renewed: Counter::default(),
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
        metrics
    }

    /// Names each metric. The library adds the prefix `ich_`, and `_total` to counters.
    fn register(&mut self) {
        let started_at: Gauge = Gauge::default();
        started_at.set(i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX));
        let registry = &mut self.registry;
        registry.register("http_responses", "HTTP responses, by status", self.http_responses.clone());
        registry.register("sessions", "Open sessions of this instance", self.sessions.clone());
        registry.register("sessions_ended", "Sessions that ended, by reason", self.sessions_ended.clone());
        registry.register("users_online", "Users in the lobby, on all instances", self.users_online.clone());
        registry.register(
            "records_applied",
            "Records of the event log that were applied to the state",
            self.records_applied.clone(),
        );
        registry.register(
            "messages_accepted",
            "Chat messages of this instance's clients that the event log accepted",
            self.messages_accepted.clone(),
        );
        registry.register(
            "deliveries",
            "Events passed to the outboxes of clients, once per client",
            self.deliveries.clone(),
        );
        registry.register("history_messages", "Messages kept for clients that return", self.history_messages.clone());
        registry.register(
            "duplicates_refused",
            "Messages of this instance's clients that repeat an earlier one",
            self.duplicates_refused.clone(),
        );
        registry.register(
            "account_requests_refused",
            "Registrations and logins that a limit refused, by reason",
            self.account_requests_refused.clone(),
        );
        registry.register(
            "tokens_refused",
            "Tokens of joins and open sessions that were refused, by reason",
            self.tokens_refused.clone(),
        );
        registry.register("tokens_renewed", "Tokens that continued an open session", self.tokens_renewed.clone());
        registry.register("start_time_seconds", "Start of the process, in seconds since 1970 UTC", started_at);
        registry.register(
            "records_skipped",
            "Records of the event log that could not be read",
            self.records_skipped.clone(),
        );
        self.register_archive();
    }

    fn register_archive(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "archived_messages",
            "Messages that this instance has stored in the archive",
            self.archived_messages.clone(),
        );
        registry.register(
            "archive_gaps",
            "Gaps in the archive that this instance has recorded",
            self.archive_gaps.clone(),
        );
        registry.register("archiver", "1 while this instance archives", self.is_archiver.clone());
        registry.register(
            "archive_lag_seconds",
            "How long the archive has been behind the event log; 0 while another instance archives",
            self.archive_lag_seconds.clone(),
        );
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

    /// Counts events that were passed to outboxes: the number of events times the number of clients.
    pub(crate) fn delivered(&self, deliveries: u64) {
        self.deliveries.inc_by(deliveries);
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
