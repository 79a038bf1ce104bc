//! The command line. `ich` runs the server, `ich check` only checks the settings, `ich export` writes the archive.
//!
//! [`Arguments`] is the one definition of all commands: `--help`, the man page and the completions of shells are
//! generated from it (`reference.rs`). A command that does more than a few lines has a file of its own in `cli/`.

mod admin;
mod chat;
mod execute_again;
mod export;
mod http_client;
mod reference;
mod secret_input;
mod serve;
mod server_url;
mod stream;
mod user;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use log::{Level, error, log_enabled};

pub use self::serve::run;
use crate::config::Config;
use crate::lobby::{Action, EventId};
use crate::server;
use crate::shutdown::SECOND_SIGNAL_EXIT_CODE;

/// The environment variable with a token.
const TOKEN_VARIABLE: &str = "ICH_TOKEN";
/// A signal stopped the server, or the command succeeded.
const EXIT_STOPPED: u8 = 0;
/// The server could not start or continue, or the command failed.
const EXIT_FAILED: u8 = 1;
/// Invalid settings, or an invalid command line.
const EXIT_USAGE: u8 = 2;
/// The meaning of each exit code, for the help and the man page.
const EXIT_CODES: [(u8, &str); 4] = [
    (EXIT_STOPPED, "stopped by a signal, or the command succeeded"),
    (EXIT_FAILED, "failed"),
    (EXIT_USAGE, "invalid settings or command line"),
    (SECOND_SIGNAL_EXIT_CODE, "ended by a second signal"),
];

/// The backend of a lobby chat: one room, one order of events for all users
#[derive(Debug, Parser)]
#[command(name = "ich", version, after_help = reference::after_help())]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT; a second signal ends it at once. This is the default
    Serve,
    /// Check the settings and report all errors
    Check,
    /// Manage the accounts in the database
    #[command(subcommand)]
    User(user::UserCommand),
    /// End the sessions of a user, who may join again
    ///
    /// This command and the next four call a running server, with the token of an administrator in ICH_TOKEN or on
    /// standard input.
    Kick(admin::User),
    /// Refuse the messages of a user
    Mute(admin::TimedUser),
    /// End the sessions of a user, and refuse new ones
    Ban(admin::TimedUser),
    /// End the ban and the mute of a user
    Unban(admin::User),
    /// List the bans and mutes
    Bans(admin::Server),
    /// Chat in the terminal, or in a pipe
    ///
    /// In a terminal: the users, the messages and a line to write in. With standard input or output in a pipe or a file, each
    /// line of standard input is a message, and each message is printed as a line; after the end of standard input, the
    /// client goes on printing until SIGTERM or SIGINT.
    Chat(chat::Chat),
    /// Write the archive to standard output, as JSON lines
    Export {
        /// Only the messages after the one with this id
        #[arg(long, value_name = "EVENT_ID")]
        after: Option<EventId>,
    },
    /// Print the man page
    #[command(hide = true)]
    Man,
    /// Print the completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Runs the program: parses the arguments of the process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is no error: `ich --help | head` closes it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_STOPPED });
        }
    };
    match arguments.command {
        None | Some(Command::Serve) => serve::serve(),
        Some(Command::Check) => check(),
        Some(Command::User(command)) => user::run(command),
        Some(Command::Kick(user)) => admin::act(Action::Kick, &user),
        Some(Command::Mute(user)) => admin::act_for(Action::Mute, &user),
        Some(Command::Ban(user)) => admin::act_for(Action::Ban, &user),
        Some(Command::Unban(user)) => admin::act(Action::Unban, &user),
        Some(Command::Bans(server)) => admin::bans(&server),
        Some(Command::Chat(chat)) => chat::run(&chat),
        Some(Command::Export { after }) => export::run(after),
        Some(Command::Man) => print(&reference::man_page(&Arguments::command())),
        Some(Command::Completions { shell }) => print(&reference::completions(&mut Arguments::command(), shell)),
    }
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

/// Prints to standard output. A closed pipe is no error: `ich --help | head` closes it.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
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
