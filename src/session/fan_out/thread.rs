//! One fan-out thread. It works in rounds: it takes all commands that are queued, up to a bound, and writes their
//! events to one socket after the other, with one write for each. It takes further commands while it writes. With more
//! messages, a write has more events, so each event costs fewer writes. The thread never blocks on a client.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::drain::Drain;
use super::pending::{PendingBatches, Sent};
use super::round_timer::{COMMANDS_INTERVAL, RoundTimer, Sending};
use super::sessions::Sessions;
use super::turns::Turns;
use super::{Batch, Command, Settings};
use crate::limits::ROUND_DIRECT_BYTES_MAX;
use crate::lobby::SessionId;
use crate::metrics::Metrics;
use crate::session::end::End;
use crate::session::socket::Socket;
use crate::session::wire;

/// The time between two ticks. A tick sends pings and checks deadlines and tokens.
const TICK: Duration = Duration::from_secs(1);
/// The time between two ticks while the server drains.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// In a round, the thread reads the clock after so many sessions.
const SESSIONS_PER_LOOK: usize = 8;
/// A round takes further commands at most this many times. Each time, the pending events are copied together anew, and
/// lagging sessions keep the copy that they were sent.
const TAKES_PER_ROUND_MAX: usize = 16;

pub(super) struct FanOutThread<S> {
    commands: Receiver<Command<S>>,
    used_credits: Receiver<()>,
    metrics: Arc<Metrics>,
    sessions: Sessions<S>,
    pending: PendingBatches,
    /// Sessions that got first frames or direct frames, which are sent in this round.
    touched: Vec<SessionId>,
    /// The bytes of direct frames for the client that has the most.
    direct_bytes: usize,
    round_timer: RoundTimer,
    /// In a round, the thread takes further commands at this interval.
    commands_interval: Duration,
    /// Sessions whose connection is closed after this round.
    forgotten: Vec<SessionId>,
    tick_at: Instant,
    drain: Option<Drain>,
}

impl<S: Socket> FanOutThread<S> {
    pub(super) fn new(
        commands: Receiver<Command<S>>,
        used_credits: Receiver<()>,
        turns: Turns,
        settings: Settings,
    ) -> Self {
        FanOutThread {
            commands,
            used_credits,
            metrics: settings.metrics.clone(),
            sessions: Sessions::new(settings),
            pending: PendingBatches::new(),
            touched: Vec::new(),
            direct_bytes: 0,
            round_timer: RoundTimer::new(turns, Instant::now()),
            commands_interval: COMMANDS_INTERVAL,
            forgotten: Vec::new(),
            tick_at: Instant::now() + TICK,
            drain: None,
        }
    }

    /// Runs until every sender is dropped. After a panic, it still closes its sessions with 1011.
    pub(super) fn run(mut self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            let now = Instant::now();
            for index in 0..self.sessions.len() {
                // The outbox that caused the panic may panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    self.sessions.end_at(index, End::Internal, self.pending.events(), now);
                }));
            }
            resume_unwind(payload);
        }
    }

    fn serve(&mut self) {
        loop {
            match self.wait() {
                Ok(()) => self.round(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.sessions.retry_lagging(now);
            if now >= self.tick_at {
                self.tick(now);
            }
        }
    }

    /// Waits for a command and takes it. Does not wait if some sessions have not got all events yet.
    fn wait(&mut self) -> Result<(), RecvTimeoutError> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        let command = if self.sessions.is_empty() {
            self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)?
        } else {
            let retry_at = self.sessions.retry_at();
            self.commands.recv_deadline(retry_at.map_or(self.tick_at, |at| at.min(self.tick_at)))?
        };
        self.take(command);
        Ok(())
    }

    /// Takes all commands that are queued, and all that arrive during the coalescing delay, up to the limits of a round;
    /// then sends the events and direct frames.
    fn round(&mut self) {
        let sending = self.coalesce();
        let delay_max = self.send_round();
        self.round_timer.end(sending, delay_max);
        let now = Instant::now();
        for session in std::mem::take(&mut self.forgotten) {
            self.sessions.send_to(session, self.pending.events(), now);
            self.sessions.remove(session);
        }
    }

    /// Takes commands until the time for the next round has come, or until the round is full.
    fn coalesce(&mut self) -> Sending {
        loop {
            self.take_queued();
            if self.is_full() {
                return self.round_timer.begin();
            }
            if let Some(sending) = self.round_timer.wait() {
                self.take_queued();
                return sending;
            }
        }
    }

    /// Whether further commands have to wait.
    fn is_full(&self) -> bool {
        self.pending.is_full() || self.direct_bytes >= ROUND_DIRECT_BYTES_MAX
    }

    fn take_queued(&mut self) {
        while !self.is_full()
            && let Ok(command) = self.commands.try_recv()
        {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command<S>) {
        let now = Instant::now();
        match command {
            Command::Open { link, token_expires_at } => self.sessions.open(link, token_expires_at, now),
            Command::Renew { session, token_expires_at } => {
                if let Some(outbox) = self.sessions.get_mut(session) {
                    outbox.renew(token_expires_at);
                }
            }
            Command::Events(batch) => self.take_batch(batch, now),
            Command::Direct { session, frame } => match self.sessions.add_direct(session, &frame) {
                Ok(bytes) => {
                    self.direct_bytes = self.direct_bytes.max(bytes);
                    self.touched.push(session);
                }
                Err(end) => self.sessions.end(session, end, self.pending.events(), now),
            },
            // At once, so that the session gets no later event, above all not the leave of its own user.
            Command::Close { session, frame } => self.sessions.close(session, &frame, self.pending.events(), now),
            Command::End { session, end, reason } => {
                if let Some(outbox) = self.sessions.get(session) {
                    outbox.link.end(end);
                    let frame = wire::close(end.row().code, &end.text_with(&reason));
                    self.sessions.close(session, &frame, self.pending.events(), now);
                }
            }
            Command::Forget(session) => self.forgotten.push(session),
            Command::CloseAll(end) => self.sessions.end_all(end, self.pending.events(), now),
            Command::DisconnectAll => self.sessions.disconnect_all(),
            Command::Drain(within) => {
                self.drain = Some(Drain::new(self.sessions.len(), within, now));
                self.tick_at = now;
            }
        }
    }

    fn take_batch(&mut self, mut batch: Batch, now: Instant) {
        // The channel has these tokens already: the sender put them there before it sent the batch.
        for _ in 0..batch.credits() {
            let _ = self.used_credits.try_recv();
        }
        for admission in std::mem::take(&mut batch.admissions) {
            let position = self.pending.end() + admission.origin as u64;
            self.sessions.admit(admission.session, admission.first_frames, position, now);
            self.touched.push(admission.session);
        }
        self.pending.push(batch);
    }

    /// Sends the events to all sessions that have not got them yet, and then first frames and direct frames to those for
    /// which this round came too early. Returns the longest coalescing delay after the round.
    fn send_round(&mut self) -> Duration {
        if self.pending.has_events() {
            self.send_events();
        }
        let now = Instant::now();
        for session in std::mem::take(&mut self.touched) {
            self.sessions.send_to(session, self.pending.events(), now);
        }
        self.direct_bytes = 0;
        let delay_max = self.pending.end_round();
        self.report_sent();
        delay_max
    }

    /// Sends events to one session after the other, and takes further ones meanwhile, until all have got all of them, or
    /// until the last session.
    fn send_events(&mut self) {
        let mut now = Instant::now();
        let take_interval = self.sessions.len() / TAKES_PER_ROUND_MAX;
        let (mut take_at, mut take_index) = (now + self.commands_interval, take_interval);
        let (mut bytes, mut receivers) = (0, 0);
        while self.pending.has_events() && self.pending.index() < self.sessions.len() {
            let index = self.pending.index();
            let sent = self.sessions.send(index, self.pending.events(), now);
            self.pending.pass(sent.is_some());
            bytes += sent.unwrap_or(0);
            receivers += usize::from(sent.is_some());
            if self.pending.index().is_multiple_of(SESSIONS_PER_LOOK) {
                self.report_sent();
                now = Instant::now();
                if now >= take_at && self.pending.index() >= take_index {
                    self.take_queued();
                    (take_at, take_index) = (now + self.commands_interval, self.pending.index() + take_interval);
                }
            }
        }
        if let Some(average) = bytes.checked_div(receivers) {
            self.metrics.round_sent(average);
        }
    }

    /// Reports and drops the batches that all sessions have got.
    fn report_sent(&mut self) {
        while let Some(Sent { batch, receivers }) = self.pending.next_sent() {
            self.metrics.delivered(batch.events * receivers);
            if let Some(appended_at) = batch.oldest_append.filter(|_| receivers > 0) {
                self.metrics.delivered_after(appended_at.elapsed());
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.sessions.tick(self.pending.events(), now);
        self.tick_at = now + if self.drain.is_some() { DRAIN_TICK } else { TICK };
        if let Some(drain) = &mut self.drain {
            // As many sessions as are due by now.
            let count = drain.due(now).saturating_sub(drain.closed);
            drain.closed += self.sessions.end_some(count, End::Restarting, self.pending.events(), now);
        }
    }
}

#[cfg(test)]
mod tests;
