//! Reads a password or a token: from the terminal, which does not show it, or else one line of standard input. Never from
//! the command line, which other users of the machine can see.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

/// The longest line.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads a line. `what` names it in the prompt and in errors.
pub(super) fn read(what: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let read = if stdin.is_terminal() {
        eprint!("{what}: ");
        let _ = io::stderr().flush();
        read_hidden(&stdin, stdin.lock(), &mut io::stderr())
    } else {
        read_line(stdin.lock())
    };
    let line = read.map_err(|error| format!("the {what} cannot be read: {error}"))?;
    if line.is_empty() {
        return Err(format!("the {what} is empty: type it, or write it to standard input"));
    }
    Ok(line)
}

/// Asks for a line on the terminal, also if standard input is something else. `instead`: what the user does where there
/// is no terminal.
pub(super) fn ask(what: &str, instead: &str) -> Result<String, String> {
    ask_on(what, instead, |terminal| read_line(BufReader::new(terminal)))
}

/// As [`ask`], and the terminal does not show what is typed.
pub(super) fn ask_hidden(what: &str, instead: &str) -> Result<String, String> {
    ask_on(what, instead, |mut terminal| read_hidden(terminal, terminal, &mut terminal))
}

fn ask_on(what: &str, instead: &str, read: impl Fn(&File) -> io::Result<String>) -> Result<String, String> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| format!("there is no terminal to ask for the {what}: {instead}"))?;
    let line = (&terminal).write_all(format!("{what}: ").as_bytes()).and_then(|()| read(&terminal));
    let line = line.map_err(|error| format!("the {what} cannot be read: {error}"))?;
    if line.is_empty() { Err(format!("the {what} is empty")) } else { Ok(line) }
}

fn read_line(input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(BYTES_MAX).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads a line from a terminal that does not show it. The terminal sends each key at once, and no signals: Ctrl-C would
/// otherwise end the process before the terminal is as it was.
fn read_hidden(terminal: impl AsFd, input: impl Read, output: &mut impl Write) -> io::Result<String> {
    // A terminal that cannot be changed shows the text.
    let Some(hidden) = Hidden::hide(terminal) else { return read_line(BufReader::new(input)) };
    let line = edit_hidden(input);
    drop(hidden);
    let _ = output.write_all(b"\n");
    match line? {
        Some(line) => String::from_utf8(line).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8")),
        None => {
            emulate_default_handler(SIGINT)?;
            Err(ErrorKind::Interrupted.into())
        }
    }
}

/// Returns the line without its end, or `None` after Ctrl-C or Ctrl-\.
fn edit_hidden(input: impl Read) -> io::Result<Option<Vec<u8>>> {
    const CTRL_C: u8 = 0x03;
    const CTRL_D: u8 = 0x04;
    const CTRL_U: u8 = 0x15;
    const CTRL_BACKSLASH: u8 = 0x1C;
    const BACKSPACE: [u8; 2] = [0x08, 0x7F];
    let mut line = Vec::new();
    for byte in input.take(BYTES_MAX).bytes() {
        match byte? {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C | CTRL_BACKSLASH => return Ok(None),
            CTRL_U => line.clear(),
            byte if BACKSPACE.contains(&byte) => while line.pop().is_some_and(is_continuation) {},
            byte => line.push(byte),
        }
    }
    Ok(Some(line))
}

/// Whether this byte is not the first one of a character in UTF-8.
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The terminal shows what is typed again on drop.
struct Hidden<T: AsFd>(T, Termios);

impl<T: AsFd> Hidden<T> {
    /// `None` if the terminal cannot be changed: then it shows the text.
    fn hide(terminal: T) -> Option<Self> {
        let before = tcgetattr(&terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        // A read returns with the first byte.
        (silent.special_codes[SpecialCodeIndex::VMIN], silent.special_codes[SpecialCodeIndex::VTIME]) = (1, 0);
        tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
        Some(Hidden(terminal, before))
    }
}

impl<T: AsFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Now, &self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_can_be_edited_and_interrupted() {
        for (typed, line) in [
            ("secret\nrest", Some("secret")),
            ("secret\r", Some("secret")),
            ("secret", Some("secret")),
            ("sek\u{7f}cret\n", Some("secret")),
            ("日本\u{8}e\u{301}\u{7f}\n", Some("日e")),
            ("\u{7f}a\u{7f}\u{7f}\u{7f}b\n", Some("b")),
            ("wrong\u{15}right\n", Some("right")),
            ("\u{4}", Some("")),
            ("sec\u{3}ret\n", None),
            ("sec\u{1c}", None),
        ] {
            let read = edit_hidden(typed.as_bytes()).unwrap();
            assert_eq!(read, line.map(|line| line.as_bytes().to_vec()), "{typed:?}");
        }
    }
}
