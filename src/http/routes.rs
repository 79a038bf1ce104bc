//! The table of routes: maps each path to its endpoint, and a request head to the next step of the connection.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::admin::{self, AdminHandler};
use super::api_error::ApiError;
use super::app_state::AppState;
use super::cross_origin::Page;
use super::endpoint::{self, PostHandler};
use super::endpoints::admin::{Ban, Bans, Kick, Mute, Unban};
use super::endpoints::create_user::CreateUser;
use super::endpoints::join::{self, Joined};
use super::endpoints::log_in::LogIn;
use super::endpoints::metrics::metrics;
use super::endpoints::{history, page, status};
use super::request::{BodyFraming, Request};
use super::response::Response;
use crate::proxies::{Client, Sender, Source};
use crate::workers::Workers;

/// The largest body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;

/// The kind of a path.
#[derive(Clone)]
enum Route {
    /// `GET` and `HEAD`, without a body.
    Get(fn(&AppState, &Request) -> Response),
    /// A file of the web page, for `GET` and `HEAD`.
    File(page::File),
    /// `POST` with a JSON body. Pages of allowed origins may read the answer.
    Post(PostHandler),
    /// `GET` or `POST` with the token of an administrator.
    Admin(Method, AdminHandler),
    /// `GET /history`. Pages of allowed origins may read the answer.
    History,
    /// `GET` that becomes a websocket. Pages of allowed origins may read the answer if it is refused.
    Join,
}

impl Route {
    /// The method of a path whose answers pages of allowed origins may read.
    fn shared_method(&self) -> Option<&'static str> {
        match self {
            Route::Get(_) | Route::File(_) | Route::Admin(..) => None,
            Route::Post(_) => Some("POST"),
            Route::History | Route::Join => Some("GET"),
        }
    }
}

/// All paths except those of the files of the web page.
const ROUTES: [(&str, Route); 13] = [
    ("/", Route::Get(page::page)),
    ("/health", Route::Get(status::health)),
    ("/ready", Route::Get(status::ready)),
    ("/metrics", Route::Get(metrics)),
    ("/createUser", Route::Post(endpoint::run::<CreateUser>)),
    ("/login", Route::Post(endpoint::run::<LogIn>)),
    ("/history", Route::History),
    ("/admin/kick", Route::Admin(Method::POST, admin::run::<Kick>)),
    ("/admin/mute", Route::Admin(Method::POST, admin::run::<Mute>)),
    ("/admin/ban", Route::Admin(Method::POST, admin::run::<Ban>)),
    ("/admin/unban", Route::Admin(Method::POST, admin::run::<Unban>)),
    ("/admin/bans", Route::Admin(Method::GET, admin::run::<Bans>)),
    ("/join", Route::Join),
];

/// Runs a request whose body was read. Called on the connection's thread.
pub(crate) type Handler = Box<dyn FnOnce(&Arc<AppState>, &Workers, Vec<u8>, IpAddr) -> Response + Send>;

/// All paths, without the files that the page loads.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(path, _)| *path)
}

/// What the connection does after it has read the head of its request.
pub(crate) enum NextStep {
    /// Send this answer.
    Respond(Response),
    /// Read the body and run the handler.
    ReadBody {
        handler: Handler,
        body: BodyToRead,
        /// The client waits for `100 Continue` before it sends the body.
        expects_continue: bool,
    },
    /// Answer with earlier messages.
    History(history::Asked),
    /// Become a session.
    Join(Box<Joined>),
}

/// A body within the limit.
#[derive(Clone, Copy)]
pub(crate) enum BodyToRead {
    /// At most [`BODY_BYTES_MAX`].
    Length(usize),
    Chunked,
}

/// A next step, and who sent the request.
pub(crate) struct Routed {
    pub(crate) step: NextStep,
    pub(crate) client: Client,
    pub(crate) page: Page,
    /// Whether the page may read the answer.
    pub(crate) is_shared: bool,
}

/// Parses a head from this sender and finds the next step. Called on a worker thread.
pub(crate) fn next_step(app: &AppState, sender: Sender, head: &[u8]) -> Routed {
    let request = match Request::parse(head) {
        Ok(request) => request,
        Err(bad) => {
            let client = Client { address: sender.address, source: Source::Sender };
            return Routed { step: NextStep::Respond(bad.into()), client, page: Page::default(), is_shared: false };
        }
    };
    let client = app.client(sender, &request);
    let page = Page::of(&request, &app.allowed_origins);
    let route = route_of(&request.path);
    let shared_method = route.as_ref().and_then(Route::shared_method);
    let step = step_of(app, &request, &page, route, shared_method).unwrap_or_else(NextStep::Respond);
    Routed { step, client, page, is_shared: shared_method.is_some() }
}

fn route_of(path: &str) -> Option<Route> {
    let route = ROUTES.iter().find(|(known, _)| *known == path).map(|(_, route)| route.clone());
    route.or_else(|| page::file(path).map(Route::File))
}

fn step_of(
    app: &AppState,
    request: &Request,
    page: &Page,
    route: Option<Route>,
    shared_method: Option<&'static str>,
) -> Result<NextStep, Response> {
    if let Some(preflight) = shared_method.and_then(|method| page.preflight(request, method)) {
        return Ok(NextStep::Respond(preflight));
    }
    match route {
        Some(Route::Get(answer)) if request.is_get() => Ok(NextStep::Respond(answer(app, request))),
        Some(Route::File(file)) if request.is_get() => Ok(NextStep::Respond(file.response())),
        Some(Route::Get(_) | Route::File(_)) => Err(ApiError::MethodNotAllowed.response().with("Allow", "GET, HEAD")),
        Some(Route::Post(handler)) => post(request, Box::new(handler)),
        Some(Route::Admin(Method::GET, _)) if !request.is_get() => {
            Err(ApiError::MethodNotAllowed.response().with("Allow", "GET, HEAD"))
        }
        Some(Route::Admin(Method::GET, handler)) => {
            let caller = admin::caller(app, request)?;
            let handler = move |app: &_, workers: &_, _, address| handler(caller, app, workers, &[], address);
            Ok(NextStep::ReadBody { handler: Box::new(handler), body: BodyToRead::Length(0), expects_continue: false })
        }
        Some(Route::Admin(_, handler)) => {
            require_post(request)?;
            let caller = admin::caller(app, request)?;
            let handler =
                move |app: &_, workers: &_, body: Vec<u8>, address| handler(caller, app, workers, &body, address);
            post(request, Box::new(handler))
        }
        Some(Route::History) => Ok(NextStep::History(history::check(app, request)?)),
        Some(Route::Join) => Ok(NextStep::Join(Box::new(join::check(app, request, page)?))),
        None => Err(ApiError::NotFound.response()),
    }
}

fn require_post(request: &Request) -> Result<(), Response> {
    if request.head.method() == Method::POST {
        return Ok(());
    }
    Err(ApiError::MethodNotAllowed.response().with("Allow", "POST"))
}

fn post(request: &Request, handler: Handler) -> Result<NextStep, Response> {
    require_post(request)?;
    let body = match request.body {
        BodyFraming::None => return Err(ApiError::LengthRequired.response()),
        BodyFraming::Chunked => BodyToRead::Chunked,
        BodyFraming::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= BODY_BYTES_MAX => BodyToRead::Length(length),
            _ => return Err(ApiError::BodyTooLarge.response()),
        },
    };
    Ok(NextStep::ReadBody { handler, body, expects_continue: request.expects_continue })
}
