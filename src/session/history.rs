//! [`History`]: the newest messages, encoded once as frames, in blocks that all clients share. The log thread adds each
//! message that it publishes; the blocks go to the fan-out with the sessions that ask for messages. `/history` reads it
//! too, so it is behind a lock, which is held for a few references at most.
//!
//! When 10,000 users return at once, each misses nearly the same messages. Their outboxes hold references to the same
//! blocks, and no copies.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::limits::{HISTORY_BLOCK_BYTES, HISTORY_BYTES_MAX};
use crate::lobby::EventId;

/// The earlier messages that a client asks for when it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// All messages after the one with this id. `None`: the id was not a valid [`EventId`], so no message has it.
    After(Option<EventId>),
    /// This many of the last messages.
    Last(usize),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone)]
pub struct Missed {
    /// Blocks of whole frames. The client gets all of them, but of the first block only the frames from `origin` on.
    pub blocks: Vec<Arc<[u8]>>,
    /// The position in the first block at which the first frame for the client begins.
    pub origin: usize,
    /// The number of messages.
    pub messages: usize,
    /// Whether these are all messages that the client asked for. If not, they are the newest ones.
    pub is_complete: bool,
}

/// The history of the log thread, which connection threads read.
pub type SharedHistory = Arc<Mutex<History>>;

/// Messages before another one, for `/history`.
#[derive(Debug, Clone)]
pub struct Older {
    /// The block and the place of the frame of each message, the newest first.
    pub frames: Vec<(Arc<[u8]>, Range<usize>)>,
    /// The id of the oldest of them.
    pub oldest: Option<EventId>,
    /// Whether the history has still older ones.
    pub has_more: bool,
    /// Whether it is known that no message was published before them.
    pub is_first: bool,
}

/// A message and all later ones, for a search in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The offset of the message in the event log.
    pub offset: u64,
    /// The ids of all these messages, in their order.
    pub ids: Vec<EventId>,
}

/// What the history knows about the messages before its oldest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// There were none: the history contains all messages since the first record of the log.
    Nothing,
    /// The message before the oldest one. There may be others before it.
    Message { id: EventId, offset: u64 },
    /// Nothing: that part of the log was not read, or retention has deleted it.
    Unknown,
}

#[derive(Debug)]
struct Message {
    id: EventId,
    /// In the event log.
    offset: u64,
    /// The number of its block, and its position there.
    block: u64,
    start: usize,
}

/// The newest messages, limited in number and in bytes.
#[derive(Debug)]
pub struct History {
    messages_max: usize,
    bytes_max: usize,
    before: Before,
    last_id: Option<EventId>,
    messages: VecDeque<Message>,
    /// Full blocks, which do not change any more.
    blocks: VecDeque<Arc<[u8]>>,
    /// The number of the first block in `blocks`.
    first_block: u64,
    /// The block that gets the next message. Its number follows those in `blocks`.
    open: Vec<u8>,
    /// A copy of `open`, shared by all clients that ask before the next message arrives.
    open_copy: Option<Arc<[u8]>>,
    /// The length of all blocks.
    bytes: usize,
}

impl History {
    /// An empty history of at most `messages_max` messages.
    #[must_use]
    pub fn new(messages_max: usize) -> Self {
        Self::with_bytes_max(messages_max, HISTORY_BYTES_MAX)
    }

    fn with_bytes_max(messages_max: usize, bytes_max: usize) -> Self {
        History {
            messages_max,
            bytes_max,
            before: Before::Unknown,
            last_id: None,
            messages: VecDeque::new(),
            blocks: VecDeque::new(),
            first_block: 0,
            open: Vec::new(),
            open_copy: None,
            bytes: 0,
        }
    }

    /// Removes all messages. `from_the_beginning`: no message was published before the next one that is added.
    pub fn restart(&mut self, from_the_beginning: bool) {
        *self = Self::with_bytes_max(self.messages_max, self.bytes_max);
        if from_the_beginning {
            self.before = Before::Nothing;
        }
    }

    /// Adds a message that was published just now: its id, its offset in the event log, and its whole frame.
    pub fn push(&mut self, id: EventId, offset: u64, frame: &[u8]) {
        self.last_id = Some(id);
        if self.messages_max == 0 {
            self.before = Before::Message { id, offset };
            return;
        }
        if self.open.len() >= HISTORY_BLOCK_BYTES {
            self.blocks.push_back(std::mem::take(&mut self.open).into());
        }
        let block = self.first_block + self.blocks.len() as u64;
        self.messages.push_back(Message { id, offset, block, start: self.open.len() });
        self.open.extend_from_slice(frame);
        self.open_copy = None;
        self.bytes += frame.len();
        while self.messages.len() > self.messages_max || self.bytes > self.bytes_max {
            self.remove_oldest();
        }
    }

    /// Removes the oldest message, and its block too if the block has no other message.
    fn remove_oldest(&mut self) {
        let Some(oldest) = self.messages.pop_front() else { return };
        self.before = Before::Message { id: oldest.id, offset: oldest.offset };
        match self.messages.front() {
            Some(next) if next.block == oldest.block => {}
            Some(_) => {
                self.bytes -= self.blocks.pop_front().map_or(0, |block| block.len());
                self.first_block += 1;
            }
            None => {
                self.open = Vec::new();
                self.open_copy = None;
                self.bytes = 0;
            }
        }
    }

    /// The number of messages kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether older messages would not fit: the history has reached one of its limits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.messages.len() >= self.messages_max || matches!(self.before, Before::Message { .. })
    }

    /// The id of the last message that was published; `None` if none is known.
    #[must_use]
    pub fn last_id(&self) -> Option<EventId> {
        self.last_id
    }

    /// The answer for a client that joins now with this request.
    pub fn missed(&mut self, request: Request) -> Missed {
        let known = self.messages.len();
        let (first, is_complete) = match request {
            Request::After(id) => id.and_then(|id| self.index_after(id)).map_or((0, false), |index| (index, true)),
            Request::Last(count) => (known.saturating_sub(count), count <= known || self.before == Before::Nothing),
        };
        let (blocks, origin) = self.blocks_from(first);
        Missed { blocks, origin, messages: known - first, is_complete }
    }

    /// The newest messages before the one with this id, or of all: at most `count`, and at most `bytes_max` bytes of
    /// frames, but at least one. None if the id is not known.
    pub fn older(&mut self, before: Option<EventId>, count: usize, bytes_max: usize) -> Option<Older> {
        let end = match before {
            None => self.messages.len(),
            // `index_after` also knows the message before the oldest one.
            Some(id) => self.index_after(id)?.saturating_sub(1),
        };
        let (mut first, mut bytes) = (end, 0);
        let mut frames = Vec::new();
        while first > 0 && frames.len() < count {
            let Some((block, place)) = self.frame(first - 1) else { break };
            bytes += place.len();
            if bytes > bytes_max && !frames.is_empty() {
                break;
            }
            frames.push((block, place));
            first -= 1;
        }
        let oldest = if frames.is_empty() { None } else { self.messages.get(first).map(|message| message.id) };
        Some(Older { frames, oldest, has_more: first > 0, is_first: first == 0 && self.before == Before::Nothing })
    }

    /// The message with this id and all later ones. None if the id is not known.
    #[must_use]
    pub fn since(&self, id: EventId) -> Option<Since> {
        let after = self.index_after(id)?;
        let known = after.checked_sub(1).and_then(|index| self.messages.get(index)).map(|message| message.offset);
        let offset = match self.before {
            Before::Message { offset, .. } => known.unwrap_or(offset),
            Before::Nothing | Before::Unknown => known?,
        };
        let later = self.messages.iter().skip(after).map(|message| message.id);
        Some(Since { offset, ids: std::iter::once(id).chain(later).collect() })
    }

    /// The block of the message at this index, and its place there.
    fn frame(&mut self, index: usize) -> Option<(Arc<[u8]>, Range<usize>)> {
        let message = self.messages.get(index)?;
        let (number, start) = (message.block, message.start);
        let next = self.messages.get(index + 1).filter(|next| next.block == number).map(|next| next.start);
        let full = usize::try_from(number - self.first_block).ok().and_then(|index| self.blocks.get(index)).cloned();
        let block = full.unwrap_or_else(|| self.open_block());
        let end = next.unwrap_or(block.len());
        Some((block, start..end))
    }

    fn open_block(&mut self) -> Arc<[u8]> {
        self.open_copy.get_or_insert_with(|| self.open.as_slice().into()).clone()
    }

    /// The index of the message after the one with this id; `None` if the id is not known.
    fn index_after(&self, id: EventId) -> Option<usize> {
        // Searches from the end: most clients return soon, so their message is among the newest.
        let found = self.messages.iter().rposition(|message| message.id == id).map(|index| index + 1);
        found.or_else(|| matches!(self.before, Before::Message { id: before, .. } if before == id).then_some(0))
    }

    fn blocks_from(&mut self, first: usize) -> (Vec<Arc<[u8]>>, usize) {
        let Some(message) = self.messages.get(first) else { return (Vec::new(), 0) };
        let skipped = usize::try_from(message.block - self.first_block).unwrap_or(usize::MAX);
        let mut blocks: Vec<_> = self.blocks.iter().skip(skipped).cloned().collect();
        let start = message.start;
        blocks.push(self.open_block());
        (blocks, start)
    }
}

#[cfg(test)]
mod tests;
