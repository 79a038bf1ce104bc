//! The command line: `ich` runs the server, `ich check` only checks the settings, `ich export` writes the archive.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use log::{Level, error, info, log_enabled, warn};

use crate::archive::export;
use crate::archive::place::Place;
use crate::config::{Config, SETTINGS};
use crate::lobby::EventId;
use crate::server::{self, Server};
use crate::supervisor::Supervisor;
use crate::{logging, machine, shutdown};

/// Invalid settings, or an invalid command line.
const EXIT_USAGE: u8 = 2;
/// The server could not start or continue.
const EXIT_FAILED: u8 = 1;
/// A signal stopped the server.
const EXIT_STOPPED: u8 = 0;
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

/// Runs the program: parses the arguments of the process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["serve"] => {
            set_c_library();
            serve()
        }
        ["check"] => check(),
        ["export"] => run_export(None),
        ["export", "--after", event_id] => run_export(Some(event_id)),
        ["--help" | "-h" | "help"] => print(&help()),
        ["--version" | "-V"] => print(&version()),
        other => {
            eprintln!("ich: unknown command `{}`; `ich --help` lists the commands", other.join(" "));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn version() -> String {
    format!("ich {}\n", env!("CARGO_PKG_VERSION"))
}

fn help() -> String {
    let mut text = format!(
        "ich {}: the backend of a lobby chat\n\n\
         usage:\n  ich           run the server until SIGTERM or SIGINT; a second signal ends it at once\n  \
         ich check     check the settings and report all errors\n  \
         ich export [--after EVENT_ID]\n                write the archive, or what follows a message, as JSON lines\n  \
         ich --help    print this text\n  ich --version print the version\n\n\
         exit codes: 0 stopped by a signal, 1 failed, 2 invalid settings or command, 130 ended by a second signal\n\n\
         settings, from the environment, then from .env in the working directory:\n",
        env!("CARGO_PKG_VERSION")
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "" } else { " = " };
        text.push_str(&format!("  {}{default}{}\n      {}\n", setting.name, setting.default, setting.meaning));
    }
    text
}

/// Prints to standard output. A closed pipe is no error: `ich --help | head` closes it.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
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

/// Reads the settings, and checks what the start needs: the same for `ich check` and for the start.
fn load() -> Result<Config, ExitCode> {
    let config = Config::load().map_err(|errors| unusable(&errors.to_string()))?;
    let problems: String = server::check(&config).iter().map(|problem| format!("  {problem}\n")).collect();
    if problems.is_empty() { Ok(config) } else { Err(unusable(&problems)) }
}

/// `errors`: one line each.
fn unusable(errors: &str) -> ExitCode {
    eprint!("ich: the settings cannot be used:\n{errors}");
    ExitCode::from(EXIT_USAGE)
}

fn check() -> ExitCode {
    match load() {
        Ok(config) => {
            for note in &config.notes {
                eprintln!("ich: {note}");
            }
            print("the settings are valid\n")
        }
        Err(code) => code,
    }
}

/// Writes the archive to standard output. A closed pipe is no error.
fn run_export(after: Option<&str>) -> ExitCode {
    let Ok(after) = after.map(str::parse::<EventId>).transpose() else {
        eprintln!("ich: --after needs the event_id of a message");
        return ExitCode::from(EXIT_USAGE);
    };
    let config = match load() {
        Ok(config) => config,
        Err(code) => return code,
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

/// Runs the server until `signals` receives the name of a signal, or a supervised thread fails. Logs each change of
/// readiness. Returns the exit code. Called on the main thread.
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

/// Reports an error that ends the program, once: in the log, or on standard error if `ICH_LOG` turns errors off.
fn failed(error: &dyn std::fmt::Display) -> u8 {
    if log_enabled!(Level::Error) {
        error!("{error}");
    } else {
        eprintln!("ich: {error}");
    }
    EXIT_FAILED
}
