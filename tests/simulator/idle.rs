//! One instance is alone and has no sessions. It must append at most one heartbeat in 10 s, and all rules must hold
//! when another instance starts, when a user joins, and when the instance crashes while it is idle.

use super::client::Memory;
use super::world::{World, user};
use super::{Millis, STEP, Violation, ensure};

/// The time until the instance is idle: the leases of the others must expire, and its own first heartbeats are a second
/// apart.
const SETTLING: Millis = 45_000;
/// How long the simulation counts the ticks of the idle instance that append something.
const WATCHED: Millis = 60_000;
/// The most such ticks in this time: one in 10 s.
const APPENDING_TICKS_MAX: usize = 6;
/// How long these ticks are counted after the instance has stopped being idle.
const AWAKE: Millis = 5_000;
/// The least number of such ticks in [`AWAKE`]: there must be heartbeats at the normal rate at once.
const AWAKE_TICKS_MIN: usize = 4;

impl World {
    pub fn leave_one_alone(&mut self) -> Result<(), Violation> {
        let Some(index) = self.slots.iter().position(|slot| slot.process.is_some()) else { return Ok(()) };
        self.trace.note(self.now, || format!("slot {index}: is left alone"));
        for other in (0..self.slots.len()).filter(|other| *other != index) {
            if self.rng.one_in(2) { self.crash(other) } else { self.stop(other) }
        }
        self.close_all(index)?;
        self.step_for(SETTLING)?;
        let appended = self.watch(index, WATCHED)?;
        ensure(appended <= APPENDING_TICKS_MAX, "an idle instance appends at most once in 10 s", || {
            format!("it appended {appended} times in {WATCHED} ms")
        })?;
        self.oracle.seen.idle_instances += 1;
        if self.rng.one_in(2) {
            self.refuse_for_a_while(index)?;
        }
        self.wake(index)?;
        self.check_final_state()
    }

    /// The queue refuses the next heartbeats of the idle instance. The instance must soon append another one, because
    /// an unanswered heartbeat makes it stall. `Process::check_undisturbed` checks that.
    fn refuse_for_a_while(&mut self, index: usize) -> Result<(), Violation> {
        let refused = self.rng.between(12_000, 20_000);
        self.slots[index].refuses_until = self.now + refused;
        self.step_for(refused + AWAKE + STEP)
    }

    /// Ends the idleness in one of three ways.
    fn wake(&mut self, index: usize) -> Result<(), Violation> {
        let other = (index + 1) % self.slots.len();
        match self.rng.below(3) {
            0 => {
                self.start(other);
                self.check_awake(index)?;
            }
            1 => {
                let now = self.now;
                if let Some(process) = &mut self.slots[index].process {
                    process.open(user(1), Memory::default(), None, true, now);
                }
                self.check_awake(index)?;
            }
            _ => {
                self.crash(index);
                let pause = self.rng.below(30_000);
                self.step_for(pause)?;
                // Retention leaves so few records that the log does not show which users are online.
                if self.rng.one_in(2) {
                    let kept = self.rng.index(10);
                    self.log.first = self.log.first.max(self.log.end().saturating_sub(kept));
                }
                self.start(other);
            }
        }
        // Long enough for all leases, and for the bootstrap if retention has deleted the beginning of the log.
        self.step_for(20_000)
    }

    fn check_awake(&mut self, index: usize) -> Result<(), Violation> {
        let appended = self.watch(index, AWAKE)?;
        ensure(appended >= AWAKE_TICKS_MIN, "an instance that is needed has heartbeats at the normal rate", || {
            format!("it appended {appended} times in {AWAKE} ms")
        })
    }

    /// Counts the ticks of the process that append something in this time.
    fn watch(&mut self, index: usize, duration: Millis) -> Result<usize, Violation> {
        let count = |world: &Self| world.slots[index].process.as_ref().map_or(0, |process| process.appending_ticks);
        let before = count(self);
        self.step_for(duration)?;
        Ok(count(self) - before)
    }

    fn close_all(&mut self, index: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.slots[index].process else { return Ok(()) };
        let sessions: Vec<_> = process.clients.keys().copied().collect();
        for session in sessions {
            // This is the last part of a run: the user does not return.
            process.close(session, true, self.now, &self.oracle)?;
        }
        Ok(())
    }
}
