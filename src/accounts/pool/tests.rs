//! A pool of threads whose store hangs, fails or panics, in whatever way the test switches on.

use std::thread;

use super::*;
use crate::accounts::testing::until;

/// A service whose faults are switched on by the test.
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
enum Ask {
    Echo(u32),
    Hang,
    Panic,
    BreakOnce { may_retry: bool },
    Refuse,
}

impl Backend for Fake {
    type Connection = usize;
    type Request = Ask;
    type Answer = u32;

    fn connect(&self) -> Result<usize, String> {
        if self.0.down.load(Ordering::Relaxed) {
            return Err("down".to_owned());
        }
        Ok(self.0.connects.fetch_add(1, Ordering::Relaxed))
    }

    fn probe(&self, _connection: &mut usize) -> Result<(), String> {
        if self.0.down.load(Ordering::Relaxed) { Err("down".to_owned()) } else { Ok(()) }
    }

    fn run(&self, _connection: &mut usize, ask: &Ask) -> Result<u32, Failed> {
        let run = self.0.runs.fetch_add(1, Ordering::Relaxed);
        match ask {
            Ask::Echo(number) => Ok(*number),
            Ask::Hang => {
                drop(lock(&self.0.hang));
                Ok(0)
            }
            Ask::Panic => panic!("injected"),
            Ask::BreakOnce { .. } if run > 0 => Ok(7),
            Ask::BreakOnce { may_retry } => {
                Err(Failed { reason: "broken".to_owned(), may_retry: *may_retry, connection_works: false })
            }
            Ask::Refuse => Err(Failed { reason: "refused".to_owned(), may_retry: false, connection_works: true }),
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
    };
    let pool = Pool::start(fake.clone(), settings, &Supervisor::default()).unwrap();
    until(|| pool.is_ready());
    (fake, pool)
}

#[test]
fn a_thread_that_hangs_is_replaced_and_ends_when_it_returns() {
    let (fake, pool) = start(1, 4);
    let hang = lock(&fake.0.hang);
    let asked = Instant::now();
    assert!(pool.call(Ask::Hang).is_err());
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(!pool.is_ready());
    until(|| pool.is_ready());
    assert_eq!(pool.call(Ask::Echo(1)), Ok(1));
    assert_eq!(pool.shared.abandoned.load(Ordering::Relaxed), 1);
    drop(hang);
    until(|| pool.shared.abandoned.load(Ordering::Relaxed) == 0);
    assert_eq!(pool.call(Ask::Echo(2)), Ok(2));
}

#[test]
fn only_so_many_threads_are_given_up_and_it_recovers_from_that_too() {
    let (fake, pool) = start(1, 2);
    let hang = lock(&fake.0.hang);
    for _ in 0..3 {
        until(|| pool.is_ready());
        assert!(pool.call(Ask::Hang).is_err());
    }
    thread::sleep(WATCH_INTERVAL * 4);
    assert_eq!(pool.shared.abandoned.load(Ordering::Relaxed), 2);
    assert_eq!(pool.shared.started_threads.load(Ordering::Relaxed), 3);
    let asked = Instant::now();
    assert_eq!(pool.call(Ask::Echo(1)), Err("not connected".to_owned()));
    assert!(asked.elapsed() < Duration::from_millis(200), "nobody waits for what is known to hang");
    drop(hang);
    until(|| pool.call(Ask::Echo(1)) == Ok(1));
    until(|| pool.shared.abandoned.load(Ordering::Relaxed) == 0);
}

#[test]
fn it_connects_again_by_itself() {
    let (fake, pool) = start_patient(2, 4, Duration::from_secs(10));
    fake.0.down.store(true, Ordering::Relaxed);
    until(|| !pool.is_ready());
    assert!(pool.call(Ask::Echo(1)).is_err());
    fake.0.down.store(false, Ordering::Relaxed);
    until(|| pool.is_ready());
    assert_eq!(pool.call(Ask::Echo(1)), Ok(1));
}

#[test]
fn only_what_may_be_run_again_is_run_again() {
    let (fake, pool) = start_patient(1, 4, Duration::from_secs(10));
    assert_eq!(pool.call(Ask::BreakOnce { may_retry: true }), Ok(7));
    assert_eq!(fake.0.runs.swap(0, Ordering::Relaxed), 2);
    assert_eq!(pool.call(Ask::BreakOnce { may_retry: false }), Err("broken".to_owned()));
    assert_eq!(fake.0.runs.load(Ordering::Relaxed), 1);
    assert!(fake.0.connects.load(Ordering::Relaxed) >= 2);
}

#[test]
fn a_refusal_does_not_cost_the_connection() {
    let (fake, pool) = start_patient(1, 4, Duration::from_secs(10));
    for _ in 0..3 {
        assert_eq!(pool.call(Ask::Refuse), Err("refused".to_owned()));
    }
    assert_eq!(pool.call(Ask::Echo(1)), Ok(1));
    assert_eq!(fake.0.connects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_panic_is_one_failed_call() {
    let (_, pool) = start_patient(1, 4, Duration::from_secs(10));
    assert_eq!(pool.call(Ask::Panic), Err("a call panicked".to_owned()));
    until(|| pool.call(Ask::Echo(3)) == Ok(3));
}

#[test]
fn dropping_it_ends_its_threads_but_waits_for_none_that_hangs() {
    let (fake, pool) = start(3, 4);
    drop(pool);
    until(|| Arc::strong_count(&fake.0) == 1);

    let (fake, pool) = start(1, 4);
    let hang = lock(&fake.0.hang);
    let _ = pool.call(Ask::Hang);
    let dropped = Instant::now();
    drop(pool);
    assert!(dropped.elapsed() < CLOSE_TIMEOUT + Duration::from_secs(2));
    drop(hang);
    until(|| Arc::strong_count(&fake.0) == 1);
}
