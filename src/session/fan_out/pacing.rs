//! [`Pacing`]: when a fan-out thread sends its next round. After a round it waits for the coalescing delay, and then for
//! its turn among the other fan-out threads.

use std::thread;
use std::time::{Duration, Instant};

use super::turns::{Turn, Turns};
use crate::machine;

/// The thread looks for commands at this interval while it waits. Being woken for each command took a fifth of the CPU
/// under load. The credits of the commands are free again soon enough for the log thread.
const COMMANDS_INTERVAL: Duration = Duration::from_millis(2);
/// The delay is at most this many times as long as the round.
const SHARE_MAX: f64 = 8.0;

pub(super) struct Pacing {
    turns: Turns,
    /// The end of the coalescing delay: commands that arrive until then belong to the next round.
    coalesce_until: Instant,
    /// The thread waits for its turn until then.
    turn_until: Instant,
}

/// A round that is being sent.
pub(super) struct Round {
    turn: Turn,
    begun_at: Instant,
    /// The CPU time of this thread at the beginning.
    cpu: Duration,
}

impl Pacing {
    pub(super) fn new(turns: Turns, now: Instant) -> Self {
        Pacing { turns, coalesce_until: now, turn_until: now }
    }

    /// Begins a round, if its time has come. Otherwise waits, for [`COMMANDS_INTERVAL`] at most, and returns `None`.
    pub(super) fn wait(&self) -> Option<Round> {
        let now = Instant::now();
        let until_turn = self.turn_until.saturating_duration_since(now);
        let delay = self.coalesce_until.saturating_duration_since(now);
        if until_turn.is_zero() {
            return Some(self.begin());
        }
        if !delay.is_zero() {
            thread::sleep(delay.min(COMMANDS_INTERVAL));
            return None;
        }
        self.turns.wait(until_turn.min(COMMANDS_INTERVAL)).map(Round::begin)
    }

    /// Begins a round without a wait.
    pub(super) fn begin(&self) -> Round {
        Round::begin(self.turns.take())
    }

    /// Ends a round. The next one begins after a delay of at most `delay_max`, including the wait for a turn.
    pub(super) fn end(&mut self, round: Round, delay_max: Duration) {
        drop(round.turn);
        let now = Instant::now();
        let cpu = machine::thread_cpu_time().saturating_sub(round.cpu);
        let delay = delay(now.saturating_duration_since(round.begun_at), cpu);
        self.coalesce_until = now + delay.min(delay_max);
        self.turn_until = now + delay_max;
    }
}

impl Round {
    fn begin(turn: Turn) -> Self {
        Round { turn, begun_at: Instant::now(), cpu: machine::thread_cpu_time() }
    }
}

/// The coalescing delay after a round that took `passed`, of which the thread had the CPU for `cpu`. It is as long as the
/// round. If the thread waited for a core longer than it had one, the delay is longer in the same proportion: larger and
/// fewer rounds leave more of the cores to others.
fn delay(passed: Duration, cpu: Duration) -> Duration {
    let waited = passed.saturating_sub(cpu);
    let share = waited.as_secs_f64() / cpu.as_secs_f64().max(f64::MIN_POSITIVE);
    passed.mul_f64(share.clamp(1.0, SHARE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(3);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_delay_is_as_long_as_the_round_and_longer_if_the_thread_mostly_waited_for_a_core() {
        assert_eq!(delay(ROUND, ROUND), ROUND);
        assert_eq!(delay(ROUND, ROUND * 2), ROUND, "clocks differ a little");
        assert_eq!(delay(ROUND * 2, ROUND), ROUND * 2);
        assert_eq!(delay(ROUND * 4, ROUND), ROUND * 12);
        assert_eq!(delay(ROUND, Duration::ZERO), ROUND.mul_f64(SHARE_MAX));
        assert_eq!(delay(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_first_round_begins_at_once() {
        assert!(Pacing::new(Turns::new(2), Instant::now()).wait().is_some());
    }

    #[test]
    fn the_delay_is_bounded_and_includes_the_wait_for_a_turn() {
        let turns = Turns::new(2);
        let mut pacing = Pacing::new(turns.clone(), Instant::now());
        let mut round = pacing.begin();
        round.begun_at -= LONG;
        pacing.end(round, ROUND);
        assert!(pacing.coalesce_until <= Instant::now() + ROUND);
        let _sending = turns.take();
        assert!(std::iter::from_fn(|| pacing.wait().is_none().then_some(())).count() <= 2 + ROUND.as_millis() as usize);
    }

    #[test]
    fn a_round_waits_while_another_thread_sends() {
        let turns = Turns::new(2);
        let mut pacing = Pacing::new(turns.clone(), Instant::now());
        pacing.end(pacing.begin(), LONG);
        thread::sleep(pacing.coalesce_until.saturating_duration_since(Instant::now()));
        let sending = turns.take();
        assert!(pacing.wait().is_none());
        drop(sending);
        assert!(pacing.wait().is_some());
    }
}
