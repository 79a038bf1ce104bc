//! Signals: the first SIGTERM or SIGINT starts a graceful stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The exit code after a second signal: 128 + SIGINT, as shells report it.
pub(crate) const SECOND_SIGNAL_EXIT_CODE: u8 = 130;

/// Installs the signal handlers. The receiver gets the name of the first signal.
///
/// # Errors
/// The system does not accept the handlers, or cannot start a thread.
pub(crate) fn signals(supervisor: &Supervisor) -> io::Result<Receiver<&'static str>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: the handler that ends the process must not see the flag of the same signal.
        flag::register_conditional_shutdown(signal, SECOND_SIGNAL_EXIT_CODE.into(), stopping.clone())?;
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
