//! The thread that runs a [`Session`] on the network, and [`Lobby`], with which the other threads talk to it.
//!
//! The thread waits for the socket, for commands and for the next deadline, all at once. Requests that take long (a login,
//! a page of earlier messages) have threads of their own, which end with the request.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use serde_json::Value;

use super::credentials::{Login, LoginFailed};
use super::protocol::{ChatMessage, parameter};
use super::renewal::Token;
use super::session::{Session, Step, Update};
use super::socket::{self, Received, Socket};
use crate::cli::http_client;
use crate::cli::server_url::ServerUrl;
use crate::random;
use crate::threads::{self, Stack};

/// Updates that wait for the thread that shows them.
const UPDATES_MAX: usize = 256;
/// Commands that wait for the thread.
const COMMANDS_MAX: usize = 16;
/// Frames that are read before the thread looks after everything else.
const FRAMES_PER_TURN: usize = 128;
/// Messages of one page of `/history`.
const PAGE: usize = 50;
/// How long [`Lobby::leave`] waits.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The messages of a page, and whether there are more; or why there is none.
type Page = Result<(Vec<ChatMessage>, bool), String>;

enum Command {
    /// Load the messages before the one with this id.
    LoadEarlier(String),
    /// A page of `/history` was loaded.
    LoadedEarlier(Page),
    LoggedIn(Result<Token, LoginFailed>),
    Leave,
}

/// The lobby, for the threads of the user. Dropping it does not leave the lobby: see [`Lobby::leave`].
pub(super) struct Lobby {
    pub(super) updates: Receiver<Update>,
    messages: Sender<String>,
    commands: Sender<Command>,
    waker: Arc<UnixStream>,
}

/// Sends messages, from any thread.
#[derive(Clone)]
pub(super) struct MessageSender {
    messages: Sender<String>,
    waker: Arc<UnixStream>,
}

struct Network {
    url: ServerUrl,
    login: Arc<Login>,
    session: Session,
    socket: Option<Socket>,
    updates: Sender<Update>,
    messages: Receiver<String>,
    commands: Receiver<Command>,
    own_commands: Sender<Command>,
    waker: Arc<UnixStream>,
    woken: UnixStream,
}

impl Lobby {
    /// Starts the thread. `first`: how many earlier messages to ask for.
    ///
    /// # Errors
    /// The system has no socket or no thread for it.
    pub(super) fn join(url: ServerUrl, login: Arc<Login>, token: Token, first: u32) -> io::Result<Lobby> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let waker = Arc::new(waker);
        let (updates, update_receiver) = bounded(UPDATES_MAX);
        let (message_sender, messages) = bounded(1);
        let (command_sender, commands) = bounded(COMMANDS_MAX);
        let session = Session::new(token, login.can_log_in(), first, Instant::now());
        let network = Network {
            url,
            login,
            session,
            socket: None,
            updates,
            messages,
            commands,
            own_commands: command_sender.clone(),
            waker: waker.clone(),
            woken,
        };
        threads::spawn("chat-network", Stack::Normal, move || network.run())?;
        Ok(Lobby { updates: update_receiver, messages: message_sender, commands: command_sender, waker })
    }

    pub(super) fn message_sender(&self) -> MessageSender {
        MessageSender { messages: self.messages.clone(), waker: self.waker.clone() }
    }

    /// Asks for the messages before the one with this id: [`Update::Earlier`] is the answer. Returns whether there will
    /// be one.
    pub(super) fn load_earlier(&self, before: &str) -> bool {
        let is_sent = self.commands.try_send(Command::LoadEarlier(before.to_owned())).is_ok();
        wake(&self.waker);
        is_sent
    }

    /// Leaves the lobby, so that others do not wait for this user to return.
    pub(super) fn leave(self) {
        let _ = self.commands.try_send(Command::Leave);
        wake(&self.waker);
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        while !matches!(
            self.updates.recv_deadline(deadline),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
        ) {}
    }
}

impl MessageSender {
    /// Sends a message as soon as possible. Waits while many messages wait. Returns whether the session goes on.
    pub(super) fn say(&self, text: String) -> bool {
        let is_sent = self.messages.send(text).is_ok();
        wake(&self.waker);
        is_sent
    }

    /// As [`MessageSender::say`], without waiting: returns the text if too many messages wait.
    pub(super) fn try_say(&self, text: String) -> Result<(), String> {
        match self.messages.try_send(text) {
            Ok(()) => {
                wake(&self.waker);
                Ok(())
            }
            Err(TrySendError::Full(text) | TrySendError::Disconnected(text)) => Err(text),
        }
    }
}

fn wake(mut waker: &UnixStream) {
    // A full buffer wakes the thread, too.
    let _ = waker.write(&[0]);
}

impl Network {
    fn run(mut self) {
        while self.report() && self.take_commands() {
            match self.session.next_step(Instant::now()) {
                Step::Connect => self.connect(),
                Step::LogIn => self.log_in(),
                Step::Send(text) => self.with_socket(|socket| socket.send(text)),
                Step::Ping => self.with_socket(Socket::ping),
                Step::GiveUp => self.socket = None,
                Step::Wait(until) => {
                    if !self.read() && socket::wait(self.socket.as_ref(), &self.woken, until).is_err() {
                        return;
                    }
                }
                Step::End => {
                    self.report();
                    return;
                }
            }
        }
        if let Some(socket) = self.socket {
            socket.close();
        }
    }

    /// Hands over what has happened. Returns false if nobody wants to know.
    fn report(&mut self) -> bool {
        self.session.take_updates().into_iter().all(|update| self.updates.send(update).is_ok())
    }

    /// Returns false if the user leaves.
    fn take_commands(&mut self) -> bool {
        // What woke the thread is in the channels.
        while self.woken.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::LoadEarlier(before) => self.load_earlier(before),
                Command::LoadedEarlier(page) => self.answer_earlier(page),
                Command::LoggedIn(Ok(token)) => self.session.logged_in(token),
                Command::LoggedIn(Err(LoginFailed { is_final, reason })) => {
                    self.session.login_failed(is_final, &reason, Instant::now());
                }
                Command::Leave => return false,
            }
        }
        while self.session.has_room()
            && let Ok(text) = self.messages.try_recv()
        {
            match new_id() {
                Ok(id) => self.session.say(id, text),
                Err(_) => return false,
            }
        }
        true
    }

    fn with_socket(&mut self, act: impl FnOnce(&mut Socket)) {
        if let Some(socket) = &mut self.socket {
            act(socket);
        }
    }

    fn connect(&mut self) {
        if !self.report() {
            return;
        }
        match Socket::open(&self.url, &self.session.query(), self.session.token()) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.session.opened(Instant::now());
            }
            Err(refusal) => self.session.refused(&refusal, Instant::now(), chance()),
        }
    }

    /// Reads what has arrived. Returns whether something has, so that the next step may be another one.
    fn read(&mut self) -> bool {
        for number in 0..FRAMES_PER_TURN {
            let Some(socket) = &mut self.socket else { return number > 0 };
            let received = socket.receive();
            let now = Instant::now();
            if socket.take_progress() {
                self.session.heard(now);
            }
            match received {
                Received::Text(text) => self.session.frame(&text, now, chance()),
                Received::Other => {}
                Received::Nothing => return number > 0,
                Received::End(code, reason) => {
                    self.socket = None;
                    self.session.closed(code, &reason, now, chance());
                }
            }
        }
        true
    }

    fn log_in(&mut self) {
        let (url, login, commands, waker) =
            (self.url.clone(), self.login.clone(), self.own_commands.clone(), self.waker.clone());
        let started = threads::spawn("chat-login", Stack::Normal, move || {
            let _ = commands.send(Command::LoggedIn(login.log_in(&url)));
            wake(&waker);
        });
        if let Err(error) = started {
            self.session.login_failed(false, &format!("no thread can be started: {error}"), Instant::now());
        }
    }

    fn load_earlier(&mut self, before: String) {
        let (url, token, commands, waker) =
            (self.url.clone(), self.session.token().to_owned(), self.own_commands.clone(), self.waker.clone());
        // Only the network thread has the sender of the updates, whose end tells that the lobby is left.
        let started = threads::spawn("chat-history", Stack::Normal, move || {
            let _ = commands.send(Command::LoadedEarlier(earlier(&url, &token, &before)));
            wake(&waker);
        });
        if let Err(error) = started {
            self.answer_earlier(Err(format!("no thread can be started: {error}")));
        }
    }

    fn answer_earlier(&self, page: Page) {
        // Without a receiver, the next report ends the thread.
        let _ = self.updates.send(Update::Earlier(page));
    }
}

/// A page of `/history`.
fn earlier(url: &ServerUrl, token: &str, before: &str) -> Page {
    let before = parameter(before);
    let mut answer = http_client::request(url, "GET", &format!("/history?before={before}&limit={PAGE}"), token, "")?;
    if answer.status == 404 {
        return Ok((Vec::new(), false));
    }
    if answer.status != 200 {
        return Err(answer.error());
    }
    let messages = serde_json::from_value(answer.body["messages"].take()).map_err(|error| error.to_string())?;
    Ok((messages, answer.body["more"] == Value::Bool(true)))
}

/// An id that no other message of this account has.
fn new_id() -> io::Result<String> {
    Ok(format!("{:016x}{:016x}", random::u64()?, random::u64()?))
}

/// From 0 to 1. Without random bytes there are no ids either, and the client stops.
fn chance() -> f64 {
    random::u64().map_or(0.5, |number| (number >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_page_that_is_loading_does_not_delay_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, loading) = bounded(1);
        threads::spawn("test-server", Stack::Normal, move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 1024];
                let count = client.read(&mut request).unwrap();
                if request[..count].starts_with(b"GET /history?") {
                    // The receiver keeps the connection open.
                    sender.send(client).unwrap();
                } else {
                    let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
                }
            }
        })
        .unwrap();
        let token = Token::new("a-token".to_owned(), Instant::now());
        let lobby = Lobby::join(url, Arc::new(Login::Never), token, 0).unwrap();
        assert!(lobby.load_earlier("5f-7"));
        let _client = loading.recv_timeout(PATIENCE).unwrap();
        lobby.commands.send(Command::Leave).unwrap();
        wake(&lobby.waker);
        let deadline = Instant::now() + PATIENCE;
        let end = std::iter::repeat_with(|| lobby.updates.recv_deadline(deadline)).find_map(Result::err);
        assert_eq!(end, Some(RecvTimeoutError::Disconnected));
    }
}
