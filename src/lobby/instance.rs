//! [`Instance`]: what one running process has to append, and when.

use super::record::{Body, InstanceId, Record, SessionId, User};
use super::state::Lobby;
use std::sync::Arc;
use std::time::Duration;

/// Whether this instance can serve, as its own beats tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its roster and first beat did not come back yet.
    Starting,
    /// It reads what it appends.
    Ready,
    /// Nothing came back for 3 s: no new joins, and sends are answered with an error.
    Stalled,
    /// Nothing came back for 30 s: its sessions go elsewhere.
    Down,
}

/// The protocol's side of one process.
#[derive(Debug)]
pub struct Instance {}

impl Instance {
    /// A new incarnation. `now`: time since any fixed moment, never going backwards (as in all calls here).
    #[must_use]
    pub fn new(_id: InstanceId, _roster_bytes_max: usize, _now: Duration) -> Self {
        Instance {}
    }

    /// This incarnation's id.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        InstanceId(0)
    }

    /// A session opened: the record to append.
    pub fn open_session(&mut self, _session: SessionId, _user: User, _at: Arc<str>) -> Record {
        todo!()
    }

    /// A session closed: the record to append; none when the session is not known or the instance stops.
    pub fn close_session(&mut self, _session: SessionId, _at: Arc<str>) -> Option<Record> {
        None
    }

    /// A client said something: the record to append; none when the session is not known.
    pub fn say(
        &mut self,
        _session: SessionId,
        _text: Arc<str>,
        _id: Option<Arc<str>>,
        _at: Arc<str>,
    ) -> Option<Record> {
        None
    }

    /// A record of this instance came back out of the log and was applied to `lobby`.
    pub fn on_own_record(&mut self, _record: &Record, _lobby: &Lobby, _now: Duration) {}

    /// A record of this instance was not taken by the log, or handed back by it.
    pub fn on_undelivered(&mut self, _record: &Record) {}

    /// What is due now, to be appended in this order. `lobby`: the state at the offset read so far.
    pub fn tick(&mut self, _lobby: &Lobby, _at: &Arc<str>, _now: Duration) -> Vec<Record> {
        Vec::new()
    }

    /// How this instance is.
    #[must_use]
    pub fn health(&self, _now: Duration) -> Health {
        Health::Starting
    }

    /// From now on: no new sessions, `left` no more, `bye` as the last record.
    pub fn stop(&mut self) {}

    /// True when nothing of this instance is left to be waited for after [`Instance::stop`].
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        false
    }

    /// When [`Instance::tick`] has to be called next, at the latest.
    #[must_use]
    pub fn next_tick(&self, _now: Duration) -> Duration {
        Duration::ZERO
    }

    /// The sessions that are open here, whether or not the log knows them yet.
    #[must_use]
    pub fn session_count(&self) -> usize {
        0
    }
}
