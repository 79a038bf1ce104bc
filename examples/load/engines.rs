//! All clients of a run, in one or more processes: the engine of this process, which has the clients that send, and the
//! engines of the worker processes.
//!
//! One process cannot have more connections than open files. Each engine gets all commands ([`command`]), connects its
//! own clients only, and checks what these receive. The scenario sees the merged figures.

mod command;
mod link;
mod worker;

use std::ops::Range;
use std::time::Duration;

use crate::clock::{self, nanos, now_ns};
use crate::engine::{Engine, Load, Report, Status};

use self::command::{Command, Setup};
use self::link::Link;
pub use self::worker::{WORKER_ARGUMENT, run as run_as_worker};

const WORKER_DEADLINE: Duration = Duration::from_secs(60);
const WORKER_POLL: Duration = Duration::from_millis(1);

/// The engines of a run.
pub struct Engines {
    local: Engine,
    workers: Vec<Link>,
    /// Commands that the workers got.
    commands: u64,
    /// The processes of this tool.
    pub pids: Vec<u32>,
}

/// Distributes `clients` clients over `processes` processes. The first gets at least the `senders`, which come first.
pub fn parts(clients: usize, senders: usize, processes: usize) -> Vec<Range<usize>> {
    let first = clients.div_ceil(processes).max(senders).min(clients);
    let (others, workers) = (clients - first, processes - 1);
    let end = |number: usize| first + others * number / workers.max(1);
    std::iter::once(0..first).chain((0..workers).map(|number| end(number)..end(number + 1))).collect()
}

impl Engines {
    /// Creates the clients of `load`, all disconnected, in `processes` processes.
    pub fn new(load: Load, processes: usize) -> Result<Self, String> {
        let mut parts = parts(load.readers + load.slow, load.senders, processes).into_iter();
        let first = parts.next().unwrap_or_default();
        let clock_origin = clock::origin();
        let start = |own| Link::start(&Setup { load: load.part(own), clock_origin });
        let workers = parts.map(start).collect::<Result<Vec<_>, _>>()?;
        let pids = std::iter::once(std::process::id()).chain(workers.iter().map(Link::pid)).collect();
        Ok(Self { local: Engine::new(load.part(first))?, workers, commands: 0, pids })
    }

    /// Lets the engine of this process run once, and passes on which clients have lost their connections.
    pub fn poll_once(&mut self, wait: Duration) -> Result<(), String> {
        self.local.poll_once(wait)?;
        let gone = self.local.take_gone();
        if self.workers.is_empty() {
            return Ok(());
        }
        let gone: Vec<usize> = gone.into_iter().chain(self.workers.iter().flat_map(Link::take_gone)).collect();
        if !gone.is_empty() {
            self.apply(Command::Gone { clients: gone })?;
        }
        self.workers.iter().try_for_each(Link::check_alive)
    }

    /// The figures of all engines. `None`: a worker process has not applied all commands yet.
    pub fn status(&self) -> Option<Status> {
        let mut sum = self.local.status();
        for worker in &self.workers {
            sum.merge(&worker.status(self.commands)?);
        }
        Some(sum)
    }

    /// As [`Self::status`], when the worker processes have applied all commands.
    pub fn settled_status(&mut self) -> Result<Status, String> {
        loop {
            self.wait_for_workers()?;
            if let Some(status) = self.status() {
                return Ok(status);
            }
        }
    }

    /// Waits for the reports of all engines, and merges them.
    pub fn report(&mut self) -> Result<Report, String> {
        self.send(&Command::Report)?;
        self.wait_for_workers()?;
        let mut sum = self.local.report();
        self.workers.iter().filter_map(Link::take_report).for_each(|report| sum.merge(&report));
        Ok(sum)
    }

    /// The engine of this process.
    pub fn local(&self) -> &Engine {
        &self.local
    }

    /// From now on, at most `outstanding` joins are in flight at once.
    pub fn limit_joins(&mut self, outstanding: usize) -> Result<(), String> {
        let outstanding = (outstanding / (1 + self.workers.len())).max(1);
        self.apply(Command::LimitJoins { outstanding })
    }

    /// `clients` join.
    pub fn join(&mut self, clients: Vec<usize>) -> Result<(), String> {
        self.apply(Command::Join { clients })
    }

    /// `clients` disconnect, with a close frame if `close_frame` is set.
    pub fn leave(&mut self, clients: Vec<usize>, close_frame: bool) -> Result<(), String> {
        self.apply(Command::Leave { clients, close_frame })
    }

    /// Starts to send `rate` messages per second.
    pub fn start_chat(&mut self, rate: f64) -> Result<(), String> {
        self.apply(Command::ExpectChat)?;
        // A worker that expects no messages yet would count the first ones as sent before its clients joined.
        self.wait_for_workers()?;
        self.local.start_chat(rate)
    }

    /// Stops sending. `all_arrived`: all sent messages were received.
    pub fn stop_chat(&mut self, all_arrived: bool) -> Result<(), String> {
        let sent = self.local.sent().to_vec();
        self.apply(Command::StopChat { all_arrived, sent })
    }

    /// Clears the figures of a part of the scenario.
    pub fn begin_window(&mut self) -> Result<(), String> {
        self.apply(Command::BeginWindow)
    }

    /// Reads from the clients that never read, to see which of them were disconnected.
    pub fn wake_slow(&mut self) -> Result<(), String> {
        self.apply(Command::WakeSlow)
    }

    /// Another instance is in the place of the one with this number.
    pub fn set_address(&mut self, number: usize, address: std::net::SocketAddr) -> Result<(), String> {
        self.apply(Command::SetAddress { number, address })
    }

    fn apply(&mut self, command: Command) -> Result<(), String> {
        self.send(&command)?;
        command.apply(&mut self.local).map(drop)
    }

    fn send(&mut self, command: &Command) -> Result<(), String> {
        self.commands += 1;
        self.workers.iter_mut().try_for_each(|worker| worker.send(command))
    }

    /// Serves the clients of this process until the workers have applied all commands.
    fn wait_for_workers(&mut self) -> Result<(), String> {
        let deadline_ns = now_ns() + nanos(WORKER_DEADLINE);
        while self.workers.iter().any(|worker| worker.status(self.commands).is_none()) {
            if now_ns() > deadline_ns {
                return Err(format!("a worker process did not answer within {WORKER_DEADLINE:?}"));
            }
            self.poll_once(WORKER_POLL)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn each_client_has_one_process_and_the_first_has_the_senders() {
        assert_eq!(parts(10, 3, 1).first(), Some(&(0..10)));
        assert_eq!(parts(10, 3, 3), [0..4, 4..7, 7..10]);
        assert_eq!(parts(10, 8, 2), [0..8, 8..10]);
        assert_eq!(parts(2, 2, 3), [0..2, 2..2, 2..2]);
    }
}
