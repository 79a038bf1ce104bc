//! [`Connector`]: connections to the database of `ICH_DATABASE_URL` for the archive.
//!
//! They belong to a session: with settings of its own, prepared statements and an advisory lock.

use postgres::Client;

use super::diagnosis::describe_connect;
use super::schema;
use super::target::Target;

pub(crate) use super::diagnosis::describe;

/// How to connect. Its threads make a connection each, and a call on a connection may block for ever.
#[derive(Clone)]
pub(crate) struct Connector(Target);

impl Connector {
    /// Parses the URL.
    ///
    /// # Errors
    /// A text for the operator that contains no part of the URL.
    pub(crate) fn new(url: &str) -> Result<Connector, String> {
        Ok(Connector(Target::parse(url)?))
    }

    /// The servers and the database, without user and password.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Connects, and migrates the schema. `session` is SQL that begins the session, such as its limits.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn connect(&self, session: &str) -> Result<Client, String> {
        let mut client = self.connect_only(session)?;
        schema::migrate(&mut client)?;
        Ok(client)
    }

    /// As [`Connector::connect`], and changes nothing in the database.
    ///
    /// # Errors
    /// A text for the log.
    pub(crate) fn connect_only(&self, session: &str) -> Result<Client, String> {
        let connect = || {
            let mut client = self.0.connect()?;
            client.batch_execute(session)?;
            Ok(client)
        };
        connect().map_err(|error| describe_connect(&error, self.0.mode))
    }
}
