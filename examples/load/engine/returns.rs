//! [`Returns`]: what clients need to return after their instance was replaced (`--restart-every`): the id of the last
//! message of each client, and the messages of each sender that have not come back.
//!
//! Bookkeeping only: the engine connects and sends.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::nanos;

/// From the end of a connection to the next join. A client should not come back at once.
const PAUSE: Duration = Duration::from_millis(50);
/// From a refused message to the repetition.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);
/// Messages of one sender that have not come back.
const UNCONFIRMED_MAX: usize = 10_000;
/// The query of a client that returns and has never received the id of a message: there was none.
const ALL: &str = "?last=10000";

/// Totals of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnCounts {
    /// Returns that ended with `caught_up`.
    pub returned: u64,
    /// Those of them with `complete` false.
    pub incomplete: u64,
    /// The longest time from the end of a connection to `caught_up`.
    pub longest_ns: u64,
    /// Messages that were sent when their sender was back, some of them for the second time.
    pub repeated: u64,
    /// Messages that were refused with `duplicate`: they had been published.
    pub duplicates_refused: u64,
}

impl ReturnCounts {
    /// Adds the totals of the clients of another process.
    pub fn merge(&mut self, other: &Self) {
        self.returned += other.returned;
        self.incomplete += other.incomplete;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.repeated += other.repeated;
        self.duplicates_refused += other.duplicates_refused;
    }
}

/// A message that a sender has to send, or has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub counter: u32,
    pub due_ns: u64,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The id of the last message that the client received; empty if there was none.
    last_id: String,
    /// When the connection ended; none: the client is not away.
    lost_ns: Option<u64>,
}

/// The state of all clients.
pub struct Returns {
    pub counts: ReturnCounts,
    clients: Vec<State>,
    unconfirmed: Vec<VecDeque<Message>>,
    /// Clients that join again at this time, and senders that repeat their messages at this time. Each in order.
    joins: VecDeque<(u64, usize)>,
    repetitions: VecDeque<(u64, usize)>,
}

impl Returns {
    /// The state of `clients` clients, of which the first `senders` send.
    pub fn new(clients: usize, senders: usize) -> Self {
        Self {
            counts: ReturnCounts::default(),
            clients: vec![State::default(); clients],
            unconfirmed: vec![VecDeque::new(); senders],
            joins: VecDeque::new(),
            repetitions: VecDeque::new(),
        }
    }

    /// The connection of `client` ended, or its join failed.
    pub fn on_lost(&mut self, client: usize, now_ns: u64) {
        self.clients[client].lost_ns.get_or_insert(now_ns);
        self.joins.push_back((now_ns + nanos(PAUSE), client));
    }

    /// `client` leaves on purpose and does not return.
    pub fn on_left(&mut self, client: usize) {
        self.clients[client] = State::default();
        self.joins.retain(|(_, waiting)| *waiting != client);
    }

    /// The next client that has to join again by now.
    pub fn take_join(&mut self, now_ns: u64) -> Option<usize> {
        take_due(&mut self.joins, now_ns)
    }

    /// Clients that wait for their next join.
    pub fn waiting(&self) -> usize {
        self.joins.len()
    }

    /// Whether `client` has lost its connection and has not caught up.
    pub fn is_away(&self, client: usize) -> bool {
        self.clients[client].lost_ns.is_some()
    }

    /// The query of the next join of `client`.
    pub fn query(&self, client: usize) -> String {
        let state = &self.clients[client];
        match (state.lost_ns, state.last_id.as_str()) {
            (None, _) => String::new(),
            (Some(_), "") => ALL.to_owned(),
            (Some(_), id) => format!("?after={id}"),
        }
    }

    /// `client` received this id with its `users_online`. One that is away first gets the messages before that one.
    pub fn on_users_online(&mut self, client: usize, id: &str) {
        if !self.is_away(client) {
            self.on_message(client, id);
        }
    }

    /// `client` received the message with this id.
    pub fn on_message(&mut self, client: usize, id: &str) {
        let last_id = &mut self.clients[client].last_id;
        last_id.clear();
        last_id.push_str(id);
    }

    /// `client` received `caught_up`.
    pub fn on_caught_up(&mut self, client: usize, is_complete: bool, now_ns: u64) {
        let Some(lost_ns) = self.clients[client].lost_ns.take() else { return };
        self.counts.returned += 1;
        self.counts.incomplete += u64::from(!is_complete);
        self.counts.longest_ns = self.counts.longest_ns.max(now_ns.saturating_sub(lost_ns));
    }

    /// `sender` has a new message. False: too many have not come back.
    pub fn add(&mut self, sender: usize, message: Message) -> bool {
        let has_room = self.unconfirmed[sender].len() < UNCONFIRMED_MAX;
        if has_room {
            self.unconfirmed[sender].push_back(message);
        }
        has_room
    }

    /// A message of `sender` came back.
    pub fn confirm(&mut self, sender: usize, counter: u32) {
        let unconfirmed = &mut self.unconfirmed[sender];
        if let Some(index) = unconfirmed.iter().position(|message| message.counter == counter) {
            unconfirmed.remove(index);
        }
    }

    /// A message of `sender` was refused with `unavailable`: it repeats all that have not come back.
    pub fn on_refused(&mut self, sender: usize, now_ns: u64) {
        self.repetitions.push_back((now_ns + nanos(REPEAT_PAUSE), sender));
    }

    /// The next sender that has to repeat its messages by now.
    pub fn take_repetition(&mut self, now_ns: u64) -> Option<usize> {
        take_due(&mut self.repetitions, now_ns)
    }

    /// The messages of `sender` that have not come back, in order. They count as repeated.
    pub fn repeat_unconfirmed(&mut self, sender: usize) -> Vec<Message> {
        self.counts.repeated += self.unconfirmed[sender].len() as u64;
        self.unconfirmed[sender].iter().copied().collect()
    }
}

fn take_due(queue: &mut VecDeque<(u64, usize)>, now_ns: u64) -> Option<usize> {
    let (due_ns, _) = queue.front()?;
    if *due_ns <= now_ns { queue.pop_front().map(|(_, client)| client) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Message = Message { counter: 3, due_ns: 5 };

    #[test]
    fn a_client_returns_behind_its_last_message_until_it_has_caught_up() {
        let mut returns = Returns::new(2, 0);
        assert_eq!((returns.query(0), returns.is_away(0)), (String::new(), false));
        returns.on_users_online(0, "a-1");
        returns.on_message(0, "a-2");
        returns.on_lost(0, 10);
        returns.on_lost(1, 10);
        assert_eq!((returns.query(0).as_str(), returns.query(1).as_str()), ("?after=a-2", ALL));
        assert_eq!((returns.take_join(10), returns.waiting()), (None, 2));
        let later = 10 + nanos(PAUSE);
        assert_eq!((returns.take_join(later), returns.take_join(later), returns.waiting()), (Some(0), Some(1), 0));
        // Between the list and `caught_up` there are messages that the client does not have yet.
        returns.on_users_online(0, "a-9");
        assert_eq!(returns.query(0), "?after=a-2");
        returns.on_caught_up(0, true, 30);
        returns.on_caught_up(1, false, 40);
        assert_eq!((returns.counts.returned, returns.counts.incomplete, returns.counts.longest_ns), (2, 1, 30));
        assert_eq!(returns.query(0), "");
    }

    #[test]
    fn a_message_is_repeated_until_it_came_back() {
        let mut returns = Returns::new(1, 1);
        assert!(returns.add(0, MESSAGE) && returns.add(0, Message { counter: 4, ..MESSAGE }));
        returns.on_refused(0, 0);
        assert_eq!(returns.take_repetition(nanos(REPEAT_PAUSE)), Some(0));
        returns.confirm(0, 4);
        assert_eq!(returns.repeat_unconfirmed(0), [MESSAGE]);
        returns.confirm(0, 3);
        assert_eq!((returns.repeat_unconfirmed(0), returns.counts.repeated), (vec![], 1));
    }
}
