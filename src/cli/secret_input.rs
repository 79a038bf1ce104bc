//! Reads a password or a token: from the terminal, which does not show it, or else one line of standard input. Never from
//! the command line, which other users of the machine can see.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The longest line.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads a line. `what` names it in the prompt and in errors.
pub(super) fn read(what: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let hidden = if stdin.is_terminal() {
        eprint!("{what}: ");
        let _ = io::stderr().flush();
        Hidden::hide()
    } else {
        None
    };
    let mut line = String::new();
    let read = stdin.lock().take(BYTES_MAX).read_line(&mut line);
    if hidden.is_some() {
        eprintln!();
    }
    read.map_err(|error| format!("the {what} cannot be read: {error}"))?;
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        return Err(format!("the {what} is empty: type it, or write it to standard input"));
    }
    Ok(line.to_owned())
}

/// The terminal shows what is typed again on drop.
struct Hidden(Termios);

impl Hidden {
    /// `None` if the terminal cannot be changed: then it shows the text.
    fn hide() -> Option<Hidden> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
