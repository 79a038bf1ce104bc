//! What tests share. Each test binary uses a part of it.
#![allow(dead_code, reason = "compiled into every test binary, and none uses all of it")]

pub mod event_log;
pub mod kafka;
