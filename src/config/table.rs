//! The table of settings. The program reads these names, `ich --help` prints them, and a test compares the docs with
//! them.

/// One row of the table of settings.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// The value if the variable is not set. Empty: there is no default.
    pub default: &'static str,
    /// One line for the operator.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning }
}

/// All settings. Another name that begins with `ICH_` is an error.
pub const SETTINGS: &[Setting] = &[
    setting("ICH_HOST", "::", "address to listen on; the default is all addresses, of IPv4 and IPv6"),
    setting("ICH_PORT", "8080", "port to listen on; 0: any free port"),
    setting("ICH_DATA_DIR", "./data", "folder of the SQLite files and the generated secret"),
    setting("ICH_DATABASE_URL", "", "PostgreSQL for the accounts, postgres://user:password@host/name; not set: SQLite"),
    setting("ICH_DATABASE_URL_FILE", "", "file that contains ICH_DATABASE_URL"),
    setting("ICH_EVENT_LOG", "", "sqlite, memory or kafka; not set: kafka if ICH_KAFKA_BROKERS is set, else sqlite"),
    setting("ICH_EVENT_LOG_RETENTION_HOURS", "24", "in SQLite: how long the event log keeps a record, in hours"),
    setting(
        "ICH_EVENT_LOG_MAX_MIB",
        "256",
        "in SQLite: size of the event log above which the oldest records are deleted",
    ),
    setting(
        "ICH_ARCHIVE",
        "off",
        "on: copy all messages into the database of the accounts, for /history and ich export",
    ),
    setting("ICH_ARCHIVE_DAYS", "0", "archived messages are deleted after so many days; 0: never"),
    setting("ICH_KAFKA_BROKERS", "", "Kafka brokers for the event log, host:port,host:port; not set: no Kafka"),
    setting("ICH_KAFKA_TOPIC", "ich-lobby", "topic of the event log; a missing topic is created"),
    setting(
        "ICH_KAFKA_REPLICATION_FACTOR",
        "",
        "copies of a topic that the server creates; not set: the default of the brokers",
    ),
    setting("ICH_KAFKA_SECURITY_PROTOCOL", "", "plaintext, ssl, sasl_plaintext or sasl_ssl; not set: plaintext"),
    setting("ICH_KAFKA_SASL_MECHANISM", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    setting("ICH_KAFKA_USERNAME", "", "user for SASL"),
    setting("ICH_KAFKA_PASSWORD", "", "password for SASL"),
    setting("ICH_KAFKA_PASSWORD_FILE", "", "file that contains ICH_KAFKA_PASSWORD"),
    setting(
        "ICH_KAFKA_CA_FILE",
        "",
        "certificates of the authorities that sign the brokers' certificates, PEM; not set: the system's",
    ),
    setting("ICH_KAFKA_CERT_FILE", "", "certificate of this client, PEM, for brokers that require one"),
    setting("ICH_KAFKA_KEY_FILE", "", "private key of ICH_KAFKA_CERT_FILE, PEM, not encrypted"),
    setting(
        "ICH_JWT_SECRET",
        "",
        "key that signs tokens, at least 32 bytes; not set: generated once and kept in ICH_DATA_DIR",
    ),
    setting("ICH_JWT_SECRET_FILE", "", "file that contains ICH_JWT_SECRET"),
    setting("ICH_JWT_PREVIOUS_SECRET", "", "earlier value of ICH_JWT_SECRET, whose tokens are still accepted"),
    setting("ICH_JWT_PREVIOUS_SECRET_FILE", "", "file that contains ICH_JWT_PREVIOUS_SECRET"),
    setting(
        "ICH_JWT_PUBLIC_KEY_FILE",
        "",
        "public keys of an outside issuer, PEM or JWKS; this server then accepts its tokens and issues none",
    ),
    setting("ICH_JWT_ISSUER", "ich", "claim iss of the tokens"),
    setting("ICH_JWT_AUDIENCE", "", "claim aud of the tokens; not set: tokens with this claim are refused"),
    setting("ICH_JWT_ID_CLAIM", "id", "claim of the tokens with the id of the user"),
    setting("ICH_JWT_USERNAME_CLAIM", "username", "claim of the tokens with the name of the user"),
    setting(
        "ICH_JWT_ADMIN_CLAIM",
        "",
        "claim of an administrator's token: name (must be true) or name=value (must be or contain it); not set: none",
    ),
    setting("ICH_TOKEN_TTL_HOURS", "24", "lifetime of a token in hours"),
    setting(
        "ICH_ALLOWED_ORIGINS",
        "",
        "other origins whose pages may log in and join, https://a.example,tauri://localhost",
    ),
    setting(
        "ICH_TRUSTED_PROXIES",
        "",
        "addresses and networks of proxies that name the client, 127.0.0.1,10.0.0.0/8; not set: none",
    ),
    setting(
        "ICH_PROXY_PROTOCOL",
        "off",
        "on: each connection from ICH_TRUSTED_PROXIES begins with a PROXY header, version 1 or 2",
    ),
    setting("ICH_MAX_CONNECTIONS", "10000", "concurrent connections; 0: as many as the machine allows"),
    setting("ICH_MAX_CONNECTIONS_PER_ADDRESS", "1000", "concurrent connections from one address; 0: unlimited"),
    setting("ICH_MAX_CONNECTIONS_PER_USER", "50", "concurrent sessions of one user; 0: unlimited"),
    setting("ICH_MAX_MESSAGES_PER_SECOND", "10", "messages per second of one connection; 0: unlimited"),
    setting("ICH_MESSAGE_BURST", "20", "messages that one connection may send at once"),
    setting(
        "ICH_MAX_LOGINS_PER_MINUTE",
        "10",
        "failed logins per minute and address, and logins per minute and account; 0: unlimited",
    ),
    setting("ICH_MAX_REGISTRATIONS_PER_MINUTE", "30", "registrations per minute and address; 0: unlimited"),
    setting("ICH_MAX_HISTORY_REQUESTS_PER_MINUTE", "600", "requests of /history per minute and address; 0: unlimited"),
    setting("ICH_MAX_TEXT_CHARS", "4000", "characters of one message"),
    setting("ICH_MAX_FRAME_BYTES", "16384", "bytes of one websocket message from a client"),
    setting(
        "ICH_OUTBOX_BYTES",
        "1048576",
        "bytes that may wait for a slow client before the server closes its session",
    ),
    setting("ICH_HISTORY_MESSAGES", "1000", "newest messages kept for clients that return; 0: none"),
    setting("ICH_PING_INTERVAL_SECONDS", "25", "time between two pings to a client"),
    setting("ICH_PONG_TIMEOUT_SECONDS", "10", "time in which a client must answer a ping"),
    setting(
        "ICH_LEAVE_GRACE_SECONDS",
        "0",
        "time after a broken connection in which the user stays in the lobby and can join again unnoticed; 0: none",
    ),
    setting(
        "ICH_DRAIN_DELAY_SECONDS",
        "0",
        "time after SIGTERM before the server closes anything; /ready answers 503, so that load balancers notice",
    ),
    setting("ICH_DRAIN_SECONDS", "10", "maximum time from the end of this delay to the exit"),
    setting("ICH_LOG", "info", "error, warn, info, debug, trace or off; or per module, module=level,..."),
    setting("ICH_LOG_FORMAT", "text", "text or json"),
];

pub(super) fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}
