//! `ich chat`: a client of the lobby, in a terminal (`screen.rs`) or in a pipe (`pipe.rs`).
//!
//! ```text
//! credentials ──token──> network (thread) ── session (pure): connection, resume, gap, outgoing, renewal
//!                          │ updates  ^ messages
//!                          v          │
//!                        pipe  or  screen ── room (pure) ── view
//! ```
//!
//! No module of the server imports this one.

mod connection;
mod credentials;
mod gap;
mod history;
mod input;
mod lines;
mod lobby_client;
mod network;
mod outgoing;
mod pipe;
mod presence;
mod protocol;
mod renewal;
mod resume;
mod room;
mod screen;
mod session;
mod signals;
mod socket;
mod terminal_guard;
mod theme;
mod timeline;
mod times;
mod update;
mod users;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::lobby_client::LobbyClient;
use super::server_url::ServerUrl;
use super::{EXIT_FAILED, EXIT_USAGE};

/// How to join, and what to print.
#[derive(Debug, Args)]
pub(super) struct Chat {
    /// The URL of the server; by default the server of the settings on this machine
    url: Option<ServerUrl>,
    /// The email of the account; the password is in ICH_PASSWORD, or typed. Without it, ICH_TOKEN is used, or the email is typed
    #[arg(long)]
    email: Option<String>,
    /// How many earlier messages to show first, at most 10000
    #[arg(long, value_name = "MESSAGES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000))]
    last: u32,
    /// End when standard input has ended and all its lines are confirmed; show no earlier messages
    #[arg(long)]
    once: bool,
    /// With --once: how long to wait for the server, at most a day
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
    #[arg(requires = "once")]
    timeout: u64,
    /// Print the messages as JSON lines, with the fields of `ich export` without `from_id`
    #[arg(long)]
    json: bool,
}

/// Chats until the user leaves.
pub(super) fn run(chat: &Chat) -> ExitCode {
    match try_run(chat) {
        Ok(code) => code,
        Err((code, error)) => {
            eprintln!("ich: {error}");
            ExitCode::from(code)
        }
    }
}

fn try_run(chat: &Chat) -> Result<ExitCode, (u8, String)> {
    let url = match &chat.url {
        Some(url) => url.clone(),
        None => ServerUrl::of_settings().map_err(|error| (EXIT_USAGE, error))?,
    };
    let timeout = Duration::from_secs(chat.timeout);
    let login = credentials::token(&url, chat.email.as_deref(), chat.once.then_some(timeout));
    let (login, token) = login.map_err(|error| (EXIT_FAILED, error))?;
    let failed = |error: io::Error| (EXIT_FAILED, format!("the client cannot start: {error}"));
    let stop = signals::receiver().map_err(failed)?;
    let first = if chat.once { 0 } else { chat.last };
    let (server, own_name) = (url.to_string(), token.username.clone());
    let lobby = LobbyClient::join(url, login, token, first).map_err(failed)?;
    if io::stdin().is_terminal() && io::stdout().is_terminal() && !chat.once && !chat.json {
        return Ok(screen::run(lobby, server, own_name, &stop));
    }
    let options = pipe::Options { once: chat.once, timeout, json: chat.json };
    Ok(pipe::run(lobby, &options, &stop))
}
