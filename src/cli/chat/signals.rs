//! The signals that end `ich chat`. The first one asks the client to leave the lobby. The client cannot do that while it
//! waits for a reader of standard output or for the terminal: a second signal, or a few seconds, end the process then.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use super::terminal_guard::restore_without_waiting;
use crate::cli::EXIT_STOPPED;
use crate::shutdown::SECOND_SIGNAL_EXIT_CODE;
use crate::threads::{self, Stack};

/// After the first signal. A client that nothing blocks leaves the lobby within two seconds.
const END_AFTER: Duration = Duration::from_secs(3);
/// Signals that follow the first one so soon belong to it: `timeout` signals the process, and then its group.
const SAME_WITHIN: Duration = Duration::from_millis(500);

/// Receives something when the first signal asks the client to end.
pub(super) fn receiver() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = bounded(1);
    threads::spawn("chat-signals", Stack::Normal, move || {
        let mut signals = signals.forever();
        if signals.next().is_none() {
            return;
        }
        let first = Instant::now();
        let _ = sender.send(());
        // Without this thread, a second signal still ends the process.
        let _ = threads::spawn("chat-end", Stack::Normal, || {
            thread::sleep(END_AFTER);
            end(EXIT_STOPPED);
        });
        if signals.any(|_| first.elapsed() >= SAME_WITHIN) {
            end(SECOND_SIGNAL_EXIT_CODE);
        }
    })?;
    Ok(receiver)
}

/// Ends the process without its exit handlers, which would wait for standard output.
fn end(code: u8) {
    restore_without_waiting();
    low_level::exit(code.into());
}
