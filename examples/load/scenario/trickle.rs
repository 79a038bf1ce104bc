//! [`Trickle`]: clients that leave and rejoin during a chat (`--trickle`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{nanos, now_ns, seconds};
use crate::engines::Engines;
use crate::options::Options;

/// The time between leaving and rejoining.
const OFFLINE_TIME: Duration = Duration::from_millis(500);

/// The clients that take part: those of the first process that do not send.
pub(super) struct Trickle {
    begun_ns: u64,
    rate: f64,
    first: usize,
    last: usize,
    /// Leaves so far.
    pub(super) done: u64,
    /// The time of leaving and the client, oldest first.
    away: VecDeque<(u64, usize)>,
}

impl Trickle {
    pub(super) fn new(options: &Options, engines: &Engines) -> Self {
        let (first, last) = (options.senders, engines.local().own_readers().end);
        Self { begun_ns: now_ns(), rate: options.trickle, first, last, done: 0, away: VecDeque::new() }
    }

    /// Makes the clients leave and rejoin that are due.
    pub(super) fn step(&mut self, engines: &mut Engines, now: u64) -> Result<(), String> {
        let due = (seconds(now - self.begun_ns) * self.rate) as u64;
        while self.done < due && self.first < self.last {
            let client = self.first + self.done as usize % (self.last - self.first);
            self.done += 1;
            if engines.local().is_open(client) {
                engines.leave(vec![client], true)?;
                self.away.push_back((now, client));
            }
        }
        while self.away.front().is_some_and(|(left_ns, _)| now > left_ns + nanos(OFFLINE_TIME)) {
            let back = self.away.pop_front().map(|(_, client)| client);
            engines.join(back.into_iter().collect())?;
        }
        Ok(())
    }

    /// The clients that are away.
    pub(super) fn away(self) -> impl Iterator<Item = usize> {
        self.away.into_iter().map(|(_, client)| client)
    }
}
