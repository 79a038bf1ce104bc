//! [`Security`]: explains why a connection to a broker failed, in the words of the settings of this program. Pure.
//!
//! librdkafka's texts are the only source: it has one error code for most of these failures.

use std::fmt;

use super::KafkaSettings;

/// A broker that expects a login closes the connection within this time after the first request.
const SETUP_MS: u64 = 2000;

/// What the settings say about encryption and authentication.
pub(super) struct Security {
    protocol: String,
    has_certificate: bool,
}

/// A failure, explained.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Explained {
    /// The whole text, beginning with the address of the broker.
    Known(String),
    /// The certificate of the broker is not accepted. librdkafka does not say why.
    Certificate { address: String },
}

/// A failure as librdkafka reports it, without the parts that differ from one occurrence to the next.
pub(super) struct Failure {
    /// The address of the broker, if the text begins with one.
    address: Option<String>,
    text: String,
    /// The connection was closed during the TLS handshake.
    is_in_handshake: bool,
    /// The connection was closed while the client waited for the first answer.
    is_before_first_answer: bool,
    /// The connection was closed soon after it had been set up.
    is_after_setup: bool,
}

impl Failure {
    /// Removes the name of a thread, `GroupCoordinator: ` and the protocol at the start, the id of the broker after its
    /// address, and `(after 2ms in state CONNECT, 3 identical error(s) suppressed)` at the end.
    pub(super) fn parse(reason: &str) -> Self {
        let reason = reason.split_once("]: ").filter(|_| reason.starts_with("[thrd:")).map_or(reason, |(_, rest)| rest);
        let (reason, suffix) = reason.split_once(" (after ").unwrap_or((reason, ""));
        // A coordinator has its address after its own name.
        let reason = reason.split_once("GroupCoordinator: ").map_or(reason, |(_, rest)| rest);
        let (address, text) = match reason.split_once(": ") {
            Some((broker, rest)) if !broker.contains(' ') => {
                let address = broker.split_once("://").map_or(broker, |(_, address)| address);
                (Some(address.split_once('/').map_or(address, |(address, _)| address).to_owned()), rest)
            }
            _ => (None, reason),
        };
        let is_closed = ["Disconnected", "Broken pipe", "Connection reset"].iter().any(|part| text.contains(part));
        let milliseconds = suffix.split_once("ms").and_then(|(milliseconds, _)| milliseconds.parse().ok());
        Failure {
            address,
            text: text.to_owned(),
            is_in_handshake: is_closed && suffix.contains("in state SSL_HANDSHAKE"),
            is_before_first_answer: is_closed && suffix.contains("in state APIVERSION_QUERY"),
            is_after_setup: is_closed
                && suffix.contains("in state UP")
                && milliseconds.is_some_and(|milliseconds: u64| milliseconds < SETUP_MS),
        }
    }

    /// Whether librdkafka takes the failure for normal, and it is not: the broker closed the connection very early.
    pub(super) fn is_early_close(&self) -> bool {
        self.is_before_first_answer || self.is_after_setup
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(formatter, "{address}: {}", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

impl Security {
    pub(super) fn of(settings: &KafkaSettings) -> Self {
        Security {
            protocol: settings.security_protocol.clone().unwrap_or_else(|| "plaintext".to_owned()),
            has_certificate: settings.cert_file.is_some(),
        }
    }

    pub(super) fn explain(&self, failure: &Failure) -> Explained {
        let Some(address) = &failure.address else { return Explained::Known(failure.to_string()) };
        if failure.text.contains("certificate verify failed") && !is_alert(&failure.text) {
            return Explained::Certificate { address: address.clone() };
        }
        Explained::Known(match self.cause(failure) {
            Some(cause) => format!("{address}: {cause}"),
            None => failure.to_string(),
        })
    }

    fn cause(&self, failure: &Failure) -> Option<String> {
        let (protocol, text) = (&self.protocol, &failure.text);
        if failure.is_before_first_answer && !self.uses_tls() {
            let with_tls = if self.uses_sasl() { "sasl_ssl" } else { "ssl or sasl_ssl" };
            return Some(format!(
                "the broker closed the connection at once, so this port probably expects TLS: set \
                 ICH_KAFKA_SECURITY_PROTOCOL to {with_tls} instead of {protocol}, or use the broker's port without TLS"
            ));
        }
        if failure.is_in_handshake {
            let without_tls = if self.uses_sasl() { "sasl_plaintext" } else { "plaintext or sasl_plaintext" };
            return Some(format!(
                "the broker closed the connection during the TLS handshake, so this port probably has no TLS: use the \
                 broker's port with TLS, or set ICH_KAFKA_SECURITY_PROTOCOL to {without_tls} instead of {protocol}"
            ));
        }
        if failure.is_after_setup && !self.uses_sasl() {
            let with_sasl = if self.uses_tls() { "sasl_ssl" } else { "sasl_plaintext" };
            return Some(format!(
                "the broker closed the connection, so this port probably expects a user and a password (SASL): set \
                 ICH_KAFKA_SECURITY_PROTOCOL={with_sasl}, ICH_KAFKA_SASL_MECHANISM, ICH_KAFKA_USERNAME and \
                 ICH_KAFKA_PASSWORD"
            ));
        }
        if text.contains("not valid in current SASL state") {
            let without_sasl = if self.uses_tls() { "ssl" } else { "plaintext" };
            return Some(format!(
                "this port expects no user and password (SASL): use the broker's port with SASL, or set \
                 ICH_KAFKA_SECURITY_PROTOCOL={without_sasl} without user, password and mechanism"
            ));
        }
        if text.contains("mechanism handshake failed") {
            return Some(format!("{text}; check ICH_KAFKA_SASL_MECHANISM"));
        }
        if text.contains("SASL authentication error") || text.contains("SASL authentication failed") {
            return Some(format!("{text}; check ICH_KAFKA_USERNAME and ICH_KAFKA_PASSWORD"));
        }
        if text.contains("client SSL authentication might be required") || is_alert(text) {
            return Some(if self.has_certificate {
                format!(
                    "the broker refuses the certificate in ICH_KAFKA_CERT_FILE: check that the broker trusts the authority \
                     that signed it, and that it has not expired ({})",
                    last_part(text)
                )
            } else {
                format!(
                    "the broker requires a client certificate: set ICH_KAFKA_CERT_FILE and ICH_KAFKA_KEY_FILE ({})",
                    last_part(text)
                )
            });
        }
        None
    }

    fn uses_tls(&self) -> bool {
        self.protocol.ends_with("ssl")
    }

    fn uses_sasl(&self) -> bool {
        self.protocol.starts_with("sasl")
    }
}

/// Whether the broker refused the TLS handshake.
fn is_alert(text: &str) -> bool {
    text.contains(" alert ")
}

/// What OpenSSL says, without its prefixes.
fn last_part(text: &str) -> &str {
    text.rsplit("::").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_with_the_same_cause_become_the_same_text() {
        let plain = "127.0.0.1:9: Connect to ipv4#127.0.0.1:9 failed: Connection refused";
        for reason in [
            "127.0.0.1:9/1: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT)",
            "GroupCoordinator: 127.0.0.1:9: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 2ms in state \
             CONNECT, 3 identical error(s) suppressed)",
            "[thrd:127.0.0.1:9/1]: 127.0.0.1:9/1: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 1ms in)",
            "ssl://127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused",
            plain,
        ] {
            assert_eq!(Failure::parse(reason).to_string(), plain);
        }
        assert_eq!(Failure::parse("two words: Disconnected").to_string(), "two words: Disconnected");
    }

    #[test]
    fn a_failure_is_explained_by_the_setting_that_is_wrong() {
        let explain = |protocol: &str, has_certificate, text: &str| {
            let security = Security { protocol: protocol.into(), has_certificate };
            match security.explain(&Failure::parse(&format!("{protocol}://h:1/bootstrap: {text}"))) {
                Explained::Known(text) => text,
                Explained::Certificate { address } => format!("{address}: certificate"),
            }
        };
        let closed = "Disconnected: connection closed by peer";
        let [asked, set_up] = [("5", "APIVERSION_QUERY"), ("3", "UP")].map(|(after, state)| {
            format!("{closed} (after {after}ms in state {state}, 1 identical error(s) suppressed)")
        });
        for (protocol, has_certificate, text, expected) in [
            ("plaintext", false, asked.as_str(), "expects TLS"),
            ("sasl_plaintext", false, &asked, "to sasl_ssl instead"),
            ("ssl", false, &format!("SSL handshake failed: {closed} (after 9ms in state SSL_HANDSHAKE)"), "has no TLS"),
            ("ssl", false, &set_up, "=sasl_ssl"),
            ("plaintext", false, &set_up, "=sasl_plaintext"),
            ("plaintext", false, &format!("{closed} (after 60000ms in state UP)"), "h:1: Disconnected"),
            ("sasl_ssl", false, "SASL PLAIN mechanism handshake failed: .. not valid in current SASL state", "=ssl"),
            ("sasl_ssl", false, "SASL PLAIN mechanism handshake failed: unsupported", "ICH_KAFKA_SASL_MECHANISM"),
            (
                "ssl",
                false,
                "ssl/x.c: error:0A000412:SSL routines::ssl/tls alert bad certificate",
                "ICH_KAFKA_CERT_FILE",
            ),
            ("ssl", true, "error:0A000418:SSL routines::tlsv1 alert unknown ca", "trusts the authority"),
            ("ssl", false, "error:0A000086:SSL routines::certificate verify failed", "h:1: certificate"),
            ("ssl", false, "anything else", "h:1: anything else"),
        ] {
            let text = explain(protocol, has_certificate, text);
            assert!(text.starts_with("h:1: ") && text.contains(expected), "{expected}: {text}");
        }
    }
}
