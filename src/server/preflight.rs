//! Checks, before anything is started, everything on this machine that the start needs and that only an operator can
//! change: the address, the data folder and the files in it. `ich check` and the start both call [`check`], so they agree.
//!
//! Changes nothing and connects to nothing. Called on the main thread.

use std::net::SocketAddr;

use super::StartError;
use super::start::SECRET_FILE;
use crate::accounts::{secret, sqlite};
use crate::config::{Config, EventLogSettings};
use crate::{event_log, net};

/// All reasons why a server with these settings would not start; none if it would. Errors that can pass by themselves are
/// not among them, such as a full disk.
pub(crate) fn check(config: &Config) -> Vec<StartError> {
    let address = SocketAddr::new(config.host, config.port);
    let mut errors: Vec<StartError> =
        [net::check_address(address).map_err(|source| StartError::Listen { address, source }), check_event_log(config)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
    match crate::sqlite::check_folder(&config.data_dir) {
        Ok(()) => errors.extend(check_files(config)),
        // The files in it cannot be used either, for the same reason.
        Err(error) => errors.push(StartError::DataDir(error.to_string())),
    }
    errors
}

fn check_files(config: &Config) -> Vec<StartError> {
    let mut errors = Vec::new();
    if config.jwt_secret.is_none() && config.jwt_public_key_file.is_none() {
        errors.extend(secret::check(&config.data_dir.join(SECRET_FILE)).map_err(StartError::TokenSecret).err());
    }
    if config.database_url.is_none() {
        errors.extend(sqlite::check(&config.data_dir).map_err(StartError::Accounts).err());
    }
    if let EventLogSettings::Sqlite(_) = config.event_log {
        errors.extend(event_log::sqlite::check(&config.data_dir).map_err(StartError::EventLogFile).err());
    }
    errors
}

/// The settings of Kafka were checked when they were read.
fn check_event_log(config: &Config) -> Result<(), StartError> {
    match config.event_log {
        EventLogSettings::Kafka(_) if cfg!(not(feature = "kafka")) => Err(StartError::WithoutKafka),
        _ => Ok(()),
    }
}
