//! [`AdminEndpoint`]: one endpoint for administrators, and [`run`], which runs a request of it.
//!
//! A user is an administrator if the account is one, or if the token has the claim of `ICH_JWT_ADMIN_CLAIM`. The account
//! is looked up for each request, so that a demotion applies at once. Tokens of an outside issuer do not belong to
//! accounts of this server: with these, only the claim counts.

use std::net::IpAddr;
use std::sync::Arc;

use super::api_error::ApiError;
use super::app_state::AppState;
use super::endpoints::account_error;
use super::request::Request;
use super::response::Response;
use crate::accounts::{AccountError, Claims};
use crate::workers::Workers;

/// A request of an administrator, from its parsing to its answer. The parts run on the threads named in
/// [`PostEndpoint`](super::endpoint::PostEndpoint).
pub(crate) trait AdminEndpoint: Sized + Send + 'static {
    /// The result of [`AdminEndpoint::execute`].
    type Output: Send + 'static;

    /// Parses the body; a `GET` has an empty one. Called on a worker thread.
    ///
    /// # Errors
    /// The error answer.
    fn parse(body: &[u8]) -> Result<Self, Response>;

    /// Does what the administrator `by`, at `address`, asks for. Called on the connection's thread; may wait some seconds.
    fn execute(self, app: &AppState, by: &str, address: IpAddr) -> Self::Output;

    /// The answer. Called on a worker thread.
    ///
    /// # Errors
    /// The error answer.
    fn respond(output: Self::Output) -> Result<Response, Response>;
}

/// [`run`] for one endpoint, as the table of routes has it.
pub(crate) type AdminHandler = fn(Claims, &Arc<AppState>, &Workers, &[u8], IpAddr) -> Response;

/// The user of the token. Called on a worker thread.
///
/// # Errors
/// 401 if there is no valid token, 403 if the user is banned.
pub(crate) fn caller(app: &AppState, request: &Request) -> Result<Claims, Response> {
    let token = request.bearer_token().ok_or_else(|| ApiError::Unauthorized.response())?;
    let refused = |refused| ApiError::Unauthorized.with_text(&format!("{refused}: log in again"));
    let claims = app.claims(token).map_err(refused)?;
    app.check_ban(&claims.username)?;
    Ok(claims)
}

/// Runs one request of the endpoint `E`. Called on the connection's thread.
pub(crate) fn run<E: AdminEndpoint>(
    caller: Claims,
    app: &Arc<AppState>,
    workers: &Workers,
    body: &[u8],
    address: IpAddr,
) -> Response {
    match is_admin(app, &caller, address) {
        Ok(true) => {}
        Ok(false) => return ApiError::NotAdmin.response(),
        Err(error) => return account_error(&error),
    }
    let body = body.to_vec();
    let parsed = match workers.run(move || E::parse(&body)) {
        Ok(Ok(request)) => request,
        Ok(Err(response)) => return response,
        Err(_) => return ApiError::Internal.response(),
    };
    let output = parsed.execute(app, &caller.username, address);
    match workers.run(move || E::respond(output)) {
        Ok(Ok(response) | Err(response)) => response,
        Err(_) => ApiError::Internal.response(),
    }
}

fn is_admin(app: &AppState, caller: &Claims, address: IpAddr) -> Result<bool, AccountError> {
    if caller.is_admin || !app.tokens.can_issue() {
        return Ok(caller.is_admin);
    }
    app.accounts.is_admin(address, &caller.user_id, &caller.username)
}
