//! A program in a pseudo terminal, with what it has drawn.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use unicode_width::UnicodeWidthChar;

use super::{wait_for, wait_until};

/// A running program.
pub struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts the program in a terminal of this size. The terminal is its controlling terminal.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).expect("its rights");
        unlockpt(&master).expect("unlocking it");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the other side");
        set_size(&slave, columns, rows);
        // Only a program that begins a session can get a controlling terminal.
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args());
        setsid.env_clear().env("TERM", "xterm-256color").env("PATH", "/usr/bin:/bin");
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            setsid.current_dir(dir);
        }
        let end = || slave.try_clone().expect("a descriptor");
        let child = setsid.stdin(end()).stdout(end()).stderr(end()).spawn().expect("starting the program");
        let master = File::from(master);
        let output = Arc::new(Mutex::new(Vec::new()));
        let reader = master.try_clone().expect("a descriptor");
        thread::spawn({
            let output = output.clone();
            move || read(reader, &output)
        });
        Terminal { child, master, slave, output }
    }

    /// Types these characters.
    pub fn type_text(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).expect("typing");
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        set_size(&self.slave, columns, rows);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sending a signal");
    }

    /// All bytes that the program has written.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// The rows that the terminal shows now.
    ///
    /// # Panics
    /// The program has written a sequence that it has no reason for.
    pub fn rows(&self) -> Vec<String> {
        let mut grid = Grid::default();
        grid.write(&self.output());
        grid.rows.iter().map(|row| row.concat().trim_end().to_owned()).collect()
    }

    /// Waits until a row contains this text.
    pub fn wait_text(&self, text: &str) {
        self.wait_rows(&format!("{text:?} in the terminal"), |rows| rows.iter().any(|row| row.contains(text)));
    }

    pub fn wait_rows(&self, what: &str, is_shown: impl Fn(&[String]) -> bool) {
        wait_until(what, || is_shown(&self.rows()));
    }

    /// Whether the terminal shows what is typed, and sends it line by line.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("the modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the program", || self.child.try_wait().expect("waiting"))
    }
}

/// What a terminal shows, for the few sequences that the client writes.
struct Grid {
    rows: Vec<Vec<String>>,
    /// Row and column, from 0.
    at: (usize, usize),
}

impl Default for Grid {
    fn default() -> Self {
        Grid { rows: vec![vec![" ".to_owned(); 200]; 60], at: (0, 0) }
    }
}

impl Grid {
    fn write(&mut self, output: &str) {
        let mut rest = output;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\u{1b}' => rest = self.sequence(rest),
                '\r' => self.at.1 = 0,
                '\n' => self.at.0 += 1,
                c => self.put(c),
            }
        }
    }

    /// Carries out a sequence. Returns the text behind it.
    fn sequence<'a>(&mut self, text: &'a str) -> &'a str {
        // The output may end in the middle of it.
        let Some(parameters) = text.strip_prefix('[') else { return self.unknown(text) };
        let Some(end) = parameters.find(|c: char| c.is_ascii_alphabetic()) else { return "" };
        let number =
            |at: usize| parameters[..end].split(';').nth(at).and_then(|number| number.parse().ok()).unwrap_or(1);
        match &parameters[end..=end] {
            "H" => self.at = (number(0) - 1, number(1) - 1),
            "J" => self.rows = Grid::default().rows,
            // Another screen.
            "h" | "l" if parameters[..end] == *"?1049" => *self = Grid::default(),
            "h" | "l" | "m" => {}
            _ => return self.unknown(text),
        }
        &parameters[end + 1..]
    }

    fn unknown<'a>(&self, text: &'a str) -> &'a str {
        assert!(text.is_empty(), "the program writes a sequence for no reason: {:?}", &text[..text.len().min(20)]);
        text
    }

    fn put(&mut self, c: char) {
        assert!(!c.is_control(), "the program writes {c:?}");
        let (row, column) = self.at;
        match c.width() {
            Some(0) => self.rows[row][column - 1].push(c),
            width => {
                let width = width.unwrap_or(1);
                self.rows[row][column] = c.to_string();
                // A wide character takes two columns.
                self.rows[row][column + 1..column + width].iter_mut().for_each(String::clear);
                self.at.1 += width;
            }
        }
    }
}

fn set_size(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("setting the size");
}

fn read(mut master: File, output: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match master.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => output.lock().unwrap().extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // All users of the other side have ended.
            Err(_) => return,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the terminal:\n{:?}", self.output());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
