//! [`Network`]: the thread that runs a [`Session`] on the network. `lobby_client.rs` starts it, for the other threads.
//!
//! The thread waits for the socket, for commands and for the next deadline, all at once. What takes long (opening the
//! websocket, a login, a page of earlier messages) has a thread of its own, which ends with it and sends a command. A panic
//! of such a thread ends the network thread, and with it the client.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::connection::Refusal;
use super::credentials::{Login, LoginFailed};
use super::protocol::PageResult;
use super::renewal::Token;
use super::session::{Session, Step};
use super::socket::{self, Received, Socket};
use super::update::Update;
use super::{gap, history};
use crate::cli::server_url::ServerUrl;
use crate::random;
use crate::threads::{self, Stack};

/// Frames that are read before the thread looks after everything else.
const FRAMES_PER_TURN: usize = 128;
/// Messages of a page that the user asks for.
const PAGE: usize = 50;

/// What the thread gets from other threads.
pub(super) enum Command {
    /// Load the messages before the one with this id.
    LoadEarlier(String),
    /// The page for [`Command::LoadEarlier`] was loaded.
    LoadedEarlier(PageResult),
    /// The page for [`Step::LoadPage`] was loaded.
    LoadedPage(PageResult),
    LoggedIn(Result<Token, LoginFailed>),
    /// The end of [`Step::Connect`].
    Opened(Result<Box<Socket>, Refusal>),
    /// A thread that would have sent one of these commands has panicked.
    Panicked,
    Leave,
}

/// See the top of the file.
pub(super) struct Network {
    pub(super) url: ServerUrl,
    pub(super) login: Arc<Login>,
    pub(super) session: Session,
    pub(super) socket: Option<Box<Socket>>,
    pub(super) updates: Sender<Update>,
    pub(super) messages: Receiver<String>,
    pub(super) commands: Receiver<Command>,
    pub(super) command_sender: Sender<Command>,
    pub(super) waker: Arc<UnixStream>,
    pub(super) woken: UnixStream,
}

pub(super) fn wake(mut waker: &UnixStream) {
    // A full buffer wakes the thread, too.
    let _ = waker.write(&[0]);
}

impl Network {
    pub(super) fn run(mut self) {
        while self.take_commands() && self.report() {
            match self.session.next_step(Instant::now(), random_fraction()) {
                Step::Connect => self.connect(),
                Step::LogIn => self.log_in(),
                Step::LoadPage(before) => self.load(before, gap::PAGE, Command::LoadedPage),
                Step::Send(text) => self.with_socket(|socket| socket.send(text)),
                Step::Ping => self.with_socket(|socket| socket.ping()),
                Step::GiveUp => self.socket = None,
                Step::Wait(until) => {
                    if !self.read() && socket::wait(self.socket.as_deref(), &self.woken, until).is_err() {
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

    /// Takes what the other threads have sent. Returns false at the end.
    fn take_commands(&mut self) -> bool {
        // What woke the thread is in the channels.
        while self.woken.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        while let Ok(command) = self.commands.try_recv() {
            if !self.take_command(command) {
                return false;
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

    /// Returns false if the user leaves, or a thread has panicked.
    fn take_command(&mut self, command: Command) -> bool {
        match command {
            Command::LoadEarlier(before) => self.load(Some(before), PAGE, Command::LoadedEarlier),
            // Without a receiver, the next report ends the thread.
            Command::LoadedEarlier(page) => drop(self.updates.send(Update::Earlier(page))),
            Command::LoadedPage(page) => self.session.loaded(page),
            Command::LoggedIn(Ok(token)) => self.session.logged_in(token),
            Command::LoggedIn(Err(LoginFailed { is_final, reason })) => {
                self.session.login_failed(is_final, &reason, Instant::now());
            }
            Command::Opened(Ok(socket)) => {
                self.socket = Some(socket);
                self.session.opened(Instant::now());
            }
            Command::Opened(Err(refusal)) => self.session.refused(&refusal, Instant::now(), random_fraction()),
            Command::Panicked | Command::Leave => return false,
        }
        true
    }

    fn with_socket(&mut self, act: impl FnOnce(&mut Socket)) {
        if let Some(socket) = &mut self.socket {
            act(socket);
        }
    }

    fn connect(&mut self) {
        let (url, query, token) = (self.url.clone(), self.session.query(), self.session.token().to_owned());
        let open = move || Command::Opened(Socket::open(&url, &query, &token).map(Box::new));
        if let Err(error) = self.start("chat-connect", open) {
            let refusal = Refusal { status: None, reason: no_thread(&error), retry_after: Duration::ZERO };
            self.session.refused(&refusal, Instant::now(), random_fraction());
        }
    }

    /// Reads what has arrived. Returns whether something has, so that the next step may be another one.
    fn read(&mut self) -> bool {
        for number in 0..FRAMES_PER_TURN {
            let Some(socket) = &mut self.socket else { return number > 0 };
            let received = socket.receive();
            let now = Instant::now();
            if socket.take_progress() {
                self.session.received(now);
            }
            match received {
                Received::Text(text) => self.session.frame(&text, now, random_fraction()),
                Received::Other => {}
                Received::Nothing => return number > 0,
                Received::End(code, reason) => {
                    self.socket = None;
                    self.session.closed(code, &reason, now, random_fraction());
                }
            }
        }
        true
    }

    fn log_in(&mut self) {
        let (url, login) = (self.url.clone(), self.login.clone());
        if let Err(error) = self.start("chat-login", move || Command::LoggedIn(login.log_in(&url))) {
            self.session.login_failed(false, &no_thread(&error), Instant::now());
        }
    }

    /// Loads a page of `/history`. `command` brings the answer.
    fn load(&mut self, before: Option<String>, limit: usize, command: fn(PageResult) -> Command) {
        let (url, token) = (self.url.clone(), self.session.token().to_owned());
        let load = move || command(history::load(&url, &token, before.as_deref(), limit));
        if let Err(error) = self.start("chat-history", load) {
            self.take_command(command(Err(no_thread(&error))));
        }
    }

    /// Runs `work` on a thread. Its result is one of the next commands.
    fn start(&self, name: &str, work: impl FnOnce() -> Command + Send + 'static) -> io::Result<()> {
        // Only the network thread has the sender of the updates, whose end tells that the lobby is left.
        let (commands, waker) = (self.command_sender.clone(), self.waker.clone());
        threads::spawn(name, Stack::Normal, move || {
            // The panic has been reported, and nothing of `work` is used after it.
            let command = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(Command::Panicked);
            let _ = commands.send(command);
            wake(&waker);
        })?;
        Ok(())
    }
}

fn no_thread(error: &io::Error) -> String {
    format!("no thread can be started: {error}")
}

/// An id that no other message of this account has.
fn new_id() -> io::Result<String> {
    Ok(format!("{:016x}{:016x}", random::u64()?, random::u64()?))
}

/// From 0 to 1. Without random bytes there are no ids either, and the client stops.
fn random_fraction() -> f64 {
    random::u64().map_or(0.5, |number| (number >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_panic_of_a_thread_that_the_network_thread_has_started_ends_it() {
        let (waker, woken) = UnixStream::pair().unwrap();
        woken.set_nonblocking(true).unwrap();
        let (command_sender, commands) = bounded(1);
        let (updates, _updates) = bounded(1);
        let (_messages, messages) = bounded(1);
        let now = Instant::now();
        let mut network = Network {
            url: "http://127.0.0.1:1".parse().unwrap(),
            login: Arc::new(Login::Never),
            session: Session::new(Token::new("a-token".to_owned(), now), false, 0, now),
            socket: None,
            updates,
            messages,
            commands,
            command_sender,
            waker: Arc::new(waker),
            woken,
        };
        network.start("test-panic", || panic!("a test")).unwrap();
        socket::wait(None, &network.woken, Some(now + Duration::from_secs(10))).unwrap();
        assert!(!network.take_commands());
    }
}
