//! [`Reader`]: parses the settings and collects all errors. Pure but for the files that [`super::files`] reads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::kafka::KafkaSettings;
use super::table::{SETTINGS, default_of};
use super::{ArchiveSettings, Config, EventLogSettings, LogFilter, LogFormat, Secret, kubernetes};
use crate::accounts::{AdminClaim, ClaimNames, postgres, token};
use crate::event_log::sqlite::Retention;
use crate::origin::Origin;
use crate::proxies::{self, Proxies};

/// Parses the values and collects the errors in them. After an error, a method returns any value: it is never used.
pub(super) struct Reader<'a> {
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) errors: Vec<String>,
    /// See [`Config::notes`](super::Config::notes).
    pub(super) notes: Vec<String>,
}

/// The claims of RFC 7519 that the server checks itself, and those that differ from token to token.
const RESERVED_CLAIMS: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// How many characters of a value an error repeats.
const SHOWN_CHARS_MAX: usize = 100;

/// An error that repeats the value, unless the value may contain a password, as in `user:password@host`.
pub(super) fn invalid(name: &str, value: &str, error: &str) -> String {
    let shown: String = if value.contains('@') {
        "(not shown)".into()
    } else {
        value.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
    };
    format!("{name}={shown} {error}")
}

impl Reader<'_> {
    pub(super) fn check_names(&mut self) {
        let mut ignored = Vec::new();
        for (name, value) in self.values.iter().filter(|(name, _)| name.starts_with("ICH_")) {
            // Variables of the test suite, and those of `ich kick` and `ich chat`, may be set in the environment of a
            // server that is started beside them.
            if name.starts_with("ICH_TEST_")
                || ["ICH_TOKEN", "ICH_PASSWORD"].contains(&name.as_str())
                || SETTINGS.iter().any(|setting| setting.name == name)
            {
                continue;
            }
            if kubernetes::is_service_variable(name, value) {
                ignored.push(name.as_str());
            } else {
                self.errors.push(format!("{name} is not a setting: `ich --help` lists them"));
            }
        }
        if !ignored.is_empty() {
            self.notes.push(format!(
                "ignored variables that Kubernetes sets for a Service (to avoid them, set enableServiceLinks: false in \
                 the pod): {}",
                ignored.join(", ")
            ));
        }
    }

    pub(super) fn error(&mut self, name: &str, value: &str, error: &str) {
        self.errors.push(invalid(name, value, error));
    }

    pub(super) fn optional(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The value, or else the default.
    pub(super) fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| default_of(name).to_owned())
    }

    pub(super) fn number(&mut self, name: &str, min: u64, max: u64) -> u64 {
        let text = self.text(name);
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => number,
            _ => {
                self.error(name, &text, &format!("is not a whole number from {min} to {max}"));
                min
            }
        }
    }

    pub(super) fn size(&mut self, name: &str, min: u64, max: u64) -> usize {
        usize::try_from(self.number(name, min, max)).unwrap_or(usize::MAX)
    }

    pub(super) fn count(&mut self, name: &str, min: u64, max: u64) -> u32 {
        u32::try_from(self.number(name, min, max)).unwrap_or(u32::MAX)
    }

    /// A limit that 0 turns off. Only this method gives 0 this meaning.
    pub(super) fn limit(&mut self, name: &str, max: u64) -> Option<NonZeroU32> {
        NonZeroU32::new(self.count(name, 0, max))
    }

    pub(super) fn host(&mut self) -> IpAddr {
        let text = self.text("ICH_HOST");
        text.parse().unwrap_or_else(|_| {
            self.error(
                "ICH_HOST",
                &text,
                "is not an IP address, such as 127.0.0.1, or :: for all addresses of IPv4 and IPv6",
            );
            Ipv6Addr::UNSPECIFIED.into()
        })
    }

    pub(super) fn port(&mut self) -> u16 {
        let text = self.text("ICH_PORT");
        text.parse().unwrap_or_else(|_| {
            let error = if kubernetes::is_service_address(&text) {
                "is not a port: Kubernetes set it for a Service named ich; set ICH_PORT in the container, or \
                 enableServiceLinks: false in the pod"
            } else {
                "is not a port, 0 to 65535"
            };
            self.error("ICH_PORT", &text, error);
            0
        })
    }

    pub(super) fn database_url(&mut self) -> Option<Secret> {
        let url = self.secret("ICH_DATABASE_URL")?;
        self.errors.extend(postgres::check_url(&url).err());
        Some(Secret(url))
    }

    /// The secret in the setting with this name.
    pub(super) fn jwt_secret(&mut self, name: &str) -> Option<Secret> {
        let secret = self.secret(name)?;
        if secret.len() < token::SECRET_BYTES_MIN {
            self.errors.push(format!(
                "{name} is shorter than {} bytes and could be guessed (make one with: openssl rand -base64 48)",
                token::SECRET_BYTES_MIN
            ));
        }
        Some(Secret(secret))
    }

    /// The claims of the user. A claim with another meaning would make one user of all, or a new user of each token.
    pub(super) fn jwt_claims(&mut self) -> ClaimNames {
        let mut name = |setting: &str| {
            let claim = self.text(setting);
            if RESERVED_CLAIMS.contains(&claim.as_str()) {
                self.error(setting, &claim, "does not name a claim about the user");
            }
            claim
        };
        let (id, username) = (name("ICH_JWT_ID_CLAIM"), name("ICH_JWT_USERNAME_CLAIM"));
        ClaimNames { id, username, admin: self.jwt_admin_claim() }
    }

    fn jwt_admin_claim(&mut self) -> Option<AdminClaim> {
        let text = self.optional("ICH_JWT_ADMIN_CLAIM")?;
        let claim = AdminClaim::parse(&text).filter(|claim| !RESERVED_CLAIMS.contains(&claim.name.as_str()));
        if claim.is_none() {
            self.error(
                "ICH_JWT_ADMIN_CLAIM",
                &text,
                "is not a claim about the user, such as admin or groups=chat-admins",
            );
        }
        claim
    }

    /// Errors in combinations of the settings of tokens.
    pub(super) fn check_jwt(&mut self, config: &Config) {
        let has_key_file = config.jwt_public_key_file.is_some();
        if config.jwt_secret.is_some() && has_key_file {
            self.errors.push("ICH_JWT_SECRET and ICH_JWT_PUBLIC_KEY_FILE are both set: choose one".into());
        }
        if config.jwt_previous_secret.is_some() && config.jwt_secret.is_none() {
            self.errors.push("ICH_JWT_PREVIOUS_SECRET is set, but ICH_JWT_SECRET is not: set both".into());
        }
        if config.event_log.is_shared_by_machines() && config.jwt_secret.is_none() && !has_key_file {
            self.errors.push(
                "ICH_JWT_SECRET is not set, and ICH_KAFKA_BROKERS needs it: all instances must have the same secret \
                 (make one with: openssl rand -base64 48)"
                    .into(),
            );
        }
        if config.jwt_claims.id == config.jwt_claims.username && !has_key_file {
            self.errors.push(
                "ICH_JWT_ID_CLAIM and ICH_JWT_USERNAME_CLAIM are equal: the tokens of this server need two claims"
                    .into(),
            );
        }
    }

    fn kafka(&mut self, brokers: String) -> KafkaSettings {
        // 0 is not valid, so the check below reports a text that is not a number, too.
        let replication_factor =
            self.optional("ICH_KAFKA_REPLICATION_FACTOR").map(|copies| copies.parse().unwrap_or(0));
        let settings = KafkaSettings {
            brokers,
            topic: self.text("ICH_KAFKA_TOPIC"),
            replication_factor,
            security_protocol: self.optional("ICH_KAFKA_SECURITY_PROTOCOL"),
            sasl_mechanism: self.optional("ICH_KAFKA_SASL_MECHANISM"),
            username: self.optional("ICH_KAFKA_USERNAME"),
            password: self.secret("ICH_KAFKA_PASSWORD"),
            ca_file: self.optional("ICH_KAFKA_CA_FILE"),
            cert_file: self.optional("ICH_KAFKA_CERT_FILE"),
            key_file: self.optional("ICH_KAFKA_KEY_FILE"),
        };
        self.errors.extend(settings.errors());
        if let Some(path) = &settings.ca_file {
            self.check_certificates("ICH_KAFKA_CA_FILE", path);
        }
        if let (Some(certificate), Some(key)) = (&settings.cert_file, &settings.key_file) {
            self.check_client_certificate(("ICH_KAFKA_CERT_FILE", certificate), ("ICH_KAFKA_KEY_FILE", key));
        }
        settings
    }

    /// Adds an error if there are settings of Kafka and no brokers: the settings would have no effect, and the server
    /// would not be in the lobby of the other instances.
    fn refuse_kafka_settings_without_brokers(&mut self) {
        let set: Vec<&str> = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .filter(|name| name.starts_with("ICH_KAFKA_") && self.optional(name).is_some())
            .collect();
        if !set.is_empty() {
            let (verb, them) = if set.len() == 1 { ("is", "it") } else { ("are", "them") };
            self.errors.push(format!(
                "ICH_KAFKA_BROKERS is not set, but {} {verb}: set ICH_KAFKA_BROKERS=host:port to use Kafka, or remove \
                 {them} to keep the event log in the data folder",
                set.join(", ")
            ));
        }
    }

    /// The event log that `ICH_EVENT_LOG` names; if it is not set, Kafka if there are brokers, else SQLite.
    pub(super) fn event_log(&mut self) -> EventLogSettings {
        // Checked also if the event log is not in SQLite.
        let retention = self.retention();
        let named = self.optional("ICH_EVENT_LOG");
        if let Some(brokers) = self.optional("ICH_KAFKA_BROKERS") {
            match named.as_deref() {
                None | Some("kafka") => {}
                Some(other @ ("sqlite" | "memory")) => self
                    .errors
                    .push(format!("ICH_EVENT_LOG={other} and ICH_KAFKA_BROKERS are both set: remove one of them")),
                Some(other) => self.unknown_event_log(other),
            }
            return EventLogSettings::Kafka(self.kafka(brokers));
        }
        self.refuse_kafka_settings_without_brokers();
        match named.as_deref() {
            None | Some("sqlite") => {}
            Some("memory") => return EventLogSettings::Memory,
            Some("kafka") => {
                self.errors.push("ICH_EVENT_LOG=kafka needs ICH_KAFKA_BROKERS=host:port, which is not set".into());
            }
            Some(other) => self.unknown_event_log(other),
        }
        EventLogSettings::Sqlite(retention)
    }

    fn unknown_event_log(&mut self, value: &str) {
        self.error("ICH_EVENT_LOG", value, "is not one of sqlite, memory, kafka");
    }

    fn retention(&mut self) -> Retention {
        Retention {
            age: Duration::from_secs(3600 * self.number("ICH_EVENT_LOG_RETENTION_HOURS", 1, 24 * 366)),
            bytes: self.number("ICH_EVENT_LOG_MAX_MIB", 16, 1 << 20) << 20,
        }
    }

    /// The archive reads the log on its own, and continues after a restart. A log in memory allows neither.
    pub(super) fn archive(&mut self, event_log: &EventLogSettings) -> Option<ArchiveSettings> {
        let days = self.limit("ICH_ARCHIVE_DAYS", 36_500);
        match (self.text("ICH_ARCHIVE").as_str(), event_log) {
            ("off", _) => None,
            ("on", EventLogSettings::Memory) => {
                self.errors.push(
                    "ICH_ARCHIVE=on needs an event log that survives a restart: remove ICH_EVENT_LOG=memory, or set \
                     ICH_ARCHIVE=off"
                        .into(),
                );
                None
            }
            ("on", _) => Some(ArchiveSettings { days }),
            (other, _) => {
                self.error("ICH_ARCHIVE", other, "is not on or off");
                None
            }
        }
    }

    pub(super) fn log_filter(&mut self) -> LogFilter {
        let text = self.text("ICH_LOG");
        LogFilter::parse(&text).unwrap_or_else(|error| {
            self.error("ICH_LOG", &text, &error);
            LogFilter { levels: Vec::new(), containing: None }
        })
    }

    pub(super) fn origins(&mut self) -> Vec<Origin> {
        let text = self.text("ICH_ALLOWED_ORIGINS");
        let mut origins = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match Origin::parse(entry) {
                Some(origin) => origins.push(origin),
                None => self.error(
                    "ICH_ALLOWED_ORIGINS",
                    entry,
                    "is not an origin, such as https://chat.example, tauri://localhost or null (without a path or a \
                     pattern; write an international name as xn--...)",
                ),
            }
        }
        origins
    }

    pub(super) fn proxies(&mut self) -> Proxies {
        let text = self.text("ICH_TRUSTED_PROXIES");
        let mut trusted = Vec::new();
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let is_set = entries.clone().next().is_some();
        for entry in entries {
            match proxies::parse_network(entry) {
                Ok(network) => trusted.push(network),
                Err(error) => self.error("ICH_TRUSTED_PROXIES", entry, &error),
            }
        }
        for network in trusted.iter().filter(|network| network.prefix_len() == 0) {
            let family = if network.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            self.notes.push(format!(
                "ICH_TRUSTED_PROXIES trusts every {family} address: any client can pretend to have the address of another, \
                 and so avoid the limits per address, use up the limits of others, and be logged with a wrong address; set \
                 ICH_TRUSTED_PROXIES to the addresses of your proxies only"
            ));
        }
        let have_proxy_header = match self.text("ICH_PROXY_PROTOCOL").as_str() {
            "on" => true,
            "off" => false,
            other => {
                self.error("ICH_PROXY_PROTOCOL", other, "is not on or off");
                false
            }
        };
        if have_proxy_header && !is_set {
            self.errors.push(
                "ICH_PROXY_PROTOCOL=on needs ICH_TRUSTED_PROXIES, the addresses of the proxies that send the header"
                    .into(),
            );
        }
        Proxies { trusted, have_proxy_header }
    }

    pub(super) fn log_format(&mut self) -> LogFormat {
        match self.text("ICH_LOG_FORMAT").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                self.error("ICH_LOG_FORMAT", other, "is not text or json");
                LogFormat::Text
            }
        }
    }
}
