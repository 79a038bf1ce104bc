//! Prints the progress to stderr: on a terminal one line that is rewritten each second, else a new line every 5
//! seconds.

use std::io::{IsTerminal, Write};

use crate::clock::{now_ns, seconds};

/// A progress line, removed from the terminal on drop.
pub struct Progress {
    terminal: bool,
    every_ns: u64,
    begun_ns: u64,
    last_ns: u64,
}

impl Progress {
    /// Starts the clock of the progress line.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = now_ns();
        let every_ns = if terminal { 1_000_000_000 } else { 5_000_000_000 };
        Self { terminal, every_ns, begun_ns: now, last_ns: now }
    }

    /// Prints `line` if the interval has passed.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let now = now_ns();
        if now < self.last_ns + self.every_ns {
            return;
        }
        self.last_ns = now;
        let text = format!("{:>6.1} s  {}", seconds(now - self.begun_ns), line());
        let mut out = std::io::stderr().lock();
        // A closed stderr does not stop the run.
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
