//! The simulation: several instances on one virtual log, in virtual time, with injected faults.
//!
//! A seed determines a run: the simulation uses no clock and no other source of random numbers. Under test are
//! [`ich::lobby::Lobby`], [`ich::lobby::Instance`], [`ich::lobby::Bootstrap`], [`ich::session::history::History`] and
//! [`ich::archive::archiver::Archiver`]. The code that checks the rules shares nothing with them.
//!
//! - `world`: one run, step by step; `faults`: the injected faults; `slot`: the current faults of one process.
//! - `idle`: the last part of some runs, in which one instance is alone and must append very little.
//! - `process`: one server process; `client`: one client; `log`: the virtual log and its producers.
//! - `archive`: the archivers and their database.
//! - `oracle`: reads all records and checks the rules; `reference`: a second implementation of the rules.

mod archive;
mod certainty;
mod client;
mod faults;
mod idle;
mod log;
mod oracle;
mod process;
mod reference;
#[path = "../harness/rng.rs"]
mod rng;
mod slot;
mod trace;
mod world;

pub use oracle::Seen;
use trace::Trace;
use world::World;

/// Virtual time since the start of a run.
type Millis = u64;

/// The duration of one step.
const STEP: Millis = 100;
/// The number of records for which a use of a message id counts. It is small, so that ids are used again after the
/// window.
const REPETITION_WINDOW: usize = 60;
/// The messages that each process keeps. They are few, so that some clients return too late.
const HISTORY_MESSAGES: usize = 12;

/// A broken rule.
pub struct Violation {
    pub rule: &'static str,
    /// How the run broke the rule.
    pub detail: String,
}

fn ensure(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

/// Runs one seed. Returns the counts also after a violation.
pub fn run(seed: u64) -> (Seen, Result<(), Violation>) {
    let mut world = World::new(seed, Trace::default());
    let result = world.run();
    (world.seen(), result)
}

/// Runs the seed again, and returns its last events.
pub fn last_events(seed: u64) -> Vec<String> {
    let mut world = World::new(seed, Trace::on());
    let _ = world.run();
    world.trace.into_lines()
}

/// The text of a violation, with the last events before it.
pub fn explain(seed: u64, violation: &Violation) -> String {
    let Violation { rule, detail } = violation;
    let events = last_events(seed).join("\n");
    format!("seed {seed}: violated: {rule}\n{detail}\nthe last events:\n{events}")
}
