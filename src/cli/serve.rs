//! `ich` and `ich serve`: runs the server, on the main thread.

use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use log::{info, warn};

use super::{EXIT_FAILED, EXIT_STOPPED, execute_again, failed, load, print};
use crate::server::Server;
use crate::supervisor::Supervisor;
use crate::systemd::Notifier;
use crate::{logging, machine, shutdown};

/// How often readiness is sampled for the log.
const READINESS_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the server until it is stopped. Returns the exit code of the process.
pub(super) fn serve() -> ExitCode {
    execute_again::with_less_memory();
    let config = match load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let supervisor = Supervisor::default();
    let _log = match logging::start(&config.log, config.log_format, &supervisor) {
        Ok(guard) => guard,
        Err(error) => return ExitCode::from(failed(&error)),
    };
    for note in &config.notes {
        warn!("{note}");
    }
    machine::raise_descriptor_limit();
    let signals = match shutdown::signals(&supervisor) {
        Ok(signals) => signals,
        Err(error) => return ExitCode::from(failed(&error)),
    };
    let server = match Server::start(&config, &supervisor) {
        Ok(server) => server,
        Err(error) => return ExitCode::from(failed(&error)),
    };
    let notifier = match Notifier::start(&supervisor) {
        Ok(notifier) => notifier,
        Err(error) => return ExitCode::from(failed(&error)),
    };
    let line = format!("ich {} listening on http://{}", env!("CARGO_PKG_VERSION"), server.address());
    print(&format!("{line} ({})\n", server.description()));
    notifier.started();
    ExitCode::from(run(server, &signals, &notifier))
}

/// Runs the server until `signals` receives the name of a signal, or a supervised thread fails. Logs each change of
/// readiness, and sends it to `notifier`. Returns the exit code. Called on the main thread.
#[must_use]
pub fn run(server: Server, signals: &Receiver<&'static str>, notifier: &Notifier) -> u8 {
    let mut logged = None;
    loop {
        select! {
            recv(signals) -> signal => {
                info!("received {}", signal.unwrap_or("a signal"));
                notifier.stopping();
                return if server.stop() { EXIT_STOPPED } else { EXIT_FAILED };
            }
            recv(server.failed()) -> failure => {
                let code = match failure {
                    Ok(failure) => failed(&failure),
                    Err(error) => failed(&error),
                };
                server.close_after_failure();
                return code;
            }
            default(READINESS_INTERVAL) => {}
        }
        let readiness = server.readiness();
        if logged != Some(readiness) {
            logged = Some(readiness);
            if readiness.is_ready() {
                info!("{readiness}");
                notifier.status(readiness.to_string());
            } else {
                warn!("not ready: {readiness}");
                notifier.status(format!("not ready: {readiness}"));
            }
        }
    }
}
