//! Operations that turn events into bytes for clients: frames, batches, the list of users, and the outbox of a session.

use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ich::hot_paths::{self, Batches};
use ich::lobby::{Body, Event, Record, SessionId};
use ich::session::link::Link;
use ich::session::online_list::OnlineList;
use ich::session::outbox::{EventBytes, Outbox};
use ich::session::socket::Socket;

use crate::cases::{AT, Operation, USERS, name, record, said, user};

/// The fan-out threads that get a batch.
const THREADS: usize = 2;
const MESSAGES: usize = 64;
const BATCH_BYTES: usize = 4096;
/// The batches that wait until a slow client reads.
const WAITING_BATCHES: usize = 16;
const OUTBOX_BYTES_MAX: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

fn message() -> (Event, Record) {
    let body = said(5, None);
    let Body::Said { text, .. } = &body else { unreachable!("a message") };
    (Event::Said { user: user(5), text: text.clone(), id: None }, record(7, body))
}

fn join() -> (Event, Record) {
    let user = user(5);
    (Event::UserJoined { username: user.username.clone() }, record(7, Body::Joined { session: SessionId(5), user }))
}

pub fn encode_message_frame() -> Operation {
    encode(message())
}

pub fn encode_join_frame() -> Operation {
    encode(join())
}

fn encode((event, record): (Event, Record)) -> Operation {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        hot_paths::put_event(black_box(&event), black_box(&record), &mut out);
        black_box(&out);
    })
}

pub fn batch_of_messages() -> Operation {
    let (mut batches, (event, record)) = (Batches::new(THREADS), message());
    Box::new(move || {
        (0..MESSAGES).for_each(|_| batches.put(black_box(&event), black_box(&record)));
        black_box(batches.flush());
    })
}

/// A user joins a lobby of [`USERS`] users: the join for all, and the list for the new session.
pub fn batch_with_a_join() -> Operation {
    let (mut batches, mut list, (event, record)) = (Batches::new(THREADS), full_list(), join());
    let newcomer = name(USERS);
    Box::new(move || {
        let frame = hot_paths::users_online(AT, &list.snapshot());
        batches.admit(SessionId(5), frame);
        batches.put(black_box(&event), black_box(&record));
        list.insert(&newcomer);
        black_box(batches.flush());
        list.remove(&newcomer);
    })
}

fn full_list() -> OnlineList {
    let mut list = OnlineList::default();
    (0..USERS).for_each(|number| list.insert(&name(number)));
    list
}

/// Nothing of the list is encoded yet, as when an instance has just read the log.
pub fn whole_list() -> Operation {
    let names: Vec<Arc<str>> = (0..USERS).map(name).collect();
    Box::new(move || {
        let mut list = OnlineList::default();
        names.iter().for_each(|name| list.insert(name));
        black_box(list.snapshot());
    })
}

pub fn list_after_one_change() -> Operation {
    let (mut list, mut names) = (full_list(), [name(USERS), name(USERS + 1)]);
    list.insert(&names[0]);
    Box::new(move || {
        list.remove(&names[0]);
        list.insert(&names[1]);
        names.swap(0, 1);
        black_box(list.snapshot());
    })
}

/// A socket that takes everything, or nothing, and does nothing with it.
struct NoSocket {
    is_full: AtomicBool,
}

impl Socket for NoSocket {
    fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(black_box(parts).iter().map(|part| part.len()).sum())
    }

    fn read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn peek_now(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn set_read_timeout(&self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }
}

/// A live session, and the time of its last event.
fn live_session() -> (Outbox<NoSocket>, Instant) {
    let now = Instant::now();
    let link = Arc::new(Link::new(SessionId(5), NoSocket { is_full: AtomicBool::new(false) }));
    let mut outbox = Outbox::new(link, now + HOUR, now + HOUR, now);
    outbox.admit(hot_paths::users_online(AT, &[]), 0, now);
    let sent = outbox.send(&EventBytes::new(0, Arc::from([])), OUTBOX_BYTES_MAX, now);
    assert!(sent.is_ok() && outbox.queued_bytes() == 0);
    (outbox, now)
}

/// Whole frames.
fn batch() -> Arc<[u8]> {
    let (mut bytes, (event, record)) = (Vec::new(), message());
    while bytes.len() < BATCH_BYTES {
        hot_paths::put_event(&event, &record, &mut bytes);
    }
    bytes.into()
}

/// What each delivery costs besides the system call, and the `EventBytes` that the sessions of a thread share.
pub fn outbox_sends_a_batch() -> Operation {
    let (frames, (mut outbox, now)) = (batch(), live_session());
    let mut begin = 0;
    Box::new(move || {
        let events = EventBytes::new(begin, frames.clone());
        begin = events.end();
        let sent = outbox.send(black_box(&events), OUTBOX_BYTES_MAX, now);
        assert!(sent.is_ok() && outbox.queued_bytes() == 0);
    })
}

pub fn outbox_of_a_slow_client() -> Operation {
    let (frames, (mut outbox, now)) = (batch(), live_session());
    let mut begin = 0;
    Box::new(move || {
        outbox.link.socket.is_full.store(true, Ordering::Relaxed);
        for _ in 0..WAITING_BATCHES {
            let events = EventBytes::new(begin, frames.clone());
            begin = events.end();
            assert!(outbox.send(black_box(&events), OUTBOX_BYTES_MAX, now).is_ok());
        }
        assert_eq!(outbox.queued_bytes(), WAITING_BATCHES * frames.len());
        outbox.link.socket.is_full.store(false, Ordering::Relaxed);
        assert!(outbox.retry(now).is_ok() && outbox.queued_bytes() == 0);
    })
}
