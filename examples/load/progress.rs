//! One line on stderr about how it goes: rewritten each second on a terminal, a new one each five seconds elsewhere.

use std::io::{IsTerminal, Write};

use crate::clock::{now_ns, seconds};

/// The line.
pub struct Progress {
    terminal: bool,
    every_ns: u64,
    begun_ns: u64,
    last_ns: u64,
}

impl Progress {
    /// Begins now.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = now_ns();
        let every_ns = if terminal { 1_000_000_000 } else { 5_000_000_000 };
        Self { terminal, every_ns, begun_ns: now, last_ns: now }
    }

    /// Shows what `line` says, if it is time to.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let now = now_ns();
        if now < self.last_ns + self.every_ns {
            return;
        }
        self.last_ns = now;
        let text = format!("{:>6.1} s  {}", seconds(now - self.begun_ns), line());
        let mut out = std::io::stderr().lock();
        // Nobody to read it is no reason to stop.
        let _ = if self.terminal {
            write!(out, "\r\x1b[K{text}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{text}")
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
