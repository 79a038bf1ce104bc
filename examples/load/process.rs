//! Starts the servers under load as child processes, stops them, and reads their CPU and memory from `/proc`.
//!
//! A child first runs this program again ([`run_as_child`]), asks the kernel for a signal when the parent dies, and
//! then execs the server. So the server ends with this tool even if this tool is killed with `SIGKILL`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// The internal first argument of a child.
pub const CHILD_ARGUMENT: &str = "__child";

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const LAST_LINES: usize = 12;

/// A running server, stopped on drop.
pub struct Server {
    child: Child,
    /// The address it listens on.
    pub address: SocketAddr,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// The folder that it runs in.
    folder: Option<Arc<Folder>>,
}

/// A server that was started and did not say yet where it listens.
pub struct Starting {
    server: Server,
    addresses: Receiver<SocketAddr>,
    program: PathBuf,
}

impl Starting {
    /// Waits for the line with the address that the server listens on.
    pub fn wait(mut self) -> Result<Server, String> {
        match self.server.wait_for_address(&self.addresses) {
            Ok(address) => self.server.address = address,
            Err(reason) => {
                let (program, lines) = (self.program.display(), self.server.last_lines());
                return Err(format!("{program} {reason}; its last lines:\n{lines}"));
            }
        }
        Ok(self.server)
    }
}

impl Server {
    /// Starts `program` in `folder`. The calling thread has to live as long as the server: when it ends, the kernel ends
    /// the server.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        settings: &[(&str, OsString)],
        folder: Option<Arc<Folder>>,
    ) -> Result<Starting, String> {
        let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(this);
        command.arg(CHILD_ARGUMENT).arg(program).args(arguments);
        // Settings in the environment of this tool must not reach the servers.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ICH_")) {
            command.env_remove(name);
        }
        command.envs(settings.iter().map(|(name, value)| (*name, value)));
        if let Some(folder) = &folder {
            command.current_dir(&folder.0);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;

        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, addresses) = sync_channel(1);
        if let Some(pipe) = child.stdout.take() {
            watch(pipe, Arc::clone(&lines), sender.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            watch(pipe, Arc::clone(&lines), sender);
        }
        let server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), lines, folder };
        Ok(Starting { server, addresses, program: program.to_owned() })
    }

    fn wait_for_address(&mut self, addresses: &Receiver<SocketAddr>) -> Result<SocketAddr, String> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match addresses.recv_timeout(Duration::from_millis(50)) {
                Ok(address) => return Ok(address),
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(50)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() > deadline {
                return Err(format!("did not print its address within {START_DEADLINE:?}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("exited during the start ({status})"));
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines of its output.
    pub fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && self.is_alive()
        {
            // This fails if the process has just ended; the wait below notices that.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_alive() {
            eprintln!("process {} did not stop within {STOP_DEADLINE:?}: killed", self.child.id());
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        drop(self.folder.take());
    }
}

/// Starts a thread that reads a child's output, keeps the last lines, and sends the first address found in them.
fn watch(pipe: impl Read + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>, addresses: SyncSender<SocketAddr>) {
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                let _ = addresses.try_send(address);
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LAST_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("output".into()).spawn(read) {
        eprintln!("cannot read the server's output: {error}");
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("http://")?.1;
    let end = rest.find(|char: char| !(char.is_ascii_hexdigit() || ".:[]".contains(char))).unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

/// The entry point of a child: requests a signal on the death of the parent, then execs the program in `arguments`.
pub fn run_as_child(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, String> {
    let program = arguments.next().ok_or("no program for the child")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| format!("cannot request a signal on the death of the parent: {error}"))?;
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("cannot run {}: {error}", program.display()))
}

/// A temporary folder, removed on drop: when the last server that runs in it has stopped.
pub struct Folder(PathBuf);

impl Folder {
    /// Creates a folder whose name contains `name` and the process id.
    pub fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ich-load-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Raises the limit on open files to its hard limit and returns the effective limit.
pub fn raise_file_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let effective = if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    effective.current.unwrap_or(u64::MAX)
}

/// The resource use of processes at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU seconds since the start, user and kernel.
    pub cpu_s: f64,
    pub rss_kib: f64,
    pub peak_rss_kib: f64,
    pub threads: f64,
}

impl Usage {
    /// The sum over `pids`. The peaks are added, too.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for one in pids.iter().map(|pid| Self::of_one(&pid.to_string())) {
            sum.cpu_s += one.cpu_s;
            sum.rss_kib += one.rss_kib;
            sum.peak_rss_kib += one.peak_rss_kib;
            sum.threads += one.threads;
        }
        sum
    }

    fn of_one(pid: &str) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may contain spaces; utime and stime are the 12th and 13th field after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Self {
            cpu_s: ticks / CLOCK_TICKS_PER_SECOND,
            rss_kib: field(&status, "VmRSS:"),
            peak_rss_kib: field(&status, "VmHWM:"),
            threads: field(&status, "Threads:"),
        }
    }
}

/// CPU seconds used by all processes of this machine and the kernel.
pub fn machine_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    // user nice system [idle iowait] irq softirq steal: time stolen by the hypervisor counts as used.
    let used = fields.enumerate().filter(|(index, _)| !(3..=4).contains(index));
    used.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / CLOCK_TICKS_PER_SECOND
}

/// `USER_HZ`, the unit of the CPU times in `/proc`: 100 on x86-64 and ARM64.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Kernel memory of this machine in slabs, stacks and page tables.
pub fn kernel_memory_kib() -> f64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ["Slab:", "KernelStack:", "PageTables:"].iter().map(|name| field(&meminfo, name)).sum()
}

/// Number of cores, kernel release, and memory in MiB of this machine.
pub fn machine() -> (usize, String, f64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (cores, kernel, field(&meminfo, "MemTotal:") / 1024.0)
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_output_of_a_server() {
        let expected = Some(SocketAddr::from(([127, 0, 0, 1], 4711)));
        assert_eq!(address_in("ich 0.1.0 listening on http://127.0.0.1:4711 (data in ./data)"), expected);
        assert_eq!(address_in("listening on http://127.0.0.1:4711."), expected);
        assert_eq!(address_in("listening on http://[::1]:80/"), "[::1]:80".parse().ok());
        assert_eq!(address_in("nothing here"), None);
    }

    #[test]
    fn this_process_uses_memory_and_threads() {
        let usage = Usage::of(&[std::process::id()]);
        assert!(usage.rss_kib > 0.0 && usage.threads >= 1.0, "{usage:?}");
    }
}
