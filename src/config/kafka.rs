//! [`KafkaSettings`]: where the Kafka cluster is and how to log in to it, and the one check of these settings. A
//! program that was built without Kafka reads them too, so that it can report that. Pure.

use std::fmt;
use std::net::Ipv6Addr;

const SECURITY_PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const SASL_MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// The most copies of a topic. Real clusters have fewer brokers than that.
const REPLICATION_FACTOR_MAX: i32 = 32;

/// The Kafka cluster and its topic. `None` in a field: the default of librdkafka.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// The brokers to connect to first, `host:port,host:port`. They name the other brokers.
    pub brokers: String,
    /// The topic. The server creates a missing topic with one partition.
    pub topic: String,
    /// Copies of a topic that the server creates, 1 to 32. `None`: the default of the brokers, which must have version
    /// 2.4 or later.
    pub replication_factor: Option<i32>,
    /// `security.protocol` of librdkafka: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. `None`: `plaintext`.
    pub security_protocol: Option<String>,
    /// `sasl.mechanism` of librdkafka: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// `sasl.username` of librdkafka.
    pub username: Option<String>,
    /// `sasl.password` of librdkafka. Never shown, not even by `Debug`.
    pub password: Option<String>,
    /// `ssl.ca.location` of librdkafka: a PEM file with the certificates of the trusted authorities. `None`: those of
    /// the system.
    pub ca_file: Option<String>,
    /// `ssl.certificate.location` of librdkafka: a PEM file with the certificate that this client shows to the brokers.
    /// Together with `key_file`.
    pub cert_file: Option<String>,
    /// `ssl.key.location` of librdkafka: a PEM file with the private key of `cert_file`, not encrypted.
    pub key_file: Option<String>,
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
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .finish()
    }
}

impl KafkaSettings {
    /// Whether connections to the brokers are encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        matches!(self.security_protocol.as_deref(), Some("ssl" | "sasl_ssl"))
    }

    /// All errors in these settings, one text each; among them combinations that librdkafka accepts silently but that
    /// cannot be intended. No text contains the value of a secret.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors: Vec<String> =
            self.brokers.split(',').filter_map(|broker| broker_error(broker.trim())).collect();
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name = (1..=249).contains(&self.topic.len()) && self.topic.chars().all(is_legal);
        if !is_name || [".", ".."].contains(&self.topic.as_str()) {
            errors.push(
                "ICH_KAFKA_TOPIC is not the name of a topic: 1 to 249 letters, digits, '.', '_' and '-', and not . or .."
                    .into(),
            );
        }
        if self.replication_factor.is_some_and(|copies| !(1..=REPLICATION_FACTOR_MAX).contains(&copies)) {
            errors
                .push(format!("ICH_KAFKA_REPLICATION_FACTOR is not a whole number from 1 to {REPLICATION_FACTOR_MAX}"));
        }
        for (name, value) in [
            ("ICH_KAFKA_USERNAME", &self.username),
            ("ICH_KAFKA_PASSWORD", &self.password),
            ("ICH_KAFKA_CA_FILE", &self.ca_file),
            ("ICH_KAFKA_CERT_FILE", &self.cert_file),
            ("ICH_KAFKA_KEY_FILE", &self.key_file),
        ] {
            if value.as_ref().is_some_and(|value| value.contains('\0')) {
                errors.push(format!("{name} contains a NUL character"));
            }
        }
        for (name, value, allowed) in [
            ("ICH_KAFKA_SECURITY_PROTOCOL", &self.security_protocol, &SECURITY_PROTOCOLS[..]),
            ("ICH_KAFKA_SASL_MECHANISM", &self.sasl_mechanism, &SASL_MECHANISMS[..]),
        ] {
            if let Some(value) = value.as_deref().filter(|value| !allowed.contains(value)) {
                errors.push(super::invalid(name, value, &format!("is not one of {}", allowed.join(", "))));
            }
        }
        errors.extend(self.security_errors());
        errors
    }

    /// Settings that the security protocol needs or does not use.
    fn security_errors(&self) -> Vec<String> {
        let protocol = self.security_protocol.as_deref().unwrap_or("plaintext");
        let uses_sasl = match protocol {
            "plaintext" | "ssl" => false,
            "sasl_plaintext" | "sasl_ssl" => true,
            // Reported already.
            _ => return Vec::new(),
        };
        let mut errors = Vec::new();
        for (name, is_set) in [
            ("ICH_KAFKA_SASL_MECHANISM", self.sasl_mechanism.is_some()),
            ("ICH_KAFKA_USERNAME", self.username.is_some()),
            ("ICH_KAFKA_PASSWORD", self.password.is_some()),
        ] {
            if uses_sasl && !is_set {
                errors.push(format!("{name} is not set, and ICH_KAFKA_SECURITY_PROTOCOL={protocol} needs it"));
            } else if is_set && !uses_sasl {
                errors.push(format!(
                    "{name} is set, and ICH_KAFKA_SECURITY_PROTOCOL={protocol} does not use it: set the protocol to \
                     sasl_ssl (or sasl_plaintext), or remove {name}"
                ));
            }
        }
        for (name, value) in [
            ("ICH_KAFKA_CA_FILE", &self.ca_file),
            ("ICH_KAFKA_CERT_FILE", &self.cert_file),
            ("ICH_KAFKA_KEY_FILE", &self.key_file),
        ] {
            if value.is_some() && !self.uses_tls() {
                errors.push(format!(
                    "{name} is set, and ICH_KAFKA_SECURITY_PROTOCOL={protocol} does not use it: set the protocol to ssl \
                     or sasl_ssl, or remove {name}"
                ));
            }
        }
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => errors.push("ICH_KAFKA_CERT_FILE is set, and needs ICH_KAFKA_KEY_FILE".into()),
            (None, Some(_)) => errors.push("ICH_KAFKA_KEY_FILE is set, and needs ICH_KAFKA_CERT_FILE".into()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        errors
    }
}

/// The error in one broker. The text does not repeat the broker, because it may contain a password by mistake.
fn broker_error(broker: &str) -> Option<String> {
    let error = if broker.is_empty() {
        "has an empty entry"
    } else if broker.contains("://") {
        "has an entry with a protocol: write host:port, and the protocol in ICH_KAFKA_SECURITY_PROTOCOL"
    } else if broker.contains('@') {
        "has an entry with a user: write host:port, and set ICH_KAFKA_USERNAME and ICH_KAFKA_PASSWORD"
    } else {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            "has an entry without a port from 1 to 65535: write host:port,host:port"
        } else if host.contains(':') && in_brackets.is_none() {
            "has an IPv6 address without brackets: write it like [::1]:9092"
        } else if in_brackets.is_some_and(|host| host.parse::<Ipv6Addr>().is_err()) {
            "has brackets without an IPv6 address: write it like [::1]:9092"
        } else if in_brackets.is_none() && (host.is_empty() || !host.chars().all(is_host_char)) {
            "has an entry that is not host:port"
        } else {
            return None;
        }
    };
    Some(format!("ICH_KAFKA_BROKERS {error}"))
}

fn is_host_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KafkaSettings {
        KafkaSettings { brokers: "127.0.0.1:9092".into(), topic: "lobby".into(), ..KafkaSettings::default() }
    }

    #[test]
    fn settings_that_cannot_be_intended_are_errors() {
        for invalid in [
            KafkaSettings { brokers: "".into(), ..settings() },
            KafkaSettings { brokers: "a:1,,b:2".into(), ..settings() },
            KafkaSettings { topic: "".into(), ..settings() },
            KafkaSettings { topic: "my lobby".into(), ..settings() },
            KafkaSettings { topic: "x".repeat(250), ..settings() },
            KafkaSettings { replication_factor: Some(0), ..settings() },
            KafkaSettings { replication_factor: Some(33), ..settings() },
            KafkaSettings { security_protocol: Some("SSL".into()), ..settings() },
            KafkaSettings { username: Some("ich".into()), ..settings() },
            KafkaSettings { username: Some("ich".into()), password: Some("geheim".into()), ..settings() },
            KafkaSettings { ca_file: Some("/ca.pem".into()), ..settings() },
            KafkaSettings { security_protocol: Some("ssl".into()), cert_file: Some("/cert.pem".into()), ..settings() },
        ] {
            let errors = invalid.errors();
            assert!(!errors.is_empty(), "{invalid:?}");
            assert!(!errors.iter().any(|error| error.contains("geheim")), "{errors:?}");
        }
        assert_eq!(settings().errors(), [""; 0]);
    }

    #[test]
    fn the_password_is_never_shown() {
        let shown = format!("{:?}", KafkaSettings { password: Some("geheim".into()), ..settings() });
        assert!(shown.contains("(set)") && !shown.contains("geheim"), "{shown}");
    }
}
