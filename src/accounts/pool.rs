//! [`Pool`]: a few threads, each with its own connection to a service that may hang, and a deadline for every call.
//!
//! The calls of the client library have no deadline. So the caller waits for the answer with a deadline
//! ([`Pool::call`], on the caller's thread). A thread that hangs is abandoned and replaced; it ends when its call
//! returns, if ever. [`threads`] has these threads, and the watch thread that replaces them. All of them end when the
//! pool is dropped. The service is a [`Backend`].

mod threads;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::threads::{Shared, watch};
use crate::one_shot;
use crate::supervisor::Supervisor;
use crate::threads::{Stack, lock};

/// How many calls may wait for a thread. More calls fail at once.
const QUEUE_CALLS: usize = 64;
/// How long dropping the pool waits for its threads. It does not wait longer for a thread that hangs.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The service behind a pool. The methods run on the threads of the pool and may block for ever.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Created, used and dropped on one thread.
    type Connection;
    type Request: Send + 'static;
    type Answer: Send + 'static;

    /// The service, for the log.
    fn name(&self) -> String;
    /// What an operator can check while the service accepts connections and does not answer.
    fn silence(&self) -> &'static str;
    /// Connects, and waits for a first answer. The text of the error is logged, so it must not contain a secret.
    fn connect(&self) -> Result<Self::Connection, String>;
    /// Prepares a new connection for requests. The text of the error is logged, too.
    fn prepare(&self, connection: &mut Self::Connection) -> Result<(), String>;
    /// Checks whether the connection works.
    fn probe(&self, connection: &mut Self::Connection) -> Result<(), String>;
    /// Executes a request. After an error the connection is replaced, unless the error says that it works.
    fn run(&self, connection: &mut Self::Connection, request: &Self::Request) -> Result<Self::Answer, Failed>;
}

/// A request that failed.
pub(crate) struct Failed {
    /// The cause, for the log. Contains no secret.
    pub(crate) reason: String,
    /// Whether the request changed nothing and never will. Then it may be executed again on a new connection.
    pub(crate) may_retry: bool,
    /// Whether the connection can still be used.
    pub(crate) connection_works: bool,
}

impl Failed {
    /// The request was not sent, and the connection is broken.
    pub(crate) fn not_connected(reason: String) -> Self {
        Failed { reason, may_retry: true, connection_works: false }
    }
}

/// The size and the timeouts of a pool.
#[derive(Clone, Copy)]
pub(crate) struct PoolSettings {
    /// The threads are called `ich-{name}-N`.
    pub(crate) name: &'static str,
    /// The number of threads, and so of connections.
    pub(crate) threads: usize,
    /// How many threads that hang are replaced. If more hang, calls fail until one of them returns.
    pub(crate) max_abandoned: usize,
    /// The most time of a call, for the caller.
    pub(crate) call_timeout: Duration,
    /// A thread that connects, or prepares a connection, for longer counts as hanging.
    pub(crate) connect_timeout: Duration,
    /// When the log says that a thread still waits for the first answer.
    pub(crate) silence: Duration,
}

/// See the module. Dropping it waits up to a second for its threads.
pub(crate) struct Pool<B: Backend> {
    shared: Arc<Shared<B>>,
    /// `None` only while the pool is dropped.
    calls: Option<Sender<Call<B>>>,
    closing: Option<Sender<()>>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
}

/// A request that waits for a thread.
struct Call<B: Backend> {
    request: B::Request,
    deadline: Instant,
    answer: one_shot::Sender<Result<B::Answer, String>>,
}

impl<B: Backend> Pool<B> {
    /// Starts the threads. They connect in the background.
    ///
    /// # Errors
    /// The system does not allow another thread.
    pub(crate) fn start(backend: B, settings: PoolSettings, supervisor: &Supervisor) -> io::Result<Self> {
        let (calls, waiting_calls) = bounded(QUEUE_CALLS);
        let (closing, closed) = bounded(0);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared::new(backend, settings, supervisor.clone(), waiting_calls, closed));
        let pool = Pool { shared: Arc::clone(&shared), calls: Some(calls), closing: Some(closing), ended };
        let slots = (0..settings.threads).map(|_| shared.start_thread(&alive)).collect::<io::Result<Vec<_>>>()?;
        supervisor.spawn(&format!("{}-watch", settings.name), Stack::Normal, move || {
            watch(&shared, slots, &alive);
            Ok(())
        })?;
        Ok(pool)
    }

    /// Executes a request. Blocks for at most `call_timeout`.
    ///
    /// # Errors
    /// A text for the log. The request may have been executed nevertheless.
    pub(crate) fn call(&self, request: B::Request) -> Result<B::Answer, String> {
        if !self.is_ready() {
            return Err("not connected".to_owned());
        }
        let deadline = Instant::now() + self.shared.settings.call_timeout;
        let (answer, receiver) = one_shot::channel();
        let calls = self.calls.as_ref().ok_or("closed")?;
        calls.try_send(Call { request, deadline, answer }).map_err(|_| "too many calls at once")?;
        match receiver.recv_deadline(deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.shared.lost("no answer in time");
                Err("no answer in time".to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => Err("the call was abandoned".to_owned()),
        }
    }

    /// Whether the service answered in the last seconds, and no call has failed to connect since.
    pub(crate) fn is_ready(&self) -> bool {
        lock(&self.shared.state).is_ready()
    }
}

impl<B: Backend> Drop for Pool<B> {
    fn drop(&mut self) {
        self.calls = None;
        self.closing = None;
        // Nothing is ever sent: this returns when the last thread has dropped its sender.
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

#[cfg(test)]
mod tests;
