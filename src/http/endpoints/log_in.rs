//! `POST /login`: checks email and password, and issues a token.

use std::net::IpAddr;
use std::time::Instant;

use log::warn;
use serde::{Deserialize, Serialize};

use super::{account_error, count_refusal};
use crate::accounts::{Account, AccountError, TokenError};
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::body::{self, TextField};
use crate::http::endpoint::PostEndpoint;
use crate::http::response::Response;

pub(crate) struct LogIn {
    email: String,
    password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    email: TextField,
    password: TextField,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    id: &'a str,
    username: &'a str,
    token: &'a str,
}

impl PostEndpoint for LogIn {
    /// `None`: no account has a token here.
    type Output = Option<Result<Account, AccountError>>;

    fn parse(body: &[u8]) -> Result<Self, Response> {
        let body: Body = body::parse(body)?;
        Ok(LogIn { email: body.email.text("email")?, password: body.password.text("password")? })
    }

    fn execute(self, app: &AppState, address: IpAddr) -> Self::Output {
        if !app.tokens.can_issue() {
            return None;
        }
        let begun_at = Instant::now();
        let found = app.accounts.log_in(address, &self.email, &self.password);
        count_refusal(app, &found);
        if matches!(found, Ok(_) | Err(AccountError::WrongCredentials)) {
            app.metrics.login_checked(begun_at.elapsed());
        }
        if found == Err(AccountError::WrongCredentials) {
            // The form of this line is fixed: doc/monitoring.md has a filter for fail2ban that reads it.
            warn!(target: "ich::failed_login", "failed login from {address}");
        }
        Some(found)
    }

    fn respond(app: &AppState, found: Self::Output) -> Result<Response, Response> {
        let outside_issuer = || ApiError::OutsideIssuer.with_text(&TokenError::OutsideIssuer.to_string());
        let account = found.ok_or_else(outside_issuer)?.map_err(|error| account_error(&error))?;
        app.check_ban(&account.username)?;
        match app.tokens.issue(&account) {
            Ok(token) => Ok(Response::json(&LoggedIn { id: &account.id, username: &account.username, token: &token })),
            Err(error) => {
                log::error!("no token could be issued: {error}");
                Err(ApiError::Internal.response())
            }
        }
    }
}
