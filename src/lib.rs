//! `ich`: the backend of a lobby chat. One room, one order for everybody, one small binary.
//!
//! Imports run downwards only: [`server`] sees all; [`http`] sees [`session`], [`accounts`] and [`publisher`];
//! [`log_thread`] sees [`session`] and [`publisher`]; these see [`event_log`] and [`lobby`]; [`lobby`] sees nothing of
//! ours.

pub mod accounts;
pub mod cli;
pub mod clock;
pub mod config;
pub mod event_log;
pub mod http;
pub mod limits;
pub mod lobby;
pub mod log_thread;
mod log_throttle;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod net;
pub mod publisher;
pub mod random;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod supervisor;
pub mod threads;
pub mod workers;
