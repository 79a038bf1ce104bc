//! The lobby: computes the state from the records in the event log. Pure; it can be understood alone.
//!
//! No I/O, no clock, no randomness, no logging: time and input are arguments, so the simulation can repeat any history.
//! It imports `std` and `serde` only.
//!
//! - [`record`]: the records of the log.
//! - [`state`]: [`Lobby`], the state that follows from the records: the same records give the same state everywhere.
//! - [`instance`]: [`Instance`], which records one process has to append, and when.
//! - [`bootstrap`]: how far back an instance has to read before its state is exact.
//!
//! Terms: in this module an *instance* is one incarnation of a server process ([`InstanceId`]). A roster or a session
//! is *effective* when it is part of the state. An instance is a *member* while a roster of it is effective, and *lost*
//! when its lease has expired. A record is *in flight* when it was appended, and neither read back nor reported
//! undelivered yet. A *replica* is the [`Lobby`] of one process.

mod awake;
pub mod bootstrap;
pub mod instance;
mod presence;
pub mod record;
mod repetitions;
mod roster;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;

pub use bootstrap::Bootstrap;
pub use instance::{Health, Instance};
pub use record::{Action, Body, EventId, InstanceId, Moderation, Record, RosterEntry, SessionId, User};
pub use state::{Event, Lobby, Outcome};
