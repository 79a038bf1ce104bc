//! The threads of a [`Pool`](super::Pool): [`serve`] connects and executes calls, [`watch`] replaces threads that hang.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use super::{Backend, Call, Failed, PoolSettings};
use crate::log_throttle::LogThrottle;
use crate::supervisor::Supervisor;
use crate::threads::{Stack, lock};

/// How often an idle thread checks whether its connection works.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the service counts as ready after an answer. Longer than `PROBE_INTERVAL` and the time of a probe.
const READY_FOR: Duration = Duration::from_secs(5);
/// The pause between attempts to connect: it doubles from the first value to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the watch thread checks for threads that hang.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_millis(250);

pub(super) struct Shared<B: Backend> {
    backend: B,
    /// See [`Backend::name`].
    name: String,
    pub(super) settings: PoolSettings,
    supervisor: Supervisor,
    calls: Receiver<Call<B>>,
    /// Disconnected when the pool is dropped.
    closing: Receiver<()>,
    pub(super) started_threads: AtomicUsize,
    /// Threads that have a connection and know of no error.
    connected: AtomicUsize,
    pub(super) abandoned: AtomicUsize,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// When the service last answered. `None`: not since the last failure.
    answered_at: Option<Instant>,
    /// Limits how often failures are logged; reset when the service becomes ready.
    throttle: LogThrottle,
}

impl State {
    pub(super) fn is_ready(&self) -> bool {
        self.answered_at.is_some_and(|at| at.elapsed() < READY_FOR)
    }
}

/// The state of one thread, for the watch thread.
#[derive(Default)]
pub(super) struct Slot {
    /// What the thread does now. `None`: it waits for calls.
    work: Mutex<Option<Work>>,
    /// Another thread has replaced it.
    abandoned: AtomicBool,
}

/// Something that may hang.
#[derive(Clone, Copy)]
struct Work {
    started_at: Instant,
    /// The thread then counts as hanging.
    limit: Duration,
    is_connecting: bool,
}

impl<B: Backend> Shared<B> {
    pub(super) fn new(
        backend: B,
        settings: PoolSettings,
        supervisor: Supervisor,
        calls: Receiver<Call<B>>,
        closing: Receiver<()>,
    ) -> Self {
        Shared {
            name: backend.name(),
            backend,
            settings,
            supervisor,
            calls,
            closing,
            started_threads: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    pub(super) fn start_thread(self: &Arc<Self>, alive: &Sender<()>) -> io::Result<Arc<Slot>> {
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
            log::info!("{}: connected", self.name);
            state.throttle = LogThrottle::default();
        }
        state.answered_at = Some(Instant::now());
    }

    /// Marks the service as not ready: calls fail immediately until a thread succeeds again.
    pub(super) fn lost(&self, reason: &str) {
        lock(&self.state).answered_at = None;
        self.log(reason);
    }

    fn log(&self, reason: &str) {
        if let Some(suppressed) = lock(&self.state).throttle.may_log(reason, Instant::now()) {
            log::error!("{}: {reason}{suppressed}", self.name);
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.try_recv().is_err_and(|error| error.is_disconnected())
    }

    /// Runs something that may hang or panic. After `limit` the watch thread counts this thread as hanging.
    fn watched<R>(&self, slot: &Slot, limit: Duration, run: impl FnOnce() -> Result<R, Failed>) -> Result<R, Failed> {
        self.watched_work(slot, Work { started_at: Instant::now(), limit, is_connecting: false }, run)
    }

    fn watched_work<R>(&self, slot: &Slot, work: Work, run: impl FnOnce() -> Result<R, Failed>) -> Result<R, Failed> {
        *lock(&slot.work) = Some(work);
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            let reason = "a call panicked".to_owned();
            Err(Failed { reason, may_retry: false, connection_works: false })
        });
        *lock(&slot.work) = None;
        result
    }

    fn connect(&self, slot: &Slot) -> Option<B::Connection> {
        let limit = self.settings.connect_timeout;
        let connecting = Work { started_at: Instant::now(), limit, is_connecting: true };
        let connect = || self.backend.connect().map_err(Failed::not_connected);
        let prepare = |mut connection| {
            self.watched(slot, limit, move || match self.backend.prepare(&mut connection) {
                Ok(()) => Ok(connection),
                Err(reason) => Err(Failed::not_connected(reason)),
            })
        };
        match self.watched_work(slot, connecting, connect).and_then(prepare) {
            Ok(connection) => {
                self.connected.fetch_add(1, Ordering::AcqRel);
                self.answered();
                Some(connection)
            }
            Err(failed) => {
                self.could_not_connect(&failed.reason);
                None
            }
        }
    }

    /// A thread could not connect. The other threads may still work: the service may have no connection left for this
    /// thread only.
    fn could_not_connect(&self, reason: &str) {
        if self.connected.load(Ordering::Acquire) > 0 {
            self.log(reason);
        } else {
            self.lost(reason);
        }
    }

    /// What is wrong with the work of a thread, as seen by the watch thread. True: the thread hangs.
    fn check(&self, slot: &Slot) -> bool {
        let Some(work) = *lock(&slot.work) else { return false };
        let elapsed = work.started_at.elapsed();
        if work.is_connecting && elapsed > self.settings.silence {
            let (seconds, advice) = (self.settings.silence.as_secs(), self.backend.silence());
            self.could_not_connect(&format!("no answer for {seconds} seconds: {advice}"));
        } else if elapsed > work.limit {
            self.lost("a connection hangs");
        }
        elapsed > work.limit
    }

    /// Drops the connection. That sends a message to the service, which may hang, too.
    fn disconnect(&self, slot: &Slot, connection: B::Connection) {
        self.connected.fetch_sub(1, Ordering::AcqRel);
        let _ = self.watched(slot, self.settings.call_timeout, || {
            drop(connection);
            Ok(())
        });
    }

    /// Executes one call. Returns `None` if the connection is broken.
    fn answer(&self, slot: &Slot, mut connection: B::Connection, call: Call<B>) -> Option<B::Connection> {
        let Call { request, deadline, answer } = call;
        // The caller has stopped waiting.
        if Instant::now() >= deadline {
            return Some(connection);
        }
        let run = |connection: &mut B::Connection| {
            self.watched(slot, self.settings.call_timeout, || self.backend.run(connection, &request))
        };
        let is_broken = |result: &Result<_, Failed>| result.as_ref().is_err_and(|failed| !failed.connection_works);
        let mut result = run(&mut connection);
        let mut open = Some(connection);
        if is_broken(&result) {
            let may_retry = result.as_ref().is_err_and(|failed| failed.may_retry) && Instant::now() < deadline;
            open.take().into_iter().for_each(|connection| self.disconnect(slot, connection));
            open = if may_retry { self.connect(slot) } else { None };
            if let Some(connection) = &mut open {
                result = run(connection);
            }
        }
        if is_broken(&result) {
            open.take().into_iter().for_each(|connection| self.disconnect(slot, connection));
        }
        if result.is_ok() {
            self.answered();
        }
        answer.send(result.map_err(|failed| failed.reason));
        open
    }
}

/// Connects, executes calls, and connects again after an error, until the pool is dropped or the thread was abandoned.
fn serve<B: Backend>(shared: &Shared<B>, slot: &Slot) {
    let is_done = || slot.abandoned.load(Ordering::Acquire) || shared.is_closing();
    let mut backoff = BACKOFF.0;
    let mut open = None;
    while !is_done() {
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
                Ok(call) => open = shared.answer(slot, connection, call),
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
                    // One broken connection does not mean that the service is down; connecting again finds out.
                    Err(failed) => {
                        log::debug!("{}: {}", shared.name, failed.reason);
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

/// Abandons the threads that hang, and starts replacements.
pub(super) fn watch<B: Backend>(shared: &Arc<Shared<B>>, mut slots: Vec<Arc<Slot>>, alive: &Sender<()>) {
    while shared.closing.recv_timeout(WATCH_INTERVAL).is_err_and(|error| error.is_timeout()) {
        for slot in &mut slots {
            if !shared.check(slot) {
                continue;
            }
            if shared.abandoned.load(Ordering::Acquire) >= shared.settings.max_abandoned {
                continue;
            }
            match shared.start_thread(alive) {
                Ok(replacement) => {
                    shared.abandoned.fetch_add(1, Ordering::AcqRel);
                    // If the old thread returns just now, it ends, and the replacement continues.
                    slot.abandoned.store(true, Ordering::Release);
                    *slot = replacement;
                }
                Err(error) => shared.lost(&format!("no thread to replace one that hangs: {error}")),
            }
        }
    }
}
