//! The lines of the list of messages, in a given width, and moving in them. Positions are those of the timeline; behind
//! its end come the messages that are not confirmed. Pure.

use jiff::Zoned;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::room::Room;
use super::theme::Theme;
use super::timeline::{Entry, ShownMessage};
use crate::text::terminal::{printable, shorten, wrap};

/// What stands before each text: a mark and the time.
const MARGIN: usize = 8;
const NO_MARK: &str = "  ";
const OWN_MARK: &str = "> ";
const PENDING_MARK: &str = "… ";
/// Instead of a time.
const NO_TIME: &str = "      ";

/// A line of the list: the position of its entry, and which line of the entry.
pub(super) type LinePosition = (i64, usize);

/// The lines of a room in a width.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) room: &'a Room,
    pub(super) columns: usize,
    pub(super) theme: Theme,
}

impl Lines<'_> {
    fn end(&self) -> i64 {
        self.room.timeline.end() + i64::try_from(self.room.pending.len()).unwrap_or(0)
    }

    /// The last line. `None`: there is none.
    pub(super) fn last(&self) -> Option<LinePosition> {
        let position = self.end() - 1;
        (position >= self.room.timeline.first()).then(|| (position, self.of(position).len().saturating_sub(1)))
    }

    /// The line at the bottom of a page of `height` lines that `bottom` was at the bottom of: a later one if the oldest
    /// entries were removed, so that the page begins with the first line.
    pub(super) fn clamped(&self, bottom: LinePosition, height: usize) -> LinePosition {
        let of_first_page = self.later((self.room.timeline.first(), 0), height.saturating_sub(1));
        of_first_page.or_else(|| self.last()).map_or(bottom, |of_first_page| bottom.max(of_first_page))
    }

    /// The lines that end with this one, as many as there are up to `height`, the first one first.
    pub(super) fn up_to(&self, bottom: LinePosition, height: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let mut position = bottom.0;
        while position >= self.room.timeline.first() && lines.len() < height {
            let of_entry = self.of(position);
            let count = if position == bottom.0 { bottom.1 + 1 } else { of_entry.len() };
            lines.extend(of_entry.into_iter().take(count).rev());
            position -= 1;
        }
        lines.truncate(height);
        lines.reverse();
        lines
    }

    /// The bottom line after a move towards the beginning by `count` lines, and whether the beginning is reached: the
    /// first line is then at the top of a page of `height` lines.
    pub(super) fn earlier(&self, bottom: LinePosition, count: usize, height: usize) -> (LinePosition, bool) {
        let (mut at, mut moved) = (bottom, 0);
        while moved < count
            && let Some(before) = self.before(at)
        {
            at = before;
            moved += 1;
        }
        let above = self.up_to(at, height).len();
        (self.later(at, height - above).unwrap_or(bottom), above < height || self.is_first_page(at, height))
    }

    /// The bottom line after a move towards the end. `None`: the end is reached.
    pub(super) fn later(&self, bottom: LinePosition, count: usize) -> Option<LinePosition> {
        let mut at = bottom;
        for _ in 0..count {
            at = if at.1 + 1 < self.of(at.0).len() { (at.0, at.1 + 1) } else { (at.0 + 1, 0) };
            if at.0 >= self.end() {
                return None;
            }
        }
        Some(at)
    }

    /// Whether the page that ends here begins with the first line.
    fn is_first_page(&self, bottom: LinePosition, height: usize) -> bool {
        self.up_to(bottom, height + 1).len() <= height
    }

    fn before(&self, (position, line): LinePosition) -> Option<LinePosition> {
        if line > 0 {
            return Some((position, line - 1));
        }
        (position > self.room.timeline.first()).then(|| (position - 1, self.of(position - 1).len().saturating_sub(1)))
    }

    /// The lines of one entry, at least one. The first one of a day has the day above it.
    fn of(&self, position: i64) -> Vec<Line<'static>> {
        let Some(entry) = self.room.timeline.get(position) else { return self.pending(position) };
        let mut lines = Vec::new();
        if let Some(date) = entry.date()
            && self
                .room
                .timeline
                .get(position - 1)
                .is_none_or(|before| before.date().is_some_and(|before| before < date))
        {
            lines.push(Line::styled(format!("── {} ──", date.strftime("%A, %-d %B %Y")), self.theme.faint()));
        }
        match entry {
            Entry::Message(message) => lines.extend(self.message(message)),
            Entry::Presence(at, group) => {
                lines.extend(self.texts(NO_MARK, at.as_ref(), &group.line(), self.theme.faint()))
            }
            Entry::Note(text) => lines.extend(self.texts(NO_MARK, None, text, self.theme.problem())),
        }
        lines
    }

    fn message(&self, message: &ShownMessage) -> Vec<Line<'static>> {
        let mark = if message.is_own { OWN_MARK } else { NO_MARK };
        let name_style = if message.is_own { self.theme.own_name() } else { self.theme.name() };
        let name = shorten(&message.from, self.text_columns() / 2);
        let mut lines = Vec::new();
        for (number, text) in message.lines.iter().enumerate() {
            if number > 0 {
                lines.extend(self.texts(NO_MARK, None, text, Style::new()));
                continue;
            }
            let said = self.texts(mark, message.at.as_ref(), &format!("{name}: {text}"), Style::new());
            lines.extend(said.into_iter().enumerate().map(|(line, shown)| match line {
                0 => with_name(shown, &name, name_style),
                _ => shown,
            }));
        }
        lines
    }

    fn pending(&self, position: i64) -> Vec<Line<'static>> {
        let at = usize::try_from(position - self.room.timeline.end()).ok();
        let text =
            at.and_then(|at| self.room.pending.get(at)).map_or_else(String::new, |message| printable(&message.text));
        self.texts(PENDING_MARK, None, &text, self.theme.faint())
    }

    /// A text with a mark and a time before it. Its further lines begin in the same column.
    fn texts(&self, mark: &'static str, at: Option<&Zoned>, text: &str, style: Style) -> Vec<Line<'static>> {
        let time = at.map_or_else(|| NO_TIME.to_owned(), |at| at.strftime("%H:%M ").to_string());
        let mut before = vec![Span::styled(mark, self.theme.own_name()), Span::styled(time, self.theme.faint())];
        let lines = wrap(text, self.text_columns()).into_iter().map(|text| {
            let margin = std::mem::replace(&mut before, vec![Span::raw(" ".repeat(MARGIN))]);
            Line::from_iter(margin.into_iter().chain([Span::styled(text, style)]))
        });
        lines.collect()
    }

    fn text_columns(&self) -> usize {
        self.columns.saturating_sub(MARGIN).max(1)
    }
}

/// The name at the beginning of the last span gets a style of its own.
fn with_name(mut line: Line<'static>, name: &str, style: Style) -> Line<'static> {
    if let Some(said) = line.spans.pop() {
        match said.content.strip_prefix(name) {
            Some(rest) => line.spans.extend([Span::styled(name.to_owned(), style), Span::raw(rest.to_owned())]),
            None => line.spans.push(said),
        }
    }
    line
}
