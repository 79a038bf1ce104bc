//! The fan-out: a few threads, about one per core. Each owns the [`super::outbox`]es of its share of the sessions. They
//! do all writing to clients' sockets, and never block on a client.
//!
//! This file is the sending side, for session threads, the log thread and the server; `thread.rs` is the receiving
//! side.

mod drain;
mod pending;
mod round_timer;
mod sessions;
mod thread;
mod turns;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use self::thread::FanOutThread;
use self::turns::Turns;
use super::end::End;
use super::link::Link;
use super::outbox::{HealthTimes, Piece};
use super::socket::Socket;
use crate::limits::{BATCH_CREDITS, COMMANDS_MAX, CREDIT_BYTES};
use crate::lobby::SessionId;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// A command to a fan-out thread.
pub enum Command<S = TcpStream> {
    /// A new connection, before its `joined` is appended.
    Open {
        /// The socket of the connection, with the session's id.
        link: Arc<Link<S>>,
        /// When its token expires, and the session ends.
        token_expires_at: Instant,
    },
    /// The session has a new token.
    Renew {
        /// The session.
        session: SessionId,
        /// When the new token expires, and the session ends.
        token_expires_at: Instant,
    },
    /// Events for all live sessions.
    Events(Batch),
    /// A direct frame: a frame for one client. It is sent after the events that came before it.
    Direct {
        /// The session of the client.
        session: SessionId,
        /// One encoded frame, with its header.
        frame: Vec<u8>,
    },
    /// The last frame for one client, which gets no events after this command.
    Close {
        /// The session of the client.
        session: SessionId,
        /// The encoded close frame.
        frame: Vec<u8>,
    },
    /// An administrator ends the session.
    End {
        /// The session.
        session: SessionId,
        /// [`End::Kicked`] or [`End::Banned`].
        end: End,
        /// The reason of the administrator. May be empty.
        reason: Arc<str>,
    },
    /// The session thread ends. Sends as many of the earlier frames as the socket accepts without waiting, then closes
    /// the connection.
    Forget(SessionId),
    /// Closes all sessions at once, with the close frame of this reason.
    CloseAll(End),
    /// Closes all connections at once, without a close frame.
    DisconnectAll,
    /// The server stops: closes all sessions, spread over this time.
    Drain(Duration),
}

/// Some events of one poll, encoded once, and the sessions that become live among them.
pub struct Batch {
    /// Whole frames; may be empty.
    pub frames: Arc<[u8]>,
    /// The number of frames.
    pub events: u64,
    /// Whether the events contain a join or a leave.
    pub has_presence: bool,
    /// When this instance appended the oldest of its own messages in the batch, if it has any.
    pub oldest_append: Option<Instant>,
    /// Dropped when the thread has sent the batch.
    pub on_sent: Option<Arc<OnSent>>,
    /// Those sessions of the receiving thread that become live.
    pub admissions: Vec<Admission>,
}

impl Batch {
    /// The credits that the batch uses while it is queued: at most all credits of a thread, so that every batch can be
    /// queued.
    fn credits(&self) -> usize {
        (self.frames.len() / CREDIT_BYTES + 1).min(BATCH_CREDITS)
    }
}

/// Calls a function when it is dropped: when all threads have sent a batch.
pub struct OnSent(Box<dyn Fn() + Send + Sync>);

impl OnSent {
    /// `call` runs on the thread that drops the last reference, usually a fan-out thread, so it must do no I/O.
    pub(crate) fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        OnSent(Box::new(call))
    }
}

impl Drop for OnSent {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A session that becomes live: it gets its first frames, and then all events.
pub struct Admission {
    /// The session, which belongs to the thread that gets the batch.
    pub session: SessionId,
    /// The `users_online` frame. If the client asked for earlier messages, these and `caught_up` follow.
    pub first_frames: Vec<Piece>,
    /// The offset in the batch's frames at which the events of the session begin.
    pub origin: usize,
}

/// The sending ends of the command channels of all fan-out threads. Cheap to clone.
pub struct FanOut<S = TcpStream> {
    threads: Arc<[ToThread<S>]>,
}

struct ToThread<S> {
    commands: Sender<Command<S>>,
    /// Holds one token per credit used by queued batches.
    credits: Sender<()>,
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
    /// The system cannot start a thread.
    pub fn start(count: usize, settings: &Settings, supervisor: &Supervisor) -> io::Result<Self> {
        let turns = Turns::new(count.max(1));
        let mut senders = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let (commands, waiting) = bounded(COMMANDS_MAX);
            let (credits, used_credits) = bounded(BATCH_CREDITS);
            let thread = FanOutThread::new(waiting, used_credits, turns.clone(), settings.clone());
            supervisor.spawn(&format!("fan-out-{number}"), Stack::Normal, move || {
                thread.run();
                Ok(())
            })?;
            senders.push(ToThread { commands, credits });
        }
        Ok(FanOut { threads: senders.into() })
    }

    /// A fan-out without threads: a test or a benchmark receives the commands that are sent to each of them.
    pub(crate) fn detached(count: usize) -> (Self, Vec<DetachedThread<S>>) {
        let mut detached = Vec::new();
        let threads = (0..count)
            .map(|_| {
                let (commands, waiting) = crossbeam_channel::unbounded();
                let (credits, used_credits) = crossbeam_channel::unbounded();
                detached.push(DetachedThread { commands: waiting, used_credits });
                ToThread { commands, credits }
            })
            .collect();
        (FanOut { threads }, detached)
    }

    /// The number of fan-out threads.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The number of the thread that has this session.
    #[must_use]
    pub fn thread_of(&self, session: SessionId) -> usize {
        usize::try_from(session.0 % self.threads.len() as u64).unwrap_or(0)
    }

    /// Sends a command to the thread of one session. Blocks while its channel is full. False when the thread has ended.
    pub fn send(&self, session: SessionId, command: Command<S>) -> bool {
        self.send_to_thread(self.thread_of(session), command)
    }

    /// Sends a command to one thread. Blocks while its channel is full, and a batch also until enough credits are free.
    /// False when the thread has ended.
    pub fn send_to_thread(&self, number: usize, command: Command<S>) -> bool {
        let Some(thread) = self.threads.get(number) else { return false };
        if let Command::Events(batch) = &command {
            for _ in 0..batch.credits() {
                if thread.credits.send(()).is_err() {
                    return false;
                }
            }
        }
        thread.commands.send(command).is_ok()
    }

    /// Sends a command to each thread.
    pub fn send_to_all(&self, command: impl Fn() -> Command<S>) {
        for number in 0..self.threads.len() {
            self.send_to_thread(number, command());
        }
    }
}

/// The settings that all fan-out threads share.
#[derive(Clone)]
pub struct Settings {
    /// The most bytes that may wait for one client.
    pub outbox_bytes_max: usize,
    /// When to ping, and how long to wait for the answer.
    pub health: HealthTimes,
    /// Deliveries are counted here.
    pub metrics: Arc<Metrics>,
}

/// The receiving end of the channels of a fan-out thread that does not run.
pub(crate) struct DetachedThread<S = TcpStream> {
    pub commands: crossbeam_channel::Receiver<Command<S>>,
    used_credits: crossbeam_channel::Receiver<()>,
}

impl<S> DetachedThread<S> {
    /// The commands that wait. Their credits are free again.
    pub(crate) fn receive(&self) -> impl Iterator<Item = Command<S>> {
        self.used_credits.try_iter().for_each(drop);
        self.commands.try_iter()
    }
}
