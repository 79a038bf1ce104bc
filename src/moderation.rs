//! Moderation: administrators kick, mute and ban users.
//!
//! Each action is a record in the event log ([`crate::lobby::Moderation`]). Every instance reads it at the same position
//! and acts on its own sessions: it closes them and appends their `left`, or refuses their messages. So the state of the
//! lobby does not depend on these records, and all instances agree on it, whatever part of the log they have read.
//!
//! - [`sanctions`]: the bans and mutes that follow from the actions. Pure.
//! - [`shared`]: the sanctions of this process, for all threads. The log thread and `server/sanctions.rs` change them.
//!
//! The endpoints are in `http/endpoints/admin`. The log thread ends the sessions (`session/moderated.rs`), the publisher
//! refuses messages and new sessions, and `server/sanctions.rs` reads the stored sanctions.
//!
//! A user is recognized by the key of the username ([`rules::username_key`](crate::accounts::rules::username_key)).

pub mod sanctions;
pub(crate) mod shared;

pub use self::sanctions::{Sanction, SanctionKind, Sanctions};
pub(crate) use self::shared::{ReadAction, SharedSanctions};
