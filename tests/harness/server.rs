//! The real server: the built program as a child process, on a free port of loopback, with its own folder. Dropping a
//! [`Server`] kills the process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ich::accounts::{Account, ClaimNames, TokenKey, TokenSettings, Tokens};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::client::Client;
use super::{http, wait_for};

/// The token secret of every server that a test starts.
pub const SECRET: &str = "a secret for tests only, of more than 32 bytes";

/// A running server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    dir: PathBuf,
    /// The folder is removed on drop.
    owns_dir: bool,
}

impl Server {
    /// Starts a server in a new folder with these settings and those of [`command`], and waits until it is ready.
    pub fn start(settings: &[(&str, &str)]) -> Server {
        let server = Self::launch(settings);
        server.wait_ready();
        server
    }

    /// As [`Server::start`], but waits only until the server listens.
    pub fn launch(settings: &[(&str, &str)]) -> Server {
        let mut server = Self::start_unready(&new_dir(), settings);
        server.owns_dir = true;
        server
    }

    /// Starts a server in this folder and waits until it is ready.
    pub fn start_in(dir: &Path, settings: &[(&str, &str)]) -> Server {
        let server = Self::start_unready(dir, settings);
        server.wait_ready();
        server
    }

    /// Starts a server in this folder and waits until it listens.
    pub fn start_unready(dir: &Path, settings: &[(&str, &str)]) -> Server {
        Self::spawn(dir, command(dir, settings))
    }

    /// Starts a server in a new folder that gets an error, and not the signal `SIGXFSZ`, when it writes more to a file than
    /// [`Server::limit_files`] allows. Waits until it is ready.
    pub fn start_with_limited_files(settings: &[(&str, &str)]) -> Server {
        let dir = new_dir();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\"", env!("CARGO_BIN_EXE_ich")]);
        configure(&mut shell, &dir, settings);
        let mut server = Self::spawn(&dir, shell);
        server.owns_dir = true;
        server.wait_ready();
        server
    }

    /// Waits until the server listens.
    fn spawn(dir: &Path, mut command: Command) -> Server {
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("the log");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starting the server");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the first line");
        let address = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server printed {line:?}; its log:\n{}", fs::read_to_string(dir.join("log")).unwrap());
        };
        Server { child, address, dir: dir.to_owned(), owns_dir: false }
    }

    /// Waits until `/ready` answers 200: clients can join.
    pub fn wait_ready(&self) {
        wait_for("a ready server", || (http::get(self.address, "/ready").status == 200).then_some(()));
    }

    /// Joins as the user `name`.
    pub fn join(&self, name: &str) -> Client {
        Client::join(self.address, &token(name))
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("sending a signal");
    }

    /// Limits the size up to which the server may write files; `None`: unlimited. See
    /// [`Server::start_with_limited_files`].
    pub fn limit_files(&self, bytes: Option<u64>) {
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit { current: bytes.or(maximum), maximum };
        prlimit(Some(self.process()), Resource::Fsize, limit).expect("a limit");
    }

    fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("a process id")
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the server", || self.child.try_wait().expect("waiting"))
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting").is_some()
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// A number from `/proc/<pid>/status`, such as `VmRSS` (in KiB) or `Threads`.
    pub fn proc_status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// The CPU time that the process has used so far.
    pub fn cpu_time(&self) -> Duration {
        /// Clock ticks per second in `/proc`: 100 on every Linux that this runs on (`getconf CLK_TCK`).
        const TICKS_PER_SECOND: u64 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its status");
        // The name, in parentheses, is the second field; `utime` and `stime` are the fields 14 and 15.
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// The number of open file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("its descriptors").count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.owns_dir {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The command that starts the program. Its environment contains only these settings, nothing of the test's
/// environment.
pub fn command(dir: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ich"));
    configure(&mut command, dir, settings);
    command
}

fn configure(command: &mut Command, dir: &Path, settings: &[(&str, &str)]) {
    command
        .current_dir(dir)
        .env_clear()
        .env("ICH_HOST", "127.0.0.1")
        .env("ICH_PORT", "0")
        .env("ICH_JWT_SECRET", SECRET)
        .envs(settings.iter().copied())
        .stdin(Stdio::null());
}

/// Creates a new, empty temporary folder. See [`super::folder::Folder`] for one that is removed on drop.
pub fn new_dir() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("ich-test-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a folder for the test");
    dir
}

/// Issues and checks tokens like the servers of the tests; `ttl` is their lifetime.
pub fn tokens(ttl: Duration) -> Tokens {
    let key = TokenKey::Secret { current: SECRET.as_bytes().to_vec(), previous: None };
    let claims = ClaimNames { id: "id".into(), username: "username".into(), admin: None };
    Tokens::new(TokenSettings { key, issuer: "ich".into(), audience: None, claims, ttl }).expect("tokens")
}

/// A token for the user `name`, who needs no account to join. Its lifetime is an hour.
pub fn token(name: &str) -> String {
    token_for(name, name, Duration::from_secs(3600))
}

/// A token for the user with this id and name.
pub fn token_for(id: &str, name: &str, ttl: Duration) -> String {
    let account = Account { id: id.into(), email: String::new(), username: name.into() };
    tokens(ttl).issue(&account).expect("a token")
}
