//! `ich kick`, `mute`, `ban`, `unban` and `bans`: call the endpoints of a running server. Any instance of a lobby will do.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::http_client::{self, Answer};
use super::{EXIT_FAILED, EXIT_USAGE, print, secret_input};
use crate::config::Config;
use crate::lobby::Action;
use crate::proxies::Proxies;

/// The environment variable with the token.
const TOKEN_VARIABLE: &str = "ICH_TOKEN";

/// How to reach the server.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The server; by default the one of the settings on this machine
    #[arg(long)]
    url: Option<String>,
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
        let text = |name: &str| ban[name].as_str().unwrap_or("-");
        let columns = ["kind", "username", "until", "by", "reason"].map(text);
        output.push_str(&format!("{}\n", columns.join("\t")));
    }
    print(&output)
}

/// Sends the request. Prints the error if it fails.
fn call(server: &Server, method: &str, path: &str, body: &str) -> Result<Value, ExitCode> {
    let fail = |error: String, code: u8| {
        eprintln!("ich: {error}");
        ExitCode::from(code)
    };
    let (url, proxies) = match &server.url {
        Some(url) => (url.clone(), Proxies::default()),
        None => match Config::load() {
            Ok(config) => (format!("http://localhost:{}", config.port), config.proxies),
            Err(errors) => return Err(fail(format!("the settings cannot be used:\n{errors}"), EXIT_USAGE)),
        },
    };
    let token = match std::env::var(TOKEN_VARIABLE) {
        Ok(token) if !token.is_empty() => token,
        _ => secret_input::read("token (or set ICH_TOKEN)").map_err(|error| fail(error, EXIT_USAGE))?,
    };
    let answer = http_client::request(&url, &proxies, method, path, &token, body);
    let Answer { status, body } = answer.map_err(|error| fail(error, EXIT_FAILED))?;
    if status == 200 {
        return Ok(body);
    }
    let message = body["message"].as_str().unwrap_or("the answer has no message");
    Err(fail(format!("the server answers {status}: {message}"), EXIT_FAILED))
}
