//! `ich`: the backend of a lobby chat.
pub mod event_log;
pub mod lobby;
