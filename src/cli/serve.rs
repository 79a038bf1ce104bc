//! `ich` and `ich serve`: runs the server, on the main thread.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use log::{info, warn};

use super::{EXIT_FAILED, EXIT_STOPPED, failed, load, print};
use crate::server::Server;
use crate::supervisor::Supervisor;
use crate::systemd::Notifier;
use crate::{logging, machine, shutdown};

/// How often readiness is sampled for the log.
const READINESS_INTERVAL: Duration = Duration::from_millis(200);

/// Settings of glibc that save memory with thousands of threads; glibc reads them before `main` (`man 3 mallopt`, and
/// the tunables in the manual of glibc).
///
/// - Few arenas; freed memory goes back to the system; the size from which a block is mapped separately stays fixed. By
///   default small blocks are spread over dozens of arenas that never shrink.
/// - No cache of freed blocks per thread (`tcache_count`): it takes about 2 KiB of each thread.
/// - No space in each thread for libraries that are loaded later; this program loads none. Without these 1.5 KiB, the
///   stack of a connection fits into two pages instead of three.
const C_LIBRARY: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.rtld.nns=1:glibc.rtld.optional_static_tls=0"),
];

/// Runs the server until it is stopped. Returns the exit code of the process.
pub(super) fn serve() -> ExitCode {
    set_c_library();
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

/// Executes this program again, once, with [`C_LIBRARY`] in its environment. The process id stays the same. Variables
/// that are set already are not changed.
fn set_c_library() {
    let missing: Vec<_> = C_LIBRARY.iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let mut command = Command::new(program);
        command.args(arguments.iter().skip(1)).envs(missing.into_iter().copied());
        if let Some(name) = arguments.first() {
            command.arg0(name);
        }
        // `exec` returns only if it failed. The server then runs without these settings and uses more memory.
        let _ = command.exec();
    }
}
