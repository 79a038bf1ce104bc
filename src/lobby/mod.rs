//! The lobby, pure: what a record in the event log means, and nothing else.
//!
//! No I/O, no clock, no randomness, no logging: time and input are arguments, so that any run of it can be
//! repeated, in the simulation too. It imports `std` and `serde` only.
//!
//! - [`record`]: the facts that stand in the log.
//! - [`state`]: [`Lobby`], the fold of the log: the same records give the same state everywhere.
//! - [`instance`]: [`Instance`], what one running process has to append, and when.
//! - [`bootstrap`]: how far back an instance must read before its state is exact.

mod awake;
pub mod bootstrap;
pub mod instance;
mod presence;
pub mod record;
mod roster;
pub mod state;
#[cfg(test)]
mod testing;

pub use bootstrap::Bootstrap;
pub use instance::{Health, Instance};
pub use record::{Body, InstanceId, Record, RosterEntry, SessionId, User};
pub use state::{Event, Lobby};
