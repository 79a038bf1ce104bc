//! The life of one connection, on its own thread, until it is answered or becomes a session. This thread only reads,
//! waits and writes; what goes deep runs on the [`Workers`].

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api_error::ApiError;
use super::app_state::AppState;
use super::endpoints::join::Joined;
use super::pending::{Pending, PendingConnection};
use super::permits::Permit;
use super::request::{self, BadHead, HEAD_BYTES_MAX};
use super::response::Response;
use super::routes::{self, NextStep};
use crate::session::link::Link;
use crate::session::reader::{self, NewSession, Sessions};
use crate::workers::Workers;

/// How long a head may take, and then a body.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long, and how much, is read behind the answer to an error: without that, a reset could overtake the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What every connection needs.
pub struct Door {
    /// The answers.
    pub site: Arc<AppState>,
    /// The sessions.
    pub sessions: Sessions,
    /// For deep work.
    pub workers: Workers,
    /// The connections that are not sessions.
    pub pending: Arc<Pending>,
}

/// Why there is no request to answer.
enum NoRequest {
    /// Refused, with this answer.
    Refused(Response),
    /// The connection ended.
    Gone,
    /// The connection ended within a request.
    Unfinished,
}

/// Serves one connection. `permit` is its place; it is given back at the end.
pub fn serve(door: &Door, stream: TcpStream, address: IpAddr, permit: Permit<IpAddr>) {
    let connection = door.pending.add(stream);
    let handled = handle(door, &connection, address);
    match handled {
        Ok(Handled::Answer(response)) | Err(NoRequest::Refused(response)) => {
            door.site.metrics.answered(response.status);
            send_answer(connection.stream(), &response);
        }
        Ok(Handled::Joined { joined, after_head }) => {
            door.site.metrics.answered(101);
            if let Some(stream) = connection.into_stream() {
                open_session(door, stream, *joined, after_head);
            }
        }
        Err(NoRequest::Gone | NoRequest::Unfinished) => {}
    }
    drop(permit);
}

enum Handled {
    Answer(Response),
    Joined { joined: Box<Joined>, after_head: Vec<u8> },
}

fn handle(door: &Door, connection: &PendingConnection, address: IpAddr) -> Result<Handled, NoRequest> {
    let mut deadline = Instant::now() + REQUEST_DEADLINE;
    let mut stream = connection.stream();
    let (head, after_head) = read_head(stream, deadline).map_err(|none| unless_stopping(door, none))?;
    connection.has_request();
    let app = door.site.clone();
    let step = door.workers.run(move || routes::next_step(&app, &head));
    let (handler, body_bytes, expects_continue) = match step {
        Err(_) => return Ok(Handled::Answer(ApiError::Internal.response())),
        Ok(NextStep::Respond(response)) => return Ok(Handled::Answer(response)),
        Ok(NextStep::Join(joined)) => return Ok(Handled::Joined { joined, after_head }),
        Ok(NextStep::ReadBody { handler, body_bytes, expects_continue }) => (handler, body_bytes, expects_continue),
    };
    deadline = Instant::now() + REQUEST_DEADLINE;
    if expects_continue && after_head.is_empty() && stream.write_all(CONTINUE).is_err() {
        return Err(NoRequest::Gone);
    }
    let body = read_body(stream, after_head, body_bytes, deadline).map_err(|none| unless_stopping(door, none))?;
    Ok(Handled::Answer(handler(&door.site, &door.workers, body, address)))
}

/// Reads to the end of the head: the head, and what came behind it.
fn read_head(stream: &TcpStream, deadline: Instant) -> Result<(Vec<u8>, Vec<u8>), NoRequest> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        read_part(stream, &mut bytes, deadline)?;
        // A TLS hello, the blank lines of a confused client: no method begins like that.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            return Err(refused(BadHead::Malformed("this is not HTTP/1.1 (TLS is for a proxy before this server)")));
        }
        if let Some(end) = request::head_end(&bytes) {
            if end > HEAD_BYTES_MAX {
                return Err(refused(too_large(&bytes)));
            }
            let after_head = bytes.split_off(end);
            return Ok((bytes, after_head));
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(refused(too_large(&bytes)));
        }
    }
}

fn too_large(bytes: &[u8]) -> BadHead {
    let line_ends = bytes.iter().take(HEAD_BYTES_MAX).any(|byte| *byte == b'\n');
    if line_ends { BadHead::TooLarge } else { BadHead::TargetTooLong }
}

fn refused(bad: BadHead) -> NoRequest {
    NoRequest::Refused(bad.into())
}

fn read_body(stream: &TcpStream, mut body: Vec<u8>, bytes: usize, deadline: Instant) -> Result<Vec<u8>, NoRequest> {
    while body.len() < bytes {
        read_part(stream, &mut body, deadline)?;
    }
    body.truncate(bytes);
    Ok(body)
}

/// As [`read_some`]; an end of the connection after a part of a request is [`NoRequest::Unfinished`].
fn read_part(stream: &TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<(), NoRequest> {
    read_some(stream, bytes, deadline).map_err(|none| match none {
        NoRequest::Gone if !bytes.is_empty() => NoRequest::Unfinished,
        other => other,
    })
}

/// A request that a stop has interrupted gets an answer all the same.
fn unless_stopping(door: &Door, none: NoRequest) -> NoRequest {
    match none {
        NoRequest::Unfinished if door.pending.is_stopping() => NoRequest::Refused(ApiError::Draining.response()),
        other => other,
    }
}

/// Adds what the peer sent next, at most a kilobyte.
fn read_some(mut stream: &TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<(), NoRequest> {
    let too_late = || NoRequest::Refused(ApiError::TooLate.response());
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_late());
        }
        stream.set_read_timeout(Some(left)).map_err(|_| NoRequest::Gone)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(NoRequest::Gone),
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(too_late()),
            Err(_) => return Err(NoRequest::Gone),
        }
    }
}

fn send_answer(mut stream: &TcpStream, response: &Response) {
    let sent = stream.set_write_timeout(Some(ANSWER_DEADLINE)).and_then(|()| stream.write_all(&response.to_bytes()));
    if sent.is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut rest = Vec::new();
    let mut read = 0;
    while read < LINGER_BYTES_MAX && read_some(stream, &mut rest, deadline).is_ok() {
        read += rest.len();
        rest.clear();
    }
}

fn open_session(door: &Door, mut stream: TcpStream, joined: Joined, after_head: Vec<u8>) {
    let Joined { answer, user, token_expires_at, history, permit } = joined;
    let ready = stream
        .set_read_timeout(None)
        .and_then(|()| stream.set_write_timeout(Some(ANSWER_DEADLINE)))
        .and_then(|()| stream.write_all(&answer));
    if ready.is_err() {
        return;
    }
    drop(answer);
    let link = Arc::new(Link::new(door.site.publisher.new_session(), stream));
    reader::run(&door.sessions, NewSession { link, user, token_expires_at, request: history, after_head });
    drop(permit);
}
