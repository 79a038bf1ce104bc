//! One fan-out thread. It works in rounds: it takes all commands that are queued, up to a bound, and writes their
//! events to each socket in one write. With more messages, a write has more events, so each event costs fewer writes.
//! The thread never blocks on a client.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::drain::Drain;
use super::round::Round;
use super::round_timer::{RoundTimer, Sending};
use super::turns::Turns;
use super::{Batch, Command, Settings};
use crate::lobby::SessionId;
use crate::session::end::End;
use crate::session::link::Link;
use crate::session::outbox::Outbox;
use crate::session::socket::Socket;
use crate::session::wire;

/// The time between two ticks. A tick sends pings and checks deadlines and tokens.
const TICK: Duration = Duration::from_secs(1);
/// The time from one retry of the lagging sessions to the next, at least, as a multiple of the time that it takes. With
/// 15,000 lagging sessions, retries without a limit took a core.
const RETRIES_INTERVAL: u32 = 4;
/// The time between two ticks while the server drains.
const DRAIN_TICK: Duration = Duration::from_millis(20);
pub(super) struct FanOutThread<S> {
    commands: Receiver<Command<S>>,
    used_credits: Receiver<()>,
    settings: Settings,
    outboxes: Vec<Outbox<S>>,
    /// The index in `outboxes` of each session.
    indices: HashMap<SessionId, usize>,
    /// Sessions with queued bytes that their socket has not accepted yet.
    lagging: HashSet<SessionId>,
    /// The lagging sessions are not retried before this time.
    retry_from: Instant,
    round: Round,
    round_timer: RoundTimer,
    /// The bytes that all outboxes had queued at the last tick, as the metrics have them.
    queued_bytes: usize,
    /// Sessions that end after this round, with their close frames.
    closing: Vec<(SessionId, Vec<u8>)>,
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
            settings,
            outboxes: Vec::new(),
            indices: HashMap::new(),
            lagging: HashSet::new(),
            retry_from: Instant::now(),
            round: Round::default(),
            round_timer: RoundTimer::new(turns, Instant::now()),
            queued_bytes: 0,
            closing: Vec::new(),
            forgotten: Vec::new(),
            tick_at: Instant::now() + TICK,
            drain: None,
        }
    }

    /// Runs until every sender is dropped. After a panic, it still closes its sessions with 1011.
    pub(super) fn run(mut self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            let now = Instant::now();
            for place in 0..self.outboxes.len() {
                // The outbox that caused the panic may panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| self.close(place, End::Internal, now)));
            }
            resume_unwind(payload);
        }
    }

    fn serve(&mut self) {
        loop {
            match self.wait() {
                Ok(command) => self.take_round(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.retry_lagging(now);
            if now >= self.tick_at {
                self.tick(now);
            }
        }
    }

    fn wait(&self) -> Result<Command<S>, RecvTimeoutError> {
        if self.outboxes.is_empty() {
            return self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let retry_at = self.lagging.iter().filter_map(|session| self.outbox(*session)?.retry_at()).min();
        self.commands.recv_deadline(retry_at.map_or(self.tick_at, |at| at.max(self.retry_from).min(self.tick_at)))
    }

    /// Takes this command, all commands queued after it, and all that arrive during the coalescing delay, up to the
    /// limits of a round; then sends the round.
    fn take_round(&mut self, first: Command<S>) {
        self.take(first);
        let sending = self.coalesce();
        let delay_max = self.round.delay_max();
        self.send_round();
        self.round_timer.end(sending, delay_max);
        let now = Instant::now();
        for (session, frame) in std::mem::take(&mut self.closing) {
            if let Some(&index) = self.indices.get(&session) {
                self.outboxes[index].close(&frame, now);
                self.note_lagging(index);
            }
        }
        std::mem::take(&mut self.forgotten).into_iter().for_each(|session| self.forget(session));
    }

    /// Takes commands until the time for the next round has come, or until the round is full.
    fn coalesce(&mut self) -> Sending {
        loop {
            self.take_queued();
            if self.round.is_full() {
                return self.round_timer.begin();
            }
            if let Some(sending) = self.round_timer.wait() {
                self.take_queued();
                return sending;
            }
        }
    }

    fn take_queued(&mut self) {
        while !self.round.is_full()
            && let Ok(command) = self.commands.try_recv()
        {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command<S>) {
        let now = Instant::now();
        match command {
            Command::Open { link, token_expires_at } => self.open(link, token_expires_at, now),
            Command::Renew { session, token_expires_at } => {
                if let Some(outbox) = self.outbox_mut(session) {
                    outbox.renew(token_expires_at);
                }
            }
            Command::Events(batch) => self.take_batch(batch, now),
            Command::Direct { session, frame } => self.add_direct(session, &frame, now),
            Command::Close { session, frame } => self.end_after_round(session, frame),
            Command::End { session, end, reason } => {
                if let Some(outbox) = self.outbox(session) {
                    outbox.link.end(end);
                    self.end_after_round(session, wire::close(end.row().code, &end.text_with(&reason)));
                }
            }
            Command::Forget(session) => self.forgotten.push(session),
            Command::CloseAll(end) => {
                self.send_round();
                (0..self.outboxes.len()).for_each(|index| self.close(index, end, now));
            }
            Command::DisconnectAll => self.outboxes.iter_mut().for_each(Outbox::disconnect),
            Command::Drain(within) => {
                self.drain = Some(Drain::new(self.outboxes.len(), within, now));
                self.tick_at = now;
            }
        }
    }

    /// The session ends with this close frame after the round. It gets no event that comes later in the round, above all
    /// not the leave of its own user.
    fn end_after_round(&mut self, session: SessionId, close_frame: Vec<u8>) {
        let round_bytes = self.round.bytes;
        if let Some(outbox) = self.outbox_mut(session) {
            outbox.end_events(round_bytes);
        }
        self.closing.push((session, close_frame));
    }

    fn open(&mut self, link: Arc<Link<S>>, token_expires_at: Instant, now: Instant) {
        // The id of the session spreads the pings over the interval, so that they are not all sent at once.
        let spread = self.settings.health.ping_interval.mul_f64((link.session.0 * 37 % 100) as f64 / 100.0);
        let ping_at = now + self.settings.health.ping_interval / 2 + spread / 2;
        self.indices.insert(link.session, self.outboxes.len());
        self.outboxes.push(Outbox::new(link, token_expires_at, ping_at, now));
    }

    fn add_direct(&mut self, session: SessionId, frame: &[u8], now: Instant) {
        let Some(&index) = self.indices.get(&session) else { return };
        let Some(outbox) = self.outboxes.get_mut(index) else { return };
        if let Err(end) = outbox.add_direct(frame, self.settings.outbox_bytes_max) {
            self.close(index, end, now);
        } else if outbox.is_live() {
            self.round.direct_bytes = self.round.direct_bytes.max(outbox.direct_bytes());
            self.round.touched.push(session);
        }
    }

    fn take_batch(&mut self, mut batch: Batch, now: Instant) {
        // The channel has these tokens already: the sender put them there before it sent the batch.
        for _ in 0..batch.credits() {
            let _ = self.used_credits.try_recv();
        }
        for admission in std::mem::take(&mut batch.admissions) {
            let origin = self.round.bytes + admission.origin;
            if let Some(outbox) = self.outbox_mut(admission.session) {
                outbox.admit(admission.first_frames, origin, now);
                self.round.touched.push(admission.session);
            }
        }
        self.round.add(batch);
    }

    /// Sends the round: to all sessions if it has events, otherwise to those with first frames or direct frames.
    fn send_round(&mut self) {
        let round = std::mem::take(&mut self.round);
        let frames = round.frames();
        let now = Instant::now();
        if frames.is_empty() {
            for session in round.touched {
                if let Some(&index) = self.indices.get(&session) {
                    self.send_to(index, &frames, now);
                }
            }
            return;
        }
        let receivers = (0..self.outboxes.len()).filter(|index| self.send_to(*index, &frames, now)).count();
        self.settings.metrics.delivered(round.events * receivers as u64, frames.len());
        if let Some(appended_at) = round.oldest_append.filter(|_| receivers > 0) {
            self.settings.metrics.delivered_after(appended_at.elapsed());
        }
    }

    /// Sends the round to one session. True when the session is live.
    fn send_to(&mut self, index: usize, frames: &Arc<[u8]>, now: Instant) -> bool {
        let Some(outbox) = self.outboxes.get_mut(index) else { return false };
        let is_live = outbox.is_live();
        match outbox.send_round(frames, self.settings.outbox_bytes_max, now) {
            Ok(()) => self.note_lagging(index),
            Err(end) => self.close(index, end, now),
        }
        is_live
    }

    /// Retries the lagging sessions whose pause is over. If many lag, the retries together take a limited share of the
    /// time of this thread.
    fn retry_lagging(&mut self, now: Instant) {
        if now < self.retry_from {
            return;
        }
        let mut lagging = std::mem::take(&mut self.lagging);
        lagging.retain(|session| {
            let Some(&index) = self.indices.get(session) else { return false };
            let Some(outbox) = self.outboxes.get_mut(index) else { return false };
            if outbox.retry_at().is_some_and(|at| now >= at) && outbox.retry(now).is_err() {
                outbox.link.end(End::Disconnected);
                outbox.disconnect();
            }
            outbox.retry_at().is_some()
        });
        self.lagging = lagging;
        self.retry_from = now + now.elapsed() * RETRIES_INTERVAL;
    }

    fn tick(&mut self, now: Instant) {
        for index in 0..self.outboxes.len() {
            let health = self.settings.health;
            match self.outboxes[index].tick(&health, now) {
                Ok(()) => self.note_lagging(index),
                Err(end) => self.close(index, end, now),
            }
        }
        self.report_queued_bytes();
        self.tick_at = now + if self.drain.is_some() { DRAIN_TICK } else { TICK };
        self.drain_some(now);
    }

    /// Measured at a tick and not in a round, which would visit each outbox a second time.
    fn report_queued_bytes(&mut self) {
        let queued_bytes = self.outboxes.iter().map(Outbox::queued_bytes).sum();
        self.settings.metrics.queued_bytes_changed(self.queued_bytes, queued_bytes);
        self.queued_bytes = queued_bytes;
    }

    /// Closes as many sessions as are due by now.
    fn drain_some(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        let due = drain.due(now);
        let mut closed = drain.closed;
        for index in 0..self.outboxes.len() {
            if closed >= due {
                break;
            }
            if self.outboxes[index].is_open() {
                self.close(index, End::Restarting, now);
                closed += 1;
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.closed = closed;
        }
    }

    fn close(&mut self, index: usize, end: End, now: Instant) {
        let Some(outbox) = self.outboxes.get_mut(index) else { return };
        outbox.link.end(end);
        match end {
            End::Disconnected => outbox.disconnect(),
            End::TooSlow => outbox.close_slow_client(end, now),
            _ => outbox.close(&wire::close(end.row().code, end.row().text), now),
        }
        self.note_lagging(index);
    }

    /// Called after each write: remembers the session if its socket did not accept all bytes.
    fn note_lagging(&mut self, index: usize) {
        if let Some(outbox) = self.outboxes.get(index).filter(|outbox| outbox.retry_at().is_some()) {
            self.lagging.insert(outbox.link.session);
        }
    }

    fn forget(&mut self, session: SessionId) {
        let Some(index) = self.indices.remove(&session) else { return };
        self.outboxes.swap_remove(index).link.disconnect();
        if let Some(moved) = self.outboxes.get(index) {
            self.indices.insert(moved.link.session, index);
        }
        if self.outboxes.is_empty() {
            // There are no ticks without sessions.
            self.report_queued_bytes();
        }
    }

    fn outbox(&self, session: SessionId) -> Option<&Outbox<S>> {
        self.outboxes.get(*self.indices.get(&session)?)
    }

    fn outbox_mut(&mut self, session: SessionId) -> Option<&mut Outbox<S>> {
        self.outboxes.get_mut(*self.indices.get(&session)?)
    }
}

#[cfg(test)]
mod tests;
