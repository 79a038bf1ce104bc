//! A few threads, each with a connection of its own to a service that may hang, and a deadline for every call to it.
//!
//! The connection's calls have no deadline of their own, so the caller waits for an answer with one
//! ([`Pool::call`], on the caller's thread), and a thread that hangs is given up and replaced: it ends by itself when
//! its call returns, if ever. A watching thread does that; both kinds of threads end when the pool is dropped.
//! Connections are made, and made again, by the threads themselves. What is behind the connection is a [`Backend`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use crate::supervisor::Supervisor;
use crate::threads::{Stack, lock};

/// Calls that may wait for a thread; more are refused at once.
const QUEUE_CALLS: usize = 64;
/// How often an idle thread looks whether its connection still works.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the last sign of life counts. Longer than a probe takes to come round.
const READY_FOR: Duration = Duration::from_secs(5);
/// Between attempts to connect; doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the watching thread looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// The same fault is logged again after this.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long dropping the pool waits for its threads; one that hangs is left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the threads of a pool are connected to. Its methods run on the pool's threads and may block for ever.
pub(super) trait Backend: Send + Sync + 'static {
    /// Lives on one thread, and is dropped there.
    type Connection;
    /// What is asked.
    type Request: Send + 'static;
    /// What is answered.
    type Answer: Send + 'static;

    /// Connects and makes ready for requests. The text of the error is logged, so it must have no secrets.
    fn connect(&self) -> Result<Self::Connection, String>;
    /// Whether the connection works.
    fn probe(&self, connection: &mut Self::Connection) -> Result<(), String>;
    /// Answers. After an error the connection is dropped and made again, unless the error says that it still works.
    fn run(&self, connection: &mut Self::Connection, request: &Self::Request) -> Result<Self::Answer, Failed>;
}

/// A request without an answer.
pub(super) struct Failed {
    /// For the log.
    pub(super) reason: String,
    /// The request changed nothing and never will: it may be run again on a new connection.
    pub(super) may_retry: bool,
    /// The connection works all the same.
    pub(super) connection_works: bool,
}

impl Failed {
    /// Nothing was done, and the connection is of no use any more.
    pub(super) fn not_connected(reason: String) -> Self {
        Failed { reason, may_retry: true, connection_works: false }
    }
}

/// How large a pool is and how patient.
#[derive(Clone, Copy)]
pub(super) struct PoolSettings {
    /// What the threads are called: `ich-{name}-N`.
    pub(super) name: &'static str,
    /// How many threads answer.
    pub(super) threads: usize,
    /// How many threads that hang are given up at most; with more, calls fail until one of them returns.
    pub(super) max_abandoned: usize,
    /// How long a call takes at most, for the caller.
    pub(super) call_timeout: Duration,
    /// A thread that connects for longer hangs.
    pub(super) connect_timeout: Duration,
}

/// See the module. Dropping it waits a second for its threads.
pub(super) struct Pool<B: Backend> {
    shared: Arc<Shared<B>>,
    /// `None` only while the pool is dropped.
    calls: Option<Sender<Call<B>>>,
    closing: Option<Sender<()>>,
    /// Disconnected when no thread is left.
    ended: Receiver<()>,
}

struct Call<B: Backend> {
    request: B::Request,
    deadline: Instant,
    answer: Sender<Result<B::Answer, String>>,
}

struct Shared<B: Backend> {
    backend: B,
    settings: PoolSettings,
    supervisor: Supervisor,
    calls: Receiver<Call<B>>,
    /// Disconnected when the pool is dropped.
    closing: Receiver<()>,
    started_threads: AtomicUsize,
    /// Threads that have a connection, as far as they know.
    connected: AtomicUsize,
    abandoned: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the backend last answered. `None`: not since something went wrong.
    answered_at: Option<Instant>,
    /// What was last logged, and when. `None` while all is well.
    logged: Option<(String, Instant)>,
}

impl State {
    fn is_ready(&self) -> bool {
        self.answered_at.is_some_and(|at| at.elapsed() < READY_FOR)
    }
}

/// What the watching thread knows of one thread.
#[derive(Default)]
struct Slot {
    /// When it must be back from what it does; `None`: it waits for calls.
    back_by: Mutex<Option<Instant>>,
    /// Another thread has taken its place.
    abandoned: AtomicBool,
}

impl<B: Backend> Pool<B> {
    /// Starts the threads. They connect by themselves: this does not wait for it.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(super) fn start(backend: B, settings: PoolSettings, supervisor: &Supervisor) -> io::Result<Self> {
        let (calls, waiting_calls) = bounded(QUEUE_CALLS);
        let (closing, closed) = bounded(0);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared {
            backend,
            settings,
            supervisor: supervisor.clone(),
            calls: waiting_calls,
            closing: closed,
            started_threads: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            state: Mutex::default(),
        });
        let pool = Pool { shared: Arc::clone(&shared), calls: Some(calls), closing: Some(closing), ended };
        let slots = (0..settings.threads).map(|_| shared.start_thread(&alive)).collect::<io::Result<Vec<_>>>()?;
        supervisor.spawn(&format!("{}-watch", settings.name), Stack::Normal, move || {
            watch(&shared, slots, &alive);
            Ok(())
        })?;
        Ok(pool)
    }

    /// Asks, and waits for the answer, for `call_timeout` at most.
    ///
    /// # Errors
    /// A text for the log. Whether the request was carried out is not known then.
    pub(super) fn call(&self, request: B::Request) -> Result<B::Answer, String> {
        if !self.is_ready() {
            return Err("not connected".to_owned());
        }
        let deadline = Instant::now() + self.shared.settings.call_timeout;
        let (answer, answers) = bounded(1);
        let calls = self.calls.as_ref().ok_or("closed")?;
        calls.try_send(Call { request, deadline, answer }).map_err(|_| "too many calls at once")?;
        match answers.recv_deadline(deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.shared.lost("no answer in time");
                Err("no answer in time".to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => Err("the call was given up".to_owned()),
        }
    }

    /// Whether the backend answered in the last seconds and nothing went wrong since.
    pub(super) fn is_ready(&self) -> bool {
        lock(&self.shared.state).is_ready()
    }
}

impl<B: Backend> Drop for Pool<B> {
    fn drop(&mut self) {
        self.calls = None;
        self.closing = None;
        // Nothing is ever sent: this returns when the last thread is gone.
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

impl<B: Backend> Shared<B> {
    fn start_thread(self: &Arc<Self>, alive: &Sender<()>) -> io::Result<Arc<Slot>> {
        let slot = Arc::new(Slot::default());
        let (shared, its_slot, alive) = (Arc::clone(self), Arc::clone(&slot), alive.clone());
        let number = self.started_threads.fetch_add(1, Ordering::Relaxed);
        self.supervisor.spawn(&format!("{}-{number}", self.settings.name), Stack::Normal, move || {
            serve(&shared, &its_slot);
            if its_slot.abandoned.load(Ordering::Acquire) {
                shared.abandoned.fetch_sub(1, Ordering::AcqRel);
            }
            drop(alive);
            Ok(())
        })?;
        Ok(slot)
    }

    fn answered(&self) {
        let mut state = lock(&self.state);
        if !state.is_ready() {
            log::info!("{}: connected", self.settings.name);
            state.logged = None;
        }
        state.answered_at = Some(Instant::now());
    }

    /// Until a thread is answered again, no caller waits for one.
    fn lost(&self, reason: &str) {
        lock(&self.state).answered_at = None;
        self.log(reason);
    }

    fn log(&self, reason: &str) {
        let mut state = lock(&self.state);
        let known = state.logged.as_ref().is_some_and(|(text, at)| text == reason && at.elapsed() < LOG_INTERVAL);
        if !known {
            log::error!("{}: {reason}", self.settings.name);
            state.logged = Some((reason.to_owned(), Instant::now()));
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.try_recv().is_err_and(|error| error.is_disconnected())
    }

    /// Runs something that may hang or panic, under the eyes of the watching thread.
    fn watched<R>(&self, slot: &Slot, limit: Duration, run: impl FnOnce() -> Result<R, Failed>) -> Result<R, Failed> {
        *lock(&slot.back_by) = Some(Instant::now() + limit);
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            let reason = "a call panicked".to_owned();
            Err(Failed { reason, may_retry: false, connection_works: false })
        });
        *lock(&slot.back_by) = None;
        result
    }

    fn connect(&self, slot: &Slot) -> Option<B::Connection> {
        let connect = || self.backend.connect().map_err(Failed::not_connected);
        match self.watched(slot, self.settings.connect_timeout, connect) {
            Ok(connection) => {
                self.connected.fetch_add(1, Ordering::AcqRel);
                self.answered();
                Some(connection)
            }
            // The others may go on answering: the service can have connections enough for some threads only.
            Err(failed) if self.connected.load(Ordering::Acquire) > 0 => {
                self.log(&failed.reason);
                None
            }
            Err(failed) => {
                self.lost(&failed.reason);
                None
            }
        }
    }

    /// Dropping says goodbye to the other side, which may hang too.
    fn disconnect(&self, slot: &Slot, connection: B::Connection) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
        let _ = self.watched(slot, self.settings.call_timeout, || {
            drop(connection);
            Ok(())
        });
    }

    /// Answers one call; `None` when the connection is gone.
    fn answer(&self, slot: &Slot, mut connection: B::Connection, call: &Call<B>) -> Option<B::Connection> {
        // What nobody waits for is not begun.
        if Instant::now() >= call.deadline {
            return Some(connection);
        }
        let run = |connection: &mut B::Connection| {
            self.watched(slot, self.settings.call_timeout, || self.backend.run(connection, &call.request))
        };
        let broken = |result: &Result<_, Failed>| result.as_ref().is_err_and(|failed| !failed.connection_works);
        let mut result = run(&mut connection);
        let mut open = Some(connection);
        if broken(&result) {
            let may_retry = result.as_ref().is_err_and(|failed| failed.may_retry) && Instant::now() < call.deadline;
            open.take().into_iter().for_each(|connection| self.disconnect(slot, connection));
            open = if may_retry { self.connect(slot) } else { None };
            if let Some(connection) = &mut open {
                result = run(connection);
            }
        }
        if broken(&result) {
            open.take().into_iter().for_each(|connection| self.disconnect(slot, connection));
        }
        if result.is_ok() {
            self.answered();
        }
        // The caller may have gone.
        let _ = call.answer.try_send(result.map_err(|failed| failed.reason));
        open
    }
}

/// A thread's life: connect, answer, connect again.
fn serve<B: Backend>(shared: &Shared<B>, slot: &Slot) {
    let done = || slot.abandoned.load(Ordering::Acquire) || shared.is_closing();
    let mut backoff = BACKOFF.0;
    let mut open = None;
    while !done() {
        let Some(mut connection) = open.take() else {
            open = shared.connect(slot);
            if open.is_none() {
                // Returns early when the pool is dropped.
                let _ = shared.closing.recv_timeout(backoff);
                backoff = (backoff * 2).min(BACKOFF.1);
            }
            continue;
        };
        backoff = BACKOFF.0;
        select! {
            recv(shared.calls) -> call => match call {
                Ok(call) => open = shared.answer(slot, connection, &call),
                Err(_) => open = Some(connection),
            },
            recv(shared.closing) -> _ => open = Some(connection),
            default(PROBE_INTERVAL) => {
                let probe = || shared.backend.probe(&mut connection).map_err(Failed::not_connected);
                match shared.watched(slot, shared.settings.call_timeout, probe) {
                    Ok(()) => {
                        shared.answered();
                        open = Some(connection);
                    }
                    // One connection that was cut is no outage; whether it is one shows in connecting again.
                    Err(failed) => {
                        log::debug!("{}: {}", shared.settings.name, failed.reason);
                        shared.disconnect(slot, connection);
                    }
                }
            }
        }
    }
    if let Some(connection) = open {
        shared.disconnect(slot, connection);
    }
}

/// Gives up the threads that hang, and starts others in their place.
fn watch<B: Backend>(shared: &Arc<Shared<B>>, mut slots: Vec<Arc<Slot>>, alive: &Sender<()>) {
    while shared.closing.recv_timeout(WATCH_INTERVAL).is_err_and(|error| error.is_timeout()) {
        for slot in &mut slots {
            let hangs = lock(&slot.back_by).is_some_and(|back_by| Instant::now() > back_by);
            if !hangs {
                continue;
            }
            shared.lost("a connection hangs");
            if shared.abandoned.load(Ordering::Acquire) >= shared.settings.max_abandoned {
                continue;
            }
            match shared.start_thread(alive) {
                Ok(fresh) => {
                    shared.abandoned.fetch_add(1, Ordering::AcqRel);
                    // It may be back this very moment; then it ends, and the fresh one goes on.
                    slot.abandoned.store(true, Ordering::Release);
                    *slot = fresh;
                }
                Err(error) => shared.lost(&format!("no thread to replace one that hangs: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
