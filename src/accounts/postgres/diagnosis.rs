//! Explains errors of PostgreSQL to the operator: the cause, and what to do. Pure.
//!
//! The server's detail is left out, because it quotes stored values.

use std::error::Error as _;

use postgres::error::SqlState;

use super::tls_mode::TlsMode;
use crate::tls::CertificateFault;

/// The error with its cause and, where it is known, what to do.
pub(crate) fn describe(error: &postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return with_causes(error) };
    let advice = match *db.code() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            ": check user and password in ICH_DATABASE_URL"
        }
        SqlState::INVALID_CATALOG_NAME => ": create the database, or correct its name in ICH_DATABASE_URL",
        SqlState::INSUFFICIENT_PRIVILEGE => ": grant the user of ICH_DATABASE_URL the right to create and use tables",
        SqlState::TOO_MANY_CONNECTIONS => ": raise max_connections of the database",
        _ => "",
    };
    format!("{} ({}){advice}", db.message(), db.code().code())
}

/// As [`describe`], for an error of connecting with this `sslmode`.
pub(super) fn describe_connect(error: &postgres::Error, mode: TlsMode) -> String {
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => with_causes(error),
    };
    if let Some(fault) = CertificateFault::named_in(&text) {
        // OpenSSL's names of functions and files come before its text.
        let problem = text.rsplit(": ").next().unwrap_or(&text);
        let advice = certificate_advice(fault, mode.name());
        return format!("the certificate of the server is not accepted: {problem}: {advice}");
    }
    match connect_advice(error, &text, mode) {
        Some(advice) => format!("{text}: {advice}"),
        None => describe(error),
    }
}

/// The server has no line in `pg_hba.conf` for this connection, encrypted as it was.
pub(super) fn is_not_in_hba(error: &postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| db.message().contains("pg_hba.conf"))
}

/// No connection was made, so the server had no say.
pub(super) fn is_unreachable(error: &postgres::Error) -> bool {
    error.to_string().starts_with("error connecting to server")
}

fn connect_advice(error: &postgres::Error, text: &str, mode: TlsMode) -> Option<String> {
    let mode_name = mode.name();
    if is_not_in_hba(error) {
        return Some(match () {
            () if mode.is_optional() => {
                "add a line for this user, database and address to pg_hba.conf of the server".to_owned()
            }
            // Before version 14: "SSL off".
            () if text.contains("no encryption") || text.contains("SSL off") => format!(
                "the server accepts the connection only with TLS, or not at all: set sslmode=require or verify-full in \
                 ICH_DATABASE_URL instead of {mode_name}, or add a line to pg_hba.conf of the server"
            ),
            () => format!(
                "the server accepts the connection only without TLS, or not at all: set sslmode=disable in \
                 ICH_DATABASE_URL instead of {mode_name}, or add a line to pg_hba.conf of the server"
            ),
        });
    }
    if text.contains("valid client certificate") || text.contains("certificate authentication failed") {
        return Some(
            "the server requires a certificate of this user: set sslcert and sslkey in ICH_DATABASE_URL, with the user as \
             its common name"
                .to_owned(),
        );
    }
    if text.contains("server does not support TLS") {
        return Some(format!(
            "sslmode={mode_name} in ICH_DATABASE_URL needs it: turn on ssl in postgresql.conf of the server, or set \
             sslmode=disable"
        ));
    }
    if text.contains(" alert ") {
        return Some(
            "the server refuses the certificate of this client: check sslcert and sslkey in ICH_DATABASE_URL, and \
             ssl_ca_file of the server"
                .to_owned(),
        );
    }
    if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) {
        return Some("check the connection pooler in ICH_DATABASE_URL, its log and its database".to_owned());
    }
    if is_unreachable(error) {
        return Some("check that PostgreSQL runs there, and the host and port in ICH_DATABASE_URL".to_owned());
    }
    text.contains("password missing").then(|| "set the password in ICH_DATABASE_URL".to_owned())
}

fn certificate_advice(fault: CertificateFault, mode_name: &str) -> String {
    match fault {
        CertificateFault::Expired | CertificateFault::NotYetValid => {
            "renew the certificate of the server, or correct the clock of this machine".to_owned()
        }
        CertificateFault::WrongName => {
            format!("use the host of the certificate in ICH_DATABASE_URL, or sslmode=verify-ca instead of {mode_name}")
        }
        CertificateFault::Untrusted => {
            "set sslrootcert in ICH_DATABASE_URL to the certificate of the authority that signed the server's"
                .to_owned()
        }
    }
}

/// The error and its causes, each once.
fn with_causes(error: &postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}
