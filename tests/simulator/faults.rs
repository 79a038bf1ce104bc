//! [`Faults`]: what goes wrong, and how often. Each run draws which kinds it has, as some hide others.

use super::rng::Rng;
use super::world::World;
use super::{Millis, Violation};

/// One in so many steps, for each process; 0: never in this run.
pub struct Faults {
    start: u64,
    crash: u64,
    stop: u64,
    pause: u64,
    partition: u64,
    refuse: u64,
    outage: u64,
    cut: u64,
}

impl Faults {
    pub fn draw(rng: &mut Rng) -> Self {
        let mut often = |steps: u64| if rng.one_in(2) { 0 } else { rng.between(steps / 3, steps) };
        Faults {
            crash: often(600),
            stop: often(600),
            pause: often(600),
            partition: often(600),
            refuse: often(600),
            outage: often(1200),
            cut: often(300),
            start: rng.between(10, 80),
        }
    }

    /// What goes wrong in this step.
    pub fn strike(&self, world: &mut World) -> Result<(), Violation> {
        let mut strikes = |times: u64| times > 0 && world.rng.one_in(times);
        if strikes(self.outage) {
            world.log_down_until = world.now + world.rng.between(1_000, 45_000);
            world.trace.note(world.now, || format!("the log is down until {} ms", world.log_down_until));
        }
        if world.rng.one_in(self.cut.max(1)) && self.cut > 0 {
            let kept = world.rng.index(300);
            world.log.first = world.log.first.max(world.log.end().saturating_sub(kept));
            world.trace.note(world.now, || format!("the log begins at {} now", world.log.first));
        }
        (0..world.slots.len()).for_each(|index| self.strike_slot(world, index));
        Ok(())
    }

    fn strike_slot(&self, world: &mut World, index: usize) {
        let now = world.now;
        let mut strikes = |times: u64| times > 0 && world.rng.one_in(times);
        if world.slots[index].process.is_none() {
            if strikes(self.start) {
                world.start(index);
            }
        } else if strikes(self.crash) {
            world.crash(index);
        } else if strikes(self.stop) && !world.slots[index].is_stopping() {
            world.stop(index);
        } else if strikes(self.pause) {
            let until = now + world.rng.between(500, 40_000);
            world.slots[index].paused_until = until;
            world.trace.note(now, || format!("slot {index}: paused until {until} ms"));
        } else if strikes(self.partition) {
            let until = now + world.rng.between(500, 40_000);
            cut_off(world, index, until);
        } else if strikes(self.refuse) {
            let until = now + world.rng.between(500, 10_000);
            world.slots[index].refuses_until = until;
            world.trace.note(now, || format!("slot {index}: its queue is full until {until} ms"));
        }
    }
}

fn cut_off(world: &mut World, index: usize, until: Millis) {
    let slot = &mut world.slots[index];
    let way = world.rng.below(4);
    if way != 0 {
        slot.cannot_append_until = until;
    }
    if way != 1 {
        slot.cannot_read_until = until;
    }
    let (append, read) = (way == 0, way == 1);
    world.trace.note(world.now, || format!("slot {index}: until {until} ms can append: {append}, read: {read}"));
}
