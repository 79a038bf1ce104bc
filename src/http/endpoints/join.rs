//! `GET /join`: checks the request that opens a session. Called on a worker thread: checking a handshake and a token
//! uses much stack.

use std::sync::Arc;
use std::time::Instant;

use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};

use crate::accounts::TokenRefused;
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::cross_origin::Page;
use crate::http::permits::{NoPermit, Permit};
use crate::http::query;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::limits::HISTORY_MESSAGES_MAX;
use crate::lobby::User;
use crate::session::history;
use crate::session::wire::{self, HandshakeError};

/// The subprotocol of this server. A browser cannot set `Authorization`, so it offers the token as a second
/// subprotocol: `new WebSocket(url, ["ich", "bearer." + token])`.
const SUBPROTOCOL: &str = "ich";
const SUBPROTOCOL_TOKEN_PREFIX: &str = "bearer.";

/// A valid handshake, and the session that it opens.
pub(crate) struct Joined {
    /// The bytes of `101 Switching Protocols`.
    pub(crate) answer: Vec<u8>,
    pub(crate) user: User,
    pub(crate) token_expires_at: Instant,
    /// The earlier messages that the client asks for.
    pub(crate) history: Option<history::Request>,
    /// Counts the session towards the limit of its user.
    pub(crate) permit: Permit<Arc<str>>,
}

/// Checks the request, which `page` sent.
///
/// # Errors
/// The error answer: 400, 401, 403, 405, 426, 429 or 503.
pub(crate) fn check(app: &AppState, request: &Request, page: &Page) -> Result<Joined, Response> {
    let asks_for_upgrade = request.head.headers().contains_key(UPGRADE);
    if request.head.method() != http::Method::GET {
        return Err(if asks_for_upgrade {
            ApiError::BadHandshake.with_text("a websocket handshake must have the method GET")
        } else {
            ApiError::MethodNotAllowed.response().with("Allow", "GET")
        });
    }
    if asks_for_upgrade && request.has_body() {
        return Err(ApiError::BadHandshake.with_text("a websocket handshake must have no body"));
    }
    let token = token(request);
    let offers_subprotocol = request.list(SEC_WEBSOCKET_PROTOCOL).any(|name| name == SUBPROTOCOL);
    let handshake = wire::accept(&request.head, offers_subprotocol.then_some(SUBPROTOCOL));
    // A browser does not tell a page why its websocket was refused. The page sends its token in a plain request to find
    // out: it gets the reason, or 426 if a websocket would be accepted.
    let handshake = match handshake {
        Err(error) if asks_for_upgrade || token.is_none() => return Err(handshake_refused(error, asks_for_upgrade)),
        other => other,
    };
    page.check()?;
    let token = token.ok_or_else(|| ApiError::Unauthorized.response())?;
    let refused = |refused: TokenRefused| ApiError::Unauthorized.with_text(&format!("{refused}: log in again"));
    let grant = app.check_token(token).map_err(refused)?;
    app.check_ban(&grant.user.username)?;
    let history = history_request(request.head.uri().query())?;
    if !app.publisher.is_ready() {
        return Err(ApiError::NotReady.response());
    }
    let permit =
        app.permits_per_user.take(grant.user.id.clone()).map_err(|_: NoPermit| ApiError::TooManySessions.response())?;
    let answer = handshake.map_err(|error| handshake_refused(error, asks_for_upgrade))?;
    Ok(Joined { answer, token_expires_at: grant.expires_at(), user: grant.user, history, permit })
}

/// The earlier messages that the client asks for, with `after` or `last`. Other parameters are ignored.
fn history_request(query: Option<&str>) -> Result<Option<history::Request>, Response> {
    let mut request = None;
    for (name, value) in query::parameters(query) {
        let asked = match &*name {
            // An id that may be one of a later version is unknown, and not an error.
            "after" => history::Request::After(query::event_id(&name, &value)?),
            "last" => history::Request::Last(query::count(&name, &value, HISTORY_MESSAGES_MAX)?),
            _ => continue,
        };
        if request.replace(asked).is_some() {
            return Err(ApiError::BadQuery.with_text("give after or last, once"));
        }
    }
    Ok(request)
}

/// The token: in `Authorization`, or else in a subprotocol. None if there are two different tokens.
fn token(request: &Request) -> Option<&str> {
    let mut tokens: Vec<&str> = request.bearer_tokens().collect();
    if tokens.is_empty() {
        let offered = request.list(SEC_WEBSOCKET_PROTOCOL);
        tokens = offered.filter_map(|name| name.strip_prefix(SUBPROTOCOL_TOKEN_PREFIX)).collect();
    }
    tokens.dedup();
    if let [token] = tokens[..] { Some(token) } else { None }
}

fn handshake_refused(error: HandshakeError, asks_for_upgrade: bool) -> Response {
    match error {
        HandshakeError::NoUpgrade if !asks_for_upgrade => ApiError::UpgradeRequired.response(),
        HandshakeError::Version => ApiError::UpgradeRequired.response(),
        HandshakeError::NoUpgrade | HandshakeError::Malformed => ApiError::BadHandshake.response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lobby::{EventId, InstanceId};

    #[test]
    fn a_query_asks_for_messages_after_one_or_for_the_last_ones() {
        let id = EventId { from: InstanceId(0x2a), seq: 7 };
        let asked = |query: &str| history_request(Some(query)).ok().flatten();
        assert_eq!(asked("after=000000000000002a-7"), Some(history::Request::After(Some(id))));
        assert_eq!(asked("x=1&after=7&y"), Some(history::Request::After(None)));
        assert_eq!(asked("after=000000000000002a%2D7"), Some(history::Request::After(Some(id))));
        assert_eq!(asked("last=50"), Some(history::Request::Last(50)));
        assert_eq!(asked("last=10000&"), Some(history::Request::Last(10_000)));
        for none in [None, Some(""), Some("x=1"), Some("lasting=1&afters=2")] {
            assert_eq!(history_request(none).ok(), Some(None), "{none:?}");
        }
    }

    #[test]
    fn an_invalid_query_is_refused() {
        let long = format!("after={}", "0".repeat(41));
        let bad = [
            "after",
            "after=",
            "after=xyz",
            "after=00%2Fx",
            "after=7%20",
            "after=2A-7",
            &long,
            "last=",
            "last=0",
            "last=10001",
        ];
        let worse = ["last=+5", "last=-1", "last=5.0", "last=1&last=1", "after=7&last=1", "after=7&after=7"];
        for query in bad.iter().chain(&worse) {
            assert_eq!(history_request(Some(query)).err().map(|response| response.status), Some(400), "{query}");
        }
    }
}
