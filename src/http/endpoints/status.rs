//! `GET /health` and `/ready`: for service managers and load balancers.

use serde::Serialize;

use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::request::Request;
use crate::http::response::Response;

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// 200 while no supervised thread has failed.
pub(crate) fn health(app: &AppState, _: &Request) -> Response {
    if app.supervisor.has_failed() {
        return ApiError::Failed.response();
    }
    Response::json(&Status { status: "ok" })
}

/// 200 if the lobby can be joined and the database of accounts answers.
pub(crate) fn ready(app: &AppState, _: &Request) -> Response {
    match app.readiness() {
        ready if ready.is_ready() => Response::json(&Status { status: "ready" }),
        draining if draining.is_draining => ApiError::Draining.with_text(&draining.to_string()),
        waiting => ApiError::NotReady.with_text(&waiting.to_string()),
    }
}
