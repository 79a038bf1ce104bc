//! [`Faults`]: the kinds and rates of the faults of one run. Each run has a random selection of kinds, because some
//! kinds hide the effects of others.

use super::Millis;
use super::rng::Rng;
use super::world::World;

/// Each fault occurs on average once in the given number of steps; a fault of a process, once for each process. 0:
/// never in this run.
pub struct Faults {
    start: u64,
    crash: u64,
    stop: u64,
    pause: u64,
    partition: u64,
    refuse: u64,
    outage: u64,
    truncate: u64,
}

impl Faults {
    pub fn random(rng: &mut Rng) -> Self {
        let mut rate = |steps: u64| if rng.one_in(2) { 0 } else { rng.between(steps / 3, steps) };
        Faults {
            crash: rate(600),
            stop: rate(600),
            pause: rate(600),
            partition: rate(600),
            refuse: rate(600),
            outage: rate(1200),
            truncate: rate(300),
            start: rng.between(10, 80),
        }
    }

    /// Injects the faults of one step.
    pub fn inject(&self, world: &mut World) {
        let mut occurs = |steps: u64| steps > 0 && world.rng.one_in(steps);
        if occurs(self.outage) {
            world.log_down_until = world.now + world.rng.between(1_000, 45_000);
            world.trace.note(world.now, || format!("the log is down until {} ms", world.log_down_until));
        }
        if world.rng.one_in(self.truncate.max(1)) && self.truncate > 0 {
            let kept = world.rng.index(300);
            world.log.first = world.log.first.max(world.log.end().saturating_sub(kept));
            world.trace.note(world.now, || format!("the log begins at {} now", world.log.first));
        }
        (0..world.slots.len()).for_each(|index| self.inject_into_slot(world, index));
    }

    fn inject_into_slot(&self, world: &mut World, index: usize) {
        let now = world.now;
        let mut occurs = |steps: u64| steps > 0 && world.rng.one_in(steps);
        if world.slots[index].process.is_none() {
            if occurs(self.start) {
                world.start(index);
            }
        } else if occurs(self.crash) {
            world.crash(index);
        } else if occurs(self.stop) && !world.slots[index].is_stopping() {
            world.stop(index);
        } else if occurs(self.pause) {
            let until = now + world.rng.between(500, 40_000);
            world.slots[index].paused_until = until;
            world.trace.note(now, || format!("slot {index}: paused until {until} ms"));
        } else if occurs(self.partition) {
            let until = now + world.rng.between(500, 40_000);
            partition(world, index, until);
        } else if occurs(self.refuse) {
            let until = now + world.rng.between(500, 10_000);
            world.slots[index].refuses_until = until;
            world.trace.note(now, || format!("slot {index}: its queue is full until {until} ms"));
        }
    }
}

/// Breaks the connection from a process to the log, in one or both directions.
fn partition(world: &mut World, index: usize, until: Millis) {
    let slot = &mut world.slots[index];
    let direction = world.rng.below(4);
    if direction != 0 {
        slot.cannot_append_until = until;
    }
    if direction != 1 {
        slot.cannot_read_until = until;
    }
    let (append, read) = (direction == 0, direction == 1);
    world.trace.note(world.now, || format!("slot {index}: until {until} ms can append: {append}, read: {read}"));
}
