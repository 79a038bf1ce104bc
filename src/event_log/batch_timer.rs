//! [`BatchTimer`]: when the thread that writes the log may begin the next batch.
//!
//! A batch costs about the same however many records it has: a commit of SQLite, or a request to Kafka and its
//! answers to all readers. So under load several records share one batch. With few records, none waits: [`BURST`]
//! batches may follow each other at once.

use std::time::{Duration, Instant};

use crate::rate::{Rate, TokenBucket};

/// The most batches without a pause, after a time with few batches.
const BURST: u32 = 3;

pub(super) struct BatchTimer {
    interval: Duration,
    rate: Rate,
    bucket: TokenBucket,
    /// After this time without a batch, the next one waits for the interval, so that records which follow each other
    /// share it. `None`: it does not wait.
    idle_time: Option<Duration>,
    begun_at: Instant,
}

impl BatchTimer {
    /// `interval`: the minimum time between two batches, on average. Under load, all records of this time share one
    /// batch.
    pub fn new(interval: Duration, idle_time: Option<Duration>, now: Instant) -> Self {
        let (rate, bucket) = (Rate::one_per(interval, BURST), TokenBucket::full(now));
        BatchTimer { interval, rate, bucket, idle_time, begun_at: now }
    }

    /// The time from `now` until the next batch may begin.
    pub fn wait(&self, now: Instant) -> Duration {
        if self.idle_time.is_some_and(|idle_time| now.saturating_duration_since(self.begun_at) > idle_time) {
            return self.interval;
        }
        self.bucket.check(self.rate, now).err().unwrap_or_default()
    }

    /// Counts a batch at `now`.
    pub fn on_batch(&mut self, now: Instant) {
        self.begun_at = now;
        self.bucket.charge(self.rate, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(1);
    const IDLE_TIME: Duration = Duration::from_secs(1);

    /// Simulates a record after each `every`, and a batch as soon as a record waits. Returns the wait of each batch.
    fn waits(every: Duration, count: u32, idle_time: Option<Duration>) -> Vec<Duration> {
        let start = Instant::now();
        let (mut timer, mut now) = (BatchTimer::new(INTERVAL, idle_time, start), start);
        (1..=count)
            .map(|number| {
                now = now.max(start + every * number);
                let wait = timer.wait(now);
                now += wait;
                timer.on_batch(now);
                wait
            })
            .collect()
    }

    #[test]
    fn few_records_do_not_wait() {
        assert!(waits(INTERVAL, 1000, None).iter().all(Duration::is_zero));
    }

    #[test]
    fn batches_are_one_per_interval_under_load_after_a_burst() {
        let waits = waits(Duration::from_micros(100), 100, None);
        assert!(waits[..BURST as usize].iter().all(Duration::is_zero));
        assert!(waits[BURST as usize + 1..].iter().all(|wait| !wait.is_zero() && *wait <= INTERVAL), "{waits:?}");
    }

    #[test]
    fn the_first_batch_after_a_long_time_waits_for_more_records_if_it_shall() {
        assert_eq!(waits(IDLE_TIME * 2, 3, Some(IDLE_TIME)), [INTERVAL; 3]);
        assert_eq!(waits(IDLE_TIME * 2, 3, None), [Duration::ZERO; 3]);
    }
}
