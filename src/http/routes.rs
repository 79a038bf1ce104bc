//! What is where: the paths of this server, and the answers that are not a websocket.

use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;

use super::join::{self, Joined};
use super::json::Fields;
use super::request::{BadHead, Request};
use super::response::{Response, body_too_large};
use super::site::Site;
use crate::accounts::{Account, AccountError, NewUser, TokenError, rules};

/// Bytes of a body.
pub const BODY_BYTES_MAX: u64 = 16 * 1024;

const PAGE: &str = include_str!("../web/index.html");
const SCRIPT: &str = include_str!("../web/app.js");
const STYLE: &str = include_str!("../web/style.css");
/// The page loads nothing from elsewhere, and nothing that people type can become a script in it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What to do with a request.
pub enum Decision {
    /// Answer.
    Respond(Response),
    /// Read the body, then go on with it.
    ReadBody {
        /// With what.
        post: Post,
        /// Its length, within the bound.
        body_bytes: usize,
        /// Whether to say `100 Continue` first.
        expects_continue: bool,
    },
    /// It becomes a session.
    Join(Box<Joined>),
}

/// A request that has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// `POST /createUser`.
    CreateUser,
    /// `POST /login`.
    LogIn,
}

/// A body that was understood.
pub enum Asked {
    /// Make this account.
    CreateUser(NewUser),
    /// Log in.
    LogIn {
        /// Whose account.
        email: String,
        /// Proves it.
        password: String,
    },
}

/// Decides by the head alone. Called on a worker.
#[must_use]
pub fn decide(site: &Site, head: &[u8]) -> Decision {
    let request = match Request::parse(head) {
        Ok(request) => request,
        Err(bad) => return Decision::Respond(bad.into()),
    };
    let mut decision = route(site, &request);
    if let Decision::Respond(response) = &mut decision {
        response.head_only = request.is_head();
    }
    decision
}

fn route(site: &Site, request: &Request) -> Decision {
    match request.path.as_str() {
        "/join" => match join::check(site, request) {
            Ok(joined) => Decision::Join(Box::new(joined)),
            Err(response) => Decision::Respond(response),
        },
        "/createUser" => post(request, Post::CreateUser),
        "/login" => post(request, Post::LogIn),
        "/" => get(request, || page(PAGE)),
        "/app.js" => get(request, || Response::ok("text/javascript; charset=utf-8", SCRIPT)),
        "/style.css" => get(request, || Response::ok("text/css; charset=utf-8", STYLE)),
        "/health" => get(request, || Response::json(&Status { status: "ok" })),
        "/ready" => get(request, || ready(site)),
        "/metrics" => get(request, || {
            Response::ok("application/openmetrics-text; version=1.0.0; charset=utf-8", site.metrics.encode())
        }),
        _ => Decision::Respond(Response::error(404, "not_found", "there is nothing here: see doc/api.md")),
    }
}

fn get(request: &Request, answer: impl FnOnce() -> Response) -> Decision {
    Decision::Respond(if request.is_get() {
        answer()
    } else {
        Response::error(405, "method_not_allowed", "use GET").with("Allow", "GET, HEAD")
    })
}

fn post(request: &Request, post: Post) -> Decision {
    if request.head.method() != http::Method::POST {
        return Decision::Respond(Response::error(405, "method_not_allowed", "use POST").with("Allow", "POST"));
    }
    let Some(length) = request.content_length else {
        return Decision::Respond(BadHead::LengthRequired.into());
    };
    match usize::try_from(length) {
        Ok(body_bytes) if length <= BODY_BYTES_MAX => {
            Decision::ReadBody { post, body_bytes, expects_continue: request.expects_continue }
        }
        _ => Decision::Respond(body_too_large()),
    }
}

fn page(text: &'static str) -> Response {
    Response::ok("text/html; charset=utf-8", text)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

fn ready(site: &Site) -> Response {
    if site.publisher.is_draining() {
        Response::unavailable("draining", "this instance is about to stop", 1)
    } else if !site.publisher.is_ready() {
        Response::unavailable("not_ready", "the event log does not answer, or was not read yet", 1)
    } else if !site.accounts.is_ready() {
        Response::unavailable("not_ready", "the database of accounts does not answer", 1)
    } else {
        Response::json(&Status { status: "ready" })
    }
}

/// What the body of `post` asks for. Called on a worker.
///
/// # Errors
/// The answer instead: 400, or 429 for too many logins.
pub fn understand(site: &Site, post: Post, body: &[u8], address: IpAddr) -> Result<Asked, Response> {
    let mut fields = Fields::parse(body)?;
    let email = fields.text("email")?;
    match post {
        Post::CreateUser => {
            let username = fields.text("username")?;
            Ok(Asked::CreateUser(NewUser { email, username, password: fields.text("password")? }))
        }
        Post::LogIn => {
            let password = fields.text("password")?;
            site.login_limiter.attempt(address, &rules::email_key(&email), Instant::now()).map_err(|seconds| {
                Response::error(429, "too_many_logins", "too many logins: try again later").retry_after(seconds)
            })?;
            Ok(Asked::LogIn { email, password })
        }
    }
}

/// Does it. Called on the connection's thread: it waits for an account worker.
///
/// # Errors
/// See [`AccountError`].
pub fn carry_out(site: &Site, asked: Asked) -> Result<Account, AccountError> {
    match asked {
        Asked::CreateUser(new) => site.accounts.create_user(new),
        Asked::LogIn { email, password } => site.accounts.log_in(&email, &password),
    }
}

#[derive(Serialize)]
struct CreatedUser<'a> {
    id: &'a str,
    username: &'a str,
    email: &'a str,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    id: &'a str,
    username: &'a str,
    token: &'a str,
}

/// The answer to what was carried out. Called on a worker: making a token goes deep.
#[must_use]
pub fn answer(site: &Site, post: Post, result: Result<Account, AccountError>) -> Response {
    let account = match result {
        Ok(account) => account,
        Err(error) => return account_error(&error),
    };
    match post {
        Post::CreateUser => {
            Response::json(&CreatedUser { id: &account.id, username: &account.username, email: &account.email })
        }
        Post::LogIn => match site.tokens.issue(&account) {
            Ok(token) => Response::json(&LoggedIn { id: &account.id, username: &account.username, token: &token }),
            Err(error @ TokenError::OutsideIssuer) => Response::error(403, "outside_issuer", &error.to_string()),
            Err(error) => {
                log::error!("no token could be made: {error}");
                internal()
            }
        },
    }
}

/// The answer to a defect.
#[must_use]
pub fn internal() -> Response {
    Response::error(500, "internal", "a defect of the server: its log says more")
}

fn account_error(error: &AccountError) -> Response {
    match error {
        // The message names the field.
        AccountError::InvalidField { message, .. } => Response::error(400, "bad_field", message),
        AccountError::EmailTaken => Response::error(409, "email_taken", "this email has an account: log in"),
        AccountError::UsernameTaken => Response::error(409, "username_taken", "this username is taken: choose another"),
        AccountError::WrongCredentials => {
            Response::error(401, "wrong_credentials", "the email or the password is wrong")
        }
        AccountError::Busy { retry_after_seconds } => {
            Response::unavailable("busy", "too many people log in just now: try again", *retry_after_seconds)
        }
        AccountError::Unavailable { retry_after_seconds } => {
            Response::unavailable("unavailable", "the database of accounts does not answer", *retry_after_seconds)
        }
        AccountError::Internal => internal(),
    }
}
