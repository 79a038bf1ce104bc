//! `GET /health`, `/ready` and `/metrics`: for operators and load balancers.

use serde::Serialize;

use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::response::Response;

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// 200 while the process can answer.
pub(crate) fn health(_: &AppState) -> Response {
    Response::json(&Status { status: "ok" })
}

/// 200 when the lobby can be joined and the database of accounts answers.
pub(crate) fn ready(app: &AppState) -> Response {
    if app.publisher.is_draining() {
        ApiError::Draining.response()
    } else if !app.publisher.is_ready() {
        ApiError::NotReady.with_text("the event log does not answer, or was not read yet")
    } else if !app.accounts.is_ready() {
        ApiError::NotReady.with_text("the database of accounts does not answer")
    } else {
        Response::json(&Status { status: "ready" })
    }
}

/// All metrics, in the text format of OpenMetrics 1.0.
pub(crate) fn metrics(app: &AppState) -> Response {
    Response::ok("application/openmetrics-text; version=1.0.0; charset=utf-8", app.metrics.encode())
}
