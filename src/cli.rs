//! The command line: `ich` runs the server, `ich check` only checks the settings.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use log::{Level, error, info, log_enabled, warn};

use crate::config::{Config, SETTINGS};
use crate::server::Server;
use crate::supervisor::Supervisor;
use crate::{logging, machine, shutdown};

/// A fault in the settings or on the command line.
const EXIT_USAGE: u8 = 2;
/// The server could not start or go on.
const EXIT_FAILED: u8 = 1;
/// The server stopped as asked.
const EXIT_STOPPED: u8 = 0;
/// How often readiness is sampled for the log.
const READINESS_INTERVAL: Duration = Duration::from_millis(200);

/// How glibc is told, before the program starts, to be sparing with thousands of threads. Its allocator is to keep few
/// arenas, to give memory back, not to let its own idea of a large block grow (`man 3 mallopt`), and to keep no freed
/// blocks per thread: small blocks would otherwise be spread over dozens of arenas that never shrink, and each thread
/// would keep some 2 KiB for itself. And it is to leave no room in every thread for libraries that are loaded later:
/// this program loads none of its own, and with that 1.5 KiB less a connection's stack fits two pages instead of three.
const C_LIBRARY: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.rtld.nns=1:glibc.rtld.optional_static_tls=0"),
];

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["serve"] => {
            set_c_library();
            serve()
        }
        ["check"] => check(),
        ["--help" | "-h" | "help"] => print(&help()),
        ["--version" | "-V"] => print(&version()),
        other => {
            eprintln!("ich: {} is not understood; `ich --help` tells what is", other.join(" "));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The name and version.
#[must_use]
pub fn version() -> String {
    format!("ich {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `ich --help` prints.
#[must_use]
pub fn help() -> String {
    let mut text = format!(
        "ich {}: the backend of a lobby chat\n\n\
         usage:\n  ich           run the server until SIGTERM or SIGINT; a second one ends it at once\n  \
         ich check     check the settings and say all that is wrong with them\n  \
         ich --help    this\n  ich --version\n\n\
         exit codes: 0 stopped as asked, 1 failed, 2 a fault in the settings\n\n\
         settings, from the environment and then from .env in the working directory:\n",
        env!("CARGO_PKG_VERSION")
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "" } else { " = " };
        text.push_str(&format!("  {}{default}{}\n      {}\n", setting.name, setting.default, setting.meaning));
    }
    text
}

/// Prints, and does not mind when nobody reads it to the end.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Starts this program anew, once, with glibc's settings in its environment: it reads them before anything of ours
/// runs. The process stays the same one. Settings that are there already are left alone.
fn set_c_library() {
    let missing: Vec<_> = C_LIBRARY.iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let arguments: Vec<_> = std::env::args_os().collect();
        let mut again = Command::new(program);
        again.args(arguments.iter().skip(1)).envs(missing.into_iter().copied());
        if let Some(name) = arguments.first() {
            again.arg0(name);
        }
        // It comes back only when it failed; then the server needs more memory, and runs.
        let _ = again.exec();
    }
}

fn load() -> Result<Config, ExitCode> {
    Config::load().map_err(|faults| {
        eprint!("ich: the settings cannot be used:\n{faults}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn check() -> ExitCode {
    match load() {
        Ok(config) => {
            for note in &config.notes {
                eprintln!("ich: {note}");
            }
            print("the settings are sound\n")
        }
        Err(code) => code,
    }
}

fn serve() -> ExitCode {
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
    let line = format!("ich {} listening on http://{}", env!("CARGO_PKG_VERSION"), server.address());
    print(&format!("{line} ({})\n", server.description()));
    ExitCode::from(run(server, &signals))
}

/// Runs the server until a signal or a failure ends it, and logs changes of readiness meanwhile. Gives the exit code.
#[must_use]
pub fn run(server: Server, signals: &Receiver<&'static str>) -> u8 {
    let mut logged = None;
    loop {
        select! {
            recv(signals) -> signal => {
                info!("received {}", signal.unwrap_or("a signal"));
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
            if readiness.is_ready() { info!("{readiness}") } else { warn!("not ready: {readiness}") }
        }
    }
}

/// Reports an error that ends the program, once: in the log, or on standard error where the log does not have it.
fn failed(what: &dyn std::fmt::Display) -> u8 {
    if log_enabled!(Level::Error) {
        error!("{what}");
    } else {
        eprintln!("ich: {what}");
    }
    EXIT_FAILED
}
