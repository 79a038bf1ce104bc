//! The settings: read once at start from the environment and `.env`, checked, all faults reported together.
//!
//! [`SETTINGS`] is the whole table; the page for operators and the `.env` in the repository are checked against it by a
//! test. Nothing else in the program reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::event_log::kafka_settings::KafkaSettings;

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
    setting("ICH_KAFKA_BROKERS", "", "Kafka for the event log, host:port,host:port; not set: within the process"),
    setting("ICH_KAFKA_TOPIC", "ich-lobby", "topic of the event log; made when missing"),
    setting("ICH_KAFKA_REPLICATION_FACTOR", "", "of a topic that the server makes; not set: the broker's default"),
    setting("ICH_KAFKA_SECURITY_PROTOCOL", "", "plaintext, ssl, sasl_plaintext or sasl_ssl"),
    setting("ICH_KAFKA_SASL_MECHANISM", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    setting("ICH_KAFKA_USERNAME", "", "for SASL"),
    setting("ICH_KAFKA_PASSWORD", "", "for SASL"),
    setting("ICH_KAFKA_CA_FILE", "", "certificates that sign the brokers', PEM; not set: the system's"),
    setting(
        "ICH_JWT_SECRET",
        "",
        "key of the tokens, 32 bytes or more; not set: drawn once and kept in the data folder",
    ),
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
    setting("ICH_MAX_LOGINS_PER_MINUTE", "10", "logins a minute per address and per account; 0: no bound"),
    setting("ICH_MAX_TEXT_CHARS", "4000", "characters of one message"),
    setting("ICH_MAX_FRAME_BYTES", "16384", "bytes of one websocket message from a client"),
    setting("ICH_OUTBOX_BYTES", "1048576", "bytes that a slow client may be behind before it is cut"),
    setting("ICH_PING_INTERVAL_SECONDS", "25", "how often a client is pinged"),
    setting("ICH_PONG_TIMEOUT_SECONDS", "10", "how long it has to answer"),
    setting("ICH_DRAIN_SECONDS", "10", "from SIGTERM to exit, at most"),
    setting("ICH_LOG", "info", "error, warn, info, debug, trace or off; module=level,... too"),
    setting("ICH_LOG_FORMAT", "text", "text or json"),
];

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
    /// Logins a minute per address and per account; 0: no bound.
    pub logins_per_minute: u32,
    /// Characters (Unicode scalar values) of one message.
    pub text_chars: usize,
    /// Bytes of one websocket message from a client.
    pub frame_bytes: usize,
    /// Bytes that a client may be behind.
    pub outbox_bytes: usize,
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
    /// From the signal to the exit, at most.
    pub drain: Duration,
    /// A filter as `env_logger` reads it.
    pub log: String,
    /// How the log is written.
    pub log_format: LogFormat,
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
        // Not `dotenv_iter`: that looks into the folders above, too.
        match dotenvy::from_path_iter(".env") {
            Ok(lines) => {
                for line in lines {
                    match line {
                        Ok((name, value)) => drop(values.insert(name, value)),
                        Err(error) => {
                            faults.push(format!(".env cannot be read: {error}"));
                            break;
                        }
                    }
                }
            }
            Err(error) if error.not_found() => {}
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
        let mut settings = Reader { values, faults };
        settings.check_names();
        let config = Config {
            host: settings.parse("ICH_HOST", "is not an IP address, such as 0.0.0.0 or ::1"),
            port: settings.parse("ICH_PORT", "is not a port, 0 to 65535"),
            data_dir: PathBuf::from(settings.text("ICH_DATA_DIR")),
            database_url: settings.database_url(),
            kafka: settings.kafka(),
            jwt_secret: settings.jwt_secret(),
            jwt_public_key_file: settings.optional("ICH_JWT_PUBLIC_KEY_FILE").map(PathBuf::from),
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
                text_chars: settings.size("ICH_MAX_TEXT_CHARS", 1, 100_000),
                frame_bytes: settings.size("ICH_MAX_FRAME_BYTES", 256, 524_288),
                outbox_bytes: settings.size("ICH_OUTBOX_BYTES", 65_536, 1 << 30),
            },
            ping_interval: Duration::from_secs(settings.number("ICH_PING_INTERVAL_SECONDS", 1, 3600)),
            pong_timeout: Duration::from_secs(settings.number("ICH_PONG_TIMEOUT_SECONDS", 1, 3600)),
            drain: Duration::from_secs(settings.number("ICH_DRAIN_SECONDS", 1, 600)),
            log: settings.text("ICH_LOG"),
            log_format: settings.log_format(),
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

/// Takes settings out of the values and gathers what is wrong with them.
struct Reader<'a> {
    values: &'a BTreeMap<String, String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn check_names(&mut self) {
        for name in self.values.keys().filter(|name| name.starts_with("ICH_")) {
            // The names of the test suite may be in the environment of whoever starts a server beside it.
            if !name.starts_with("ICH_TEST_") && !SETTINGS.iter().any(|setting| setting.name == name) {
                self.faults.push(format!("{name} is not a setting: `ich --help` lists them"));
            }
        }
    }

    fn fault(&mut self, name: &str, value: &str, what: &str) {
        self.faults.push(format!("{name}={value} {what}"));
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| default_of(name).to_owned())
    }

    fn parse<T: FromStr + Fallback>(&mut self, name: &str, what: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.fault(name, &text, what);
            T::FALLBACK
        })
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> u64 {
        let text = self.text(name);
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.fault(name, &text, &format!("is not a whole number from {least} to {most}"));
                least
            }
        }
    }

    fn size(&mut self, name: &str, least: u64, most: u64) -> usize {
        usize::try_from(self.number(name, least, most)).unwrap_or(usize::MAX)
    }

    fn count(&mut self, name: &str, least: u64, most: u64) -> u32 {
        u32::try_from(self.number(name, least, most)).unwrap_or(u32::MAX)
    }

    fn database_url(&mut self) -> Option<Secret> {
        let url = self.optional("ICH_DATABASE_URL")?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            // The value may hold a password: it is not repeated.
            self.faults.push("ICH_DATABASE_URL does not begin with postgres://".into());
        }
        Some(Secret(url))
    }

    fn jwt_secret(&mut self) -> Option<Secret> {
        let secret = self.optional("ICH_JWT_SECRET")?;
        if secret.len() < 32 {
            self.faults.push(
                "ICH_JWT_SECRET is shorter than 32 bytes and could be guessed (make one with: openssl rand -base64 48)"
                    .into(),
            );
        }
        Some(Secret(secret))
    }

    fn kafka(&mut self) -> Option<KafkaSettings> {
        let replication_factor = self
            .optional("ICH_KAFKA_REPLICATION_FACTOR")
            .map(|_| i32::try_from(self.number("ICH_KAFKA_REPLICATION_FACTOR", 1, 32)).unwrap_or(1));
        let one_of = |reader: &mut Self, name: &str, allowed: &[&str]| {
            let value = reader.optional(name)?;
            if !allowed.contains(&value.as_str()) {
                reader.fault(name, &value, &format!("is not one of {}", allowed.join(", ")));
            }
            Some(value)
        };
        let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let security_protocol = one_of(self, "ICH_KAFKA_SECURITY_PROTOCOL", &protocols);
        let sasl_mechanism = one_of(self, "ICH_KAFKA_SASL_MECHANISM", &mechanisms);
        let username = self.optional("ICH_KAFKA_USERNAME");
        let password = self.optional("ICH_KAFKA_PASSWORD");
        if security_protocol.as_deref().is_some_and(|protocol| protocol.starts_with("sasl"))
            && (sasl_mechanism.is_none() || username.is_none() || password.is_none())
        {
            self.faults.push(
                "ICH_KAFKA_SECURITY_PROTOCOL asks for SASL: set ICH_KAFKA_SASL_MECHANISM, ICH_KAFKA_USERNAME and \
                 ICH_KAFKA_PASSWORD too"
                    .into(),
            );
        }
        let topic = self.text("ICH_KAFKA_TOPIC");
        let topic_ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if topic.len() > 249 || !topic.chars().all(topic_ok) {
            self.fault("ICH_KAFKA_TOPIC", &topic, "is not a topic name: letters, digits, '.', '_', '-', at most 249");
        }
        let brokers = self.optional("ICH_KAFKA_BROKERS")?;
        let is_address = |address: &str| {
            address.trim().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !brokers.split(',').all(is_address) {
            self.fault("ICH_KAFKA_BROKERS", &brokers, "is not host:port,host:port");
        }
        let ca_file = self.optional("ICH_KAFKA_CA_FILE");
        Some(KafkaSettings {
            brokers,
            topic,
            replication_factor,
            security_protocol,
            sasl_mechanism,
            username,
            password,
            ca_file,
        })
    }

    fn origins(&mut self) -> Vec<String> {
        let text = self.text("ICH_ALLOWED_ORIGINS");
        let origins: Vec<String> =
            text.split(',').map(|origin| origin.trim().to_owned()).filter(|origin| !origin.is_empty()).collect();
        for origin in &origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
                self.fault("ICH_ALLOWED_ORIGINS", origin, "is not an origin, such as https://chat.example");
            }
        }
        origins
    }

    fn log_format(&mut self) -> LogFormat {
        match self.text("ICH_LOG_FORMAT").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                self.fault("ICH_LOG_FORMAT", other, "is not text or json");
                LogFormat::Text
            }
        }
    }
}

/// What stands in for a value that could not be parsed; never used, as the fault ends the start.
trait Fallback {
    const FALLBACK: Self;
}

impl Fallback for IpAddr {
    const FALLBACK: Self = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
}

impl Fallback for u16 {
    const FALLBACK: Self = 0;
}

fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config, Faults> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_values(&values, Vec::new())
    }

    #[test]
    fn the_defaults_are_sound_and_those_of_the_table() {
        let config = config(&[]).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.port), ("0.0.0.0", 8080));
        assert_eq!(config.token_ttl, Duration::from_secs(24 * 3600));
        assert_eq!(config.limits.outbox_bytes, 1 << 20);
        assert!(config.kafka.is_none() && config.database_url.is_none() && config.jwt_secret.is_none());
    }

    #[test]
    fn all_faults_are_reported_together() {
        let Faults(faults) = config(&[
            ("ICH_PORT", "80800"),
            ("ICH_HOST", "here"),
            ("ICH_PROT", "1"),
            ("ICH_JWT_SECRET", "short"),
            ("ICH_LOG_FORMAT", "xml"),
            ("ICH_DRAIN_SECONDS", "0"),
        ])
        .unwrap_err();
        for name in ["ICH_PORT=80800", "ICH_HOST=here", "ICH_PROT is not a setting", "ICH_JWT_SECRET", "xml", "DRAIN"] {
            assert!(faults.iter().any(|fault| fault.contains(name)), "{name} in {faults:?}");
        }
        assert_eq!(faults.len(), 6);
    }

    #[test]
    fn no_fault_repeats_a_secret() {
        let Faults(faults) =
            config(&[("ICH_JWT_SECRET", "hunter2"), ("ICH_DATABASE_URL", "mysql://me:hunter2@here/db")]).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert!(!format!("{faults:?}").contains("hunter2"));
        let good = config(&[("ICH_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")]).unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
    }

    #[test]
    fn kafka_needs_a_secret_that_all_instances_share() {
        let Faults(faults) = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092")]).unwrap_err();
        assert!(faults[0].contains("ICH_JWT_SECRET"));
        let secret = "0123456789abcdef0123456789abcdef";
        let config = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092"), ("ICH_JWT_SECRET", secret)]).unwrap();
        assert_eq!(config.kafka.unwrap().topic, "ich-lobby");
    }

    #[test]
    fn an_empty_value_is_as_good_as_none() {
        assert_eq!(config(&[("ICH_PORT", "")]).unwrap().port, 8080);
    }
}
