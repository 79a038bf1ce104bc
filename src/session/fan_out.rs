//! The fan-out: a few threads, about one per core, each of which owns the [`super::outbox`]es of its share of the sessions.
//! Nothing there blocks on a client, and nobody else writes to a client's socket.
//!
//! This is the side of those who tell it something: readers, the log thread, the server. `thread.rs` is what they tell.

mod thread;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use self::thread::FanOutThread;
use super::end::End;
use super::link::Link;
use super::outbox::{HealthTimes, Piece};
use super::socket::Socket;
use crate::lobby::SessionId;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// How many commands may wait for one thread. Whoever sends more waits: a reader (its client is not read meanwhile), or
/// the log thread. Enough for all sessions to open or end at once: to wake thousands of threads that wait for room
/// costs more than the work itself.
const COMMANDS_MAX: usize = 16 * 1024;
/// How much of the runs among them may wait: what waits here is what a message waits behind while a crowd comes.
const RUN_PLACES: usize = 32;
/// A run takes a place for each of these many bytes that it has begun: 16 KiB in all.
const RUN_PLACE_BYTES: usize = 512;

/// What a fan-out thread is told.
pub enum Command<S = TcpStream> {
    /// A connection, before its `joined` is appended.
    Open {
        /// The connection.
        link: Arc<Link<S>>,
        /// When its token's time is over.
        token_expires_at: Instant,
    },
    /// Events for everybody who is in the lobby.
    Events(Run),
    /// A frame for one client.
    Own {
        /// Which.
        session: SessionId,
        /// A whole frame.
        frame: Vec<u8>,
    },
    /// The last frame for one client.
    Close {
        /// Which.
        session: SessionId,
        /// A close frame.
        frame: Vec<u8>,
    },
    /// The session thread is done: what was told before is sent as far as the socket takes it, then it is cut.
    Forget(SessionId),
    /// Everybody goes, for this reason, at once.
    CloseAll(End),
    /// Whoever is still there is cut off.
    CutAll,
    /// The server stops: everybody goes within this time.
    Drain(Duration),
}

/// The events of one poll, encoded once, and who is in the lobby because of them.
pub struct Run {
    /// Whole frames; may be empty.
    pub frames: Arc<[u8]>,
    /// How many frames.
    pub events: u64,
    /// Whether somebody comes or goes in them.
    pub has_presence: bool,
    /// The sessions of this thread that become live.
    pub admissions: Vec<Admission>,
}

impl Run {
    /// How many of the [`RUN_PLACES`] it takes; a large one takes all of them, and so gets through.
    fn places(&self) -> usize {
        (self.frames.len() / RUN_PLACE_BYTES + 1).min(RUN_PLACES)
    }
}

/// A session becomes live.
pub struct Admission {
    /// Which.
    pub session: SessionId,
    /// Its `users_online` frame, in parts.
    pub list: Vec<Piece>,
    /// Where in the run its events begin.
    pub origin: usize,
}

/// The sending ends to all fan-out threads. Cheap to clone.
pub struct FanOut<S = TcpStream> {
    threads: Arc<[ToThread<S>]>,
}

struct ToThread<S> {
    commands: Sender<Command<S>>,
    /// Has one word for each place that the runs among the commands take.
    run_places: Sender<()>,
}

impl<S> Clone for FanOut<S> {
    fn clone(&self) -> Self {
        FanOut { threads: self.threads.clone() }
    }
}

impl<S: Socket> FanOut<S> {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(count: usize, settings: &Settings, supervisor: &Supervisor) -> io::Result<Self> {
        let mut senders = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let (commands, waiting) = bounded(COMMANDS_MAX);
            let (run_places, taken_places) = bounded(RUN_PLACES);
            let thread = FanOutThread::new(waiting, taken_places, settings.clone());
            supervisor.spawn(&format!("fan-out-{number}"), Stack::Normal, move || {
                thread.run();
                Ok(())
            })?;
            senders.push(ToThread { commands, run_places });
        }
        Ok(FanOut { threads: senders.into() })
    }

    /// A fan-out without threads: a test takes what is sent to each of them.
    #[cfg(test)]
    pub(crate) fn detached(count: usize) -> (Self, Vec<DetachedThread<S>>) {
        let mut detached = Vec::new();
        let threads = (0..count)
            .map(|_| {
                let (commands, waiting) = crossbeam_channel::unbounded();
                let (run_places, taken_places) = crossbeam_channel::unbounded();
                detached.push(DetachedThread { commands: waiting, _taken_places: taken_places });
                ToThread { commands, run_places }
            })
            .collect();
        (FanOut { threads }, detached)
    }

    /// How many threads there are.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The number of the thread that has this session.
    #[must_use]
    pub fn thread_of(&self, session: SessionId) -> usize {
        usize::try_from(session.0 % self.threads.len() as u64).unwrap_or(0)
    }

    /// Tells the thread of one session. Blocks while its channel is full. False when it has ended.
    pub fn tell(&self, session: SessionId, command: Command<S>) -> bool {
        self.tell_thread(self.thread_of(session), command)
    }

    /// Tells one thread by its number.
    pub fn tell_thread(&self, number: usize, command: Command<S>) -> bool {
        let Some(thread) = self.threads.get(number) else { return false };
        if let Command::Events(run) = &command {
            for _ in 0..run.places() {
                if thread.run_places.send(()).is_err() {
                    return false;
                }
            }
        }
        thread.commands.send(command).is_ok()
    }

    /// Tells all threads.
    pub fn tell_all(&self, command: impl Fn() -> Command<S>) {
        for number in 0..self.threads.len() {
            self.tell_thread(number, command());
        }
    }
}

/// What the threads need to know.
#[derive(Clone)]
pub struct Settings {
    /// What a client may be behind.
    pub outbox_bytes_max: usize,
    /// Pings.
    pub health: HealthTimes,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// The receiving end of a fan-out thread that does not run.
#[cfg(test)]
pub(crate) struct DetachedThread<S = TcpStream> {
    pub commands: crossbeam_channel::Receiver<Command<S>>,
    _taken_places: crossbeam_channel::Receiver<()>,
}
