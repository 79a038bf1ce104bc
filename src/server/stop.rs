//! Stopping: the graceful stop after a signal, and the quick end after a failure. Called on the main thread.
//! `doc/architecture.md`, "Stopping", has the reasons for each step.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use log::{error, info, warn};

use super::Server;
use crate::log_thread::LogThreadEnd;
use crate::net;
use crate::session::end::End;
use crate::session::fan_out::Command;
use crate::supervisor::Failure;

/// The part of the drain time in which the sessions are closed; the rest is for the event log and the stores.
const CLOSING_SHARE: f64 = 0.6;
/// How long requests may take to be answered during a stop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the sessions may take to end after a failure.
const FAILURE_CLOSING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the archive thread may take to store what it has read.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a wait for the end of all sessions or connections checks its condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

impl Server {
    /// Stops the server after the failure of a thread: refuses joins and closes each session with 1011, unless the
    /// thread that would close it has failed. Takes 2 seconds at most. Requests are still answered, so that `/health`
    /// reports the failure.
    pub fn close_after_failure(self) {
        self.publisher.begin_drain();
        self.fan_out.send_to_all(|| Command::CloseAll(End::Internal));
        if !wait_until(Instant::now() + FAILURE_CLOSING_TIMEOUT, || self.publisher.session_count() == 0) {
            warn!("{} sessions could not be closed in time", self.publisher.session_count());
        }
    }

    /// Stops the server gracefully. It is not ready from now on, but does all else until the drain delay is over. Then
    /// it accepts no connections, closes the sessions with 1012, and appends its last record. Takes no longer than the
    /// drain delay and the drain time together. Returns false if the event log did not accept the last record in time,
    /// or a thread failed meanwhile.
    #[must_use]
    pub fn stop(self) -> bool {
        let failure = self.wait_drain_delay();
        let deadline = Instant::now() + self.drain;
        info!("stopping: closing {} sessions within {:?}", self.publisher.session_count(), self.drain);
        let is_in_the_log = self.publisher.begin_drain();
        self.stopping.store(true, Ordering::Release);
        net::stop_listening(&self.listener);
        self.close_connections(self.drain.mul_f64(CLOSING_SHARE));
        let has_appended_bye = !is_in_the_log || self.wait_for_last_record(deadline);
        self.abandon.store(true, Ordering::Release);
        let _ = self.accept_thread.join();
        if let Some(archive) = self.archive {
            archive.stop((Instant::now() + ARCHIVE_TIMEOUT).min(deadline));
        }
        if let Some(failure) = failure.or_else(|| self.app.supervisor.failures().try_recv().ok()) {
            error!("{failure}");
            return false;
        }
        info!("stopped");
        has_appended_bye
    }

    /// Is not ready, and otherwise continues for the drain delay: joins are accepted, too, because a load balancer that
    /// has not noticed yet would show the refusals to users. A failure ends the delay early.
    fn wait_drain_delay(&self) -> Option<Failure> {
        self.app.will_stop.store(true, Ordering::Release);
        if self.drain_delay.is_zero() {
            return None;
        }
        info!("not ready: stopping in {:?}, so that load balancers notice", self.drain_delay);
        self.failed().recv_timeout(self.drain_delay).ok()
    }

    /// Closes all connections within `closing`: idle connections at once, requests after [`ANSWER_TIMEOUT`], sessions
    /// spread over the first half of the time.
    fn close_connections(&self, closing: Duration) {
        let begun_at = Instant::now();
        let have_ended = || self.connections.total() == 0;
        self.pending.stop();
        self.fan_out.send_to_all(|| Command::Drain(closing / 2));
        if wait_until(begun_at + ANSWER_TIMEOUT.min(closing), have_ended) {
            return;
        }
        self.pending.close_all();
        if wait_until(begun_at + closing, have_ended) {
            return;
        }
        warn!("closing {} connections that did not end in time", self.connections.total());
        self.fan_out.send_to_all(|| Command::DisconnectAll);
        self.pending.close_all();
    }

    fn wait_for_last_record(&self, deadline: Instant) -> bool {
        match self.log_thread_end.recv_deadline(deadline) {
            Ok(end) => end == LogThreadEnd::Stopped,
            Err(RecvTimeoutError::Timeout) => {
                warn!(
                    "the event log did not accept the last record in time: the other instances remove the users of this \
                     one when its lease expires"
                );
                false
            }
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }
}

/// Waits until `condition` is true. Returns false if the deadline passes first.
fn wait_until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
    true
}
