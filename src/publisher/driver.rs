//! [`PublisherDriver`]: the log thread's side of the publisher. The log thread calls it for each record of this
//! instance that was read back or reported undelivered, and regularly, to append heartbeats and rosters. It also sets
//! whether joins and messages are accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Publisher;
use super::in_flight::InFlight;
use super::late_leaves::LateLeaves;
use crate::clock;
use crate::lobby::instance::ROSTER_BYTES_MAX;
use crate::lobby::{Health, Instance, InstanceId, Lobby, Record, SessionId};
use crate::session::fan_out::OnSent;
use crate::session::history;
use crate::threads::lock;

/// The largest size of a roster record without its sessions, in bytes.
const ROSTER_OVERHEAD_BYTES: usize = 256;

/// The log thread's handle. There is only one.
pub struct PublisherDriver {
    publisher: Arc<Publisher>,
    /// The joins and leaves of this instance that were read back since [`PublisherDriver::take_unsent`].
    unsent: usize,
}

impl PublisherDriver {
    pub(super) fn new(publisher: Arc<Publisher>) -> Self {
        PublisherDriver { publisher, unsent: 0 }
    }

    /// The id of the current incarnation.
    pub(crate) fn id(&self) -> InstanceId {
        lock(&self.publisher.state).instance.id()
    }

    /// Begins a new incarnation without sessions, when the log has to be read anew: records of the old one that are in
    /// flight may never be read.
    pub(crate) fn reincarnate(&mut self, id: InstanceId) {
        let mut state = lock(&self.publisher.state);
        state.instance = Instance::new(id, ROSTER_BYTES_MAX, self.publisher.started_at.elapsed());
        state.window.restart();
        state.in_flight = InFlight::default();
        state.late_leaves = LateLeaves::default();
        state.requests.clear();
        if self.publisher.is_draining() {
            state.instance.stop();
        }
    }

    /// A record of the current incarnation was read and applied to `lobby`. Returns when this process appended it, if
    /// that is known.
    pub(crate) fn on_own_record(&mut self, record: &Record, lobby: &Lobby) -> Option<Instant> {
        let mut state = lock(&self.publisher.state);
        state.instance.on_own_record(record, lobby, self.publisher.started_at.elapsed());
        self.unsent += usize::from(state.window.on_read(record.seq));
        let appended_at = state.in_flight.on_read(record.seq);
        self.publisher.advance_window(&mut state);
        appended_at
    }

    /// For the batch with the events of all records that were read since the last call: its joins and leaves of this
    /// instance are unsent until the result is dropped. `None` if there are none.
    pub(crate) fn take_unsent(&mut self) -> Option<OnSent> {
        let count = std::mem::take(&mut self.unsent);
        let publisher = self.publisher.clone();
        (count > 0).then(|| OnSent::new(move || publisher.on_presence_sent(count)))
    }

    /// Removes and returns the earlier messages that this session asked for; `None` if it asked for none. Called when
    /// the session is admitted.
    pub(crate) fn take_request(&mut self, session: SessionId) -> Option<history::Request> {
        lock(&self.publisher.state).requests.remove(&session)
    }

    /// For what does not depend on the records read.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The log reported a record undelivered.
    pub(crate) fn on_undelivered(&mut self, record: &Record) {
        let mut state = lock(&self.publisher.state);
        state.on_undelivered(record);
        self.publisher.advance_window(&mut state);
    }

    /// Appends the records that are due. Called after each poll of the log.
    pub(crate) fn tick(&mut self, lobby: &Lobby) -> Ticked {
        let mut state = lock(&self.publisher.state);
        self.publisher.close_late_sessions(&mut state);
        state.window.set_bound(lobby.session_count(), lobby.instance_count());
        let now = self.publisher.started_at.elapsed();
        let record_bytes_max = self.publisher.appender.record_bytes_max();
        let roster_bytes_max = ROSTER_BYTES_MAX.min(record_bytes_max.saturating_sub(ROSTER_OVERHEAD_BYTES));
        state.instance.limit_roster_bytes(roster_bytes_max);
        for record in state.instance.tick(lobby, &clock::rfc3339(), now) {
            let _ = self.publisher.append(&mut state, record);
        }
        let instance = &state.instance;
        Ticked { health: instance.health(now), is_stopped: instance.is_stopped(), wait: instance.next_tick(now) }
    }

    /// Sets the health that [`Publisher::is_ready`] depends on.
    pub(crate) fn set_health(&mut self, health: Health) {
        self.publisher.set_health(health);
    }
}

/// The state of the instance after [`PublisherDriver::tick`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticked {
    pub health: Health,
    pub is_stopped: bool,
    /// The longest time that the log thread may wait until the next tick.
    pub wait: Duration,
}
