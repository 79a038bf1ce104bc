//! Sessions: what happens on a connection after its handshake.
//!
//! The parts, and their threads:
//! - [`reader`]: the thread of the connection reads frames and appends to the log. It never writes to the socket.
//! - [`fan_out`]: a few threads own the [`outbox`]es and do all the writing; they never block.
//! - [`socket`]: the trait through which both use the connection; tests implement it in memory.
//! - [`wire`]: websocket frames as bytes. [`protocol`]: the JSON in the frames. [`client_error`]: the codes of `error`
//!   frames. [`online_list`]: the list of names, encoded. [`history`]: the newest messages, encoded.
//! - [`moderated`]: ends the sessions of kicked and banned users.
//! - [`renewal`]: a client continues its session with a new token.
//! - [`end`]: why a session ends, with its close code, log level and metric label.

pub mod client_error;
pub mod end;
pub mod fan_out;
pub mod history;
pub mod link;
pub(crate) mod moderated;
pub mod online_list;
pub mod outbox;
pub mod protocol;
pub mod reader;
pub mod renewal;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub mod wire;
