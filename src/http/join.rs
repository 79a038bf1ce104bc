//! `GET /join`: from a request to a session. Runs on a worker: the checks of the handshake and of a token go deep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

use super::permits::{NoPermit, Permit};
use super::request::Request;
use super::response::Response;
use super::site::Site;
use crate::clock;
use crate::lobby::User;
use crate::session::wire::{self, HandshakeError};

/// The subprotocol of this server. A browser cannot set `Authorization`, so it offers the token as a second one:
/// `new WebSocket(url, ["ich", "bearer." + token])`.
const SUBPROTOCOL: &str = "ich";
const SUBPROTOCOL_TOKEN_PREFIX: &str = "bearer.";

/// A handshake that succeeded.
pub struct Joined {
    /// What to send: `101 Switching Protocols`.
    pub answer: Vec<u8>,
    /// Who.
    pub user: User,
    /// When his token's time is over.
    pub token_expires_at: Instant,
    /// His place among the sessions of this person.
    pub permit: Permit<Arc<str>>,
}

/// Checks the request.
///
/// # Errors
/// The answer instead: 400, 401, 403, 405, 426, 429 or 503.
pub fn check(site: &Site, request: &Request) -> Result<Joined, Response> {
    let asks_for_upgrade = request.head.headers().contains_key(UPGRADE);
    if request.head.method() != http::Method::GET {
        return Err(if asks_for_upgrade {
            versioned(Response::error(400, "bad_handshake", "a websocket is asked for with GET"))
        } else {
            Response::error(405, "method_not_allowed", "use GET").with("Allow", "GET")
        });
    }
    if request.content_length.is_some_and(|length| length > 0) {
        return Err(Response::error(400, "bad_handshake", "a handshake has no body"));
    }
    let (token, in_subprotocol) = token(request);
    let handshake = wire::accept(&request.head, in_subprotocol.then_some(SUBPROTOCOL));
    // A browser does not tell a page why its websocket was refused. The page sends its token in a plain request to find
    // out: it gets the reason, or 426 if a websocket would be accepted.
    let handshake = match handshake {
        Err(error) if asks_for_upgrade || token.is_none() => return Err(refused(error, asks_for_upgrade)),
        other => other,
    };
    check_origin(site, request)?;
    let unauthorized =
        |message| Response::error(401, "unauthorized", message).with("WWW-Authenticate", "Bearer realm=\"ich\"");
    let token = token.ok_or_else(|| unauthorized("log in, and send the token: Authorization: Bearer <token>"))?;
    let claims = site.tokens.verify(token).map_err(|_| unauthorized("the token is not valid: log in again"))?;
    if !site.publisher.is_ready() {
        return Err(Response::unavailable("not_ready", "the lobby cannot be joined now: try again", 2));
    }
    let user = User { id: claims.user_id.into(), username: claims.username.into() };
    let permit = site.permits_per_user.take(user.id.clone()).map_err(|_: NoPermit| {
        Response::error(429, "too_many_sessions", "this account has too many sessions open: close one").retry_after(30)
    })?;
    let answer = handshake.map_err(|error| refused(error, asks_for_upgrade))?;
    let left = Duration::from_secs(claims.expires_at_unix_seconds.saturating_sub(clock::unix_seconds()));
    let now = Instant::now();
    // A token without an end in sight is looked at again by the next join.
    let token_expires_at = now.checked_add(left).unwrap_or(now + Duration::from_secs(3600 * 24 * 366));
    Ok(Joined { answer, user, token_expires_at, permit })
}

/// The token, and whether it came as a subprotocol. Each of both fields may be there once.
fn token(request: &Request) -> (Option<&str>, bool) {
    if let Some(value) = request.header(AUTHORIZATION) {
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return (token.map(|(_, token)| token.trim()), false);
    }
    let offered = request.header(SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    let mut offered = offered.split(',').map(str::trim);
    let speaks_ours = offered.clone().any(|name| name == SUBPROTOCOL);
    (offered.find_map(|name| name.strip_prefix(SUBPROTOCOL_TOKEN_PREFIX)), speaks_ours)
}

/// A page may join only from where this server's own pages come from, or from an origin that is allowed (RFC 6455,
/// section 10.2). Programs send no `Origin`.
fn check_origin(site: &Site, request: &Request) -> Result<(), Response> {
    if !request.head.headers().contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = request.header(ORIGIN).unwrap_or_default();
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_own = host.is_some() && host == request.header(HOST);
    if is_own || site.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    Err(Response::error(403, "origin_not_allowed", "pages of this origin may not join: see ICH_ALLOWED_ORIGINS"))
}

fn refused(error: HandshakeError, asks_for_upgrade: bool) -> Response {
    let upgrade_required = || {
        Response::error(426, "upgrade_required", "join with a websocket (RFC 6455, version 13)")
            .with("Upgrade", "websocket")
    };
    versioned(match error {
        HandshakeError::NoUpgrade if !asks_for_upgrade => upgrade_required(),
        HandshakeError::Version => upgrade_required(),
        HandshakeError::NoUpgrade | HandshakeError::Malformed => {
            Response::error(400, "bad_handshake", "the websocket handshake is not valid (RFC 6455, section 4.2.1)")
        }
    })
}

fn versioned(response: Response) -> Response {
    response.with("Sec-WebSocket-Version", "13")
}
