//! The front door: one listener, one thread per connection, and the small HTTP side of the server.
//!
//! - [`front_door`] accepts and keeps the bounds; [`permits`] are the bounds, as values that give themselves back.
//! - [`connection`] is the life of one connection until it is answered or becomes a session.
//! - [`request`] parses a head, [`response`] writes an answer, [`json`] reads a body, [`routes`] knows what is where,
//!   [`join`] is the handshake; all answer from one [`site`].
//!
//! One request per connection, and no body but one with a `Content-Length`: what follows a request is never read as
//! another one, so there is nothing to smuggle.

pub mod connection;
pub mod front_door;
pub mod join;
pub mod json;
pub mod permits;
pub mod request;
pub mod response;
pub mod routes;
pub mod site;
