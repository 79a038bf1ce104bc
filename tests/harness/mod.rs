//! What several test binaries need: real services to test against.

pub mod postgres;
