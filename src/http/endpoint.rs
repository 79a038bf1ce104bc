//! [`PostEndpoint`]: one `POST` endpoint, and [`run`], which runs a request of it.
//!
//! The thread of a connection must use little stack, because used stack stays in memory as long as the connection. So
//! parsing and responding run on a worker thread, and only the wait for the result runs on the connection's thread.

use std::net::IpAddr;
use std::sync::Arc;

use super::api_error::ApiError;
use super::app_state::AppState;
use super::response::Response;
use crate::workers::Workers;

/// A request with a JSON body, from its parsing to its answer.
pub(crate) trait PostEndpoint: Sized + Send + 'static {
    /// The result of [`PostEndpoint::execute`].
    type Output: Send + 'static;

    /// Parses the body. Called on a worker thread.
    ///
    /// # Errors
    /// The error answer.
    fn parse(body: &[u8]) -> Result<Self, Response>;

    /// Does what the request of the client at `address` asks for. Called on the connection's thread; may wait a few
    /// seconds.
    fn execute(self, app: &AppState, address: IpAddr) -> Self::Output;

    /// The answer to the client. Called on a worker thread.
    ///
    /// # Errors
    /// The error answer.
    fn respond(app: &AppState, output: Self::Output) -> Result<Response, Response>;
}

/// [`run`] for one endpoint, as the table of routes has it.
pub(crate) type PostHandler = fn(&Arc<AppState>, &Workers, Vec<u8>, IpAddr) -> Response;

/// Runs one request of the endpoint `E`. Called on the connection's thread.
pub(crate) fn run<E: PostEndpoint>(app: &Arc<AppState>, workers: &Workers, body: Vec<u8>, address: IpAddr) -> Response {
    let parsed = match workers.run(move || E::parse(&body)) {
        Ok(Ok(request)) => request,
        Ok(Err(response)) => return response,
        Err(_) => return ApiError::Internal.response(),
    };
    let output = parsed.execute(app, address);
    let for_worker = app.clone();
    match workers.run(move || E::respond(&for_worker, output)) {
        Ok(Ok(response) | Err(response)) => response,
        Err(_) => ApiError::Internal.response(),
    }
}
