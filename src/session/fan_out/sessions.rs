//! [`Sessions`]: the outboxes of one fan-out thread.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::Settings;
use crate::lobby::SessionId;
use crate::session::end::End;
use crate::session::link::Link;
use crate::session::outbox::{EventBytes, Outbox, Piece};
use crate::session::socket::Socket;
use crate::session::wire;

/// The time from one retry of the lagging sessions to the next, at least, as a multiple of the time that it takes. With
/// 15,000 lagging sessions, retries without a limit took a core.
const RETRIES_INTERVAL: u32 = 4;

pub(super) struct Sessions<S> {
    settings: Settings,
    outboxes: Vec<Outbox<S>>,
    /// The index in `outboxes` of each session.
    indices: HashMap<SessionId, usize>,
    /// Sessions with queued bytes that their socket has not accepted yet.
    lagging: HashSet<SessionId>,
    /// The lagging sessions are not retried before this time.
    retry_from: Instant,
    /// The bytes that all outboxes had queued at the last tick, as the metrics have them.
    queued_bytes: usize,
}

impl<S: Socket> Sessions<S> {
    pub(super) fn new(settings: Settings) -> Self {
        Sessions {
            settings,
            outboxes: Vec::new(),
            indices: HashMap::new(),
            lagging: HashSet::new(),
            retry_from: Instant::now(),
            queued_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.outboxes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outboxes.is_empty()
    }

    pub(super) fn get(&self, session: SessionId) -> Option<&Outbox<S>> {
        self.outboxes.get(*self.indices.get(&session)?)
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Outbox<S>> {
        self.outboxes.get_mut(*self.indices.get(&session)?)
    }

    /// Adds a session, which waits for its list, at the last index.
    pub(super) fn open(&mut self, link: Arc<Link<S>>, token_expires_at: Instant, now: Instant) {
        // The id of the session spreads the pings over the interval, so that they are not all sent at once.
        let spread = self.settings.health.ping_interval.mul_f64((link.session.0 * 37 % 100) as f64 / 100.0);
        let ping_at = now + self.settings.health.ping_interval / 2 + spread / 2;
        self.indices.insert(link.session, self.outboxes.len());
        self.outboxes.push(Outbox::new(link, token_expires_at, ping_at, now));
    }

    /// Makes a session live.
    pub(super) fn admit(&mut self, session: SessionId, first_frames: Vec<Piece>, position: u64, now: Instant) {
        if let Some(outbox) = self.get_mut(session) {
            outbox.admit(first_frames, position, now);
        }
    }

    /// Adds a direct frame. Returns the bytes of the direct frames that the session can be sent now, or why it ends.
    pub(super) fn add_direct(&mut self, session: SessionId, frame: &[u8]) -> Result<usize, End> {
        let bytes_max = self.settings.outbox_bytes_max;
        let Some(outbox) = self.get_mut(session) else { return Ok(0) };
        outbox.add_direct(frame, bytes_max)?;
        Ok(if outbox.is_live() { outbox.direct_bytes() } else { 0 })
    }

    /// Sends what a session has not got yet. Returns the bytes of the events; `None` if the session is not live.
    pub(super) fn send(&mut self, index: usize, events: &EventBytes, now: Instant) -> Option<usize> {
        let outbox = self.outboxes.get_mut(index).filter(|outbox| outbox.is_live())?;
        match outbox.send(events, self.settings.outbox_bytes_max, now) {
            Ok(bytes) => {
                self.note_lagging(index);
                Some(bytes)
            }
            Err(end) => {
                self.end_at(index, end, events, now);
                Some(0)
            }
        }
    }

    /// As [`Sessions::send`], for a session that may have ended.
    pub(super) fn send_to(&mut self, session: SessionId, events: &EventBytes, now: Instant) {
        if let Some(&index) = self.indices.get(&session) {
            self.send(index, events, now);
        }
    }

    /// Ends a session with this reason, after `events` where the reason allows it.
    pub(super) fn end_at(&mut self, index: usize, end: End, events: &EventBytes, now: Instant) {
        let Some(outbox) = self.outboxes.get_mut(index) else { return };
        outbox.link.end(end);
        match end {
            End::Disconnected => outbox.disconnect(),
            End::TooSlow => outbox.close_slow_client(end, now),
            _ => outbox.close(events, &wire::close(end.row().code, end.row().text), now),
        }
        self.note_lagging(index);
    }

    /// As [`Sessions::end_at`], for a session that may have ended.
    pub(super) fn end(&mut self, session: SessionId, end: End, events: &EventBytes, now: Instant) {
        if let Some(&index) = self.indices.get(&session) {
            self.end_at(index, end, events, now);
        }
    }

    /// Sends a session the events that it has not got yet and this close frame.
    pub(super) fn close(&mut self, session: SessionId, frame: &[u8], events: &EventBytes, now: Instant) {
        if let Some(&index) = self.indices.get(&session)
            && let Some(outbox) = self.outboxes.get_mut(index)
        {
            outbox.close(events, frame, now);
            self.note_lagging(index);
        }
    }

    /// Ends all sessions with this reason.
    pub(super) fn end_all(&mut self, end: End, events: &EventBytes, now: Instant) {
        (0..self.outboxes.len()).for_each(|index| self.end_at(index, end, events, now));
    }

    /// Ends up to `count` sessions that are open. Returns how many it ended.
    pub(super) fn end_some(&mut self, count: usize, end: End, events: &EventBytes, now: Instant) -> usize {
        let mut ended = 0;
        for index in 0..self.outboxes.len() {
            if ended >= count {
                break;
            }
            if self.outboxes[index].is_open() {
                self.end_at(index, end, events, now);
                ended += 1;
            }
        }
        ended
    }

    /// Closes all connections at once, without a close frame.
    pub(super) fn disconnect_all(&mut self) {
        self.outboxes.iter_mut().for_each(Outbox::disconnect);
    }

    /// Removes a session and closes its connection. The last session gets its index.
    pub(super) fn remove(&mut self, session: SessionId) {
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

    /// When to call [`Sessions::retry_lagging`]; `None` while no session lags.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let first = self.lagging.iter().filter_map(|session| self.get(*session)?.retry_at()).min();
        first.map(|at| at.max(self.retry_from))
    }

    /// Retries the lagging sessions whose pause is over. If many lag, the retries together take a limited share of the
    /// time of this thread.
    pub(super) fn retry_lagging(&mut self, now: Instant) {
        if now < self.retry_from {
            return;
        }
        let mut lagging = std::mem::take(&mut self.lagging);
        lagging.retain(|session| {
            let Some(outbox) = self.get_mut(*session) else { return false };
            if outbox.retry_at().is_some_and(|at| now >= at) && outbox.retry(now).is_err() {
                outbox.link.end(End::Disconnected);
                outbox.disconnect();
            }
            outbox.retry_at().is_some()
        });
        self.lagging = lagging;
        self.retry_from = now + now.elapsed() * RETRIES_INTERVAL;
    }

    /// Sends pings and checks deadlines and tokens.
    pub(super) fn tick(&mut self, events: &EventBytes, now: Instant) {
        let health = self.settings.health;
        for index in 0..self.outboxes.len() {
            match self.outboxes[index].tick(&health, now) {
                Ok(()) => self.note_lagging(index),
                Err(end) => self.end_at(index, end, events, now),
            }
        }
        self.report_queued_bytes();
    }

    /// Measured at a tick and not in a round, which would visit each outbox a second time.
    fn report_queued_bytes(&mut self) {
        let queued_bytes = self.outboxes.iter().map(Outbox::queued_bytes).sum();
        self.settings.metrics.queued_bytes_changed(self.queued_bytes, queued_bytes);
        self.queued_bytes = queued_bytes;
    }

    /// Called after each write: remembers the session if its socket did not accept all bytes.
    fn note_lagging(&mut self, index: usize) {
        if let Some(outbox) = self.outboxes.get(index).filter(|outbox| outbox.retry_at().is_some()) {
            self.lagging.insert(outbox.link.session);
        }
    }
}
