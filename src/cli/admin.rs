//! `ich kick`, `mute`, `ban`, `unban` and `bans`: call the endpoints of a running server. Any instance of a lobby will do.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::server_url::ServerUrl;
use super::{EXIT_FAILED, EXIT_USAGE, TOKEN_VARIABLE, http_client, print, secret_input};
use crate::lobby::Action;
use crate::text::terminal::printable;

/// How to reach the server.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The server; by default the one of the settings on this machine
    #[arg(long)]
    url: Option<ServerUrl>,
}

/// A user, and why.
#[derive(Debug, Args)]
pub(super) struct User {
    /// The username
    username: String,
    /// The reason, which the user sees
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// A user, for how long, and why.
#[derive(Debug, Args)]
pub(super) struct TimedUser {
    /// For how long; 0: until `ich unban`
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    #[command(flatten)]
    user: User,
}

/// Applies an action that has no end.
pub(super) fn act(action: Action, user: &User) -> ExitCode {
    apply(action, user, 0)
}

/// Applies an action that may have an end.
pub(super) fn act_for(action: Action, timed: &TimedUser) -> ExitCode {
    apply(action, &timed.user, timed.minutes)
}

fn apply(action: Action, user: &User, minutes: u64) -> ExitCode {
    let body = json!({"username": user.username, "minutes": minutes, "reason": user.reason}).to_string();
    let path = format!("/admin/{}", action.name());
    match call(&user.server, "POST", &path, &body) {
        Ok(_) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// Lists the bans and mutes, one line each: kind, username, end, administrator, reason.
pub(super) fn bans(server: &Server) -> ExitCode {
    let answer = match call(server, "GET", "/admin/bans", "") {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let mut output = String::new();
    for ban in answer["bans"].as_array().into_iter().flatten() {
        output.push_str(&line(ban));
    }
    print(&output)
}

/// A ban or a mute. Other users wrote the texts, so control characters are replaced, and a tab is always a separator.
fn line(ban: &Value) -> String {
    let text = |name: &str| printable(ban[name].as_str().unwrap_or("-"));
    let columns = ["kind", "username", "until", "by", "reason"].map(text);
    format!("{}\n", columns.join("\t"))
}

/// Sends the request. Prints the error if it fails.
fn call(server: &Server, method: &str, path: &str, body: &str) -> Result<Value, ExitCode> {
    let fail = |error: String, code: u8| {
        eprintln!("ich: {error}");
        ExitCode::from(code)
    };
    let url = match &server.url {
        Some(url) => url.clone(),
        None => ServerUrl::of_settings().map_err(|error| fail(error, EXIT_USAGE))?,
    };
    let token = match std::env::var(TOKEN_VARIABLE) {
        Ok(token) if !token.is_empty() => token,
        _ => secret_input::read("token (or set ICH_TOKEN)").map_err(|error| fail(error, EXIT_USAGE))?,
    };
    let answer = http_client::request(&url, method, path, &token, body);
    let answer = answer.map_err(|error| fail(error, EXIT_FAILED))?;
    if answer.status == 200 { Ok(answer.body) } else { Err(fail(answer.error(), EXIT_FAILED)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_a_line_that_no_terminal_obeys() {
        let ban = json!({"kind": "ban", "username": "Ann\u{202E}", "by": "Root", "reason": "a\u{1b}[2J\tb\nc"});
        assert_eq!(line(&ban), "ban\tAnn\t-\tRoot\ta␛[2J    b␊c\n");
    }
}
