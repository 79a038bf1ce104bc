//! [`Restarts`]: replaces one instance after the other during a chat (`--restart-every`). Another instance is started,
//! and when it is ready, the old one is stopped, as in an update that nobody shall notice.
//!
//! Starting and stopping wait on threads of their own, because the clients have to be served meanwhile.

use std::thread::JoinHandle;

use crate::clock::now_ns;
use crate::engines::Engines;
use crate::process::Server;
use crate::target::Target;

/// The state of the replacements.
pub struct Restarts {
    every_ns: u64,
    next_ns: u64,
    /// How many instances were replaced. They take turns.
    pub done: u64,
    starting: Option<JoinHandle<Result<Server, String>>>,
    stopping: Vec<JoinHandle<()>>,
}

impl Restarts {
    /// The first replacement begins after `every_s` seconds. 0: there is none.
    pub fn new(every_s: f64) -> Self {
        let every_ns = (every_s * 1e9) as u64;
        let next_ns = if every_ns == 0 { u64::MAX } else { now_ns() + every_ns };
        Self { every_ns, next_ns, done: 0, starting: None, stopping: Vec::new() }
    }

    /// Begins what is due, and goes on with what has begun. To be called often.
    pub fn step(&mut self, engines: &mut Engines, target: &mut Target, now_ns: u64) -> Result<(), String> {
        self.stopping.retain(|thread| !thread.is_finished());
        if let Some(thread) = self.starting.take_if(|thread| thread.is_finished()) {
            let fresh = thread.join().map_err(|_| "the thread of a replacement panicked".to_owned())??;
            let number = self.done as usize % target.addresses.len();
            engines.set_address(number, fresh.address)?;
            let old = target.replace(number, fresh);
            let stop = std::thread::Builder::new().name("stop".into()).spawn(move || drop(old));
            self.stopping.push(stop.map_err(|error| format!("cannot start a thread: {error}"))?);
            self.done += 1;
        }
        if now_ns >= self.next_ns && self.starting.is_none() {
            self.next_ns = now_ns + self.every_ns;
            self.starting = Some(target.start_replacement()?);
        }
        Ok(())
    }

    /// Begins no more.
    pub fn stop(&mut self) {
        self.next_ns = u64::MAX;
    }

    /// Whether no replacement is being started, and no old instance runs.
    pub fn is_idle(&self) -> bool {
        self.starting.is_none() && self.stopping.is_empty()
    }
}
