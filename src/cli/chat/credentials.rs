//! Who the user is: a token from the environment, or an email and a password, with which the client can log in again when
//! the token ends. A password is never an argument, and neither is a token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::renewal::Token;
use crate::cli::server_url::ServerUrl;
use crate::cli::{TOKEN_VARIABLE, http_client, secret_input};
use crate::one_shot;
use crate::threads::{self, Stack};

/// The environment variable with the password.
const PASSWORD_VARIABLE: &str = "ICH_PASSWORD";

/// How the client logs in again.
pub(super) enum Login {
    /// It has got a token, and no password.
    Never,
    With {
        email: String,
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.can_log_in() { "With(..)" } else { "Never" })
    }
}

/// Why there is no token.
#[derive(Debug)]
pub(super) struct LoginFailed {
    /// The same login would fail again.
    pub(super) is_final: bool,
    pub(super) reason: String,
}

/// Gets a token: that in `ICH_TOKEN`, or one for the email and the password, which is in `ICH_PASSWORD` or which the user
/// types. `timeout`: for the login.
///
/// # Errors
/// A text with the reason.
pub(super) fn token(
    url: &ServerUrl,
    email: Option<&str>,
    timeout: Option<Duration>,
) -> Result<(Arc<Login>, Token), String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let email = match (email, variable(TOKEN_VARIABLE)) {
        (None, Some(token)) if http_client::is_token(&token) => {
            return Ok((Arc::new(Login::Never), Token::new(token, Instant::now())));
        }
        (None, Some(_)) => {
            return Err(format!("{TOKEN_VARIABLE} is no token: it contains a space or a control character"));
        }
        (None, None) => secret_input::ask("email", "use --email, or set ICH_TOKEN")?,
        (Some(email), _) => email.to_owned(),
    };
    let password = match variable(PASSWORD_VARIABLE) {
        Some(password) => password,
        None => secret_input::ask_hidden("password", "set ICH_PASSWORD")?,
    };
    let login = Arc::new(Login::With { email, password });
    let token = match timeout {
        Some(timeout) => log_in_within(timeout, login.clone(), url.clone()),
        None => login.log_in(url).map_err(|failed| failed.reason),
    };
    Ok((login, token?))
}

fn log_in_within(timeout: Duration, login: Arc<Login>, url: ServerUrl) -> Result<Token, String> {
    let (sender, token) = one_shot::channel();
    let started = threads::spawn("chat-login", Stack::Normal, move || {
        sender.send(login.log_in(&url));
    });
    started.map_err(|error| format!("no thread can be started: {error}"))?;
    let token = token.recv_timeout(timeout);
    let token = token.map_err(|_| format!("not logged in after {} seconds", timeout.as_secs()))?;
    token.map_err(|failed| failed.reason)
}

impl Login {
    pub(super) fn can_log_in(&self) -> bool {
        matches!(self, Login::With { .. })
    }

    /// Gets a new token. Blocks.
    pub(super) fn log_in(&self, url: &ServerUrl) -> Result<Token, LoginFailed> {
        let Login::With { email, password } = self else {
            return Err(LoginFailed { is_final: true, reason: "there is no password".to_owned() });
        };
        let body = json!({"email": email, "password": password}).to_string();
        let now = Instant::now();
        let answer = http_client::request(url, "POST", "/login", "", &body);
        let answer = answer.map_err(|reason| LoginFailed { is_final: false, reason })?;
        let is_final = answer.status < 500 && answer.status != 429 && answer.status != 408;
        match answer.body["token"].as_str().filter(|token| http_client::is_token(token)) {
            Some(token) if answer.status == 200 => Ok(Token::new(token.to_owned(), now)),
            _ => Err(LoginFailed { is_final, reason: answer.error() }),
        }
    }
}
