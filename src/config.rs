//! The settings: read once at start from the environment and `.env`, and checked. All errors are reported together.
//!
//! [`SETTINGS`] is the whole table; a test compares `doc/operations.md` and `.env` with it. No other module reads the
//! environment for settings.

mod env_file;
mod event_log;
mod files;
mod kafka;
mod kubernetes;
mod log_filter;
mod reader;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::event_log::EventLogSettings;
pub use self::kafka::KafkaSettings;
pub(crate) use self::log_filter::LogFilter;
use self::reader::{Reader, invalid};
pub use self::table::{SETTINGS, Setting};
use crate::accounts::ClaimNames;
use crate::limits::{FRAME_BYTES_MAX, HISTORY_MESSAGES_MAX, OUTBOX_BYTES_MIN};
use crate::origin::Origin;
use crate::proxies::Proxies;

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines to be read by humans.
    Text,
    /// One JSON object per line.
    Json,
}

/// Limits for clients. `None`: unlimited; the settings write that as 0.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Concurrent connections.
    pub(crate) connections: Option<NonZeroU32>,
    /// Concurrent connections from one address.
    pub(crate) connections_per_address: Option<NonZeroU32>,
    /// Concurrent sessions of one user.
    pub(crate) connections_per_user: Option<NonZeroU32>,
    /// Messages per second of one connection.
    pub(crate) messages_per_second: Option<NonZeroU32>,
    /// Messages that one connection may send at once.
    pub(crate) message_burst: u32,
    /// Failed logins per minute and address, and logins per minute and account.
    pub(crate) logins_per_minute: Option<NonZeroU32>,
    /// Registrations per minute and address.
    pub(crate) registrations_per_minute: Option<NonZeroU32>,
    /// Requests of `/history` per minute and address.
    pub(crate) history_requests_per_minute: Option<NonZeroU32>,
    /// Characters (Unicode scalar values) of one message.
    pub(crate) text_chars: usize,
    /// Bytes of one websocket message from a client.
    pub(crate) frame_bytes: usize,
    /// Bytes that may wait for one client.
    pub(crate) outbox_bytes: usize,
    /// The newest messages that are kept for clients that return; 0: none.
    pub(crate) history_messages: usize,
}

/// The archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArchiveSettings {
    /// Messages are deleted after so many days. `None`: never.
    pub(crate) days: Option<NonZeroU32>,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on.
    pub(crate) host: IpAddr,
    /// The port to listen on. 0: the system chooses a free one.
    pub(crate) port: u16,
    /// The folder of the SQLite files and of the generated secret.
    pub(crate) data_dir: PathBuf,
    /// The URL of PostgreSQL; it contains a password. `None`: SQLite.
    pub(crate) database_url: Option<Secret>,
    pub(crate) event_log: EventLogSettings,
    /// `None`: messages are not archived.
    pub(crate) archive: Option<ArchiveSettings>,
    /// The key that signs tokens. `None`: the one in the data folder, or an outside issuer.
    pub(crate) jwt_secret: Option<Secret>,
    /// An earlier key, whose tokens are still accepted.
    pub(crate) jwt_previous_secret: Option<Secret>,
    /// A file with the public keys of an outside issuer.
    pub(crate) jwt_public_key_file: Option<PathBuf>,
    /// The claim `iss` of the tokens.
    pub(crate) jwt_issuer: String,
    /// The claim `aud` of the tokens.
    pub(crate) jwt_audience: Option<String>,
    /// The claims with the id and the name of the user.
    pub(crate) jwt_claims: ClaimNames,
    /// The lifetime of a token.
    pub(crate) token_ttl: Duration,
    /// Origins besides the server's own whose pages may use this server.
    pub(crate) allowed_origins: Vec<Origin>,
    pub(crate) proxies: Proxies,
    pub(crate) limits: Limits,
    /// The time between two pings to a client.
    pub ping_interval: Duration,
    /// The time in which a client must answer a ping.
    pub(crate) pong_timeout: Duration,
    /// How long after a broken connection the user stays in the lobby.
    pub(crate) leave_grace: Duration,
    /// The time after the signal to stop in which the server is not ready, but closes nothing.
    pub(crate) drain_delay: Duration,
    /// The maximum time from the end of `drain_delay` to the exit.
    pub(crate) drain: Duration,
    /// Selects the lines that are logged.
    pub(crate) log: LogFilter,
    pub(crate) log_format: LogFormat,
    /// Texts for the operator about settings that are valid, but ignored or dangerous.
    pub(crate) notes: Vec<String>,
}

/// All errors in the settings, one line each. No line contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSettings(pub(crate) Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(formatter, "  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidSettings {}

impl Config {
    /// Reads the settings of this process: its environment, then `.env` in the working directory. Must be called before
    /// any thread is started.
    ///
    /// # Errors
    /// All errors together.
    pub(crate) fn load() -> Result<Config, InvalidSettings> {
        let mut values = BTreeMap::new();
        let mut errors = Vec::new();
        // Only the working directory, not the folders above it.
        match std::fs::read(".env") {
            Ok(bytes) => {
                let file = env_file::parse(&bytes);
                values.extend(file.values);
                errors.extend(file.errors);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => errors.push(format!(".env cannot be read: {error}")),
        }
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => drop(values.insert(name, value)),
                Err(_) if name.starts_with("ICH_") => errors.push(format!("{name} is not UTF-8")),
                Err(_) => {}
            }
        }
        Self::from_values(&values, errors)
    }

    /// Reads the settings in `values`, a map from name to value. An empty value counts as not set. `errors` were found
    /// before.
    ///
    /// # Errors
    /// All errors together, including `errors`.
    pub fn from_values(values: &BTreeMap<String, String>, errors: Vec<String>) -> Result<Config, InvalidSettings> {
        let mut settings = Reader { values, errors, notes: Vec::new() };
        settings.check_names();
        let event_log = settings.event_log();
        let config = Config {
            host: settings.host(),
            port: settings.port(),
            data_dir: PathBuf::from(settings.text("ICH_DATA_DIR")),
            database_url: settings.database_url(),
            archive: settings.archive(&event_log),
            event_log,
            jwt_secret: settings.jwt_secret("ICH_JWT_SECRET"),
            jwt_previous_secret: settings.jwt_secret("ICH_JWT_PREVIOUS_SECRET"),
            jwt_public_key_file: settings.jwt_public_key_file(),
            jwt_issuer: settings.text("ICH_JWT_ISSUER"),
            jwt_audience: settings.optional("ICH_JWT_AUDIENCE"),
            jwt_claims: settings.jwt_claims(),
            token_ttl: Duration::from_secs(3600 * settings.number("ICH_TOKEN_TTL_HOURS", 1, 24 * 366)),
            allowed_origins: settings.origins(),
            proxies: settings.proxies(),
            limits: Limits {
                connections: settings.limit("ICH_MAX_CONNECTIONS", 1_000_000),
                connections_per_address: settings.limit("ICH_MAX_CONNECTIONS_PER_ADDRESS", 1_000_000),
                connections_per_user: settings.limit("ICH_MAX_CONNECTIONS_PER_USER", 1_000_000),
                messages_per_second: settings.limit("ICH_MAX_MESSAGES_PER_SECOND", 100_000),
                message_burst: settings.count("ICH_MESSAGE_BURST", 1, 100_000),
                logins_per_minute: settings.limit("ICH_MAX_LOGINS_PER_MINUTE", 1_000_000),
                registrations_per_minute: settings.limit("ICH_MAX_REGISTRATIONS_PER_MINUTE", 1_000_000),
                history_requests_per_minute: settings.limit("ICH_MAX_HISTORY_REQUESTS_PER_MINUTE", 1_000_000),
                text_chars: settings.size("ICH_MAX_TEXT_CHARS", 1, 100_000),
                frame_bytes: settings.size("ICH_MAX_FRAME_BYTES", 256, FRAME_BYTES_MAX as u64),
                outbox_bytes: settings.size("ICH_OUTBOX_BYTES", OUTBOX_BYTES_MIN as u64, 1 << 30),
                history_messages: settings.size("ICH_HISTORY_MESSAGES", 0, HISTORY_MESSAGES_MAX as u64),
            },
            ping_interval: Duration::from_secs(settings.number("ICH_PING_INTERVAL_SECONDS", 1, 3600)),
            pong_timeout: Duration::from_secs(settings.number("ICH_PONG_TIMEOUT_SECONDS", 1, 3600)),
            leave_grace: Duration::from_secs(settings.number("ICH_LEAVE_GRACE_SECONDS", 0, 300)),
            drain_delay: Duration::from_secs(settings.number("ICH_DRAIN_DELAY_SECONDS", 0, 600)),
            drain: Duration::from_secs(settings.number("ICH_DRAIN_SECONDS", 1, 600)),
            log: settings.log_filter(),
            log_format: settings.log_format(),
            notes: std::mem::take(&mut settings.notes),
        };
        settings.check_jwt(&config);
        if settings.errors.is_empty() { Ok(config) } else { Err(InvalidSettings(settings.errors)) }
    }
}

#[cfg(test)]
mod tests;
