//! The session thread: the thread of the connection reads frames, checks them and appends messages to the log. It never
//! writes to the socket: all frames for its client go through the fan-out.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::log;

use super::client_error::{ClientError, ErrorCode};
use super::end::End;
use super::fan_out::{Command, FanOut};
use super::history;
use super::link::Link;
use super::protocol::{self, ClientMessage, Content};
use super::renewal::{self, CheckToken};
use super::socket::Socket;
use super::wire::{self, Received, Receiver};
use crate::clock;
use crate::config::{Limits, Secret};
use crate::lobby::User;
use crate::metrics::Metrics;
use crate::moderation::Sanction;
use crate::net::{self, LingerLimits};
use crate::publisher::{OpenError, Publisher, SayError};
use crate::rate::{Rate, TokenBucket};

/// The rate of control frames of one client. Ordinary clients stay far below: a browser sends only pongs, and a
/// websocket library pings about twice a minute.
const CONTROL_FRAMES: Rate = Rate::per_second(NonZeroU32::new(10).unwrap(), CONTROL_FRAMES_BURST);
const CONTROL_FRAMES_BURST: u32 = 100;
/// What a client may continue to send after the close frame.
const LINGER: LingerLimits =
    LingerLimits { idle: Duration::from_secs(2), total: Duration::from_secs(2), bytes: 1 << 20 };

/// What all sessions share.
pub struct Sessions<S = TcpStream> {
    /// Appends the records of all sessions.
    pub publisher: Arc<Publisher>,
    /// Writes to all sockets.
    pub fan_out: FanOut<S>,
    /// The limits of the settings.
    pub(crate) limits: Limits,
    /// Counts sessions and messages.
    pub metrics: Arc<Metrics>,
    /// Checks the new token of a session.
    pub check_token: CheckToken,
    /// How long after a broken connection the user stays in the lobby.
    pub leave_grace: Duration,
}

/// The data of a session that begins: the handshake is done.
pub struct NewSession<S = TcpStream> {
    /// The socket, from which the head of the request was read.
    pub link: Arc<Link<S>>,
    /// The user that the token names.
    pub user: User,
    /// When the token expires, and the session ends.
    pub token_expires_at: Instant,
    /// The earlier messages that the client asks for; `None` if it asks for none.
    pub request: Option<history::Request>,
    /// The bytes that were read after the head of the request: the beginning of the client's first frames.
    pub after_head: Vec<u8>,
}

/// Runs a session to its end. Called on the connection's thread.
pub fn run<S: Socket>(shared: &Sessions<S>, new: NewSession<S>) {
    let NewSession { link, user, token_expires_at, request, after_head } = new;
    let opened = Command::Open { link: link.clone(), token_expires_at };
    if !shared.fan_out.send(link.session, opened) {
        return;
    }
    let username = user.username.clone();
    shared.metrics.session_opened();
    let open = OpenSession { shared, link: &link };
    let has_left = || has_left(&link.socket);
    let end = match shared.publisher.open_session(link.session, user.clone(), request, has_left) {
        Ok(()) => Conversation::new(shared, &link, user, after_head).run(),
        Err(OpenError::Unavailable) => End::LogUnavailable,
        Err(OpenError::Banned) => End::Banned,
        Err(OpenError::TooMany) => End::JoinTimeout,
        Err(OpenError::Left) => End::Disconnected,
    };
    let end = link.end(end);
    // The close frame comes first, so that no client gets its own `user_left`.
    send_close(shared, &link, end);
    match end {
        End::Disconnected | End::PingTimeout => shared.publisher.close_broken_session(link.session, shared.leave_grace),
        _ => shared.publisher.close_session(link.session),
    }
    linger(&link, end);
    drop(open);
    log!(end.row().level, "session {} of {username:?} ended: {}", link.session.0, end.row().label);
}

/// Whether a client that has sent nothing yet is known to have left: the connection has ended, or a close frame came.
fn has_left(socket: &impl Socket) -> bool {
    let mut first = [0];
    match socket.peek_now(&mut first) {
        Ok(0) => true,
        Ok(_) => wire::begins_close(first[0]),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Ends the session on drop, also when its thread panics.
struct OpenSession<'a, S: Socket> {
    shared: &'a Sessions<S>,
    link: &'a Link<S>,
}

impl<S: Socket> Drop for OpenSession<'_, S> {
    fn drop(&mut self) {
        let end = self.link.end(End::Internal);
        if end == End::Internal {
            self.shared.fan_out.send(self.link.session, close(self.link, end));
        }
        self.shared.publisher.close_session(self.link.session);
        // The fan-out closes the connection after the last frame. If it were closed here, a queued close frame would be
        // lost.
        if !self.shared.fan_out.send(self.link.session, Command::Forget(self.link.session)) {
            self.link.disconnect();
        }
        self.shared.metrics.session_ended(end.row().label);
    }
}

/// Sends the close frame if the client may still read it.
fn send_close<S: Socket>(shared: &Sessions<S>, link: &Link<S>, end: End) {
    match end {
        // The close frame was sent already, or the connection is gone.
        End::Disconnected | End::PingTimeout | End::TokenExpired | End::TooSlow | End::Restarting => {}
        End::ClosedByClient => {}
        End::ProtocolError
        | End::NotUtf8
        | End::TooBig
        | End::TooFast
        | End::Kicked
        | End::Banned
        | End::Internal
        | End::LogUnavailable
        | End::JoinTimeout => {
            shared.fan_out.send(link.session, close(link, end));
        }
    }
}

/// Waits until the client has closed the connection.
fn linger<S: Socket>(link: &Link<S>, end: End) {
    if end != End::Disconnected {
        net::linger(&LINGER, |timeout, buffer| {
            link.socket.set_read_timeout(timeout)?;
            link.socket.read(buffer)
        });
    }
}

fn close<S>(link: &Link<S>, end: End) -> Command<S> {
    Command::Close { session: link.session, frame: wire::close(end.row().code, end.row().text) }
}

/// An open session: handles what its client sends.
struct Conversation<'a, S> {
    shared: &'a Sessions<S>,
    link: &'a Link<S>,
    user: User,
    receiver: Receiver<'a, S>,
    /// `None`: unlimited.
    message_rate: Option<Rate>,
    messages: TokenBucket,
    /// The number of messages refused in a row, since the last accepted one.
    refused: u32,
    control_frames: TokenBucket,
}

impl<'a, S: Socket> Conversation<'a, S> {
    fn new(shared: &'a Sessions<S>, link: &'a Link<S>, user: User, after_head: Vec<u8>) -> Self {
        let (limits, now) = (&shared.limits, Instant::now());
        Conversation {
            shared,
            link,
            user,
            receiver: Receiver::new(&link.socket, after_head, limits.frame_bytes),
            message_rate: limits.messages_per_second.map(|rate| Rate::per_second(rate, limits.message_burst)),
            messages: TokenBucket::full(now),
            refused: 0,
            control_frames: TokenBucket::full(now),
        }
    }

    /// Runs until the client closes, or the session has to end.
    fn run(mut self) -> End {
        loop {
            let received = match self.receiver.receive() {
                Ok(received) => received,
                Err(end) => return end,
            };
            self.link.heard();
            let go_on = match received {
                Received::Text(frame) => self.message(|this| this.text(&frame)),
                Received::Binary => self.message(|this| this.answer(&ErrorCode::Binary.into())),
                Received::Ping(payload) => self.control(|this| this.send_direct(wire::pong(&payload))),
                Received::Pong => self.control(|_| ()),
                Received::Close(code) => {
                    let frame = wire::close_reply(code);
                    self.shared.fan_out.send(self.link.session, Command::Close { session: self.link.session, frame });
                    return End::ClosedByClient;
                }
            };
            if let Err(end) = go_on {
                return end;
            }
        }
    }

    fn message(&mut self, handle: impl FnOnce(&mut Self)) -> Result<(), End> {
        if self.message_rate.is_none_or(|rate| self.messages.take(rate, Instant::now())) {
            self.refused = 0;
            handle(self);
            return Ok(());
        }
        self.refused += 1;
        if self.refused > self.shared.limits.message_burst {
            return Err(End::TooFast);
        }
        self.answer(&ErrorCode::RateLimited.into());
        Ok(())
    }

    fn control(&mut self, handle: impl FnOnce(&mut Self)) -> Result<(), End> {
        if !self.control_frames.take(CONTROL_FRAMES, Instant::now()) {
            return Err(End::TooFast);
        }
        handle(self);
        Ok(())
    }

    fn text(&mut self, frame: &str) {
        let ClientMessage { content, id } = match protocol::parse(frame, self.shared.limits.text_chars) {
            Ok(message) => message,
            Err(error) => return self.answer(&error),
        };
        match content {
            Content::Say(text) => self.say(text, id),
            Content::Token(token) => self.renew(token, id),
            Content::Ping => self.send_direct(protocol::pong_frame(id.as_deref(), &clock::rfc3339())),
        }
    }

    fn say(&mut self, text: Arc<str>, id: Option<Arc<str>>) {
        match self.shared.publisher.say(self.link.session, text, id.clone()) {
            Ok(()) => self.shared.metrics.message_accepted(),
            Err(SayError::Muted(mute)) => self.answer(&muted(&mute).about(id)),
            Err(SayError::Unavailable) => self.answer(&ClientError::from(ErrorCode::Unavailable).about(id)),
        }
    }

    fn renew(&mut self, token: Secret, id: Option<Arc<str>>) {
        let grant = match renewal::check(&self.shared.check_token, token, &self.user) {
            Ok(grant) => grant,
            Err(error) => return self.answer(&error.about(id)),
        };
        let session = self.link.session;
        self.shared.fan_out.send(session, Command::Renew { session, token_expires_at: grant.expires_at() });
        self.shared.metrics.token_renewed();
        let expires_in = grant.lifetime.as_secs();
        self.send_direct(protocol::token_frame(expires_in, id.as_deref(), &clock::rfc3339()));
    }

    fn answer(&mut self, error: &ClientError) {
        self.shared.metrics.error_frame_sent(error.code.row().code);
        self.send_direct(protocol::error_frame(error, &clock::rfc3339()));
    }

    fn send_direct(&mut self, frame: Vec<u8>) {
        self.shared.fan_out.send(self.link.session, Command::Direct { session: self.link.session, frame });
    }
}

/// The error for a message of a muted user: until when, and the reason.
fn muted(mute: &Sanction) -> ClientError {
    ErrorCode::Muted.with_text(format!("an administrator has muted you{}", mute.until_and_reason()))
}

#[cfg(test)]
mod tests;
