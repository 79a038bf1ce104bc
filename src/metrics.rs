//! What the server counts, in the text format of Prometheus (OpenMetrics 1.0), for `GET /metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::session::end::End;

type Labels = [(&'static str, String); 1];

/// The counters. Every method may be called by any thread, and costs an atomic addition or two.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Labels, Counter>,
    sessions: Gauge,
    sessions_ended: Family<Labels, Counter>,
    online: Gauge,
    records: Counter,
    messages: Counter,
    deliveries: Counter,
    history_messages: Gauge,
    duplicates_refused: Counter,
    skipped: Counter,
    /// Counted by the reader of the event log, and copied when somebody looks.
    skipped_by_reader: Arc<AtomicU64>,
    account_refusals: Family<Labels, Counter>,
    uptime: Gauge<f64, AtomicU64>,
    started_at: Instant,
}

impl Metrics {
    /// All at zero. `records_skipped`: counted by the reader of the event log.
    #[must_use]
    pub fn new(records_skipped: Arc<AtomicU64>) -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("ich"),
            answers: Family::default(),
            sessions: Gauge::default(),
            sessions_ended: Family::default(),
            online: Gauge::default(),
            records: Counter::default(),
            messages: Counter::default(),
            deliveries: Counter::default(),
            history_messages: Gauge::default(),
            duplicates_refused: Counter::default(),
            skipped: Counter::default(),
            skipped_by_reader: records_skipped,
            account_refusals: Family::default(),
            uptime: Gauge::default(),
            started_at: Instant::now(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_answers", "HTTP answers by status", metrics.answers.clone());
        registry.register("sessions", "Sessions of this instance", metrics.sessions.clone());
        registry.register("sessions_ended", "Sessions that ended, by reason", metrics.sessions_ended.clone());
        registry.register("users_online", "People in the lobby, on all instances", metrics.online.clone());
        registry.register("records_applied", "Records of the event log that were applied", metrics.records.clone());
        registry.register("messages_taken", "Chat messages of this instance's clients", metrics.messages.clone());
        registry.register("deliveries", "Events handed to sockets, once per client", metrics.deliveries.clone());
        let history_messages = metrics.history_messages.clone();
        registry.register("history_messages", "Messages kept for clients that return", history_messages);
        let duplicates_refused = metrics.duplicates_refused.clone();
        registry.register(
            "duplicates_refused",
            "Messages of this instance's clients that repeat the id of an earlier one",
            duplicates_refused,
        );
        registry.register(
            "account_requests_refused",
            "Logins and registrations beyond a limit, by reason",
            metrics.account_refusals.clone(),
        );
        registry.register("uptime_seconds", "Seconds since the start", metrics.uptime.clone());
        registry.register("records_skipped", "Records of the log that could not be read", metrics.skipped.clone());
        for end in End::ALL {
            drop(metrics.sessions_ended.get_or_create(&reason(end)));
        }
        metrics
    }

    /// An HTTP answer went out.
    pub fn answered(&self, status: u16) {
        self.answers.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// A session opened.
    pub fn session_opened(&self) {
        self.sessions.inc();
    }

    /// A session ended.
    pub fn session_ended(&self, end: End) {
        self.sessions.dec();
        self.sessions_ended.get_or_create(&reason(end)).inc();
    }

    /// A message was handed to the log.
    pub fn message_taken(&self) {
        self.messages.inc();
    }

    /// So many records were applied; so many people are there now.
    pub fn applied(&self, records: usize, online: usize) {
        self.records.inc_by(records as u64);
        self.set_online(online);
    }

    /// So many people are there now.
    pub fn set_online(&self, online: usize) {
        self.online.set(i64::try_from(online).unwrap_or(i64::MAX));
    }

    /// So many events were handed to sockets.
    pub fn delivered(&self, deliveries: u64) {
        self.deliveries.inc_by(deliveries);
    }

    /// So many messages are kept for clients that return.
    pub fn set_history(&self, messages: usize) {
        self.history_messages.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// A message was not published because its author had used its id before.
    pub fn duplicate_refused(&self) {
        self.duplicates_refused.inc();
    }

    /// A login or a registration was refused because of a limit: `reason` is the code of the answer.
    pub fn account_request_refused(&self, reason: &'static str) {
        self.account_refusals.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// The text for `GET /metrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        let skipped = self.skipped_by_reader.load(Ordering::Relaxed);
        self.skipped.inc_by(skipped.saturating_sub(self.skipped.get()));
        self.uptime.set(self.started_at.elapsed().as_secs_f64());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn reason(end: End) -> Labels {
    [("reason", end.row().label.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new(Arc::default());
        metrics.answered(404);
        metrics.session_opened();
        metrics.session_ended(End::TooSlow);
        let text = metrics.encode();
        assert!(text.contains("ich_http_answers_total{status=\"404\"} 1"), "{text}");
        assert!(text.contains("ich_sessions_ended_total{reason=\"too_slow\"} 1"), "{text}");
        assert!(text.contains("ich_sessions_ended_total{reason=\"internal\"} 0"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
