//! Reads a password or a token: from the terminal, which does not show it, or else one line of standard input. Never from
//! the command line, which other users of the machine can see.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The longest line.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads a line. `what` names it in the prompt and in errors.
pub(super) fn read(what: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let hidden = if stdin.is_terminal() {
        eprint!("{what}: ");
        let _ = io::stderr().flush();
        Hidden::hide(io::stdin())
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

/// Asks for a line on the terminal, also if standard input is something else. `instead`: what the user does where there
/// is no terminal.
pub(super) fn ask(what: &str, instead: &str) -> Result<String, String> {
    ask_on(&terminal(what, instead)?, what)
}

/// As [`ask`], and the terminal does not show what is typed.
pub(super) fn ask_hidden(what: &str, instead: &str) -> Result<String, String> {
    let terminal = terminal(what, instead)?;
    let hidden = Hidden::hide(&terminal);
    let answer = ask_on(&terminal, what);
    if hidden.is_some() {
        let _ = (&terminal).write_all(b"\n");
    }
    answer
}

fn terminal(what: &str, instead: &str) -> Result<File, String> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    terminal.map_err(|_| format!("there is no terminal to ask for the {what}: {instead}"))
}

fn ask_on(mut terminal: &File, what: &str) -> Result<String, String> {
    let mut line = String::new();
    let read = terminal
        .write_all(format!("{what}: ").as_bytes())
        .and_then(|()| BufReader::new(terminal.take(BYTES_MAX)).read_line(&mut line));
    read.map_err(|error| format!("the {what} cannot be read: {error}"))?;
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() { Err(format!("the {what} is empty")) } else { Ok(line.to_owned()) }
}

/// The terminal shows what is typed again on drop.
struct Hidden<T: AsFd>(T, Termios);

impl<T: AsFd> Hidden<T> {
    /// `None` if the terminal cannot be changed: then it shows the text.
    fn hide(terminal: T) -> Option<Self> {
        let before = tcgetattr(&terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
        Some(Hidden(terminal, before))
    }
}

impl<T: AsFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}
