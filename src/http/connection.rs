//! One connection, on its own thread, until it is answered or becomes a session. This thread only reads, waits and
//! writes. Work that uses much stack runs on the [`Workers`].

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api_error::ApiError;
use super::app_state::AppState;
use super::cross_origin::Page;
use super::endpoints::history;
use super::endpoints::join::Joined;
use super::pending::{Pending, PendingConnection};
use super::permits::{NoPermit, Permit};
use super::receive::{self, NoRequest, ReceivedHead, ReceivedProxyHeader};
use super::refusal_log::RefusalLog;
use super::response::Response;
use super::routes::{self, BODY_BYTES_MAX, BodyToRead, NextStep, Routed};
use crate::net::{self, LingerLimits, address_key};
use crate::proxies::{Sender, Source};
use crate::session::link::Link;
use crate::session::reader::{self, NewSession, Sessions};
use crate::workers::Workers;

/// How long a client may take to send the head, and then the body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the socket may take to accept an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client may continue to send after its answer. Enough for a proxy that sends the whole body before it looks at the
/// answer: it would report a reset connection to its client, and not the answer.
const LINGER: LingerLimits =
    LingerLimits { idle: Duration::from_secs(1), total: Duration::from_secs(10), bytes: 16 * 1024 * 1024 };
/// The interim answer to `Expect: 100-continue` (RFC 9110, section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What all connections share.
pub(crate) struct ConnectionContext {
    pub(crate) app: Arc<AppState>,
    pub(crate) sessions: Sessions,
    /// Runs the work that uses much stack.
    pub(crate) workers: Workers,
    /// The connections that are not sessions.
    pub(crate) pending: Arc<Pending>,
    pub(crate) refusals: RefusalLog,
}

/// What the answer and the log need of the request, as far as it was read.
struct RequestContext {
    /// The client, as far as it is known: at first the peer.
    address: IpAddr,
    page: Page,
    /// The answer to `HEAD` has no body.
    is_head: bool,
}

/// The result of a request.
enum Outcome {
    Answer(Response),
    /// The handshake of a session. `after_head` may have its first frames.
    Joined {
        joined: Box<Joined>,
        after_head: Vec<u8>,
    },
}

/// Serves one connection of this peer to its end. `permit` counts the connection and is released at the end.
pub(crate) fn serve(context: &ConnectionContext, stream: TcpStream, peer: IpAddr, mut permit: Permit<IpAddr>) {
    let connection = context.pending.add(stream);
    let mut request = RequestContext { address: peer, page: Page::default(), is_head: false };
    let outcome = handle(context, &connection, &mut permit, &mut request);
    match outcome {
        Ok(Outcome::Answer(response)) | Err(NoRequest::Refused(response)) => {
            context.app.count(&response);
            if let Some(error) = response.error.filter(|error| error.is_refusal()) {
                context.refusals.log(error, request.address, request.page.shown().as_deref());
            }
            send_answer(connection.stream(), &Response { head_only: request.is_head, ..response });
        }
        Ok(Outcome::Joined { joined, after_head }) => {
            context.app.metrics.response_sent(101);
            if let Some(stream) = connection.into_stream() {
                open_session(context, stream, *joined, after_head);
            }
        }
        Err(NoRequest::Closed | NoRequest::Incomplete) => {}
    }
    drop(permit);
}

/// Reads the request and runs it. Sets the fields of `request`, and counts the connection for its client, as soon as they
/// are known.
fn handle(
    context: &ConnectionContext,
    connection: &PendingConnection,
    permit: &mut Permit<IpAddr>,
    request: &mut RequestContext,
) -> Result<Outcome, NoRequest> {
    let stream = connection.stream();
    let no_request = |none| answer_if_stopping(context, none);
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let (sender, received) = receive_sender(context, stream, request.address, deadline).map_err(no_request)?;
    request.address = sender.address;
    if !context.app.proxies.is_trusted(sender.address) {
        count_for_client(permit, sender.address).map_err(NoRequest::Refused)?;
    }
    let ReceivedHead { head, after_head } = receive::head(stream, received, deadline).map_err(no_request)?;
    connection.set_has_request();
    // Not a field of `Routed`: the answer to a head that cannot be parsed, or routed, has no body either.
    request.is_head = head.starts_with(b"HEAD ");
    let app = context.app.clone();
    let Ok(routed) = context.workers.run(move || routes::next_step(&app, sender, &head)) else {
        return Ok(Outcome::Answer(ApiError::Internal.response()));
    };
    let Routed { step, client, page, is_shared } = routed;
    let address = client.address;
    (request.address, request.page) = (address, page);
    let share = |response| if is_shared { request.page.share(response) } else { response };
    if client.source != Source::Sender {
        count_for_client(permit, address).map_err(|refusal| NoRequest::Refused(share(refusal)))?;
    }
    let (handler, body, expects_continue) = match step {
        NextStep::Respond(response) => return Ok(Outcome::Answer(share(response))),
        NextStep::History(asked) => {
            return Ok(Outcome::Answer(share(history::run(&context.app, &context.workers, &asked, address))));
        }
        NextStep::Join(joined) => return Ok(Outcome::Joined { joined, after_head }),
        NextStep::ReadBody { handler, body, expects_continue } => (handler, body, expects_continue),
    };
    match read_body(stream, after_head, body, expects_continue) {
        Ok(body) => Ok(Outcome::Answer(share(handler(&context.app, &context.workers, body, address)))),
        Err(none) => Err(match no_request(none) {
            NoRequest::Refused(response) => NoRequest::Refused(share(response)),
            other => other,
        }),
    }
}

/// Finds out what sends the requests of this connection: the peer, or what its PROXY header names. Also returns the bytes
/// that were read with the header.
fn receive_sender(
    context: &ConnectionContext,
    stream: &TcpStream,
    peer: IpAddr,
    deadline: Instant,
) -> Result<(Sender, Vec<u8>), NoRequest> {
    let proxies = &context.app.proxies;
    if !proxies.expects_proxy_header(peer) {
        return Ok((proxies.sender(peer), Vec::new()));
    }
    match receive::proxy_header(stream, deadline)? {
        Ok(ReceivedProxyHeader { header, after_header }) => {
            Ok((proxies.sender_in_header(peer, header.client), after_header))
        }
        Err(bad) => {
            let advice = "ICH_PROXY_PROTOCOL=on requires the header from each address in ICH_TRUSTED_PROXIES";
            context.app.warn_about_proxy(&format!("refused a connection from {peer}: {bad}: {advice}"));
            Err(NoRequest::Refused(ApiError::BadProxyHeader.with_text(&format!("{bad}: {advice}"))))
        }
    }
}

/// Counts the connection for the client that a proxy has named, towards the limit per address.
fn count_for_client(permit: &mut Permit<IpAddr>, client: IpAddr) -> Result<(), Response> {
    permit.count_for(address_key(client)).map_err(|_: NoPermit| ApiError::TooManyConnections.response())
}

/// Reads the body of a request. `after_head` has the bytes that were read with the head.
fn read_body(
    mut stream: &TcpStream,
    after_head: Vec<u8>,
    body: BodyToRead,
    expects_continue: bool,
) -> Result<Vec<u8>, NoRequest> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    if expects_continue && after_head.is_empty() && stream.write_all(CONTINUE).is_err() {
        return Err(NoRequest::Closed);
    }
    match body {
        BodyToRead::Length(length) => receive::body(stream, after_head, length, deadline),
        BodyToRead::Chunked => receive::chunked_body(stream, after_head, BODY_BYTES_MAX, deadline),
    }
}

/// A stop closes the reading side within a request. The client can still get an answer, so it gets 503.
fn answer_if_stopping(context: &ConnectionContext, none: NoRequest) -> NoRequest {
    match none {
        NoRequest::Incomplete if context.pending.is_stopping() => NoRequest::Refused(ApiError::Draining.response()),
        other => other,
    }
}

fn send_answer(mut stream: &TcpStream, response: &Response) {
    let sent = stream.set_write_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| stream.write_all(&response.to_bytes()));
    if sent.is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    net::linger(&LINGER, |timeout, buffer| {
        stream.set_read_timeout(Some(timeout))?;
        stream.read(buffer)
    });
}

/// Completes the handshake and runs the session to its end.
fn open_session(context: &ConnectionContext, mut stream: TcpStream, joined: Joined, after_head: Vec<u8>) {
    let Joined { answer, user, token_expires_at, history, permit } = joined;
    let sent = stream
        .set_read_timeout(None)
        .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
        .and_then(|()| stream.write_all(&answer));
    if sent.is_err() {
        return;
    }
    drop(answer);
    let link = Arc::new(Link::new(context.app.publisher.new_session(), stream));
    reader::run(&context.sessions, NewSession { link, user, token_expires_at, request: history, after_head });
    drop(permit);
}
