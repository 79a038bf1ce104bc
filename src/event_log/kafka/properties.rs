//! Translates [`KafkaSettings`] into properties of librdkafka, and reports why settings cannot be used.

use thiserror::Error;

use crate::config::KafkaSettings;

/// Why the settings cannot be used. No text contains the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// librdkafka refuses one property.
    #[error("the Kafka setting `{name}` is refused: {reason}")]
    Setting {
        /// The name of the property in librdkafka.
        name: String,
        /// The text of librdkafka, without the value.
        reason: String,
    },
    /// The settings cannot be used together.
    #[error("the Kafka settings are refused: {0}")]
    Together(String),
}

/// Checks settings, also those that were not read by [`Config`](crate::config::Config).
pub(super) fn check(settings: &KafkaSettings) -> Result<(), OpenError> {
    let errors = settings.errors();
    if errors.is_empty() { Ok(()) } else { Err(OpenError::Together(errors.join("; "))) }
}

/// The properties that all clients have in common.
pub(super) fn of(settings: &KafkaSettings) -> Vec<(&'static str, String)> {
    let mut properties = vec![("bootstrap.servers", settings.brokers.clone())];
    for (name, value) in [
        ("security.protocol", &settings.security_protocol),
        ("sasl.mechanism", &settings.sasl_mechanism),
        ("sasl.username", &settings.username),
        ("sasl.password", &settings.password),
    ] {
        properties.extend(value.clone().map(|value| (name, value)));
    }
    if settings.uses_tls() {
        // OpenSSL is linked in and knows only the paths of the machine that built it. "probe" searches the usual paths.
        let authorities = settings.ca_file.clone().unwrap_or_else(|| "probe".into());
        properties.push(("ssl.ca.location", authorities));
        for (name, value) in
            [("ssl.certificate.location", &settings.cert_file), ("ssl.key.location", &settings.key_file)]
        {
            properties.extend(value.clone().map(|value| (name, value)));
        }
    }
    properties
}
