//! `POST /createUser`: creates an account.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{account_error, count_refusal};
use crate::accounts::{Account, AccountError, NewUser};
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::body::{self, TextField};
use crate::http::endpoint::PostEndpoint;
use crate::http::response::Response;

pub(crate) struct CreateUser(NewUser);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    email: TextField,
    username: TextField,
    password: TextField,
}

#[derive(Serialize)]
struct Created<'a> {
    id: &'a str,
    username: &'a str,
    email: &'a str,
}

impl PostEndpoint for CreateUser {
    /// `None`: no account has a token here, so none is created.
    type Output = Option<Result<Account, AccountError>>;

    fn parse(body: &[u8]) -> Result<Self, Response> {
        let body: Body = body::parse(body)?;
        Ok(CreateUser(NewUser {
            email: body.email.text("email")?,
            username: body.username.text("username")?,
            password: body.password.text("password")?,
        }))
    }

    fn execute(self, app: &AppState, address: IpAddr) -> Self::Output {
        if !app.tokens.can_issue() {
            return None;
        }
        let created = app.accounts.create_user(address, self.0);
        count_refusal(app, &created);
        Some(created)
    }

    fn respond(_: &AppState, created: Self::Output) -> Result<Response, Response> {
        let outside_issuer =
            || ApiError::OutsideIssuer.with_text("an outside issuer makes the accounts and the tokens: sign up there");
        let account = created.ok_or_else(outside_issuer)?.map_err(|error| account_error(&error))?;
        Ok(Response::json(&Created { id: &account.id, username: &account.username, email: &account.email }))
    }
}
