//! [`Reader`]: takes settings out of their texts, and gathers all that is wrong with them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::table::{SETTINGS, default_of};
use super::{EventLogKind, LogFormat, Secret};
use crate::event_log::kafka_settings::KafkaSettings;
use crate::event_log::sqlite::Retention;

/// Takes settings out of the values and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) faults: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn check_names(&mut self) {
        for name in self.values.keys().filter(|name| name.starts_with("ICH_")) {
            // The names of the test suite may be in the environment of whoever starts a server beside it.
            if !name.starts_with("ICH_TEST_") && !SETTINGS.iter().any(|setting| setting.name == name) {
                self.faults.push(format!("{name} is not a setting: `ich --help` lists them"));
            }
        }
    }

    pub(super) fn fault(&mut self, name: &str, value: &str, what: &str) {
        self.faults.push(format!("{name}={value} {what}"));
    }

    pub(super) fn optional(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| default_of(name).to_owned())
    }

    pub(super) fn parse<T: FromStr + Fallback>(&mut self, name: &str, what: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.fault(name, &text, what);
            T::FALLBACK
        })
    }

    pub(super) fn number(&mut self, name: &str, least: u64, most: u64) -> u64 {
        let text = self.text(name);
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.fault(name, &text, &format!("is not a whole number from {least} to {most}"));
                least
            }
        }
    }

    pub(super) fn size(&mut self, name: &str, least: u64, most: u64) -> usize {
        usize::try_from(self.number(name, least, most)).unwrap_or(usize::MAX)
    }

    pub(super) fn count(&mut self, name: &str, least: u64, most: u64) -> u32 {
        u32::try_from(self.number(name, least, most)).unwrap_or(u32::MAX)
    }

    pub(super) fn database_url(&mut self) -> Option<Secret> {
        let url = self.optional("ICH_DATABASE_URL")?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            // The value may hold a password: it is not repeated.
            self.faults.push("ICH_DATABASE_URL does not begin with postgres://".into());
        }
        Some(Secret(url))
    }

    pub(super) fn jwt_secret(&mut self) -> Option<Secret> {
        let secret = self.optional("ICH_JWT_SECRET")?;
        if secret.len() < 32 {
            self.faults.push(
                "ICH_JWT_SECRET is shorter than 32 bytes and could be guessed (make one with: openssl rand -base64 48)"
                    .into(),
            );
        }
        Some(Secret(secret))
    }

    pub(super) fn kafka(&mut self) -> Option<KafkaSettings> {
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

    /// Kafka where there are brokers, else SQLite, unless the setting names one.
    pub(super) fn event_log(&mut self) -> EventLogKind {
        let has_brokers = self.optional("ICH_KAFKA_BROKERS").is_some();
        let named = self.optional("ICH_EVENT_LOG");
        match (named.as_deref(), has_brokers) {
            (None, true) | (Some("kafka"), true) => EventLogKind::Kafka,
            (None, false) | (Some("sqlite"), false) => EventLogKind::Sqlite,
            (Some("memory"), false) => EventLogKind::Memory,
            (Some("kafka"), false) => {
                self.faults.push("ICH_EVENT_LOG=kafka needs ICH_KAFKA_BROKERS=host:port, which is not set".into());
                EventLogKind::Kafka
            }
            (Some(other @ ("sqlite" | "memory")), true) => {
                self.faults
                    .push(format!("ICH_EVENT_LOG={other} and ICH_KAFKA_BROKERS are both set: remove one of them"));
                EventLogKind::Kafka
            }
            (Some(other), _) => {
                self.fault("ICH_EVENT_LOG", other, "is not one of sqlite, memory, kafka");
                EventLogKind::Sqlite
            }
        }
    }

    pub(super) fn event_log_retention(&mut self) -> Retention {
        Retention {
            age: Duration::from_secs(3600 * self.number("ICH_EVENT_LOG_RETENTION_HOURS", 1, 24 * 366)),
            bytes: self.number("ICH_EVENT_LOG_MAX_MIB", 16, 1 << 20) << 20,
        }
    }

    pub(super) fn origins(&mut self) -> Vec<String> {
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

    pub(super) fn log_format(&mut self) -> LogFormat {
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
pub(super) trait Fallback {
    const FALLBACK: Self;
}

impl Fallback for IpAddr {
    const FALLBACK: Self = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
}

impl Fallback for u16 {
    const FALLBACK: Self = 0;
}
