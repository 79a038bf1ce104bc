//! Names and describes each metric.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::process::ProcessCollector;
use crate::clock;

impl Metrics {
    /// Names each metric. The library adds `_total` to counters.
    pub(super) fn register(&mut self) {
        let started_at = clock::unix_seconds();
        self.registry.register_collector(Box::new(ProcessCollector { started_at }));
        let started_at_gauge: Gauge = Gauge::default();
        started_at_gauge.set(i64::try_from(started_at).unwrap_or(i64::MAX));
        let registry = self.registry.sub_registry_with_prefix("ich");
        register_build(registry);
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
        registry.register("start_time_seconds", "Start of the process, in seconds since 1970 UTC", started_at_gauge);
        registry.register(
            "tokens_refused",
            "Tokens of joins and open sessions that were refused, by reason",
            self.tokens_refused.clone(),
        );
        registry.register("tokens_renewed", "Tokens that continued an open session", self.tokens_renewed.clone());
        registry.register(
            "moderations",
            "Actions of administrators on users that this instance applied, by action",
            self.moderations.clone(),
        );
        registry.register(
            "records_skipped",
            "Records of the event log that could not be read",
            self.records_skipped.clone(),
        );
        registry.register("http_errors", "HTTP error answers, by code", self.http_errors.clone());
        registry.register("error_frames", "Error frames sent to clients, by code", self.error_frames.clone());
        self.register_times_and_sizes();
        self.register_samples();
        self.register_archive();
    }

    fn register_archive(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("ich");
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

    fn register_times_and_sizes(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("ich");
        registry.register(
            "delivery_duration_seconds",
            "Time from the append of a message of this instance until all clients were sent it, once per batch",
            self.delivery_seconds.clone(),
        );
        registry.register(
            "round_size_bytes",
            "Bytes of events that one round sent to each client, on average",
            self.round_bytes.clone(),
        );
        registry.register(
            "login_duration_seconds",
            "Duration of logins whose password was checked, with the wait in the queue",
            self.login_seconds.clone(),
        );
        registry.register(
            "outbox_bytes",
            "Bytes that wait for the sockets of clients, measured once a second",
            self.outbox_bytes.clone(),
        );
    }

    fn register_samples(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("ich");
        registry.register("ready", "1 while /ready answers 200", self.ready.clone());
        registry.register(
            "dependency_available",
            "1 while the event log, or the database of accounts, answers",
            self.dependency_available.clone(),
        );
        registry.register(
            "event_log_queue_records",
            "Records of this instance that wait for the event log",
            self.event_log_queue.clone(),
        );
        registry.register(
            "records_in_flight",
            "Records of this instance that were appended and not read back yet",
            self.records_in_flight.clone(),
        );
        registry.register(
            "event_log_lag_seconds",
            "Age of the oldest record in flight of this instance",
            self.lag_seconds.clone(),
        );
    }
}

/// The version of the program, as a metric whose value is always 1.
fn register_build(registry: &mut Registry) {
    let build: Family<[(&'static str, String); 2], Gauge> = Family::default();
    let kafka = cfg!(feature = "kafka").to_string();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned()), ("kafka", kafka)]).set(1);
    registry.register("build_info", "Version of the program, and whether it was built with Kafka", build);
}
