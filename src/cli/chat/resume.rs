//! [`Resume`]: from which message on a client returns, so that no message is missing and none comes twice. Pure.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;

use super::gap::{Edges, Start};
use super::protocol::{ChatMessage, parameter};

/// The ids that are remembered. A server keeps 10,000 messages at most for clients that return.
const SEEN_MAX: usize = 10_000;
/// The messages that are kept until `caught_up`. A server of this program sends fewer; later ones are ignored.
const MISSED_MAX: usize = 2 * SEEN_MAX;
/// What a client asks for that returns and knows no id, because there was no message before its first join.
const MESSAGES_WITHOUT_ID: u32 = 10_000;

/// A message, and the id that its sender gave it.
pub(super) type Received = (ChatMessage, Option<String>);

/// What a client got from the lobby.
#[derive(Debug)]
pub(super) struct Resume {
    /// The messages to ask for at the first join; 0: none.
    first: u32,
    has_joined: bool,
    /// The time of the first join.
    first_join: Timestamp,
    last_id: Option<String>,
    seen: HashSet<String>,
    seen_in_order: VecDeque<String>,
    /// Between `users_online` and `caught_up`: the messages, and the id before the join.
    missed: Option<(Vec<Received>, Option<String>)>,
}

impl Resume {
    pub(super) fn new(first: u32) -> Self {
        let (seen, seen_in_order) = (HashSet::new(), VecDeque::new());
        let first_join = Timestamp::MIN;
        Resume { first, has_joined: false, first_join, last_id: None, seen, seen_in_order, missed: None }
    }

    /// Whether the client has ever got the messages that it asked for.
    pub(super) fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// The query of the next `/join`, or nothing.
    pub(super) fn query(&self) -> String {
        match (&self.last_id, self.has_joined) {
            (Some(id), _) => format!("?after={}", parameter(id)),
            (None, true) => format!("?last={MESSAGES_WITHOUT_ID}"),
            (None, false) if self.first > 0 => format!("?last={}", self.first),
            (None, false) => String::new(),
        }
    }

    /// The connection has begun with `users_online`, which was sent at this time. Returns whether there is nothing to catch
    /// up on.
    pub(super) fn joined(&mut self, id_before: Option<String>, sent_at: Option<Timestamp>) -> bool {
        if !self.has_joined {
            self.first_join = sent_at.unwrap_or(Timestamp::MIN);
        }
        if self.query().is_empty() {
            self.has_joined = true;
            self.last_id = id_before;
            return true;
        }
        self.missed = Some((Vec::new(), id_before));
        false
    }

    /// The connection was lost. What was received before `caught_up` will be received again.
    pub(super) fn disconnected(&mut self) {
        self.missed = None;
    }

    /// Takes a message. Returns it if it can be shown now.
    pub(super) fn message(&mut self, received: Received) -> Option<Received> {
        if let Some((messages, _)) = &mut self.missed {
            if messages.len() < MISSED_MAX {
                messages.push(received);
            }
            return None;
        }
        self.accept(received)
    }

    /// All missed messages were received. Returns the gap before them if others are missing, and those that are new.
    pub(super) fn caught_up(&mut self, is_complete: bool) -> (Option<Edges>, Vec<Received>) {
        let Some((messages, id_before)) = self.missed.take() else { return (None, Vec::new()) };
        let overlaps = messages.iter().any(|(message, _)| self.seen.contains(&message.event_id));
        let gap = (self.has_joined && !is_complete && !overlaps).then(|| Edges {
            start: self.last_id.clone().map_or(Start::Join(self.first_join), Start::Message),
            first_after: messages.first().map(|(message, _)| message.event_id.clone()),
        });
        self.has_joined = true;
        let new = messages.into_iter().filter_map(|received| self.accept(received)).collect();
        if self.last_id.is_none() {
            self.last_id = id_before;
        }
        (gap, new)
    }

    /// Takes a message from before the newest ones. Returns whether it is new.
    pub(super) fn accept_earlier(&mut self, message: &ChatMessage) -> bool {
        self.is_new(&message.event_id)
    }

    fn accept(&mut self, received: Received) -> Option<Received> {
        self.last_id = Some(received.0.event_id.clone());
        self.is_new(&received.0.event_id).then_some(received)
    }

    /// Whether this id was not seen before. It is then remembered.
    fn is_new(&mut self, id: &str) -> bool {
        if !self.seen.insert(id.to_owned()) {
            return false;
        }
        self.seen_in_order.push_back(id.to_owned());
        if self.seen_in_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_in_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Received {
        let text = |text: &str| text.to_owned();
        (ChatMessage { event_id: text(id), sent_at: text("t"), from_user: text("Bob"), text: text(id) }, None)
    }

    fn ids(messages: &[Received]) -> Vec<&str> {
        messages.iter().map(|(message, _)| message.event_id.as_str()).collect()
    }

    /// Returns as [`Resume::joined`].
    fn join(resume: &mut Resume, id_before: Option<&str>) -> bool {
        resume.joined(id_before.map(str::to_owned), Some(Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn a_client_returns_after_the_last_message() {
        let mut resume = Resume::new(50);
        assert_eq!(resume.query(), "?last=50");
        assert!(!join(&mut resume, Some("b")));
        assert_eq!(resume.message(message("a")), None, "kept until caught_up");
        resume.disconnected();
        assert_eq!(resume.query(), "?last=50", "nothing of it was shown");
        join(&mut resume, Some("b"));
        resume.message(message("a"));
        resume.message(message("b"));
        let (gap, messages) = resume.caught_up(false);
        assert_eq!(gap, None, "the first join has no gap");
        assert_eq!(ids(&messages), ["a", "b"]);
        assert_eq!(resume.message(message("c-1 2")), Some(message("c-1 2")));
        assert_eq!(resume.query(), "?after=c-1%202");
    }

    #[test]
    fn a_lobby_without_messages_has_an_id_or_none() {
        let mut resume = Resume::new(50);
        join(&mut resume, Some("x"));
        resume.caught_up(true);
        assert_eq!(resume.query(), "?after=x");

        let mut resume = Resume::new(0);
        assert_eq!(resume.query(), "");
        assert!(join(&mut resume, None));
        assert_eq!(resume.query(), "?last=10000");

        let mut resume = Resume::new(0);
        assert!(join(&mut resume, Some("x")));
        assert_eq!(resume.query(), "?after=x");
    }

    #[test]
    fn a_gap_is_reported_unless_the_messages_overlap() {
        let edges = Edges { start: Start::Message("b".to_owned()), first_after: Some("c".to_owned()) };
        for (missed, gap, new) in [(["c", "d"], Some(edges), vec!["c", "d"]), (["b", "c"], None, vec!["c"])] {
            let mut resume = Resume::new(0);
            join(&mut resume, None);
            resume.message(message("a"));
            resume.message(message("b"));
            resume.disconnected();
            join(&mut resume, Some("d"));
            for id in missed {
                resume.message(message(id));
            }
            let (found, messages) = resume.caught_up(false);
            assert_eq!((found, ids(&messages)), (gap, new));
        }
    }

    #[test]
    fn a_gap_of_a_client_that_has_received_no_message_begins_at_its_first_join() {
        let mut resume = Resume::new(0);
        join(&mut resume, None);
        resume.disconnected();
        resume.joined(Some("d".into()), Some(Timestamp::MAX));
        resume.message(message("d"));
        let edges = Edges { start: Start::Join(Timestamp::UNIX_EPOCH), first_after: Some("d".to_owned()) };
        assert_eq!(resume.caught_up(false).0, Some(edges));
    }

    #[test]
    fn an_earlier_message_is_new_once_and_does_not_change_where_the_client_returns() {
        let mut resume = Resume::new(0);
        join(&mut resume, None);
        resume.message(message("b"));
        for (id, is_new) in [("a", true), ("a", false), ("b", false)] {
            assert_eq!(resume.accept_earlier(&message(id).0), is_new);
        }
        assert_eq!(resume.query(), "?after=b");
    }

    #[test]
    fn few_ids_are_remembered() {
        let mut resume = Resume::new(0);
        join(&mut resume, None);
        for number in 0..SEEN_MAX + 5 {
            assert!(resume.message(message(&number.to_string())).is_some());
        }
        assert_eq!((resume.seen.len(), resume.seen_in_order.len()), (SEEN_MAX, SEEN_MAX));
    }
}
