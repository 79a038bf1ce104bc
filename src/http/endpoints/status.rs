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

/// The body of `/ready`: 200.
#[derive(Serialize)]
struct Ready {
    status: &'static str,
    dependencies: Dependencies,
}

/// The body of `/ready`: 503. It has the fields of every error answer, and the dependencies.
#[derive(Serialize)]
struct NotReady<'a> {
    error: &'a str,
    message: &'a str,
    dependencies: Dependencies,
}

/// `available` or `unavailable`, for each.
#[derive(Serialize)]
struct Dependencies {
    event_log: &'static str,
    accounts: &'static str,
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
    let readiness = app.readiness();
    let dependencies =
        Dependencies { event_log: state_of(readiness.has_event_log), accounts: state_of(readiness.has_accounts) };
    if readiness.is_ready() {
        return Response::json(&Ready { status: "ready", dependencies });
    }
    let error = if readiness.is_draining { ApiError::Draining } else { ApiError::NotReady };
    let body = NotReady { error: error.row().code, message: &readiness.to_string(), dependencies };
    error.response().with_json(&body)
}

fn state_of(is_available: bool) -> &'static str {
    if is_available { "available" } else { "unavailable" }
}
