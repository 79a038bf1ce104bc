//! `ich chat` in a pipe: each line of standard input is a message, and each message of the lobby is a line of standard
//! output. What else happens is a line on standard error.

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};

use super::lobby_client::{LobbyClient, MessageSender};
use super::protocol::ChatMessage;
use super::times;
use super::update::{State, Update};
use crate::cli::{EXIT_FAILED, EXIT_STOPPED};
use crate::text::terminal::printable;
use crate::threads::{self, Stack};

/// A longer line cannot be a message: the server accepts 16 KiB.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How the client reads and writes.
pub(super) struct Options {
    /// End when standard input has ended and all its lines are confirmed.
    pub(super) once: bool,
    /// With `once`: how long a message may take.
    pub(super) timeout: Duration,
    /// Write JSON lines.
    pub(super) json: bool,
}

/// Standard input has ended after this many messages.
struct InputEnd {
    messages: usize,
    /// Lines that cannot be sent.
    refused: usize,
}

/// Runs until `stop` receives something, the session ends, or standard output is closed.
pub(super) fn run(lobby: LobbyClient, options: &Options, stop: &Receiver<()>) -> ExitCode {
    let (sender, input) = bounded(1);
    let messages = lobby.message_sender();
    let started = threads::spawn("chat-input", Stack::Normal, move || {
        let _ = sender.send(read_lines(&mut io::stdin().lock(), &messages));
    });
    if let Err(error) = started {
        eprintln!("ich: no thread can be started: {error}");
        return ExitCode::from(EXIT_FAILED);
    }
    let code = Pipe::new(options).run(&lobby, &input, stop);
    lobby.leave();
    ExitCode::from(code)
}

struct Pipe<'a> {
    options: &'a Options,
    /// Messages that wait for an answer.
    waiting: usize,
    /// Messages that got one.
    answered: usize,
    input_end: Option<InputEnd>,
    has_joined: bool,
    /// A message was refused.
    failed: bool,
    is_offline: bool,
    /// The last line about the connection.
    last_notice: String,
}

impl Pipe<'_> {
    fn new(options: &Options) -> Pipe<'_> {
        Pipe {
            options,
            waiting: 0,
            answered: 0,
            input_end: None,
            has_joined: false,
            failed: false,
            is_offline: false,
            last_notice: String::new(),
        }
    }

    fn run(&mut self, lobby: &LobbyClient, input: &Receiver<InputEnd>, stop: &Receiver<()>) -> u8 {
        let mut progress_at = Instant::now();
        loop {
            if let Some(code) = self.result() {
                return code;
            }
            let is_due = self.options.once && (self.waiting > 0 || !self.has_joined);
            let left = (progress_at + self.options.timeout).saturating_duration_since(Instant::now());
            let timeout = if is_due { after(left) } else { never() };
            let ended = if self.input_end.is_none() { input.clone() } else { never() };
            select! {
                recv(lobby.updates) -> update => {
                    let before = (self.answered, self.has_joined, self.waiting > 0);
                    match update.map(|update| self.apply(update)) {
                        Ok(None) => {}
                        Ok(Some(code)) => return code,
                        Err(_) => return fail("the network thread has ended: an error of this program"),
                    }
                    if before != (self.answered, self.has_joined, self.waiting > 0) {
                        progress_at = Instant::now();
                    }
                }
                recv(ended) -> ended => match ended {
                    Ok(ended) => self.input_end = Some(ended),
                    Err(_) => return fail("the thread of standard input has ended: an error of this program"),
                },
                recv(stop) -> _ => return EXIT_STOPPED,
                recv(timeout) -> _ => {
                    let what = if self.has_joined { format!("{} not confirmed", self.waiting) } else { "not connected".to_owned() };
                    return fail(&format!("{what} after {} seconds", self.options.timeout.as_secs()));
                }
            }
        }
    }

    /// The exit code, once everything was sent.
    fn result(&self) -> Option<u8> {
        let ended = self.input_end.as_ref().filter(|_| self.options.once && self.has_joined)?;
        let is_complete = self.answered == ended.messages;
        is_complete.then_some(if self.failed || ended.refused > 0 { EXIT_FAILED } else { EXIT_STOPPED })
    }

    /// Returns the exit code if this is the end.
    fn apply(&mut self, update: Update) -> Option<u8> {
        match update {
            Update::Message { message, .. } => return self.print(&message),
            Update::State(State::Online) => {
                self.has_joined = true;
                if std::mem::take(&mut self.is_offline) {
                    self.print_notice("connected".to_owned());
                }
            }
            Update::State(State::Offline(reason)) => {
                self.is_offline = true;
                self.print_notice(format!("not connected, trying again: {reason}"));
            }
            Update::State(State::SlowedDown) => {
                self.print_notice("slowed down: more messages than the server allows".to_owned())
            }
            Update::Gap => eprintln!("ich: some messages are missing here"),
            Update::Note(text) => self.print_notice(text),
            Update::Queued(_) => self.waiting += 1,
            Update::Confirmed(_) => self.count_answer(),
            Update::NotSent(message, reason) => {
                self.failed = true;
                self.count_answer();
                eprintln!("ich: not sent: {}: {}", printable(&message.text), printable(&reason));
            }
            Update::Ended(reason) => return Some(fail(&reason)),
            Update::State(State::Connecting | State::Muted(_)) | Update::Users(_) => {}
            Update::Joined(_) | Update::Left(_) | Update::Earlier(_) => {}
        }
        None
    }

    fn count_answer(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.answered += 1;
    }

    /// Writes a line to standard error, unless it is there already.
    fn print_notice(&mut self, text: String) {
        if self.last_notice != text {
            eprintln!("ich: {}", printable(&text));
            self.last_notice = text;
        }
    }

    /// Writes a message to standard output. A closed pipe is the end and no error: `ich chat | head` closes it.
    fn print(&self, message: &ChatMessage) -> Option<u8> {
        let line = if self.options.json { json_line(message) } else { plain_line(message) };
        let mut output = io::stdout().lock();
        match output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(EXIT_STOPPED),
            Err(error) => Some(fail(&format!("standard output cannot be written: {error}"))),
        }
    }
}

fn fail(reason: &str) -> u8 {
    eprintln!("ich: {}", printable(reason));
    EXIT_FAILED
}

/// `2026-11-23 10:00:09 Bob: Hello!`, in the time zone of this machine.
fn plain_line(message: &ChatMessage) -> String {
    let at =
        times::local(&message.sent_at).map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S ").to_string());
    format!("{at}{}: {}\n", printable(&message.from_user), printable(&message.text))
}

/// The fields of `ich export`. Control characters are escaped, so that the line can be shown in a terminal.
fn json_line(message: &ChatMessage) -> String {
    let json = serde_json::to_string(message).unwrap_or_default();
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if c.is_control() { line.push_str(&format!("\\u{:04x}", u32::from(c))) } else { line.push(c) }
    }
    line.push('\n');
    line
}

/// Sends the lines, until there are no more. Empty lines are no messages.
fn read_lines(input: &mut impl BufRead, messages: &MessageSender) -> InputEnd {
    let mut ended = InputEnd { messages: 0, refused: 0 };
    loop {
        let mut line = Vec::new();
        match input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return ended,
            Ok(_) => {}
            Err(error) => {
                eprintln!("ich: standard input cannot be read: {error}");
                ended.refused += 1;
                return ended;
            }
        }
        if !line.ends_with(b"\n") && line.len() as u64 == LINE_BYTES_MAX {
            eprintln!("ich: a line is longer than {LINE_BYTES_MAX} bytes, and is not sent");
            ended.refused += 1;
            // The rest of the line.
            let _ = input.skip_until(b'\n');
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if crate::text::is_blank(text) {
            continue;
        }
        ended.messages += 1;
        if !messages.say(text.to_owned()) {
            return ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::cli::chat::credentials::Login;
    use crate::cli::chat::renewal::Token;

    #[test]
    fn a_panic_of_the_input_thread_ends_the_client() {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let token = Token::new("a-token".to_owned(), Instant::now());
        let lobby = LobbyClient::join(url, Arc::new(Login::Never), token, 0).unwrap();
        let (sender, input) = bounded(1);
        drop(sender);
        let (stop, stopped) = bounded(1);
        threads::spawn("test-end", Stack::Normal, move || {
            thread::sleep(Duration::from_secs(10));
            let _ = stop.send(());
        })
        .unwrap();
        let options = Options { once: false, timeout: Duration::from_secs(30), json: false };
        assert_eq!(Pipe::new(&options).run(&lobby, &input, &stopped), EXIT_FAILED);
    }

    #[test]
    fn lines_contain_nothing_that_a_terminal_obeys() {
        let text = |text: &str| text.to_owned();
        let message = ChatMessage {
            event_id: text("5f-7"),
            sent_at: text("no time"),
            from_user: text("B\u{202E}ob"),
            text: text("\u{1b}[2J\u{9b}1m\nAnn: hi"),
        };
        assert_eq!(plain_line(&message), "Bob: ␛[2J�1m␊Ann: hi\n");
        let line = json_line(&message);
        assert!(
            line.contains(r"\u001b[2J\u009b1m\nAnn: hi") && line.trim_end().chars().all(|c| !c.is_control()),
            "{line}"
        );
        let parsed: ChatMessage = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed, message);
    }
}
