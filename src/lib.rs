//! `ich`: the backend of a lobby chat, with one room and one order of events for all users.
//!
//! `doc/architecture.md` has the terms and follows one message and one join through the files. Imports go in one
//! direction: [`server`] may import all modules; [`http`] imports [`session`], [`accounts`], [`archive`],
//! `publisher` and `proxies`; [`archive`] imports [`accounts`] and [`event_log`]; `log_thread` imports [`session`] and
//! `publisher`; these import [`event_log`], [`moderation`] and [`lobby`]; [`lobby`] imports no other module.
//!
//! Only items that the program, the tests or the load tool use are public. `hot_paths` is for `cargo bench`.

pub mod accounts;
pub mod archive;
pub mod cli;
mod clock;
pub mod config;
pub mod event_log;
#[doc(hidden)]
pub mod hot_paths;
pub mod http;
mod limits;
pub mod lobby;
mod log_thread;
mod log_throttle;
mod logging;
pub mod machine;
pub mod metrics;
pub mod moderation;
mod net;
mod one_shot;
mod origin;
mod proxies;
mod publisher;
mod random;
mod rate;
pub mod server;
pub mod session;
mod shutdown;
mod sqlite;
pub mod supervisor;
pub mod systemd;
mod text;
mod threads;
mod tls;
mod workers;
