//! `ich`: the backend of a lobby chat.
pub mod accounts;
pub mod event_log;
pub mod lobby;
pub mod random;
