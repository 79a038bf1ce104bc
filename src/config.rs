//! The settings: read once at start from the environment and `.env`, checked, all faults reported together.
//!
//! [`SETTINGS`] is the whole table; the page for operators and the `.env` in the repository are checked against it by a
//! test. Nothing else in the program reads the environment.

mod env_file;
mod kubernetes;
mod log_filter;
mod reader;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::log_filter::LogFilter;
use self::reader::Reader;
pub use self::table::{SETTINGS, Setting};
use crate::event_log::kafka_settings::KafkaSettings;
use crate::limits::{FRAME_BYTES_MAX, HISTORY_MESSAGES_MAX, OUTBOX_BYTES_MIN};

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds on what clients may do and have.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; 0: no bound of ours.
    pub connections: usize,
    /// Connections at once from one address; 0: no bound.
    pub connections_per_address: usize,
    /// Sessions at once of one person; 0: no bound.
    pub connections_per_user: usize,
    /// Messages a second of one connection; 0: no bound.
    pub messages_per_second: u32,
    /// Messages that a connection may send at once.
    pub message_burst: u32,
    /// Failed logins a minute per address, and logins per account; 0: no limit.
    pub logins_per_minute: u32,
    /// Registrations a minute per address; 0: no limit.
    pub registrations_per_minute: u32,
    /// Characters (Unicode scalar values) of one message.
    pub text_chars: usize,
    /// Bytes of one websocket message from a client.
    pub frame_bytes: usize,
    /// Bytes that a client may be behind.
    pub outbox_bytes: usize,
    /// Messages that are kept for clients that return; 0: none.
    pub history_messages: usize,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port to listen on; 0: any free one.
    pub port: u16,
    /// Where the SQLite file and the drawn secret are.
    pub data_dir: PathBuf,
    /// PostgreSQL; none: SQLite. It holds a password.
    pub database_url: Option<Secret>,
    /// Kafka; none: the log is in this process.
    pub kafka: Option<KafkaSettings>,
    /// The key of the tokens; none: the one in the data folder.
    pub jwt_secret: Option<Secret>,
    /// The key of an outside issuer.
    pub jwt_public_key_file: Option<PathBuf>,
    /// The `iss` of the tokens.
    pub jwt_issuer: String,
    /// How long a token is good.
    pub token_ttl: Duration,
    /// Origins besides our own whose pages may join.
    pub allowed_origins: Vec<String>,
    /// Bounds.
    pub limits: Limits,
    /// How often a client is pinged.
    pub ping_interval: Duration,
    /// How long it has to answer.
    pub pong_timeout: Duration,
    /// How long the server goes on after the signal, not ready, before it stops.
    pub drain_delay: Duration,
    /// From then to the exit, at most.
    pub drain: Duration,
    /// Which lines are logged.
    pub log: LogFilter,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What an operator should know, and is no fault.
    pub notes: Vec<String>,
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(formatter, "  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// The settings of this process: its environment, then `.env` in the working directory. Call it before any thread
    /// is started.
    ///
    /// # Errors
    /// All faults together.
    pub fn load() -> Result<Config, Faults> {
        let mut values = BTreeMap::new();
        let mut faults = Vec::new();
        // The working directory only, not the folders above it.
        match std::fs::read(".env") {
            Ok(bytes) => {
                let file = env_file::parse(&bytes);
                values.extend(file.values);
                faults.extend(file.faults);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => faults.push(format!(".env cannot be read: {error}")),
        }
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => drop(values.insert(name, value)),
                Err(_) if name.starts_with("ICH_") => faults.push(format!("{name} is not UTF-8")),
                Err(_) => {}
            }
        }
        Self::from_values(&values, faults)
    }

    /// The settings in `values`, as `name -> value`. An empty value is as good as none.
    ///
    /// # Errors
    /// All faults together, those that were found before included.
    pub fn from_values(values: &BTreeMap<String, String>, faults: Vec<String>) -> Result<Config, Faults> {
        let mut settings = Reader { values, faults, notes: Vec::new() };
        settings.check_names();
        let config = Config {
            host: settings.parse("ICH_HOST", "is not an IP address, such as 0.0.0.0 or ::1"),
            port: settings.port(),
            data_dir: PathBuf::from(settings.text("ICH_DATA_DIR")),
            database_url: settings.database_url(),
            kafka: settings.kafka(),
            jwt_secret: settings.jwt_secret(),
            jwt_public_key_file: settings.jwt_public_key_file(),
            jwt_issuer: settings.text("ICH_JWT_ISSUER"),
            token_ttl: Duration::from_secs(3600 * settings.number("ICH_TOKEN_TTL_HOURS", 1, 24 * 366)),
            allowed_origins: settings.origins(),
            limits: Limits {
                connections: settings.size("ICH_MAX_CONNECTIONS", 0, 1_000_000),
                connections_per_address: settings.size("ICH_MAX_CONNECTIONS_PER_ADDRESS", 0, 1_000_000),
                connections_per_user: settings.size("ICH_MAX_CONNECTIONS_PER_USER", 0, 1_000_000),
                messages_per_second: settings.count("ICH_MAX_MESSAGES_PER_SECOND", 0, 100_000),
                message_burst: settings.count("ICH_MESSAGE_BURST", 1, 100_000),
                logins_per_minute: settings.count("ICH_MAX_LOGINS_PER_MINUTE", 0, 1_000_000),
                registrations_per_minute: settings.count("ICH_MAX_REGISTRATIONS_PER_MINUTE", 0, 1_000_000),
                text_chars: settings.size("ICH_MAX_TEXT_CHARS", 1, 100_000),
                frame_bytes: settings.size("ICH_MAX_FRAME_BYTES", 256, FRAME_BYTES_MAX as u64),
                outbox_bytes: settings.size("ICH_OUTBOX_BYTES", OUTBOX_BYTES_MIN as u64, 1 << 30),
                history_messages: settings.size("ICH_HISTORY_MESSAGES", 0, HISTORY_MESSAGES_MAX as u64),
            },
            ping_interval: Duration::from_secs(settings.number("ICH_PING_INTERVAL_SECONDS", 1, 3600)),
            pong_timeout: Duration::from_secs(settings.number("ICH_PONG_TIMEOUT_SECONDS", 1, 3600)),
            drain_delay: Duration::from_secs(settings.number("ICH_DRAIN_DELAY_SECONDS", 0, 600)),
            drain: Duration::from_secs(settings.number("ICH_DRAIN_SECONDS", 1, 600)),
            log: settings.log_filter(),
            log_format: settings.log_format(),
            notes: std::mem::take(&mut settings.notes),
        };
        if config.jwt_secret.is_some() && config.jwt_public_key_file.is_some() {
            settings.faults.push("ICH_JWT_SECRET and ICH_JWT_PUBLIC_KEY_FILE are both set: choose one".into());
        }
        if config.kafka.is_some() && config.jwt_secret.is_none() && config.jwt_public_key_file.is_none() {
            settings.faults.push(
                "ICH_JWT_SECRET is not set, and must be with ICH_KAFKA_BROKERS: all instances need the same one \
                 (make one with: openssl rand -base64 48)"
                    .into(),
            );
        }
        if settings.faults.is_empty() { Ok(config) } else { Err(Faults(settings.faults)) }
    }
}

#[cfg(test)]
mod tests;
