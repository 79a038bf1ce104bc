//! `POST /createUser`: makes an account.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::account_error;
use crate::accounts::{Account, AccountError, NewUser};
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
    type Output = Result<Account, AccountError>;

    fn parse(_: &AppState, body: &[u8], _: IpAddr) -> Result<Self, Response> {
        let body: Body = body::parse(body)?;
        Ok(CreateUser(NewUser {
            email: body.email.text("email")?,
            username: body.username.text("username")?,
            password: body.password.text("password")?,
        }))
    }

    fn execute(self, app: &AppState) -> Self::Output {
        app.accounts.create_user(self.0)
    }

    fn respond(_: &AppState, created: Self::Output) -> Result<Response, Response> {
        let account = created.map_err(|error| account_error(&error))?;
        Ok(Response::json(&Created { id: &account.id, username: &account.username, email: &account.email }))
    }
}
