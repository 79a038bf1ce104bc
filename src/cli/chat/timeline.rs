//! [`Timeline`]: messages, groups of joins and leaves, and notes, in the order of the lobby. Pure.
//!
//! Each entry has a position that it keeps: 0 for the first one that came, larger numbers after it and smaller ones before
//! it. So a view that is scrolled back stays where it is.

use std::collections::VecDeque;

use jiff::Zoned;
use jiff::civil::Date;

use super::presence::{ChangeKind, Presence};
use super::protocol::{Change, ChatMessage};
use super::times;
use crate::text::terminal::printable;

/// Entries at most. When there are more, the oldest ones are removed.
const ENTRIES_MAX: usize = 5_000;

/// A message, for a terminal.
#[derive(Debug)]
pub(super) struct ShownMessage {
    pub(super) at: Option<Zoned>,
    pub(super) from: String,
    /// At least one line.
    pub(super) lines: Vec<String>,
    pub(super) is_own: bool,
}

/// An entry.
#[derive(Debug)]
pub(super) enum Entry {
    Message(ShownMessage),
    Presence(Option<Zoned>, Presence),
    Note(String),
}

impl Entry {
    pub(super) fn date(&self) -> Option<Date> {
        match self {
            Entry::Message(ShownMessage { at: Some(at), .. }) | Entry::Presence(Some(at), _) => Some(at.date()),
            Entry::Message(_) | Entry::Presence(None, _) | Entry::Note(_) => None,
        }
    }
}

/// The entries.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    entries: VecDeque<Entry>,
    /// The position of the first entry.
    first: i64,
    /// The id of the oldest message.
    oldest_id: Option<String>,
    /// Entries were removed, so older messages cannot be added before the others.
    is_truncated: bool,
}

impl Timeline {
    pub(super) fn get(&self, position: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// The position of the first entry.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// The position behind the last entry.
    pub(super) fn end(&self) -> i64 {
        self.first + i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    /// The message before which earlier ones can be added.
    pub(super) fn oldest_id(&self) -> Option<&str> {
        self.oldest_id.as_deref().filter(|_| !self.is_truncated && self.entries.len() < ENTRIES_MAX)
    }

    pub(super) fn add_message(&mut self, message: &ChatMessage, is_own: bool) {
        self.oldest_id.get_or_insert_with(|| message.event_id.clone());
        self.push(Entry::Message(shown(message, is_own)));
    }

    pub(super) fn add_note(&mut self, text: &str) {
        self.push(Entry::Note(printable(text)));
    }

    pub(super) fn add_change(&mut self, change: &Change, kind: ChangeKind) {
        if let Some(Entry::Presence(_, group)) = self.entries.back_mut()
            && group.has_room()
        {
            return group.add(&change.username, kind);
        }
        let mut group = Presence::default();
        group.add(&change.username, kind);
        self.push(Entry::Presence(times::local(&change.sent_at), group));
    }

    /// Adds earlier messages before all others; the newest of them comes first. `own_name`: of the user.
    pub(super) fn add_earlier(&mut self, messages: &[ChatMessage], own_name: Option<&str>) {
        for message in messages {
            self.oldest_id = Some(message.event_id.clone());
            self.first -= 1;
            self.entries.push_front(Entry::Message(shown(message, Some(message.from_user.as_str()) == own_name)));
        }
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        if self.entries.len() > ENTRIES_MAX {
            self.entries.pop_front();
            self.first += 1;
            self.is_truncated = true;
        }
    }
}

fn shown(message: &ChatMessage, is_own: bool) -> ShownMessage {
    let lines = message.text.split('\n').map(|line| printable(line.trim_end_matches('\r'))).collect();
    ShownMessage { at: times::local(&message.sent_at), from: printable(&message.from_user), lines, is_own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: i64) -> ChatMessage {
        let text = |text: &str| text.to_owned();
        let sent_at = text("2026-11-23T10:00:00Z");
        ChatMessage { event_id: id.to_string(), sent_at, from_user: text("Ann"), text: text("one\r\n\u{1b}two") }
    }

    fn change(name: &str) -> Change {
        Change { username: name.to_owned(), sent_at: String::new() }
    }

    #[test]
    fn positions_stay_when_entries_come_before_and_behind() {
        let mut timeline = Timeline::default();
        timeline.add_message(&message(0), false);
        timeline.add_note("a note");
        timeline.add_earlier(&[message(-1), message(-2)], Some("Ann"));
        assert_eq!((timeline.first(), timeline.end(), timeline.oldest_id()), (-2, 2, Some("-2")));
        assert!(matches!(timeline.get(-2), Some(Entry::Message(ShownMessage { is_own: true, .. }))));
        let Some(Entry::Message(shown)) = timeline.get(0) else { panic!("a message") };
        assert_eq!(shown.lines, ["one", "␛two"]);
        assert!(timeline.get(2).is_none() && timeline.get(-3).is_none());
    }

    #[test]
    fn joins_and_leaves_are_grouped_until_a_message() {
        let mut timeline = Timeline::default();
        timeline.add_change(&change("Ann"), ChangeKind::Join);
        timeline.add_change(&change("Bob"), ChangeKind::Leave);
        timeline.add_message(&message(0), false);
        timeline.add_change(&change("Cid"), ChangeKind::Join);
        assert_eq!(timeline.end(), 3);
        let Some(Entry::Presence(_, group)) = timeline.get(0) else { panic!("a group") };
        assert_eq!(group.line(), "Ann joined; Bob left");
    }

    #[test]
    fn the_oldest_entries_are_removed() {
        let mut timeline = Timeline::default();
        for id in 0..6_000 {
            timeline.add_message(&message(id), false);
        }
        assert_eq!((timeline.first(), timeline.end(), timeline.oldest_id()), (1_000, 6_000, None));
    }
}
