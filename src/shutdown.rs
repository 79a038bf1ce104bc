//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The exit code after a second signal.
const IMPATIENT_EXIT_CODE: i32 = 130;

/// Gives a word when the first signal comes.
///
/// # Errors
/// The system does not let us have the signals, or has no room for a thread.
pub fn signals(supervisor: &Supervisor) -> io::Result<Receiver<&'static str>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the second signal finds the flag set by the first.
        flag::register_conditional_shutdown(signal, IMPATIENT_EXIT_CODE, stopping.clone())?;
        flag::register(signal, stopping.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (sender, receiver) = bounded(1);
    supervisor.spawn("signals", Stack::Normal, move || {
        if let Some(signal) = signals.forever().next() {
            let _ = sender.send(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
        }
        Ok(())
    })?;
    Ok(receiver)
}
