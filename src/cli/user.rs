//! `ich user`: accounts in the database of the settings. A server may be running on it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;

use super::{EXIT_FAILED, EXIT_USAGE, print, secret_input};
use crate::accounts::Change;
use crate::accounts::directory::{Directory, DirectoryError};
use crate::config::Config;
use crate::server;
use crate::supervisor::Supervisor;

/// How long the command waits for a connection to the database.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// List all accounts: id, email, username, and whether the user is an administrator
    List,
    /// Add an account. The password is read from the terminal or from standard input
    Add {
        /// The email of the user
        email: String,
        /// The name that the lobby shows
        username: String,
    },
    /// Delete an account. Its tokens are valid until they expire; to end its sessions, ban the user
    Remove {
        /// Email or username
        user: String,
    },
    /// Make a user an administrator
    Promote {
        /// Email or username
        user: String,
    },
    /// Make an administrator an ordinary user
    Demote {
        /// Email or username
        user: String,
    },
    /// Set the password of a user, which is read from the terminal or from standard input
    SetPassword {
        /// Email or username
        user: String,
    },
}

/// Runs the command.
pub(super) fn run(command: UserCommand) -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(errors) => {
            eprint!("ich: the settings cannot be used:\n{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match open(&config).and_then(|directory| execute(&directory, command)) {
        Ok(output) => print(&output),
        Err(error) => {
            eprintln!("ich: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Opens the store, and waits until it is ready.
fn open(config: &Config) -> Result<Directory, String> {
    let (store, _) = server::open_accounts(config, &Supervisor::default()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    while !store.is_ready() {
        if Instant::now() >= deadline {
            return Err("the database of ICH_DATABASE_URL does not answer: `ich check` may say why".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Directory(store))
}

/// Returns what is printed.
fn execute(directory: &Directory, command: UserCommand) -> Result<String, String> {
    let text = |error: DirectoryError| error.to_string();
    let mut output = String::new();
    match command {
        UserCommand::List => directory.list(|found| {
            let role = if found.is_admin { "admin" } else { "user" };
            let account = &found.account;
            output.push_str(&format!("{}\t{}\t{}\t{role}\n", account.id, account.email, account.username));
        }),
        UserCommand::Add { email, username } => {
            let password = secret_input::read("password")?;
            directory.add(email, username, &password)
        }
        UserCommand::Remove { user } => directory.change(&user, &Change::Remove),
        UserCommand::Promote { user } => directory.change(&user, &Change::Admin(true)),
        UserCommand::Demote { user } => directory.change(&user, &Change::Admin(false)),
        UserCommand::SetPassword { user } => {
            let password = secret_input::read("new password")?;
            directory.set_password(&user, &password)
        }
    }
    .map_err(text)?;
    Ok(output)
}
