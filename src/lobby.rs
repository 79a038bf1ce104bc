//! The lobby: the meaning of the records in the event log. Pure, and to be read alone.
//!
//! No I/O, no clock, no randomness, no logging: time and input are arguments, so the simulation can repeat any history.
//! It imports `std` and `serde` only.
//!
//! - [`record`]: the records of the log.
//! - [`state`]: [`Lobby`], the state that follows from the records: the same records give the same state everywhere.
//! - [`instance`]: [`Instance`], which records one process has to append, and when.
//! - [`bootstrap`]: how far back an instance has to read before its state is exact.
//!
//! Terms: an *instance* is one run of one process. It is a *member* when a roster of it is effective, and *lost* when
//! its lease has run out. A session is *effective* when the lobby has it. A record is *in flight* when it was appended
//! and not read back yet.

mod awake;
pub mod bootstrap;
pub mod instance;
mod presence;
pub mod record;
mod repetitions;
mod roster;
pub mod state;
#[cfg(test)]
mod testing;

pub use bootstrap::Bootstrap;
pub use instance::{Health, Instance};
pub use record::{Body, EventId, InstanceId, Record, RosterEntry, SessionId, User};
pub use state::{Event, Lobby, Outcome};
