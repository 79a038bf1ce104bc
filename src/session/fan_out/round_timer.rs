//! [`RoundTimer`]: when a fan-out thread sends its next round. After a round it waits for the coalescing delay, and then
//! for its turn among the other fan-out threads.

use std::thread;
use std::time::{Duration, Instant};

use super::turns::{Turn, Turns};
use crate::machine;

/// The thread looks for commands at this interval, while it waits and during a round. Being woken for each command took a
/// fifth of the CPU under load. The credits of the commands are free again soon enough for the log thread.
pub(super) const COMMANDS_INTERVAL: Duration = Duration::from_millis(2);
/// The delay is at least this many times as long as the round, unless that exceeds its maximum. With 1,000 clients and 500
/// messages per second, measured in turn: with 1.0 the CPU per delivery was 1.59 us and the p99 15 ms, with 1.5 1.39 us
/// and 17 ms, with 2.0 1.23 us and 18 ms, and with 3.0 1.06 us and 20 ms.
const ROUNDS_MIN: f64 = 2.0;
/// The delay is at most this many times as long as the round.
const ROUNDS_MAX: f64 = 8.0;

pub(super) struct RoundTimer {
    turns: Turns,
    /// The end of the coalescing delay: commands that arrive until then belong to the next round.
    coalesce_until: Instant,
    /// The thread waits for its turn until then.
    turn_until: Instant,
}

/// The permission of a thread to send its round.
pub(super) struct Sending {
    turn: Turn,
    begun_at: Instant,
    /// The CPU time of this thread at the beginning.
    cpu: Duration,
}

impl RoundTimer {
    pub(super) fn new(turns: Turns, now: Instant) -> Self {
        RoundTimer { turns, coalesce_until: now, turn_until: now }
    }

    /// Returns the permission to send, if its time has come. Otherwise waits, for [`COMMANDS_INTERVAL`] at most, and
    /// returns `None`.
    pub(super) fn wait(&self) -> Option<Sending> {
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
        self.turns.wait(until_turn.min(COMMANDS_INTERVAL)).map(Sending::begin)
    }

    /// Returns the permission to send without a wait.
    pub(super) fn begin(&self) -> Sending {
        Sending::begin(self.turns.take())
    }

    /// Ends a round. The next one begins after a delay of at most `delay_max`, including the wait for a turn.
    pub(super) fn end(&mut self, sending: Sending, delay_max: Duration) {
        drop(sending.turn);
        let now = Instant::now();
        let cpu = machine::thread_cpu_time().saturating_sub(sending.cpu);
        let delay = delay(now.saturating_duration_since(sending.begun_at), cpu);
        self.coalesce_until = now + delay.min(delay_max);
        self.turn_until = now + delay_max;
    }
}

impl Sending {
    fn begin(turn: Turn) -> Self {
        Sending { turn, begun_at: Instant::now(), cpu: machine::thread_cpu_time() }
    }
}

/// The coalescing delay after a round that took `passed`, of which the thread had the CPU for `cpu`. It is twice as long as
/// the round. If the thread waited for a core more than twice as long as it had one, the delay is longer in the same
/// proportion: larger and fewer rounds leave more of the cores to others.
fn delay(passed: Duration, cpu: Duration) -> Duration {
    let waited = passed.saturating_sub(cpu);
    let share = waited.as_secs_f64() / cpu.as_secs_f64().max(f64::MIN_POSITIVE);
    passed.mul_f64(share.clamp(ROUNDS_MIN, ROUNDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(3);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_delay_is_twice_as_long_as_the_round_and_longer_if_the_thread_mostly_waited_for_a_core() {
        assert_eq!(delay(ROUND, ROUND), ROUND * 2);
        assert_eq!(delay(ROUND, ROUND * 2), ROUND * 2, "clocks differ a little");
        assert_eq!(delay(ROUND * 3, ROUND), ROUND * 6);
        assert_eq!(delay(ROUND * 4, ROUND), ROUND * 12);
        assert_eq!(delay(ROUND, Duration::ZERO), ROUND.mul_f64(ROUNDS_MAX));
        assert_eq!(delay(Duration::ZERO, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_first_round_begins_at_once() {
        assert!(RoundTimer::new(Turns::new(2), Instant::now()).wait().is_some());
    }

    #[test]
    fn the_delay_is_bounded_and_includes_the_wait_for_a_turn() {
        let turns = Turns::new(2);
        let mut timer = RoundTimer::new(turns.clone(), Instant::now());
        let mut sending = timer.begin();
        sending.begun_at -= LONG;
        timer.end(sending, ROUND);
        assert!(timer.coalesce_until <= Instant::now() + ROUND);
        let _sending = turns.take();
        assert!(std::iter::from_fn(|| timer.wait().is_none().then_some(())).count() <= 2 + ROUND.as_millis() as usize);
    }

    #[test]
    fn a_round_waits_while_another_thread_sends() {
        let turns = Turns::new(2);
        let mut timer = RoundTimer::new(turns.clone(), Instant::now());
        timer.end(timer.begin(), LONG);
        thread::sleep(timer.coalesce_until.saturating_duration_since(Instant::now()));
        let sending = turns.take();
        assert!(timer.wait().is_none());
        drop(sending);
        assert!(timer.wait().is_some());
    }
}
