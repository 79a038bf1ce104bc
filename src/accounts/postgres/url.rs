//! Parses `ICH_DATABASE_URL`. Pure, but for the file with certificates that the URL may name.
//!
//! The client library knows only three values of `sslmode`, and no `sslrootcert`. So these two parameters are parsed
//! here, and removed from the URL before the library parses it.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::SslMode;
use postgres_openssl::MakeTlsConnector;

use crate::tls::{self, Verify};

/// The time to connect to each address of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long sent data may stay unacknowledged before the connection counts as broken.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// The error for every malformed URL. The text of the parser is not used: if the password contains a delimiter such as
/// `@`, that text may quote a part of the password.
const MALFORMED: &str = "ICH_DATABASE_URL is malformed: write postgres://user:password@host:5432/database?sslmode=require, \
                         with special characters in the password percent-encoded (@ as %40), and parameters as in libpq";

/// How to connect to the database of this URL.
///
/// # Errors
/// A text for the operator that contains no part of the URL.
pub(super) fn parse(url: &str) -> Result<(Config, MakeTlsConnector), String> {
    // With two `@`, the library would take the end of the password for the name of a host, and look it up.
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
    if authority.is_some_and(|authority| authority.matches('@').count() > 1) {
        return Err(MALFORMED.to_owned());
    }
    let (url, tls) = TlsParameters::take_from(url).ok_or(MALFORMED)?;
    let mut config: Config = url.parse().map_err(|_| MALFORMED)?;
    config.ssl_mode(tls.mode);
    if config.get_application_name().is_none() {
        config.application_name("ich");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    config
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    let connector = tls::postgres_connector(tls.verify, tls.root_cert.as_deref())
        .map_err(|error| format!("ICH_DATABASE_URL: sslrootcert cannot be used: {error}"))?;
    Ok((config, connector))
}

#[derive(Debug, PartialEq)]
struct TlsParameters {
    mode: SslMode,
    verify: Verify,
    /// `None`: the certificates of the system.
    root_cert: Option<String>,
}

impl TlsParameters {
    /// The URL without `sslmode` and `sslrootcert`, and these two. `None`: the URL is malformed.
    fn take_from(url: &str) -> Option<(String, TlsParameters)> {
        let after_scheme = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let after_password = after_scheme.split_once('@').map_or(after_scheme, |(_, rest)| rest);
        let (mut mode, mut root_cert) = ("prefer".to_owned(), None);
        let Some((_, query)) = after_password.split_once('?') else {
            return Some((url.to_owned(), Self::from_values(&mode, root_cert)?));
        };
        let mut others = Vec::new();
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = percent_decoded(value)?,
                Some(("sslrootcert", value)) => root_cert = Some(percent_decoded(value)?),
                _ => others.push(parameter),
            }
        }
        let base = url.strip_suffix(query)?;
        Some((format!("{base}{}", others.join("&")), Self::from_values(&mode, root_cert)?))
    }

    fn from_values(mode: &str, root_cert: Option<String>) -> Option<Self> {
        let (mode, verify) = match mode {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
            "require" if root_cert.is_none() => (SslMode::Require, Verify::Nothing),
            "require" | "verify-ca" => (SslMode::Require, Verify::Certificate),
            "verify-full" => (SslMode::Require, Verify::CertificateAndHost),
            _ => return None,
        };
        Some(TlsParameters { mode, verify, root_cert: root_cert.filter(|path| path != "system") })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    // The library keeps a `%` without two hexadecimal digits; here it is an error.
    let is_escape = |after: &str| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tls_parameters_are_removed_from_the_url() {
        let expected = |mode, verify, root_cert: Option<&str>| TlsParameters {
            mode,
            verify,
            root_cert: root_cert.map(str::to_owned),
        };
        let url = "postgres://u:p?sslmode=x@h:5432/d?connect_timeout=1&sslmode=verify-full&sslrootcert=%2Fa%20b.pem";
        let (rest, parameters) = TlsParameters::take_from(url).unwrap();
        assert_eq!(rest, "postgres://u:p?sslmode=x@h:5432/d?connect_timeout=1");
        assert_eq!(parameters, expected(SslMode::Require, Verify::CertificateAndHost, Some("/a b.pem")));
        for (query, expected) in [
            ("", expected(SslMode::Prefer, Verify::Nothing, None)),
            ("?sslmode=disable", expected(SslMode::Disable, Verify::Nothing, None)),
            ("?sslmode=require", expected(SslMode::Require, Verify::Nothing, None)),
            ("?sslmode=require&sslrootcert=/c", expected(SslMode::Require, Verify::Certificate, Some("/c"))),
            ("?sslmode=verify-ca&sslrootcert=system", expected(SslMode::Require, Verify::Certificate, None)),
        ] {
            let (rest, parameters) = TlsParameters::take_from(&format!("postgresql://u@h/d{query}")).unwrap();
            assert_eq!(parameters, expected);
            assert!(rest.parse::<Config>().is_ok(), "{rest}");
        }
    }

    #[test]
    fn an_invalid_escape_or_one_that_is_not_utf8_is_an_error() {
        assert_eq!(percent_decoded("%C3%a9%25").as_deref(), Some("é%"));
        for invalid in ["%", "%2", "%zz", "%+1", "a%é", "%ff"] {
            assert_eq!(percent_decoded(invalid), None, "{invalid}");
        }
    }
}
