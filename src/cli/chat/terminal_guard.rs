//! [`TerminalGuard`]: the terminal in raw mode, on its alternate screen. Dropping the guard restores the terminal, also after
//! a panic of any thread, and then prints the message of the panic. `screen.rs` owns it, on the main thread.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Write, stderr, stdout};
use std::panic::{self, PanicHookInfo};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, is_raw_mode_enabled,
};
use rustix::fs::{Mode, OFlags};

use crate::text::terminal::printable;

/// Messages of panics that wait for the end of the guard.
const PANICS_MAX: usize = 4;

/// See the top of the file.
pub(super) struct TerminalGuard {
    panics: Receiver<String>,
}

impl TerminalGuard {
    pub(super) fn new() -> io::Result<Self> {
        enable_raw_mode()?;
        let guard = TerminalGuard { panics: collect_panics() };
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(guard)
    }

    /// Receives the message of each panic. Its receiver prints the message after the end of the guard.
    pub(super) fn panics(&self) -> Receiver<String> {
        self.panics.clone()
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        leave_screen(stdout());
        let _ = disable_raw_mode();
        for message in self.panics.try_iter() {
            // A terminal that is gone is no reason for another panic.
            let _ = writeln!(stderr(), "{message}");
        }
    }
}

/// A message on the alternate screen would be lost, and a panic does not end the thread that draws: so the messages are
/// sent to that thread. Without a guard, they are printed at once.
fn collect_panics() -> Receiver<String> {
    let (sender, receiver) = bounded(PANICS_MAX);
    let print_at_once = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if sender.try_send(describe(info)).is_err() {
            print_at_once(info);
        }
    }));
    receiver
}

/// The text of the standard library, without anything that a terminal obeys.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let current = thread::current();
    let mut text = format!("thread '{}' {info}", current.name().unwrap_or("without a name"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{backtrace}"));
    }
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn leave_screen(mut output: impl Write) {
    let _ = execute!(output, DisableBracketedPaste, LeaveAlternateScreen, Show);
}

/// For the end of the process while another thread may be blocked in a write to the terminal, which then has the lock of
/// standard output. A terminal that takes no more bytes gets its modes back, but stays on the alternate screen. Does nothing
/// without a guard.
pub(super) fn restore_without_waiting() {
    if !is_raw_mode_enabled().unwrap_or(false) {
        return;
    }
    let _ = disable_raw_mode();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(terminal) = rustix::fs::open("/dev/tty", flags, Mode::empty()) {
        leave_screen(File::from(terminal));
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::threads::{self, Stack};

    /// The variable that tells this program that it runs in a pseudo terminal.
    const IN_TERMINAL: &str = "ICH_TEST_IN_TERMINAL";
    const ENTER_SCREEN: &str = "\u{1b}[?1049h";
    const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

    /// Runs this test program again in a pseudo terminal, with this test only. Returns what it writes, and then the modes
    /// of the terminal.
    fn run_in_terminal(test: &str) -> String {
        let program = env::current_exe().unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let command = format!("'{}' --exact --nocapture '{module}::{test}'; stty -a", program.display());
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &command, "/dev/null"]).env(IN_TERMINAL, "1").env_remove("RUST_BACKTRACE");
        let output = script.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn assert_restored_before_the_message(output: &str) {
        let parts: Vec<&str> = output.split(LEAVE_SCREEN).collect();
        // Leaving the screen twice would move the cursor back to where it was, above the message.
        assert_eq!(parts.len(), 2, "{output:?}");
        assert!(parts[0].contains(ENTER_SCREEN) && !parts[0].contains("a test"), "{output:?}");
        assert!(parts[1].contains("panicked at ") && parts[1].contains("a test ␛[2J"), "{output:?}");
        for mode in ["icanon", "echo", "opost"] {
            assert!(parts[1].split_whitespace().any(|word| word == mode), "{mode}: {output:?}");
        }
    }

    #[test]
    fn a_panic_of_another_thread_is_printed_after_the_terminal_is_restored() {
        if env::var_os(IN_TERMINAL).is_none() {
            let test = "a_panic_of_another_thread_is_printed_after_the_terminal_is_restored";
            return assert_restored_before_the_message(&run_in_terminal(test));
        }
        let guard = TerminalGuard::new().unwrap();
        let thread = threads::spawn("test-panic", Stack::Normal, || panic!("a test \u{1b}[2J")).unwrap();
        assert!(thread.join().is_err() && guard.panics().len() == 1);
        drop(guard);
    }

    #[test]
    fn a_panic_of_the_drawing_thread_is_printed_after_the_terminal_is_restored() {
        if env::var_os(IN_TERMINAL).is_none() {
            let test = "a_panic_of_the_drawing_thread_is_printed_after_the_terminal_is_restored";
            return assert_restored_before_the_message(&run_in_terminal(test));
        }
        let _guard = TerminalGuard::new().unwrap();
        panic!("a test \u{1b}[2J");
    }
}
