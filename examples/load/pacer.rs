//! The schedule of the chat: message `k` is due at `start + k / rate`, whether the ones before it went out or not.
//!
//! A thread sleeps until each time and wakes the engine, because the engine's own wait is only as fine as a
//! millisecond. Latency counts from the time a message was due, so a tool or server that stalls cannot hide it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use crate::clock::now_ns;

/// Waking more often than this serves nothing.
const MIN_WAKE_NS: f64 = 400_000.0;

/// A schedule that runs until it is dropped.
pub struct Pacer {
    start_ns: u64,
    interval_ns: f64,
    taken: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Begins a schedule of `rate` a second.
    pub fn start(rate: f64, waker: Arc<Waker>) -> Result<Self, String> {
        let (start_ns, interval_ns) = (now_ns(), 1e9 / rate);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pace = move || {
            let wake_ns = interval_ns.max(MIN_WAKE_NS);
            for turn in 0_u64.. {
                let due_ns = start_ns + (turn as f64 * wake_ns) as u64;
                let wait_ns = due_ns.saturating_sub(now_ns());
                // In short naps, so that a slow schedule still stops at once.
                let mut left = Duration::from_nanos(wait_ns);
                while !left.is_zero() && !stopped.load(Ordering::Relaxed) {
                    let nap = left.min(Duration::from_millis(100));
                    std::thread::sleep(nap);
                    left -= nap;
                }
                if stopped.load(Ordering::Relaxed) || waker.wake().is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("pacer".into()).spawn(pace);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { start_ns, interval_ns, taken: 0, stop, thread: Some(thread) })
    }

    /// The number and due time of the next message, when it is due by `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let due_ns = self.start_ns + (self.taken as f64 * self.interval_ns) as u64;
        (due_ns <= now_ns).then(|| {
            self.taken += 1;
            (self.taken - 1, due_ns)
        })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
