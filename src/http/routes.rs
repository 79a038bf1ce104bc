//! The table of routes: maps each path to its endpoint, and a request head to the next step of the connection.

use super::api_error::ApiError;
use super::app_state::AppState;
use super::endpoint::{self, PostHandler};
use super::endpoints::create_user::CreateUser;
use super::endpoints::join::{self, Joined};
use super::endpoints::log_in::LogIn;
use super::endpoints::{page, status};
use super::request::Request;
use super::response::Response;

/// The largest body, in bytes.
const BODY_BYTES_MAX: u64 = 16 * 1024;

/// The kind of a path.
#[derive(Clone, Copy)]
enum Route {
    /// `GET` and `HEAD`, without a body.
    Get(fn(&AppState) -> Response),
    /// `POST` with a JSON body.
    Post(PostHandler),
    /// `GET` that becomes a websocket.
    Join,
}

const ROUTES: [(&str, Route); 9] = [
    ("/", Route::Get(page::page)),
    ("/app.js", Route::Get(page::script)),
    ("/style.css", Route::Get(page::style)),
    ("/health", Route::Get(status::health)),
    ("/ready", Route::Get(status::ready)),
    ("/metrics", Route::Get(status::metrics)),
    ("/createUser", Route::Post(endpoint::run::<CreateUser>)),
    ("/login", Route::Post(endpoint::run::<LogIn>)),
    ("/join", Route::Join),
];

/// All paths.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(path, _)| *path)
}

/// What the connection does after it has read the head of its request.
pub(crate) enum NextStep {
    /// Send this answer.
    Respond(Response),
    /// Read the body and run the handler.
    ReadBody {
        handler: PostHandler,
        /// At most [`BODY_BYTES_MAX`].
        body_bytes: usize,
        /// The client waits for `100 Continue` before it sends the body.
        expects_continue: bool,
    },
    /// Become a session.
    Join(Box<Joined>),
}

/// Parses a head and finds the next step. Called on a worker thread.
pub(crate) fn next_step(app: &AppState, head: &[u8]) -> NextStep {
    let request = match Request::parse(head) {
        Ok(request) => request,
        Err(bad) => return NextStep::Respond(bad.into()),
    };
    let step = route(app, &request).unwrap_or_else(NextStep::Respond);
    match step {
        NextStep::Respond(response) => NextStep::Respond(Response { head_only: request.is_head(), ..response }),
        other => other,
    }
}

fn route(app: &AppState, request: &Request) -> Result<NextStep, Response> {
    let route = ROUTES.iter().find(|(path, _)| *path == request.path).map(|(_, route)| *route);
    match route {
        Some(Route::Get(answer)) if request.is_get() => Ok(NextStep::Respond(answer(app))),
        Some(Route::Get(_)) => Err(ApiError::MethodNotAllowed.response().with("Allow", "GET, HEAD")),
        Some(Route::Post(handler)) => post(request, handler),
        Some(Route::Join) => Ok(NextStep::Join(Box::new(join::check(app, request)?))),
        None => Err(ApiError::NotFound.response()),
    }
}

fn post(request: &Request, handler: PostHandler) -> Result<NextStep, Response> {
    if request.head.method() != http::Method::POST {
        return Err(ApiError::MethodNotAllowed.response().with("Allow", "POST"));
    }
    let length = request.content_length.ok_or_else(|| ApiError::LengthRequired.response())?;
    match usize::try_from(length) {
        Ok(body_bytes) if length <= BODY_BYTES_MAX => {
            Ok(NextStep::ReadBody { handler, body_bytes, expects_continue: request.expects_continue })
        }
        _ => Err(ApiError::BodyTooLarge.response()),
    }
}
