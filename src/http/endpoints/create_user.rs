//! `POST /createUser`: creates an account.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{account_error, count_refusal};
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

    fn parse(body: &[u8]) -> Result<Self, Response> {
        let body: Body = body::parse(body)?;
        Ok(CreateUser(NewUser {
            email: body.email.text("email")?,
            username: body.username.text("username")?,
            password: body.password.text("password")?,
        }))
    }

    fn execute(self, app: &AppState, address: IpAddr) -> Self::Output {
        let created = app.accounts.create_user(address, self.0);
        count_refusal(app, &created);
        created
    }

    fn respond(_: &AppState, created: Self::Output) -> Result<Response, Response> {
        let account = created.map_err(|error| account_error(&error))?;
        Ok(Response::json(&Created { id: &account.id, username: &account.username, email: &account.email }))
    }
}
