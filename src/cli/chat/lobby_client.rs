//! [`LobbyClient`]: joins the lobby and starts the network thread; sends messages and commands to it, and receives what
//! happens.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, at, bounded, select};

use super::credentials::Login;
use super::network::{Command, Network, wake};
use super::renewal::Token;
use super::session::Session;
use super::update::Update;
use crate::cli::server_url::ServerUrl;
use crate::threads::{self, Stack};

/// Updates that wait for the thread that shows them.
const UPDATES_MAX: usize = 256;
/// Commands that wait for the network thread.
const COMMANDS_MAX: usize = 16;
/// How long [`LobbyClient::leave`] waits.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Dropping it does not leave the lobby: see [`LobbyClient::leave`].
pub(super) struct LobbyClient {
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

impl LobbyClient {
    /// Starts the network thread. `first`: how many earlier messages to ask for.
    ///
    /// # Errors
    /// The system has no socket or no thread for it.
    pub(super) fn join(url: ServerUrl, login: Arc<Login>, token: Token, first: u32) -> io::Result<LobbyClient> {
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
            command_sender: command_sender.clone(),
            waker: waker.clone(),
            woken,
        };
        threads::spawn("chat-network", Stack::Normal, move || network.run())?;
        Ok(LobbyClient { updates: update_receiver, messages: message_sender, commands: command_sender, waker })
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
        let timeout = at(Instant::now() + LEAVE_TIMEOUT);
        // Takes updates too: the network thread takes no command while it waits for room for an update.
        loop {
            select! {
                send(self.commands, Command::Leave) -> _ => break,
                recv(self.updates) -> _ => {}
                recv(timeout) -> _ => return,
            }
        }
        wake(&self.waker);
        // The end of the updates is the end of the network thread, which closes the connection first.
        loop {
            select! {
                recv(self.updates) -> update => if update.is_err() { return },
                recv(timeout) -> _ => return,
            }
        }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use crossbeam_channel::RecvTimeoutError;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn messages_are_taken_while_the_client_connects() {
        // The system accepts the connection, and nobody answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let token = Token::new("a-token".to_owned(), Instant::now());
        let lobby = LobbyClient::join(url, Arc::new(Login::Never), token, 0).unwrap();
        let _connection = listener.accept().unwrap();
        let messages = lobby.message_sender();
        for text in ["one", "two", "three"] {
            messages.try_say(text.to_owned()).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut updates = std::iter::repeat_with(|| lobby.updates.recv_deadline(deadline).unwrap());
            updates.find(|update| matches!(update, Update::Queued(message) if message.text == text)).unwrap();
        }
        lobby.leave();
    }

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
        let lobby = LobbyClient::join(url, Arc::new(Login::Never), token, 0).unwrap();
        assert!(lobby.load_earlier("5f-7"));
        let _client = loading.recv_timeout(PATIENCE).unwrap();
        lobby.commands.send(Command::Leave).unwrap();
        wake(&lobby.waker);
        let deadline = Instant::now() + PATIENCE;
        let end = std::iter::repeat_with(|| lobby.updates.recv_deadline(deadline)).find_map(Result::err);
        assert_eq!(end, Some(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_client_leaves_although_the_network_thread_has_no_room_for_commands() {
        let (waker, _woken) = UnixStream::pair().unwrap();
        let (updates, update_receiver) = bounded(1);
        let (messages, _messages) = bounded(1);
        let (commands, command_receiver) = bounded(1);
        let lobby = LobbyClient { updates: update_receiver, messages, commands, waker: Arc::new(waker) };
        assert!(lobby.load_earlier("5f-7"));
        let (sender, has_left) = bounded(1);
        threads::spawn("test-network", Stack::Normal, move || {
            // The second one waits until the client takes the first one.
            for number in 0..2 {
                updates.send(Update::Note(number.to_string())).unwrap();
            }
            let last = command_receiver.iter().find(|command| matches!(command, Command::Leave));
            sender.send(last.is_some()).unwrap();
        })
        .unwrap();
        lobby.leave();
        assert!(has_left.recv_timeout(PATIENCE).unwrap());
    }
}
