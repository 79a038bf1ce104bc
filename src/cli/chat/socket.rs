//! [`Socket`]: the websocket to a lobby, which never blocks once it is open. The only user of `tungstenite` in the client.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::http::Response;
use tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tungstenite::{Error, Message, WebSocket};

use super::connection::Refusal;
use crate::cli::server_url::ServerUrl;
use crate::cli::stream::{Stream, cause, timed_out};

/// For the connection and for each step of the handshakes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What was received.
pub(super) enum Received {
    Text(String),
    /// A ping or a pong.
    Other,
    /// Nothing more, for now.
    Nothing,
    /// The end, with the code of the close frame if there was one, and the reason.
    End(Option<u16>, String),
}

/// A stream that notes whether anything was received.
struct ActivityStream {
    stream: Stream,
    has_received: bool,
}

impl Read for ActivityStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.has_received |= count > 0;
        Ok(count)
    }
}

impl Write for ActivityStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An open websocket.
pub(super) struct Socket {
    websocket: WebSocket<ActivityStream>,
    /// The system did not take all that was sent.
    has_unsent: bool,
}

impl Socket {
    /// Opens the websocket. Blocks. `query`: of `/join`.
    pub(super) fn open(url: &ServerUrl, query: &str, token: &str) -> Result<Socket, Refusal> {
        let failed = |reason: String| Refusal { status: None, reason, retry_after: Duration::ZERO };
        let no_answer = |cause: String| failed(format!("no answer from {url}: {cause}"));
        let stream = Stream::connect(url, TIMEOUT).map_err(no_answer)?;
        let scheme = if url.has_tls { "wss" } else { "ws" };
        let address = format!("{scheme}://{}{}", url.authority, url.target(&format!("/join{query}")));
        let mut request = address.into_client_request().map_err(|error| failed(error.to_string()))?;
        let authorization = HeaderValue::from_str(&format!("Bearer {token}"));
        request.headers_mut().insert("Authorization", authorization.map_err(|error| failed(error.to_string()))?);
        let websocket = match tungstenite::client::client(request, ActivityStream { stream, has_received: false }) {
            Ok((websocket, _)) => websocket,
            Err(HandshakeError::Failure(Error::Http(response))) => return Err(refusal(&response)),
            Err(HandshakeError::Failure(error)) => return Err(failed(error.to_string())),
            Err(HandshakeError::Interrupted(_)) => return Err(no_answer(timed_out(TIMEOUT))),
        };
        websocket.get_ref().stream.tcp().set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        Ok(Socket { websocket, has_unsent: false })
    }

    /// Sends a text. An error shows at the next [`Socket::receive`].
    pub(super) fn send(&mut self, text: String) {
        let sent = self.websocket.send(Message::text(text));
        self.note_unsent(sent);
    }

    pub(super) fn ping(&mut self) {
        let sent = self.websocket.send(Message::Ping(Default::default()));
        self.note_unsent(sent);
    }

    fn note_unsent(&mut self, sent: Result<(), Error>) {
        self.has_unsent = matches!(sent, Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock);
    }

    /// Whether anything was received since the last call, a part of a frame at least.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.websocket.get_mut().has_received)
    }

    /// The next frame, or nothing.
    pub(super) fn receive(&mut self) -> Received {
        if self.has_unsent {
            let sent = self.websocket.flush();
            self.note_unsent(sent);
        }
        match self.websocket.read() {
            Ok(Message::Text(text)) => Received::Text(text.to_string()),
            Ok(Message::Close(frame)) => {
                // The answer to the close frame.
                let _ = self.websocket.flush();
                let (code, reason) = frame
                    .map_or((None, String::new()), |frame| (Some(u16::from(frame.code)), frame.reason.to_string()));
                Received::End(
                    code,
                    if reason.is_empty() { "the server closed the connection".to_owned() } else { reason },
                )
            }
            Ok(_) => Received::Other,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(Error::Io(error)) => Received::End(None, format!("the connection was lost: {}", cause(&error))),
            Err(_) => Received::End(None, "the connection was lost".to_owned()),
        }
    }

    /// Leaves the lobby: sends a close frame and waits for the answer, so that the system does not discard the frame.
    pub(super) fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let tcp = self.websocket.get_ref().stream.tcp();
        let is_set = tcp.set_nonblocking(false).and_then(|()| tcp.set_read_timeout(Some(CLOSE_TIMEOUT)));
        if is_set.is_err() || self.websocket.close(Some(frame)).is_err() {
            return;
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while Instant::now() < deadline && self.websocket.read().is_ok() {}
    }
}

/// Why the server does not open a websocket.
fn refusal(response: &Response<Option<Vec<u8>>>) -> Refusal {
    let status = response.status().as_u16();
    let body: Option<serde_json::Value> = response.body().as_ref().and_then(|body| serde_json::from_slice(body).ok());
    let message = body.as_ref().and_then(|body| body["message"].as_str());
    let reason = message.map_or_else(|| format!("the server answers {status}"), str::to_owned);
    let seconds =
        response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let retry_after = Duration::from_secs(seconds).min(Duration::from_secs(300));
    Refusal { status: Some(status), reason, retry_after }
}

/// Waits until there is something to read (or to write, if some was left), `waker` is readable, or the time has come.
pub(super) fn wait(socket: Option<&Socket>, waker: impl AsFd, until: Option<Instant>) -> io::Result<()> {
    let mut descriptors = vec![PollFd::new(&waker, PollFlags::IN)];
    if let Some(socket) = socket {
        let written = if socket.has_unsent { PollFlags::OUT } else { PollFlags::empty() };
        descriptors.push(PollFd::new(socket.websocket.get_ref().stream.tcp(), PollFlags::IN | written));
    }
    // A millisecond more: the time has come when `poll` returns.
    let left = until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut descriptors, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
