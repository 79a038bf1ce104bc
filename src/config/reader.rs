//! [`Reader`]: takes settings out of their texts, and gathers all that is wrong with them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use openssl::x509::X509;

use super::kubernetes;
use super::table::{SETTINGS, default_of};
use super::{LogFilter, LogFormat, Secret};
use crate::accounts::{postgres, token};
use crate::event_log::kafka_settings::KafkaSettings;

/// Takes settings out of the values and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) faults: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// More characters of a value are not repeated in a fault.
const SHOWN_CHARS_MAX: usize = 100;
/// A file with a secret is a line; a larger one is something else.
const SECRET_BYTES_MAX: usize = 16 * 1024;

impl Reader<'_> {
    pub(super) fn check_names(&mut self) {
        let mut ignored = Vec::new();
        for (name, value) in self.values.iter().filter(|(name, _)| name.starts_with("ICH_")) {
            // The names of the test suite may be in the environment of whoever starts a server beside it.
            if name.starts_with("ICH_TEST_") || SETTINGS.iter().any(|setting| setting.name == name) {
                continue;
            }
            if kubernetes::is_service_variable(name, value) {
                ignored.push(name.as_str());
            } else {
                self.faults.push(format!("{name} is not a setting: `ich --help` lists them"));
            }
        }
        if !ignored.is_empty() {
            self.notes.push(format!(
                "ignored, as Kubernetes sets them for a Service (enableServiceLinks: false in the pod avoids it): {}",
                ignored.join(", ")
            ));
        }
    }

    /// Adds a fault that repeats the value, unless there may be a password in it, as in `user:password@host`.
    pub(super) fn fault(&mut self, name: &str, value: &str, what: &str) {
        let shown: String = if value.contains('@') {
            "(not shown)".into()
        } else {
            value.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
        };
        self.faults.push(format!("{name}={shown} {what}"));
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

    pub(super) fn port(&mut self) -> u16 {
        if kubernetes::is_service_address(&self.text("ICH_PORT")) {
            let value = self.text("ICH_PORT");
            self.fault(
                "ICH_PORT",
                &value,
                "is not a port: Kubernetes set it for a Service named ich; set ICH_PORT in the container, or \
                 enableServiceLinks: false in the pod",
            );
            return u16::FALLBACK;
        }
        self.parse("ICH_PORT", "is not a port, 0 to 65535")
    }

    /// A secret, from the setting with this name or from the file that `{name}_FILE` names. No fault repeats it.
    fn secret(&mut self, name: &str) -> Option<String> {
        let file_setting = format!("{name}_FILE");
        let value = self.optional(name);
        let Some(path) = self.optional(&file_setting) else { return value };
        if value.is_some() {
            self.faults.push(format!("{name} and {file_setting} are both set: choose one"));
            return value;
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.fault(&file_setting, &path, &format!("cannot be read: {error}"));
                return None;
            }
        };
        // Editors and `echo` end a file with a newline, which is not part of the secret.
        let line = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let what = match std::str::from_utf8(line) {
            Ok("") => "is empty",
            Ok(_) if line.len() > SECRET_BYTES_MAX => "is too large for a secret (16 KiB at most)",
            Ok(text) if text.contains('\0') => "contains a NUL character",
            Ok(text) => return Some(text.to_owned()),
            Err(_) => "is not UTF-8",
        };
        self.fault(&file_setting, &path, what);
        None
    }

    pub(super) fn database_url(&mut self) -> Option<Secret> {
        let url = self.secret("ICH_DATABASE_URL")?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            // The value may hold a password: it is not repeated.
            self.faults.push("ICH_DATABASE_URL does not begin with postgres://".into());
        } else {
            self.faults.extend(postgres::check_url(&url).err());
        }
        Some(Secret(url))
    }

    pub(super) fn jwt_secret(&mut self) -> Option<Secret> {
        let secret = self.secret("ICH_JWT_SECRET")?;
        if secret.len() < 32 {
            self.faults.push(
                "ICH_JWT_SECRET is shorter than 32 bytes and could be guessed (make one with: openssl rand -base64 48)"
                    .into(),
            );
        }
        Some(Secret(secret))
    }

    /// Kafka's settings; what has to hold between them is checked by [`KafkaSettings::faults`].
    pub(super) fn kafka(&mut self) -> Option<KafkaSettings> {
        let Some(brokers) = self.optional("ICH_KAFKA_BROKERS") else {
            self.refuse_kafka_settings_without_brokers();
            return None;
        };
        let replication_factor = self
            .optional("ICH_KAFKA_REPLICATION_FACTOR")
            .map(|_| i32::try_from(self.number("ICH_KAFKA_REPLICATION_FACTOR", 1, 32)).unwrap_or(1));
        let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let settings = KafkaSettings {
            brokers,
            topic: self.text("ICH_KAFKA_TOPIC"),
            replication_factor,
            security_protocol: self.one_of("ICH_KAFKA_SECURITY_PROTOCOL", &protocols),
            sasl_mechanism: self.one_of("ICH_KAFKA_SASL_MECHANISM", &mechanisms),
            username: self.optional("ICH_KAFKA_USERNAME"),
            password: self.secret("ICH_KAFKA_PASSWORD"),
            ca_file: self.optional("ICH_KAFKA_CA_FILE"),
        };
        self.faults.extend(settings.faults());
        if let Some(path) = &settings.ca_file {
            self.check_certificates("ICH_KAFKA_CA_FILE", path);
        }
        Some(settings)
    }

    /// A folder is not looked into: OpenSSL takes one too.
    fn check_certificates(&mut self, name: &str, path: &str) {
        if Path::new(path).is_dir() {
            return;
        }
        match std::fs::read(path) {
            Err(error) => self.fault(name, path, &format!("cannot be read: {error}")),
            Ok(pem) if X509::stack_from_pem(&pem).is_ok_and(|certificates| !certificates.is_empty()) => {}
            Ok(_) => self.fault(name, path, "has no certificate in the form of PEM (-----BEGIN CERTIFICATE-----)"),
        }
    }

    /// The file of the issuer's public key, if it can be used.
    pub(super) fn jwt_public_key_file(&mut self) -> Option<PathBuf> {
        let name = "ICH_JWT_PUBLIC_KEY_FILE";
        let path = self.optional(name)?;
        let checked = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|pem| token::check_public_key(&pem).map_err(|error| format!("cannot be used: {error}")));
        if let Err(what) = checked {
            self.fault(name, &path, &what);
        }
        Some(PathBuf::from(path))
    }

    /// Without brokers they would have no effect, and the server would be a lobby of its own.
    fn refuse_kafka_settings_without_brokers(&mut self) {
        let set: Vec<&str> = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .filter(|name| name.starts_with("ICH_KAFKA_") && self.optional(name).is_some())
            .collect();
        if !set.is_empty() {
            let (verb, them) = if set.len() == 1 { ("is", "it") } else { ("are", "them") };
            self.faults.push(format!(
                "ICH_KAFKA_BROKERS is not set, but {} {verb}: set ICH_KAFKA_BROKERS=host:port to use Kafka, or remove \
                 {them} for a lobby of this instance alone",
                set.join(", ")
            ));
        }
    }

    fn one_of(&mut self, name: &str, allowed: &[&str]) -> Option<String> {
        let value = self.optional(name)?;
        if !allowed.contains(&value.as_str()) {
            self.fault(name, &value, &format!("is not one of {}", allowed.join(", ")));
        }
        Some(value)
    }

    pub(super) fn log_filter(&mut self) -> LogFilter {
        let text = self.text("ICH_LOG");
        LogFilter::parse(&text).unwrap_or_else(|what| {
            self.fault("ICH_LOG", &text, &what);
            LogFilter { levels: Vec::new(), containing: None }
        })
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
