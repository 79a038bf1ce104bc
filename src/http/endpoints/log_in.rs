//! `POST /login`: checks email and password, and issues a token.

use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::account_error;
use crate::accounts::{Account, AccountError, TokenError, rules};
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
    type Output = Result<Account, AccountError>;

    fn parse(app: &AppState, body: &[u8], client: IpAddr) -> Result<Self, Response> {
        let body: Body = body::parse(body)?;
        let (email, password) = (body.email.text("email")?, body.password.text("password")?);
        app.login_limiter
            .attempt(client, &rules::email_key(&email), Instant::now())
            .map_err(|seconds| ApiError::TooManyLogins.response().retry_after(seconds))?;
        Ok(LogIn { email, password })
    }

    fn execute(self, app: &AppState) -> Self::Output {
        app.accounts.log_in(&self.email, &self.password)
    }

    fn respond(app: &AppState, found: Self::Output) -> Result<Response, Response> {
        let account = found.map_err(|error| account_error(&error))?;
        match app.tokens.issue(&account) {
            Ok(token) => Ok(Response::json(&LoggedIn { id: &account.id, username: &account.username, token: &token })),
            Err(error @ TokenError::OutsideIssuer) => Err(ApiError::OutsideIssuer.with_text(&error.to_string())),
            Err(error) => {
                log::error!("no token could be issued: {error}");
                Err(ApiError::Internal.response())
            }
        }
    }
}
