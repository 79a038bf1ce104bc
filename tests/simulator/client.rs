//! One connected client, which knows only the frames that the server sent, and the data that its user keeps between two
//! sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use ich::lobby::{Event, EventId, User};
use ich::session::history::{History, Missed, Request};

use super::oracle::Oracle;
use super::{HISTORY_MESSAGES, Millis, Violation, ensure};

/// The most messages with an unknown outcome that a user keeps.
const UNCLEAR_MAX: usize = 5;

/// A message of this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: Option<Arc<str>>,
    pub text: Arc<str>,
}

/// The data that a user keeps between two sessions.
#[derive(Debug, Default)]
pub struct Memory {
    /// All messages from this offset on were received. `None` until the first session was admitted.
    since: Option<usize>,
    /// The ids of these messages, in the order in which they were received.
    received: Vec<EventId>,
    /// The id of the last message before `since`, if the server gave one.
    id_before: Option<EventId>,
    /// Messages with an id whose outcome is unknown: published or not.
    pub unclear: Vec<Message>,
}

impl Memory {
    pub fn last_id(&self) -> Option<EventId> {
        self.received.last().copied().or(self.id_before)
    }

    /// Forgets the last `count` messages, as if the connection had lost them.
    pub fn lose_last(&mut self, count: usize) {
        self.received.truncate(self.received.len().saturating_sub(count));
    }

    pub fn add_unclear(&mut self, message: Message) {
        if message.id.is_some() && !self.unclear.contains(&message) {
            self.unclear.push(message);
            self.unclear.truncate(UNCLEAR_MAX);
        }
    }

    /// Starts again with these messages, which are the last ones before `offset`.
    fn restart(&mut self, offset: usize, received: Vec<EventId>, oracle: &Oracle) {
        let published = oracle.published_before(offset);
        let first = published.len() - received.len();
        self.since = Some(published.get(first).map_or(offset, |(offset, _)| *offset));
        self.received = received;
        self.id_before = None;
    }

    /// Checks that the client has received every message up to `position` once and in the order of the log.
    fn check(&self, position: usize, oracle: &Oracle) -> Result<(), Violation> {
        let Some(since) = self.since else { return Ok(()) };
        let published = oracle.published_before(position).iter();
        let expected = published.filter(|(offset, _)| *offset >= since).map(|(_, id)| id);
        ensure(expected.eq(&self.received), "every client gets every message once and in order", || {
            format!("since offset {since}, up to {position}: received {:?}", self.received)
        })
    }
}

/// The offset from which on a process certainly knows every message.
#[derive(Debug, Clone, Copy)]
pub struct Horizon(pub usize);

pub struct Client {
    pub user: User,
    pub opened_at: Millis,
    pub memory: Memory,
    /// Messages of this session that were not answered yet.
    pending: Vec<Message>,
    pub last_said: Option<Message>,
    request: Option<Request>,
    is_admitted: bool,
    view: BTreeSet<Arc<str>>,
}

impl Client {
    pub fn new(user: User, memory: Memory, request: Option<Request>, opened_at: Millis) -> Self {
        Client {
            user,
            opened_at,
            memory,
            pending: Vec::new(),
            last_said: None,
            request,
            is_admitted: false,
            view: BTreeSet::new(),
        }
    }

    pub fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    /// The client gets its first frames: the users online just before `offset`, and the messages that it asked for.
    pub fn admit(
        &mut self,
        offset: usize,
        before: BTreeSet<Arc<str>>,
        history: &mut History,
        horizon: Horizon,
        oracle: &Oracle,
    ) -> Result<Option<bool>, Violation> {
        self.is_admitted = true;
        self.view = before;
        let (last_id, published) = (history.last_id(), oracle.published_before(offset));
        ensure(last_id.is_none() || last_id == published.last().map(|(_, id)| *id), "the last id is the last", || {
            format!("{last_id:?} before offset {offset}")
        })?;
        let Some(request) = self.request else {
            self.memory.restart(offset, Vec::new(), oracle);
            self.memory.id_before = last_id;
            return Ok(None);
        };
        let missed = history.missed(request);
        let ids = ids_of(&missed);
        let newest: Vec<EventId> = published.iter().rev().take(ids.len()).rev().map(|(_, id)| *id).collect();
        ensure(newest == ids, "the missed messages are the newest before the join", || {
            format!("{ids:?}, not {newest:?}, before offset {offset}")
        })?;
        self.check_completeness(request, &missed, published, horizon)?;
        match request {
            Request::After(_) if missed.is_complete => {
                self.memory.received.extend(ids);
                self.memory.check(offset, oracle)?;
            }
            _ => self.memory.restart(offset, ids, oracle),
        }
        Ok(Some(missed.is_complete))
    }

    /// Checks that the answer has every message that the process must know, and that `complete` is correct. After a
    /// complete answer to `after`, the caller compares all messages.
    fn check_completeness(
        &self,
        request: Request,
        missed: &Missed,
        published: &[(usize, EventId)],
        horizon: Horizon,
    ) -> Result<(), Violation> {
        let (first_asked, count) = match request {
            // Fewer messages than asked for are complete only if the process knows that there were none before them.
            Request::Last(count) => (published.len().checked_sub(count), count.min(published.len())),
            Request::After(id) => {
                let index = published.iter().position(|(_, known)| Some(*known) == id);
                let Some(index) = index else {
                    return ensure(!missed.is_complete, "after an unknown id nothing is complete", || {
                        format!("{id:?}")
                    });
                };
                // The message itself has to be known.
                (Some(index), published.len() - index - 1)
            }
        };
        let is_right = !missed.is_complete || missed.messages == count;
        ensure(is_right, "complete means that nothing is missing", || format!("{request:?}: {missed:?}, not {count}"))?;
        let first_asked = first_asked.and_then(|index| published.get(index));
        let is_known = first_asked.map_or(horizon.0 == 0, |(offset, _)| *offset >= horizon.0);
        let must_be_complete = is_known && count <= HISTORY_MESSAGES;
        ensure(missed.is_complete || !must_be_complete, "a known message is not withheld", || {
            format!("{request:?} before {published:?}: {missed:?}")
        })
    }

    /// The client gets the events of the record at `offset`.
    pub fn on_events(
        &mut self,
        offset: usize,
        event_id: EventId,
        events: &[Event],
        oracle: &Oracle,
    ) -> Result<(), Violation> {
        for event in events {
            match event {
                Event::UserJoined { username } => {
                    ensure(self.view.insert(username.clone()), "user_joined and user_left alternate", || {
                        format!("{username:?} joined twice, as a client received it at offset {offset}")
                    })?;
                }
                Event::UserLeft { username } => {
                    ensure(self.view.remove(username), "user_joined and user_left alternate", || {
                        format!("{username:?} left without having joined, as a client received it at offset {offset}")
                    })?;
                }
                Event::Said { user, text, id } => {
                    ensure(self.view.contains(&user.username), "the sender of a message is online", || {
                        format!("{user:?} sent {text:?} and is not in a client's list at offset {offset}")
                    })?;
                    self.memory.received.push(event_id);
                    if user.id == self.user.id {
                        self.on_answer(id.as_ref());
                    }
                }
            }
        }
        if events.iter().all(|event| matches!(event, Event::Said { .. })) {
            return Ok(());
        }
        ensure(self.view == *oracle.online(offset), "a client's list and events add up to the state", || {
            format!("{:?} has {:?} at offset {offset}, online are {:?}", self.user, self.view, oracle.online(offset))
        })
    }

    /// The server has accepted this message.
    pub fn on_said(&mut self, message: Message) {
        self.last_said = Some(message.clone());
        self.pending.push(message);
    }

    /// The message with this id was published: the client got it, or the error `duplicate`.
    pub fn on_answer(&mut self, id: Option<&Arc<str>>) {
        self.pending.retain(|message| message.id.as_ref() != id);
        self.memory.unclear.retain(|message| message.id.as_ref() != id);
    }

    /// The server sent `unavailable` about this message.
    pub fn on_unavailable(&mut self, message: Message) {
        self.pending.retain(|pending| *pending != message);
        self.memory.add_unclear(message);
    }

    /// Checks that the client has received every message since it was admitted, once and in the order of the log.
    /// `position`: the offset up to which the server has sent it events.
    pub fn check_received(&self, position: usize, oracle: &Oracle) -> Result<(), Violation> {
        if self.is_admitted { self.memory.check(position, oracle) } else { Ok(()) }
    }

    /// The session ends.
    pub fn into_memory(self) -> (User, Memory) {
        let mut memory = self.memory;
        self.pending.into_iter().for_each(|message| memory.add_unclear(message));
        (self.user, memory)
    }
}

/// The bytes that stand for the frame of a message in the history of this simulation.
pub fn frame(id: EventId) -> Vec<u8> {
    format!("{id}\n").into_bytes()
}

pub fn ids_of(missed: &Missed) -> Vec<EventId> {
    let bytes = missed.blocks.concat();
    let text = String::from_utf8_lossy(bytes.get(missed.origin..).unwrap_or_default()).into_owned();
    text.lines().map(|line| line.parse().expect("an id")).collect()
}
