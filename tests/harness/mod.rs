//! Code shared by the tests: servers, clients and waiting. Each test binary uses a part of it.
#![allow(dead_code, reason = "compiled into every test binary, and none uses all of it")]

pub mod archive;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod counting_proxy;
pub mod event_log;
pub mod folder;
pub mod http;
pub mod issuer;
pub mod jwt;
pub mod kafka;
pub mod page;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod raw_websocket;
pub mod relay;
pub mod returning;
pub mod rng;
pub mod schema;
pub mod secure_kafka;
pub mod server;
pub mod sqlite;
pub mod terminal;
pub mod tls;
pub mod tmpfs;
pub mod watcher;

use std::io::Write;
use std::time::{Duration, Instant};

/// The deadline of every wait. It is reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` returns a value.
///
/// # Panics
/// `condition` returned none for a minute.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `condition` is true.
///
/// # Panics
/// `condition` was false for a minute.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Prints to the uncaptured stderr that the current test is skipped because `what` is missing. Panics if `CI` is set.
pub fn skip(what: &str) {
    skip_also_in_ci(what);
    assert!(std::env::var_os("CI").is_none(), "CI is set, and this needs {what}");
}

/// As [`skip`], for what is not installed for CI either.
pub fn skip_also_in_ci(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs {what}");
}
