//! `ich export`: writes the archive to standard output.

use std::io::BufWriter;
use std::process::ExitCode;

use super::{EXIT_FAILED, failed, unusable};
use crate::archive::export;
use crate::archive::place::Place;
use crate::config::Config;
use crate::lobby::EventId;

/// Writes the messages after `after`, or all. A closed pipe is no error. Returns the exit code of the process.
pub(super) fn run(after: Option<EventId>) -> ExitCode {
    // Without the checks of a start: they would bind the port of the server that runs.
    let config = match Config::load() {
        Ok(config) => config,
        Err(errors) => return unusable(&errors.to_string()),
    };
    let place = match Place::of(&config) {
        Ok(place) => place,
        Err(error) => return ExitCode::from(failed(&error)),
    };
    match export::export(&place, after, &mut BufWriter::new(std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ich: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
