//! [`Gap`]: messages that a client has missed and that the server did not send at the join, because it has only the newest
//! ones at hand. They are read from `GET /history`, page by page: from the oldest message after the gap back to the last one
//! before it, or to the first join if the client has received no message. What happens meanwhile is held, so that everything
//! is shown in order. Pure. The web page has the same rules (`src/web/js/gap.js`), but no gap if it has received no message:
//! then it asks for the newest messages only, as at its first join.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::protocol::{ChatMessage, PageResult};
use super::times;
use super::update::Update;

/// Messages of one page, the most that the server allows.
pub(super) const PAGE: usize = 100;
/// Pages at most.
const PAGES_MAX: usize = 10;
/// How long updates are held at most.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Updates that are held at most.
const HELD_MAX: usize = 20_000;

/// What is before a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// The last message that the client knows, by its id.
    Message(String),
    /// The first join, at this time of the server: the client has received no message since then. The times of messages
    /// before and after the join can overlap by the difference between the clocks of two instances.
    Join(Timestamp),
}

impl Start {
    /// Whether the gap ends here, read from the newest message on: this message and those before it are no part of it.
    fn is_reached_at(&self, message: &ChatMessage) -> bool {
        match self {
            Start::Message(id) => message.event_id == *id,
            Start::Join(at) => times::parse(&message.sent_at).is_some_and(|sent_at| sent_at < *at),
        }
    }
}

/// Where a gap is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) start: Start,
    /// The first message after the gap. `None`: the server has sent none, so the gap ends at the newest message.
    pub(super) first_after: Option<String>,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Gap {
    edges: Edges,
    deadline: Instant,
    pages: usize,
    /// The newest message first.
    found: Vec<ChatMessage>,
    held: Vec<Update>,
}

impl Gap {
    pub(super) fn new(edges: Edges, now: Instant) -> Self {
        Gap { edges, deadline: now + TIMEOUT, pages: 0, found: Vec::new(), held: Vec::new() }
    }

    /// Messages before this one are to be loaded; the newest ones if it is `None`.
    pub(super) fn before(&self) -> Option<&str> {
        self.found.last().map(|message| &message.event_id).or(self.edges.first_after.as_ref()).map(String::as_str)
    }

    /// When the session goes on without the messages that are missing.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }

    /// Holds an update that comes after the missing messages.
    pub(super) fn hold(&mut self, update: Update) {
        self.held.push(update);
    }

    /// Takes a page. Returns whether the gap is complete, or `None` if another page is needed.
    pub(super) fn add_page(&mut self, page: PageResult) -> Option<bool> {
        let Ok(page) = page else { return Some(false) };
        self.pages += 1;
        let is_empty = page.messages.is_empty();
        for message in page.messages.into_iter().take(PAGE) {
            if self.edges.start.is_reached_at(&message) {
                return Some(true);
            }
            self.found.push(message);
        }
        if is_empty {
            return Some(false);
        }
        if !page.has_more {
            // The server has all messages since the first one, which came after the join.
            return Some(matches!(self.edges.start, Start::Join(_)));
        }
        (self.pages == PAGES_MAX).then_some(false)
    }

    /// The messages that were found, and the updates after them, both in the order of the lobby.
    pub(super) fn end(mut self) -> (Vec<ChatMessage>, Vec<Update>) {
        self.found.reverse();
        (self.found, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Page;
    use super::*;

    fn gap(last_before: &str, first_after: Option<&str>) -> Gap {
        let start = Start::Message(last_before.to_owned());
        Gap::new(Edges { start, first_after: first_after.map(str::to_owned) }, Instant::now())
    }

    /// A page with these messages, the newest first.
    fn page(ids: impl Iterator<Item = usize>, has_more: bool) -> PageResult {
        let message = |id: usize| {
            let text = |text: &str| text.to_owned();
            ChatMessage { event_id: id.to_string(), sent_at: text("t"), from_user: text("Bob"), text: text("x") }
        };
        Ok(Page { messages: ids.map(message).collect(), has_more })
    }

    fn ids(messages: &[ChatMessage]) -> Vec<&str> {
        messages.iter().map(|message| message.event_id.as_str()).collect()
    }

    #[test]
    fn pages_are_read_back_to_the_last_known_message() {
        let mut gap = gap("3", Some("9"));
        assert_eq!(gap.before(), Some("9"));
        assert_eq!(gap.add_page(page((6..9).rev(), true)), None);
        assert_eq!(gap.before(), Some("6"));
        assert_eq!(gap.add_page(page((1..6).rev(), true)), Some(true));
        gap.hold(Update::Gap);
        let (messages, held) = gap.end();
        assert_eq!(ids(&messages), ["4", "5", "6", "7", "8"]);
        assert_eq!(held, [Update::Gap]);
    }

    #[test]
    fn a_gap_without_a_message_after_it_begins_at_the_newest_page() {
        let mut gap = gap("3", None);
        assert_eq!(gap.before(), None);
        assert_eq!(gap.add_page(page((3..6).rev(), false)), Some(true));
        assert_eq!(ids(&gap.end().0), ["4", "5"]);
    }

    #[test]
    fn a_gap_that_history_does_not_fill_stays() {
        for page in [Err("down".to_owned()), page((6..9).rev(), false), page(0..0, true)] {
            assert_eq!(gap("3", Some("9")).add_page(page), Some(false));
        }
    }

    #[test]
    fn pages_and_their_messages_are_bounded() {
        let mut gap = gap("none", Some("x"));
        for _ in 1..PAGES_MAX {
            assert_eq!(gap.add_page(page(0..PAGE * 2, true)), None);
        }
        assert_eq!(gap.add_page(page(0..PAGE * 2, true)), Some(false));
        assert_eq!(gap.end().0.len(), PAGES_MAX * PAGE);
    }
}
