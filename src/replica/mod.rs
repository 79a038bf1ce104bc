//! This process's copy of the lobby: where the pure rules of [`crate::lobby`] meet the event log.
//!
//! - [`Publisher`]: the writing side. Session threads and the log thread append through it, in one order.
//! - [`log_thread`]: the reading side, one thread: it applies what comes out of the log and tells the fan-out.

pub mod log_thread;
mod publisher;

pub use publisher::{Publisher, SayError};
