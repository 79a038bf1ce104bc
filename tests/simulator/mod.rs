//! The simulation: several instances over one virtual log, in virtual time, with everything going wrong that can.
//!
//! A seed determines a run. Nothing here looks at a clock or at another source of chance. Under test are
//! [`ich::lobby::Lobby`], [`ich::lobby::Instance`], [`ich::lobby::Bootstrap`] and [`ich::session::history::History`]; what
//! must hold is checked by code that shares nothing with them.
//!
//! - `world`: the run, step by step; `faults`: what goes wrong; `slot`: what is wrong with a process at present.
//! - `process`: one server process; `client`: one connected person; `log`: the virtual log and its producers.
//! - `oracle`: reads all at once and knows what must be found; `reference`: the rules, written a second time.

mod client;
mod faults;
mod log;
mod oracle;
mod process;
mod reference;
mod rng;
mod slot;
mod trace;
mod world;

pub use oracle::Seen;
use trace::Trace;
use world::World;

/// Virtual time since the start of a run.
type Millis = u64;

/// How far time goes on at once.
const STEP: Millis = 100;
/// For how many records a use of a message id counts: few, so that ids are used again after it.
const REPETITION_WINDOW: usize = 60;
/// Messages that each process keeps: few, so that clients return too late.
const HISTORY_MESSAGES: usize = 12;

/// Something that must never happen, has.
pub struct Violation {
    /// What must hold.
    pub invariant: &'static str,
    /// How it does not.
    pub detail: String,
}

fn ensure(holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// One run. What there was in it is returned whether it went well or not.
pub fn run(seed: u64) -> (Seen, Result<(), Violation>) {
    let mut world = World::new(seed, Trace::default());
    let result = world.run();
    (world.seen(), result)
}

/// The same run again, for the last things that happened in it.
pub fn last_events(seed: u64) -> Vec<String> {
    let mut world = World::new(seed, Trace::on());
    let _ = world.run();
    world.trace.into_lines()
}

/// A violation as it is shown to people.
pub fn explain(seed: u64, violation: &Violation) -> String {
    let Violation { invariant, detail } = violation;
    let events = last_events(seed).join("\n");
    format!("seed {seed}: violated: {invariant}\n{detail}\nthe last events:\n{events}")
}
