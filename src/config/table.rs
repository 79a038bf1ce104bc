//! The table of settings: the one list that the program reads by, `ich --help` prints and the docs are checked against.

/// One row of the table of settings.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in the environment.
    pub name: &'static str,
    /// What holds when it is not set, as it would be written; empty: nothing.
    pub default: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// All settings there are. Another name that begins with `ICH_` is a fault.
pub const SETTINGS: &[Setting] = &[
    setting("ICH_HOST", "0.0.0.0", "address to listen on"),
    setting("ICH_PORT", "8080", "port to listen on; 0 takes any free one"),
    setting("ICH_DATA_DIR", "./data", "folder of the SQLite file and the drawn secret"),
    setting("ICH_DATABASE_URL", "", "PostgreSQL for the accounts, postgres://user:password@host/name; not set: SQLite"),
    setting("ICH_DATABASE_URL_FILE", "", "file with ICH_DATABASE_URL"),
    setting("ICH_KAFKA_BROKERS", "", "Kafka for the event log, host:port,host:port; not set: within the process"),
    setting("ICH_KAFKA_TOPIC", "ich-lobby", "topic of the event log; made when missing"),
    setting("ICH_KAFKA_REPLICATION_FACTOR", "", "of a topic that the server makes; not set: the broker's default"),
    setting("ICH_KAFKA_SECURITY_PROTOCOL", "", "plaintext, ssl, sasl_plaintext or sasl_ssl"),
    setting("ICH_KAFKA_SASL_MECHANISM", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    setting("ICH_KAFKA_USERNAME", "", "for SASL"),
    setting("ICH_KAFKA_PASSWORD", "", "for SASL"),
    setting("ICH_KAFKA_PASSWORD_FILE", "", "file with ICH_KAFKA_PASSWORD"),
    setting("ICH_KAFKA_CA_FILE", "", "certificates that sign the brokers', PEM; not set: the system's"),
    setting(
        "ICH_JWT_SECRET",
        "",
        "key of the tokens, 32 bytes or more; not set: drawn once and kept in the data folder",
    ),
    setting("ICH_JWT_SECRET_FILE", "", "file with ICH_JWT_SECRET"),
    setting("ICH_JWT_PUBLIC_KEY_FILE", "", "PEM of an outside issuer: its tokens are taken, none are issued here"),
    setting("ICH_JWT_ISSUER", "ich", "the iss of the tokens"),
    setting("ICH_TOKEN_TTL_HOURS", "24", "how long a token is good"),
    setting(
        "ICH_ALLOWED_ORIGINS",
        "",
        "origins besides our own whose pages may join, https://a.example,https://b.example",
    ),
    setting("ICH_MAX_CONNECTIONS", "10000", "connections at once; 0: as many as the machine allows"),
    setting("ICH_MAX_CONNECTIONS_PER_ADDRESS", "1000", "connections at once from one address; 0: no bound"),
    setting("ICH_MAX_CONNECTIONS_PER_USER", "50", "sessions at once of one person; 0: no bound"),
    setting("ICH_MAX_MESSAGES_PER_SECOND", "10", "messages a second of one connection; 0: no bound"),
    setting("ICH_MESSAGE_BURST", "20", "messages that one connection may send at once"),
    setting(
        "ICH_MAX_LOGINS_PER_MINUTE",
        "10",
        "failed logins a minute per address, and logins per account; 0: no limit",
    ),
    setting("ICH_MAX_REGISTRATIONS_PER_MINUTE", "30", "registrations a minute per address; 0: no limit"),
    setting("ICH_MAX_TEXT_CHARS", "4000", "characters of one message"),
    setting("ICH_MAX_FRAME_BYTES", "16384", "bytes of one websocket message from a client"),
    setting("ICH_OUTBOX_BYTES", "1048576", "bytes that a slow client may be behind before it is cut"),
    setting("ICH_HISTORY_MESSAGES", "1000", "newest messages kept for clients that return; 0: none"),
    setting("ICH_PING_INTERVAL_SECONDS", "25", "how often a client is pinged"),
    setting("ICH_PONG_TIMEOUT_SECONDS", "10", "how long it has to answer"),
    setting(
        "ICH_DRAIN_DELAY_SECONDS",
        "0",
        "how long the server goes on after SIGTERM, not ready, until load balancers have noticed",
    ),
    setting("ICH_DRAIN_SECONDS", "10", "from then to the exit, at most"),
    setting("ICH_LOG", "info", "error, warn, info, debug, trace or off; module=level,... too"),
    setting("ICH_LOG_FORMAT", "text", "text or json"),
];

/// The default of the setting with this name.
pub(super) fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}
