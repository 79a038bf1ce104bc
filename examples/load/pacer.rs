//! The send schedule of the chat: message `k` is due at `start + k / rate`, even if earlier messages are late.
//!
//! A thread sleeps until each due time and wakes the engine, because `epoll` waits in whole milliseconds. Latency
//! counts from the due time, so that a stall of the tool or the server shows in the latencies (no coordinated
//! omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use crate::clock::now_ns;

/// The shortest interval between two wake-ups.
const MIN_WAKE_NS: f64 = 400_000.0;

/// A running schedule, stopped on drop.
pub struct Pacer {
    start_ns: u64,
    interval_ns: f64,
    taken: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts a schedule of `rate` messages per second.
    pub fn start(rate: f64, waker: Arc<Waker>) -> Result<Self, String> {
        let (start_ns, interval_ns) = (now_ns(), 1e9 / rate);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pace = move || {
            let wake_ns = interval_ns.max(MIN_WAKE_NS);
            for turn in 0_u64.. {
                let due_ns = start_ns + (turn as f64 * wake_ns) as u64;
                let wait_ns = due_ns.saturating_sub(now_ns());
                // Short sleeps, so that a slow schedule stops quickly.
                let mut rest = Duration::from_nanos(wait_ns);
                while !rest.is_zero() && !stopped.load(Ordering::Relaxed) {
                    let pause = rest.min(Duration::from_millis(100));
                    std::thread::sleep(pause);
                    rest -= pause;
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

    /// The number and due time of the next message, if it is due by `now_ns`.
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
