//! `ich chat` in a terminal: reads keys, draws at most 30 times a second, and restores the terminal however it ends. The
//! only user of `crossterm`.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, is_raw_mode_enabled,
};
use rustix::fs::{Mode, OFlags};

use super::input::Input;
use super::lines::Lines;
use super::lobby_client::{LobbyClient, MessageSender};
use super::room::Room;
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
    let ended = match OpenTerminal::open(server) {
        Ok(mut terminal) => terminal.run(&mut room, &lobby, stop),
        Err(error) => Err(error),
    };
    // The terminal is restored.
    lobby.leave();
    let unsent = room.pending.len();
    if unsent > 0 {
        eprintln!("ich: {unsent} {} not confirmed", if unsent == 1 { "message was" } else { "messages were" });
    }
    match (ended, room.ended) {
        (_, Some(reason)) => {
            eprintln!("ich: {}", printable(&reason));
            ExitCode::from(EXIT_FAILED)
        }
        // The terminal is gone, or was closed.
        (Err(error), None) if is_gone(&error) => ExitCode::from(EXIT_STOPPED),
        (Err(error), None) => {
            eprintln!("ich: the terminal cannot be used: {error}");
            ExitCode::from(EXIT_FAILED)
        }
        (Ok(()), None) => ExitCode::from(EXIT_STOPPED),
    }
}

fn is_gone(error: &io::Error) -> bool {
    // EIO: the other side of a pseudo terminal was closed.
    error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// The terminal, which is restored on drop.
struct OpenTerminal {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    screen: Screen,
}

impl OpenTerminal {
    fn open(server: String) -> io::Result<Self> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste).inspect_err(|_| restore())?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(stdout()))).inspect_err(|_| restore())?;
        let theme = Theme::of_environment();
        Ok(OpenTerminal {
            terminal,
            screen: Screen { server, input: Input::default(), bottom: None, first_user: 0, theme },
        })
    }

    fn run(&mut self, room: &mut Room, lobby: &LobbyClient, stop: &Receiver<()>) -> io::Result<()> {
        let keys = keys()?;
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
                    let update = update.map_err(|_| io::Error::other("the network thread has ended: an error of this program"))?;
                    room.apply(update);
                    lobby.updates.try_iter().take(UPDATES_PER_TURN).for_each(|update| room.apply(update));
                    if room.ended.is_some() {
                        return Ok(());
                    }
                    is_changed = true;
                }
                recv(keys) -> event => {
                    let event = event.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
                    if self.take_event(event, room, lobby, &messages)?.is_break() {
                        return Ok(());
                    }
                    is_changed = true;
                }
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

impl Drop for OpenTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// After a panic, too: a terminal that is gone is no reason for a second one.
fn restore() {
    leave_screen(stdout());
    let _ = disable_raw_mode();
}

fn leave_screen(mut output: impl Write) {
    let _ = execute!(output, DisableBracketedPaste, LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
}

/// For the end of the process while another thread may be blocked in a write to the terminal, which then has the lock of
/// standard output. A terminal that takes no more bytes gets its modes back, but stays on the screen of the client. Does
/// nothing if the terminal was not opened.
pub(super) fn restore_without_waiting() {
    if !is_raw_mode_enabled().unwrap_or(false) {
        return;
    }
    let _ = disable_raw_mode();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(terminal) = rustix::fs::open("/dev/tty", flags, Mode::empty()) {
        leave_screen(File::from(terminal));
    }
}
