//! A pool whose service hangs, fails or panics when the test wants it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::threads::WATCH_INTERVAL;
use super::*;
use crate::accounts::testing::until;

/// A service that fails when the test wants it.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    down: AtomicBool,
    hang: Mutex<()>,
    connects: AtomicUsize,
    runs: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq)]
enum Request {
    Echo(u32),
    Hang,
    Panic,
    BreakOnce { may_retry: bool },
    Refuse,
}

impl Backend for Fake {
    type Connection = usize;
    type Request = Request;
    type Answer = u32;

    fn name(&self) -> String {
        "the fake".to_owned()
    }

    fn silence(&self) -> &'static str {
        "check the fake"
    }

    fn prepare(&self, _connection: &mut usize) -> Result<(), String> {
        Ok(())
    }

    fn connect(&self) -> Result<usize, String> {
        if self.0.down.load(Ordering::Relaxed) {
            return Err("down".to_owned());
        }
        Ok(self.0.connects.fetch_add(1, Ordering::Relaxed))
    }

    fn probe(&self, _connection: &mut usize) -> Result<(), String> {
        if self.0.down.load(Ordering::Relaxed) { Err("down".to_owned()) } else { Ok(()) }
    }

    fn run(&self, _connection: &mut usize, request: &Request) -> Result<u32, Failed> {
        let run = self.0.runs.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Echo(number) => Ok(*number),
            Request::Hang => {
                drop(lock(&self.0.hang));
                Ok(0)
            }
            Request::Panic => panic!("injected"),
            Request::BreakOnce { .. } if run > 0 => Ok(7),
            Request::BreakOnce { may_retry } => {
                Err(Failed { reason: "broken".to_owned(), may_retry: *may_retry, connection_works: false })
            }
            Request::Refuse => Err(Failed { reason: "refused".to_owned(), may_retry: false, connection_works: true }),
        }
    }
}

fn start(threads: usize, max_abandoned: usize) -> (Fake, Pool<Fake>) {
    start_patient(threads, max_abandoned, Duration::from_millis(300))
}

fn start_patient(threads: usize, max_abandoned: usize, call_timeout: Duration) -> (Fake, Pool<Fake>) {
    let fake = Fake::default();
    let settings = PoolSettings {
        name: "test",
        threads,
        max_abandoned,
        call_timeout,
        connect_timeout: Duration::from_millis(300),
        silence: Duration::from_secs(60),
    };
    let pool = Pool::start(fake.clone(), settings, &Supervisor::default()).unwrap();
    until(|| pool.is_ready());
    (fake, pool)
}

#[test]
fn a_thread_that_hangs_is_replaced_and_ends_when_its_call_returns() {
    let (fake, pool) = start(1, 4);
    let hang = lock(&fake.0.hang);
    assert!(pool.call(Request::Hang).is_err(), "an answer, though the call hangs");
    assert!(!pool.is_ready());
    until(|| pool.is_ready());
    assert_eq!(pool.call(Request::Echo(1)), Ok(1));
    assert_eq!(pool.shared.abandoned.load(Ordering::Relaxed), 1);
    drop(hang);
    until(|| pool.shared.abandoned.load(Ordering::Relaxed) == 0);
    assert_eq!(pool.call(Request::Echo(2)), Ok(2));
}

#[test]
fn the_number_of_abandoned_threads_is_bounded_and_the_pool_recovers() {
    let (fake, pool) = start(1, 2);
    let hang = lock(&fake.0.hang);
    for _ in 0..3 {
        until(|| pool.is_ready());
        assert!(pool.call(Request::Hang).is_err());
    }
    thread::sleep(WATCH_INTERVAL * 4);
    assert_eq!(pool.shared.abandoned.load(Ordering::Relaxed), 2);
    assert_eq!(pool.shared.started_threads.load(Ordering::Relaxed), 3);
    // Not the error of a call that took too long: a call waits for no thread that is known to hang.
    assert_eq!(pool.call(Request::Echo(1)), Err("not connected".to_owned()));
    drop(hang);
    until(|| pool.call(Request::Echo(1)) == Ok(1));
    until(|| pool.shared.abandoned.load(Ordering::Relaxed) == 0);
}

#[test]
fn a_pool_connects_again_by_itself() {
    let (fake, pool) = start_patient(2, 4, Duration::from_secs(10));
    fake.0.down.store(true, Ordering::Relaxed);
    until(|| !pool.is_ready());
    assert!(pool.call(Request::Echo(1)).is_err());
    fake.0.down.store(false, Ordering::Relaxed);
    until(|| pool.is_ready());
    assert_eq!(pool.call(Request::Echo(1)), Ok(1));
}

#[test]
fn only_requests_that_may_be_retried_are_retried() {
    let (fake, pool) = start_patient(1, 4, Duration::from_secs(10));
    assert_eq!(pool.call(Request::BreakOnce { may_retry: true }), Ok(7));
    assert_eq!(fake.0.runs.swap(0, Ordering::Relaxed), 2);
    assert_eq!(pool.call(Request::BreakOnce { may_retry: false }), Err("broken".to_owned()));
    assert_eq!(fake.0.runs.load(Ordering::Relaxed), 1);
    assert!(fake.0.connects.load(Ordering::Relaxed) >= 2);
}

#[test]
fn a_request_that_fails_on_a_working_connection_keeps_it() {
    let (fake, pool) = start_patient(1, 4, Duration::from_secs(10));
    for _ in 0..3 {
        assert_eq!(pool.call(Request::Refuse), Err("refused".to_owned()));
    }
    assert_eq!(pool.call(Request::Echo(1)), Ok(1));
    assert_eq!(fake.0.connects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_is_one_failed_call() {
    let (_, pool) = start_patient(1, 4, Duration::from_secs(10));
    assert_eq!(pool.call(Request::Panic), Err("a call panicked".to_owned()));
    until(|| pool.call(Request::Echo(3)) == Ok(3));
}

#[test]
fn dropping_a_pool_ends_its_threads_and_waits_for_none_that_hangs() {
    let (fake, pool) = start(3, 4);
    drop(pool);
    until(|| Arc::strong_count(&fake.0) == 1);

    let (fake, pool) = start(1, 4);
    let hang = lock(&fake.0.hang);
    let _ = pool.call(Request::Hang);
    let dropped = Instant::now();
    drop(pool);
    assert!(dropped.elapsed() < CLOSE_TIMEOUT + Duration::from_secs(2));
    drop(hang);
    until(|| Arc::strong_count(&fake.0) == 1);
}
