//! What an operator can say about the Kafka cluster, and its translation into properties of librdkafka. It is read by
//! a program that was built without Kafka too, so that the program can say so.

use std::fmt;

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

#[cfg(feature = "kafka")]
impl KafkaSettings {
    /// Finds what librdkafka would take without a word and an operator cannot have meant.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let refused = |name: &str, reason: &str| Err(OpenError::Setting { name: name.into(), reason: reason.into() });
        if self.brokers.split(',').any(|broker| broker.trim().is_empty()) {
            return refused("bootstrap.servers", "expected host:port, or several of them with commas between");
        }
        if let Some((name, _)) = self.properties().iter().find(|(_, value)| value.contains('\0')) {
            return refused(name, "it contains a NUL character");
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=249).contains(&self.topic.len()) || !self.topic.chars().all(legal) || self.topic.starts_with("..") {
            return refused("topic", "expected 1 to 249 letters, digits, dots, underscores and hyphens");
        }
        if self.replication_factor.is_some_and(|copies| !(1..=i32::from(i16::MAX)).contains(&copies)) {
            return refused("replication factor", "expected 1 or more");
        }
        let protocol = self.security_protocol.as_deref().unwrap_or("plaintext").to_ascii_lowercase();
        if self.username.is_some() != self.password.is_some() {
            return Err(OpenError::Together("a username needs a password, and a password a username".into()));
        }
        if self.username.is_some() && !protocol.starts_with("sasl_") {
            return Err(OpenError::Together(format!(
                "a username and a password are not used with the security protocol {protocol}: \
                 set it to sasl_ssl (or sasl_plaintext)"
            )));
        }
        if self.ca_file.is_some() && !protocol.ends_with("ssl") {
            return Err(OpenError::Together(format!(
                "a CA file is not used with the security protocol {protocol}: set it to ssl or sasl_ssl"
            )));
        }
        Ok(())
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
