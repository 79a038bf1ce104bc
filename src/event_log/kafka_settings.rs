//! What an operator can say about the Kafka cluster, and its translation into properties of librdkafka. It is read by
//! a program that was built without Kafka too, so that the program can say so.

use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

/// Where the log is and how to get in. An unset value leaves librdkafka's default.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// Brokers to ask first, `host:port,host:port`. They name the others.
    pub brokers: String,
    /// The topic; made with one partition when it is missing.
    pub topic: String,
    /// Copies of a topic made here. `None`: what the broker is set to (it has to be 2.4 or later for that).
    pub replication_factor: Option<i32>,
    /// `security.protocol`: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: Option<String>,
    /// `sasl.mechanism`: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// `sasl.username`.
    pub username: Option<String>,
    /// `sasl.password`. Never shown, not even by `Debug`.
    pub password: Option<String>,
    /// `ssl.ca.location`: a PEM file of the authorities to trust. `None`: those of this host.
    pub ca_file: Option<String>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("replication_factor", &self.replication_factor)
            .field("security_protocol", &self.security_protocol)
            .field("sasl_mechanism", &self.sasl_mechanism)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(set)"))
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// Why settings cannot be used. No text holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// One setting, by the name it has in librdkafka.
    #[error("the Kafka setting `{name}` is refused: {reason}")]
    Setting {
        /// As in librdkafka's list of properties.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings are each fine, and do not go together.
    #[error("the Kafka settings are refused: {0}")]
    Together(String),
}

impl KafkaSettings {
    /// What librdkafka would accept silently and an operator cannot have meant, one text each. `ich check` and the start
    /// report it. No text holds the value of a secret.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.brokers.split(',').filter_map(|broker| broker_fault(broker.trim())).collect();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = (1..=249).contains(&self.topic.len()) && self.topic.chars().all(legal);
        if !is_name || [".", ".."].contains(&self.topic.as_str()) {
            faults.push(
                "ICH_KAFKA_TOPIC is not the name of a topic: 1 to 249 letters, digits, '.', '_' and '-', and not . or .."
                    .into(),
            );
        }
        if self.replication_factor.is_some_and(|copies| !(1..=i32::from(i16::MAX)).contains(&copies)) {
            faults.push("ICH_KAFKA_REPLICATION_FACTOR is less than 1 or too large".into());
        }
        for (name, value) in [
            ("ICH_KAFKA_USERNAME", &self.username),
            ("ICH_KAFKA_PASSWORD", &self.password),
            ("ICH_KAFKA_CA_FILE", &self.ca_file),
        ] {
            if value.as_ref().is_some_and(|value| value.contains('\0')) {
                faults.push(format!("{name} contains a NUL character"));
            }
        }
        faults.extend(self.security_faults());
        faults
    }

    /// What does not go together with the security protocol. Another protocol than these is refused elsewhere.
    fn security_faults(&self) -> Vec<String> {
        let protocol = self.security_protocol.as_deref().unwrap_or("plaintext").to_ascii_lowercase();
        let (sasl, tls) = match protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (false, true),
            "sasl_plaintext" => (true, false),
            "sasl_ssl" => (true, true),
            _ => return Vec::new(),
        };
        let mut faults = Vec::new();
        for (name, is_set) in [
            ("ICH_KAFKA_SASL_MECHANISM", self.sasl_mechanism.is_some()),
            ("ICH_KAFKA_USERNAME", self.username.is_some()),
            ("ICH_KAFKA_PASSWORD", self.password.is_some()),
        ] {
            if sasl && !is_set {
                faults.push(format!("{name} is not set, and ICH_KAFKA_SECURITY_PROTOCOL={protocol} needs it"));
            } else if is_set && !sasl {
                faults.push(format!(
                    "{name} is set, and not used with ICH_KAFKA_SECURITY_PROTOCOL={protocol}: set that to sasl_ssl (or \
                     sasl_plaintext), or remove {name}"
                ));
            }
        }
        if self.ca_file.is_some() && !tls {
            faults.push(format!(
                "ICH_KAFKA_CA_FILE is set, and not used with ICH_KAFKA_SECURITY_PROTOCOL={protocol}: set that to ssl or \
                 sasl_ssl, or remove ICH_KAFKA_CA_FILE"
            ));
        }
        faults
    }
}

/// What is wrong with one broker. The text does not repeat it: somebody may have written a password into it.
fn broker_fault(broker: &str) -> Option<String> {
    let what = if broker.is_empty() {
        "has an empty entry"
    } else if broker.contains("://") {
        "has an entry with a protocol: write host:port, and the protocol in ICH_KAFKA_SECURITY_PROTOCOL"
    } else if broker.contains('@') {
        "has an entry with a user: write host:port, and set ICH_KAFKA_USERNAME and ICH_KAFKA_PASSWORD"
    } else {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            "has an entry without a port from 1 to 65535: write host:port,host:port"
        } else if host.contains(':') && bracketed.is_none() {
            "has an IPv6 address without brackets: write it as in [::1]:9092"
        } else if bracketed.is_some_and(|host| host.parse::<Ipv6Addr>().is_err()) {
            "has no IPv6 address in its brackets: write it as in [::1]:9092"
        } else if bracketed.is_none() && (host.is_empty() || !host.chars().all(is_host_char)) {
            "has an entry that is not host:port"
        } else {
            return None;
        }
    };
    Some(format!("ICH_KAFKA_BROKERS {what}"))
}

fn is_host_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

#[cfg(feature = "kafka")]
impl KafkaSettings {
    /// As [`KafkaSettings::faults`], for whoever opens the log with settings that `Config` has not read.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(OpenError::Together(faults.join("; "))) }
    }

    /// The properties that every client of ours has.
    pub(super) fn properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![("bootstrap.servers", self.brokers.clone())];
        for (name, value) in [
            ("security.protocol", &self.security_protocol),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.username),
            ("sasl.password", &self.password),
        ] {
            properties.extend(value.clone().map(|value| (name, value)));
        }
        let with_tls = self.security_protocol.as_deref().is_some_and(|it| it.to_ascii_lowercase().ends_with("ssl"));
        if with_tls {
            // OpenSSL is linked in and knows only the paths of where it was built: look where hosts keep them.
            let authorities = self.ca_file.clone().unwrap_or_else(|| "probe".into());
            properties.push(("ssl.ca.location", authorities));
        }
        properties
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    fn settings() -> KafkaSettings {
        KafkaSettings { brokers: "127.0.0.1:9092".into(), topic: "lobby".into(), ..KafkaSettings::default() }
    }

    #[test]
    fn what_an_operator_cannot_have_meant_is_refused() {
        for wrong in [
            KafkaSettings { brokers: "".into(), ..settings() },
            KafkaSettings { brokers: "a:1,,b:2".into(), ..settings() },
            KafkaSettings { topic: "".into(), ..settings() },
            KafkaSettings { topic: "my lobby".into(), ..settings() },
            KafkaSettings { topic: "x".repeat(250), ..settings() },
            KafkaSettings { replication_factor: Some(0), ..settings() },
            KafkaSettings { username: Some("ich".into()), ..settings() },
            KafkaSettings { username: Some("ich".into()), password: Some("geheim".into()), ..settings() },
            KafkaSettings { ca_file: Some("/ca.pem".into()), ..settings() },
        ] {
            let refused = wrong.check().expect_err(&format!("{wrong:?}")).to_string();
            assert!(!refused.contains("geheim"), "{refused}");
        }
        settings().check().unwrap();
    }

    #[test]
    fn the_password_is_never_shown() {
        let shown = format!("{:?}", KafkaSettings { password: Some("geheim".into()), ..settings() });
        assert!(shown.contains("(set)") && !shown.contains("geheim"), "{shown}");
    }
}
