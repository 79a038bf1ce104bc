//! [`Connector`]: how to connect to the database of `ICH_DATABASE_URL`, for the accounts and for the archive.

use std::error::Error as _;

use postgres::error::SqlState;
use postgres::{Client, Config};
use postgres_openssl::MakeTlsConnector;

use super::schema::{self, SchemaError};
use super::url;

/// How to connect. Its threads make a connection each, and a call on a connection may block for ever.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: MakeTlsConnector,
}

impl Connector {
    /// Parses the URL.
    ///
    /// # Errors
    /// A text for the operator that contains no part of the URL.
    pub(crate) fn new(url: &str) -> Result<Connector, String> {
        let (config, tls) = url::parse(url)?;
        Ok(Connector { config, tls })
    }

    /// Connects, and migrates the schema. `session` is SQL that begins the session, such as its limits.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn connect(&self, session: &str) -> Result<Client, String> {
        let mut client = self.connect_only(session)?;
        schema::migrate(&mut client).map_err(|error: SchemaError| match error {
            SchemaError::Postgres(error) => describe(&error),
            SchemaError::LaterVersion(_) => error.to_string(),
        })?;
        Ok(client)
    }

    /// As [`Connector::connect`], and changes nothing in the database.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn connect_only(&self, session: &str) -> Result<Client, String> {
        let connect = || {
            let mut client = self.config.connect(self.tls.clone())?;
            client.batch_execute(session)?;
            Ok(client)
        };
        connect().map_err(|error| describe(&error))
    }
}

/// The error with its cause, and what the operator can do. Leaves out the server's detail, because it quotes stored
/// values.
pub(crate) fn describe(error: &postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
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
