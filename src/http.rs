//! The HTTP side of the server: one listener, one thread per connection, one request per connection (RFC 9110, RFC
//! 9112).
//!
//! - [`accept_loop`] accepts connections and enforces the limits; [`permits`] counts connections and sessions.
//! - [`connection`] serves one connection until it is answered or becomes a session; [`receive`] reads the request from
//!   the socket; [`pending`] lists these connections, so that a stop can close them.
//! - [`address_limit`] limits the requests of an address.
//! - [`request`] parses a request head, [`query`] its query, [`chunked`] and [`body`] a body; [`response`] writes an answer.
//! - [`cross_origin`] knows which pages may use this server; [`refusal_log`] logs refused requests.
//! - [`api_error`] is the table of all error answers. [`routes`] is the table of all paths; each path has a file in
//!   [`endpoints`]. [`endpoint`] runs a `POST` endpoint. All of them share one [`app_state`]. `/ready` and the log
//!   report [`readiness`].
//!
//! Bytes after a request are never read as a second request. So request smuggling through a proxy is impossible.

pub(crate) mod accept_loop;
pub(crate) mod address_limit;
pub(crate) mod admin;
pub(crate) mod api_error;
pub(crate) mod app_state;
pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod connection;
pub(crate) mod cross_origin;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod pending;
pub(crate) mod permits;
pub(crate) mod query;
pub(crate) mod readiness;
pub(crate) mod receive;
pub(crate) mod refusal_log;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod routes;

pub use api_error::{ApiError, Row};
pub use readiness::Readiness;
pub use routes::paths;
