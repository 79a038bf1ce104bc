//! `GET /history`: earlier messages, the newest first, from the history of this instance and from the archive.
//!
//! The newest messages are in the memory of every instance, also those that are not archived yet and those of a moment in
//! which the database does not answer. Older ones come from the archive, if there is one. The request is checked and the
//! answer encoded on a worker thread; the connection's thread waits for the database.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::accounts::TokenRefused;
use crate::archive::reader::ArchiveReader;
use crate::archive::store::{ArchiveError, Page, Row, Select};
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::query;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::limits::{HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_MESSAGES_DEFAULT, HISTORY_PAGE_MESSAGES_MAX};
use crate::lobby::EventId;
use crate::session::history::{Older, Since};
use crate::session::protocol;
use crate::threads::lock;
use crate::workers::Workers;

/// A valid request.
pub(crate) struct Asked {
    before: Option<EventId>,
    limit: usize,
}

/// The parts of an answer, not encoded.
struct Found {
    recent: Older,
    rows: Vec<Row>,
    has_more: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    messages: Vec<Message<'a>>,
    more: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    event_id: &'a str,
    sent_at: &'a str,
    from_user: &'a str,
    text: &'a str,
}

/// Checks the request. Called on a worker thread.
///
/// # Errors
/// The error answer: 400, 401, 403, 404, 405 or 503.
pub(crate) fn check(app: &AppState, request: &Request) -> Result<Asked, Response> {
    if !request.is_get() {
        return Err(ApiError::MethodNotAllowed.response().with("Allow", "GET, HEAD"));
    }
    let token = request.bearer_token().ok_or_else(|| ApiError::Unauthorized.response())?;
    let refused = |refused: TokenRefused| ApiError::Unauthorized.with_text(&format!("{refused}: log in again"));
    let claims = app.claims(token).map_err(refused)?;
    app.check_ban(&claims.username)?;
    let (before, limit) = parse(request.head.uri().query())?;
    if !app.publisher.is_ready() {
        return Err(ApiError::NotReady.response());
    }
    Ok(Asked { before, limit })
}

/// `before` and `limit`, each once. Other parameters are ignored.
fn parse(query: Option<&str>) -> Result<(Option<EventId>, usize), Response> {
    let (mut before, mut limit) = (None, None);
    for (name, value) in query::parameters(query) {
        let is_twice = match &*name {
            // An id that may be one of a later version: no message here has it.
            "before" => {
                let id = query::event_id(&name, &value)?.ok_or_else(|| ApiError::UnknownMessage.response())?;
                before.replace(id).is_some()
            }
            "limit" => limit.replace(query::count(&name, &value, HISTORY_PAGE_MESSAGES_MAX)?).is_some(),
            _ => false,
        };
        if is_twice {
            return Err(ApiError::BadQuery.with_text(&format!("give {name} once")));
        }
    }
    Ok((before, limit.unwrap_or(HISTORY_PAGE_MESSAGES_DEFAULT)))
}

/// Answers a request of the client at `address`. Called on the connection's thread; may wait for the database.
pub(crate) fn run(app: &Arc<AppState>, workers: &Workers, asked: &Asked, address: IpAddr) -> Response {
    match app.history_limit.take(address, Instant::now()) {
        Err(seconds) => ApiError::TooManyRequests.response().retry_after(seconds),
        Ok(()) => match find(app, asked) {
            Err(response) => response,
            Ok(found) => workers.run(move || encode(&found)).unwrap_or_else(|_| ApiError::Internal.response()),
        },
    }
}

fn find(app: &AppState, asked: &Asked) -> Result<Found, Response> {
    let Asked { before, limit } = *asked;
    let recent = lock(&app.history).older(before, limit, HISTORY_PAGE_BYTES_MAX);
    let Some(recent) = recent else { return find_archived(app, before, limit) };
    let Some(archive) = app.archive.as_ref().filter(|_| !recent.has_more) else {
        let has_more = recent.has_more;
        return Ok(Found { recent, rows: Vec::new(), has_more });
    };
    // The archive continues where the history ends. With no message left to return, it still tells whether there are more.
    let end = recent.oldest.or(before);
    let is_empty = recent.frames.is_empty();
    let wanted = limit - recent.frames.len();
    let mut found = archive.page(end.map_or(Select::Newest, Select::Before), wanted);
    if let (Ok(None), Some(missing)) = (&found, end) {
        found = find_before_missing(app, archive, missing, wanted);
    }
    match found {
        Ok(Some(Page { rows, has_more })) => Ok(Found { recent, rows, has_more }),
        // The oldest message of the history is not archived yet.
        Ok(None) if is_empty && !recent.is_first => {
            Err(ApiError::Unavailable.with_text("earlier messages are not archived yet: try again later"))
        }
        Ok(None) => {
            let has_more = !recent.is_first;
            Ok(Found { recent, rows: Vec::new(), has_more })
        }
        Err(_) if !is_empty => Ok(Found { recent, rows: Vec::new(), has_more: true }),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Archived messages before one of the history that is not in the archive. None if it may still be archived.
fn find_before_missing(
    app: &AppState,
    archive: &ArchiveReader,
    missing: EventId,
    wanted: usize,
) -> Result<Option<Page>, ArchiveError> {
    // None: the history has dropped the message meanwhile. The next request is answered by the archive alone.
    let Some(Since { offset, ids }) = lock(&app.history).since(missing) else { return Ok(None) };
    archive.page(Select::BeforeMissing { offset, ids }, wanted)
}

/// Messages before one that is not in the history.
fn find_archived(app: &AppState, before: Option<EventId>, limit: usize) -> Result<Found, Response> {
    let unknown = || ApiError::UnknownMessage.response();
    let (archive, before) = app.archive.as_ref().zip(before).ok_or_else(unknown)?;
    let page = archive.page(Select::Before(before), limit).map_err(|error| unavailable(&error))?;
    let Page { rows, has_more } = page.ok_or_else(unknown)?;
    let recent = Older { frames: Vec::new(), oldest: None, has_more: false, is_first: false };
    Ok(Found { recent, rows, has_more })
}

/// The pool has logged the reason.
fn unavailable(_: &ArchiveError) -> Response {
    ApiError::Unavailable.with_text("the archive does not answer: try again later")
}

fn encode(found: &Found) -> Response {
    let frames = found.recent.frames.iter().filter_map(|(block, place)| block.get(place.clone()));
    let published: Vec<_> = frames.filter_map(protocol::published_message).collect();
    let recent = published.iter().map(|message| Message {
        event_id: &message.event_id,
        sent_at: &message.sent_at,
        from_user: &message.msg.from_user,
        text: &message.msg.text,
    });
    let archived = found.rows.iter().map(|row| Message {
        event_id: &row.event_id,
        sent_at: &row.sent_at,
        from_user: &row.from_user,
        text: &row.text,
    });
    Response::json(&Answer { messages: recent.chain(archived).collect(), more: found.has_more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lobby::InstanceId;

    #[test]
    fn a_query_names_a_message_and_a_limit() {
        let id = EventId { from: InstanceId(0x2a), seq: 7 };
        assert_eq!(parse(None).ok(), Some((None, 50)));
        assert_eq!(parse(Some("limit=100&x=1")).ok(), Some((None, 100)));
        assert_eq!(parse(Some("before=000000000000002a-7&limit=1")).ok(), Some((Some(id), 1)));
        let status = |query: &str| parse(Some(query)).err().map(|response| response.status);
        for bad in
            ["limit=", "limit=0", "limit=101", "limit=+5", "limit=1&limit=1", "before=", "before=x", "before=A-1"]
        {
            assert_eq!(status(bad), Some(400), "{bad}");
        }
        assert_eq!(status("before=7"), Some(404), "perhaps an id of another version");
    }
}
