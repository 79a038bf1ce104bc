//! The HTTP side of the server: one listener, one thread per connection, one request per connection.
//!
//! - [`front_door`] accepts connections and enforces the limits; [`permits`] are these limits, released on drop.
//! - [`connection`] serves one connection until it is answered or becomes a session; [`pending`] lists these connections,
//!   so that a stop can close them.
//! - [`request`] parses a request head, [`body`] a JSON body; [`response`] writes an answer.
//! - [`api_error`] is the table of all error answers. [`routes`] is the table of all paths; each path has a file in
//!   [`endpoints`]. [`endpoint`] runs a `POST` endpoint. All of them answer from one [`app_state`];
//!   [`readiness`] is what `/ready` and the log say.
//!
//! A body needs a `Content-Length`, and bytes after a request are never read as a second request. So there is nothing to
//! smuggle past a proxy.

pub(crate) mod api_error;
pub(crate) mod app_state;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod front_door;
pub(crate) mod pending;
pub(crate) mod permits;
pub(crate) mod readiness;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod routes;

pub use api_error::{ApiError, Row};
pub use readiness::Readiness;
