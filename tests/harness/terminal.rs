//! A program in a pseudo terminal, with what it has drawn.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use regex::Regex;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

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

    /// Waits for a text in what the program has drawn since it wrote `offset` bytes, without the colours.
    pub fn wait_text_after(&self, offset: usize, text: &str) {
        let styles = Regex::new("\u{1b}\\[[0-9;]*m").expect("a pattern");
        wait_until(&format!("{text:?} in the terminal"), || {
            let output = self.output.lock().unwrap();
            let new = String::from_utf8_lossy(&output[offset..]).into_owned();
            styles.replace_all(&new, "").contains(text)
        });
    }

    pub fn wait_text(&self, text: &str) {
        self.wait_text_after(0, text);
    }

    /// How many bytes the program has written.
    pub fn written(&self) -> usize {
        self.output.lock().unwrap().len()
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
