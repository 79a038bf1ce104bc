//! `ich chat` in a terminal: reads keys, and draws at most 30 times a second. Only this file and `terminal_guard.rs` use
//! `crossterm`.

use std::io::{self, BufWriter, Stdout, Write, stderr, stdout};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::input::Input;
use super::lines::Lines;
use super::lobby_client::{LobbyClient, MessageSender};
use super::room::Room;
use super::terminal_guard::TerminalGuard;
use super::theme::Theme;
use super::update::Update;
use super::view::{self, Screen};
use crate::cli::{EXIT_FAILED, EXIT_STOPPED};
use crate::text::is_blank;
use crate::text::terminal::printable;
use crate::threads::{self, Stack};

/// The shortest time between two redraws.
const REDRAW_INTERVAL: Duration = Duration::from_millis(33);
/// Updates that are taken before the next redraw.
const UPDATES_PER_TURN: usize = 1_000;
/// Users by which a key moves the list of users.
const USERS_PER_KEY: usize = 10;

/// Runs until the user leaves, `stop` receives something, or the session ends. `own_name`: of the user, if it is known.
pub(super) fn run(lobby: LobbyClient, server: String, own_name: Option<String>, stop: &Receiver<()>) -> ExitCode {
    let mut room = Room::new(own_name);
    let result = match OpenTerminal::open(server) {
        Ok(mut terminal) => terminal.run(&mut room, &lobby, stop),
        Err(error) => Err(error.into()),
    };
    // The terminal is restored.
    lobby.leave();
    let unsent = room.pending.len();
    if unsent > 0 {
        print_error(&format!("{unsent} {} not confirmed", if unsent == 1 { "message was" } else { "messages were" }));
    }
    let error = match (result, room.ended) {
        (_, Some(reason)) => printable(&reason),
        (Ok(()), None) => return ExitCode::from(EXIT_STOPPED),
        // The terminal is gone, or was closed.
        (Err(Failure::Terminal(error)), None) if is_gone(&error) => return ExitCode::from(EXIT_STOPPED),
        (Err(Failure::Terminal(error)), None) => format!("the terminal cannot be used: {error}"),
        (Err(Failure::Client(error)), None) => format!("{error}\nThis is an error of the program: please report it."),
    };
    print_error(&error);
    ExitCode::from(EXIT_FAILED)
}

/// Why the client ended without the user.
enum Failure {
    Terminal(io::Error),
    /// An error of this program, such as the message of a panic.
    Client(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Terminal(error)
    }
}

fn print_error(text: &str) {
    // The terminal may be gone.
    let _ = writeln!(stderr(), "ich: {text}");
}

fn is_gone(error: &io::Error) -> bool {
    // EIO: the other side of a pseudo terminal was closed.
    error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// The terminal, which is restored on drop.
struct OpenTerminal {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    screen: Screen,
    /// The last field, so that nothing is written to the terminal after it is restored.
    guard: TerminalGuard,
}

impl OpenTerminal {
    fn open(server: String) -> io::Result<Self> {
        let guard = TerminalGuard::new()?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(stdout())))?;
        let theme = Theme::of_environment();
        let screen = Screen { server, input: Input::default(), bottom: None, first_user: 0, theme };
        Ok(OpenTerminal { terminal, screen, guard })
    }

    fn run(&mut self, room: &mut Room, lobby: &LobbyClient, stop: &Receiver<()>) -> Result<(), Failure> {
        let keys = keys()?;
        let panics = self.guard.panics();
        let messages = lobby.message_sender();
        let mut is_changed = true;
        let mut next_redraw = Instant::now();
        loop {
            let now = Instant::now();
            if is_changed && next_redraw <= now {
                self.terminal.draw(|frame| view::draw(frame, room, &self.screen))?;
                (is_changed, next_redraw) = (false, now + REDRAW_INTERVAL);
            }
            let redraw = if is_changed { after(next_redraw.saturating_duration_since(now)) } else { never() };
            select! {
                recv(lobby.updates) -> update => {
                    let update = update.map_err(|_| Failure::Client("the network thread has ended".to_owned()))?;
                    room.apply(update);
                    lobby.updates.try_iter().take(UPDATES_PER_TURN).for_each(|update| room.apply(update));
                    if room.ended.is_some() {
                        return Ok(());
                    }
                    is_changed = true;
                }
                recv(keys) -> event => {
                    let event = event.map_err(|_| Failure::Client("the thread that reads keys has ended".to_owned()))??;
                    if self.take_event(event, room, lobby, &messages)?.is_break() {
                        return Ok(());
                    }
                    is_changed = true;
                }
                recv(panics) -> message => return Err(Failure::Client(message.unwrap_or_default())),
                recv(stop) -> _ => return Ok(()),
                recv(redraw) -> _ => {}
            }
        }
    }

    /// Breaks if the user leaves.
    fn take_event(
        &mut self,
        event: Event,
        room: &mut Room,
        lobby: &LobbyClient,
        messages: &MessageSender,
    ) -> io::Result<ControlFlow<()>> {
        let input = &mut self.screen.input;
        match event {
            Event::Paste(text) => input.insert(&text.replace("\r\n", "\n").replace('\r', "\n")),
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if is_leaving(key, input.is_empty()) {
                    return Ok(ControlFlow::Break(()));
                }
                if !edit(input, key) {
                    self.move_or_send(key, room, lobby, messages)?;
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn move_or_send(
        &mut self,
        key: KeyEvent,
        room: &mut Room,
        lobby: &LobbyClient,
        messages: &MessageSender,
    ) -> io::Result<()> {
        let size = self.terminal.size()?;
        let (columns, rows) = view::messages_size(size.width, size.height);
        let screen = &mut self.screen;
        let lines = Lines { room, columns, theme: screen.theme };
        screen.bottom = screen.bottom.map(|bottom| lines.clamped(bottom, rows));
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = rows.saturating_sub(1).max(1);
        let mut is_at_beginning = false;
        match key.code {
            KeyCode::Enter if !is_blank(screen.input.parts().0) || !is_blank(screen.input.parts().1) => {
                screen.bottom = None;
                if let Err(text) = messages.try_say(screen.input.take()) {
                    screen.input.put_back(text);
                }
            }
            KeyCode::Up if has_control => screen.first_user = screen.first_user.saturating_sub(USERS_PER_KEY),
            KeyCode::Down if has_control => {
                screen.first_user =
                    (screen.first_user + USERS_PER_KEY).min(room.users.as_slice().len().saturating_sub(1));
            }
            KeyCode::PageUp => {
                if let Some(bottom) = screen.bottom.or_else(|| lines.last()) {
                    let (bottom, is_first) = lines.earlier(bottom, page, rows);
                    (screen.bottom, is_at_beginning) = (Some(bottom), is_first);
                }
                if screen.bottom == lines.last() {
                    screen.bottom = None;
                }
            }
            KeyCode::PageDown => screen.bottom = screen.bottom.and_then(|bottom| lines.later(bottom, page)),
            KeyCode::Esc => screen.bottom = None,
            KeyCode::Char('l') if has_control => self.terminal.clear()?,
            _ => {}
        }
        if is_at_beginning
            && let Some(before) = room.begin_earlier()
            && !lobby.load_earlier(&before)
        {
            room.apply(Update::Earlier(Err("the client is busy".to_owned())));
        }
        Ok(())
    }
}

fn is_leaving(key: KeyEvent, is_empty: bool) -> bool {
    let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
    has_control && (key.code == KeyCode::Char('c') || key.code == KeyCode::Char('d') && is_empty)
}

/// Returns whether the key edits the line. As in most shells.
fn edit(input: &mut Input, key: KeyEvent) -> bool {
    let has = |modifier| key.modifiers.contains(modifier);
    match (key.code, has(KeyModifiers::CONTROL), has(KeyModifiers::ALT)) {
        (KeyCode::Char('a'), true, _) | (KeyCode::Home, false, _) => input.home(),
        (KeyCode::Char('e'), true, _) | (KeyCode::End, false, _) => input.end(),
        (KeyCode::Char('b'), true, _) | (KeyCode::Left, false, _) => input.left(),
        (KeyCode::Char('f'), true, _) | (KeyCode::Right, false, _) => input.right(),
        (KeyCode::Char('h'), true, _) | (KeyCode::Backspace, false, false) => input.delete_before(),
        (KeyCode::Char('d'), true, _) | (KeyCode::Delete, _, _) => input.delete_behind(),
        (KeyCode::Char('u'), true, _) => input.delete_to_start(),
        (KeyCode::Char('k'), true, _) => input.delete_to_end(),
        (KeyCode::Char('w'), true, _) | (KeyCode::Backspace, _, _) => input.delete_word(),
        (KeyCode::Up, false, _) => input.recall(true),
        (KeyCode::Down, false, _) => input.recall(false),
        (KeyCode::Enter, _, true) => input.insert("\n"),
        (KeyCode::Tab, _, _) => input.insert("\t"),
        (KeyCode::Char(c), false, false) => input.insert(c.encode_utf8(&mut [0; 4])),
        _ => return false,
    }
    true
}

/// Reads the terminal on a thread, which ends with the process.
fn keys() -> io::Result<Receiver<io::Result<Event>>> {
    let (sender, receiver) = bounded(64);
    threads::spawn("chat-keys", Stack::Normal, move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.send(event).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}
