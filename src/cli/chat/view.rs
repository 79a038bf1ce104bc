//! Draws a [`Room`]: a bar with the state, the messages, the list of users, a line with what the user should know, and the
//! line to write in. Pure, except that it draws into the buffer of the terminal.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::input::Input;
use super::lines::{LinePosition, Lines};
use super::room::{Earlier, Room};
use super::theme::Theme;
use super::update::State;
use crate::text::terminal::{graphemes, printable, shorten, width};

/// A narrower terminal shows no list of users.
const COLUMNS_WITH_USERS: u16 = 60;
/// The columns of that list, with its border and a space before it.
const USERS_COLUMNS: u16 = 21;
/// The bar, the line above the input, and the input.
const OTHER_ROWS: u16 = 3;
const PROMPT: &str = "> ";

/// What the terminal shows, beside the room.
pub(super) struct Screen {
    /// The server, for the bar.
    pub(super) server: String,
    pub(super) input: Input,
    /// The line at the bottom of the list of messages. `None`: the last one.
    pub(super) bottom: Option<LinePosition>,
    /// How many users are above the list of users.
    pub(super) first_user: usize,
    pub(super) theme: Theme,
}

/// The columns and rows of the list of messages in a terminal of this size.
pub(super) fn messages_size(columns: u16, rows: u16) -> (usize, usize) {
    let area = messages_area(Rect::new(0, 0, columns, rows));
    (area.width.into(), area.height.into())
}

fn messages_area(area: Rect) -> Rect {
    let users = if area.width < COLUMNS_WITH_USERS { 0 } else { USERS_COLUMNS };
    Rect::new(0, 1, area.width - users, area.height.saturating_sub(OTHER_ROWS))
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, room: &Room, screen: &Screen) {
    let area = frame.area();
    let theme = screen.theme;
    put(frame, 0, 0, area.width, &bar(room, screen, area.width.into()));
    let messages = messages_area(area);
    let lines = Lines { room, columns: messages.width.into(), theme };
    let rows = messages.height.into();
    if let Some(bottom) = screen.bottom.map(|bottom| lines.clamped(bottom, rows)).or_else(|| lines.last()) {
        let shown = lines.up_to(bottom, rows);
        let top = messages.bottom() - u16::try_from(shown.len()).unwrap_or(messages.height).min(messages.height);
        for (y, line) in (top..messages.bottom()).zip(&shown) {
            put(frame, 0, y, messages.width, line);
        }
    }
    if messages.width < area.width {
        draw_users(frame, room, screen, Rect::new(messages.width, 1, area.width - messages.width, messages.height));
    }
    put(frame, 0, messages.bottom(), area.width, &hint(room, screen, area.width.into()));
    draw_input(frame, &screen.input, theme, messages.bottom() + 1);
}

/// Who the user is, and the state at the right.
fn bar(room: &Room, screen: &Screen, columns: usize) -> Line<'static> {
    let count = room.users.as_slice().len();
    let state = match room.state {
        State::Connecting => "Connecting",
        State::Online => "Online",
        State::Offline(_) => "Offline",
        State::SlowedDown => "Slowed down",
        State::Muted(_) => "Muted",
    };
    let state = format!("  {count} {}  {state} ", if count == 1 { "user" } else { "users" });
    let name = room.own_name.as_deref().map_or_else(String::new, |name| format!("{} at ", printable(name)));
    let left = columns.saturating_sub(width(&state));
    let place = shorten(&format!(" {name}{}", screen.server), left);
    let gap = left - width(&place);
    Line::styled(format!("{place}{}{state}", " ".repeat(gap)), screen.theme.bar())
}

fn draw_users(frame: &mut Frame<'_>, room: &Room, screen: &Screen, area: Rect) {
    for y in area.top()..area.bottom() {
        put(frame, area.x + 1, y, 1, &Line::styled("│", screen.theme.faint()));
    }
    let (x, columns, rows) = (area.x + 3, area.width.saturating_sub(3), usize::from(area.height).saturating_sub(1));
    put(frame, x, area.y, columns, &Line::styled("Users", screen.theme.strong()));
    let users = room.users.as_slice();
    let first = screen.first_user.min(users.len().saturating_sub(1));
    let left = users.len() - first;
    let shown = if left > rows { rows.saturating_sub(1) } else { left };
    let names = users.iter().skip(first).take(shown).map(|user| {
        let style = if user.is(room.own_name.as_deref()) { screen.theme.own_name() } else { Style::new() };
        Line::styled(shorten(&user.shown(), columns.into()), style)
    });
    let more = (left > shown).then(|| Line::styled(format!("and {} more", left - shown), screen.theme.faint()));
    for (y, line) in (area.y + 1..area.bottom()).zip(names.chain(more)) {
        put(frame, x, y, columns, &line);
    }
}

/// What the user should know now.
fn hint(room: &Room, screen: &Screen, columns: usize) -> Line<'static> {
    let theme = screen.theme;
    let problem = |text: String| Line::styled(shorten(&printable(&text), columns), theme.problem());
    match &room.state {
        State::Offline(reason) => problem(format!("Not connected: {reason}. Trying again")),
        State::Muted(reason) => problem(format!("You cannot write now: {reason}")),
        State::SlowedDown => problem("You write faster than the server allows".to_owned()),
        State::Connecting | State::Online if screen.bottom.is_some() => {
            let text =
                if room.earlier == Earlier::Loading { "Loading earlier messages" } else { "PageDown: later messages" };
            Line::styled(text, theme.problem())
        }
        State::Connecting | State::Online => Line::styled("PageUp: earlier messages  Ctrl-C: leave", theme.faint()),
    }
}

/// The text around the cursor, if not all of it has room.
fn draw_input(frame: &mut Frame<'_>, input: &Input, theme: Theme, y: u16) {
    let columns = usize::from(frame.area().width).saturating_sub(width(PROMPT));
    let (before, behind) = input.parts();
    let (before, behind) = (printable(before), printable(behind));
    let mut too_wide = (width(&before) + 1).saturating_sub(columns);
    let mut start = 0;
    for grapheme in graphemes(&before) {
        if too_wide == 0 {
            break;
        }
        start += grapheme.len();
        too_wide = too_wide.saturating_sub(width(grapheme));
    }
    let before = &before[start..];
    let line = if input.is_empty() {
        Line::from_iter([PROMPT.into(), ratatui::text::Span::styled("Write a message", theme.faint())])
    } else {
        Line::raw(format!("{PROMPT}{before}{behind}"))
    };
    let whole = frame.area().width;
    put(frame, 0, y, whole, &line);
    let cursor = u16::try_from(width(PROMPT) + width(before)).unwrap_or(u16::MAX).min(whole.saturating_sub(1));
    if y < frame.area().height {
        frame.set_cursor_position((cursor, y));
    }
}

/// Puts a line, if the terminal has this row.
fn put(frame: &mut Frame<'_>, x: u16, y: u16, columns: u16, line: &Line<'_>) {
    if y < frame.area().bottom() && x < frame.area().right() {
        let area = Rect::new(x, y, columns, 1).intersection(frame.area());
        frame.buffer_mut().set_line(x, y, line, area.width);
        frame.buffer_mut().set_style(area, line.style);
    }
}

#[cfg(test)]
mod tests;
