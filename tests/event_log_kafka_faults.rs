//! Days on which brokers are away: down at the start, killed and started again, frozen, or their leader killed.
//!
//! What must hold each time: every record that was taken comes out once and in order, or was handed back.

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::event_log::{PATIENCE, read, record, rewind};
use harness::kafka::{Broker, VERSIONS};
use ich::event_log::{Appender, EventLog, Reader, kafka};

/// How often the tests append.
const EVERY: Duration = Duration::from_millis(5);

/// Appends 200 times a second, on a thread of its own, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    taken_last: Arc<AtomicU64>,
    thread: thread::JoinHandle<BTreeSet<u64>>,
}

impl Load {
    fn start(appender: &Arc<dyn Appender>) -> Self {
        let (stop, taken_last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (appender, stopped, last) = (Arc::clone(appender), Arc::clone(&stop), Arc::clone(&taken_last));
        let thread = thread::spawn(move || {
            let mut taken = BTreeSet::new();
            for seq in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                if appender.append(record(seq)).is_ok() {
                    taken.insert(seq);
                    last.store(seq, Ordering::Relaxed);
                }
                thread::sleep(EVERY);
            }
            taken
        });
        Load { stop, taken_last, thread }
    }

    /// The last one that was taken so far.
    fn last(&self) -> u64 {
        self.taken_last.load(Ordering::Relaxed)
    }

    fn stop(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the appending thread")
    }
}

/// What came out of the log so far, checked as it comes.
#[derive(Default)]
struct Seen {
    seqs: BTreeSet<u64>,
    last_offset: Option<u64>,
}

impl Seen {
    fn poll(&mut self, reader: &mut dyn Reader) {
        let mut entries = Vec::new();
        if let Err(error) = reader.poll(Duration::from_millis(50), 1000, &mut entries) {
            panic!("no fault of these needs the state to be built again: {error}");
        }
        for entry in entries {
            assert!(self.last_offset < Some(entry.offset), "offset {} again", entry.offset);
            self.last_offset = Some(entry.offset);
            let seq = entry.record.seq;
            assert!(self.seqs.last().is_none_or(|last| *last < seq), "{seq} comes twice or too late");
            self.seqs.insert(seq);
        }
    }

    /// Until the `seq`-th, or a later one, came out.
    fn poll_to(&mut self, reader: &mut dyn Reader, seq: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.seqs.last().is_none_or(|last| *last < seq) {
            assert!(Instant::now() < deadline, "{seq} does not come out; the last was {:?}", self.seqs.last());
            self.poll(reader);
        }
    }

    /// Until each of `taken` came out or was handed back; then how many were only handed back.
    fn accounts_for(&mut self, log: &mut EventLog, taken: &BTreeSet<u64>) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut handed_back = BTreeSet::new();
        loop {
            handed_back.extend(log.undelivered.try_iter().map(|record| record.seq));
            let missing: Vec<_> =
                taken.iter().filter(|seq| !self.seqs.contains(seq) && !handed_back.contains(seq)).collect();
            if missing.is_empty() {
                assert!(self.seqs.is_subset(taken), "what was refused came out");
                return handed_back.difference(&self.seqs).count();
            }
            assert!(Instant::now() < deadline, "lost without a word: {missing:?}");
            self.poll(&mut *log.reader);
        }
    }
}

fn a_broker_that_is_killed_and_started_again_loses_nothing(version: &str) {
    let Some(broker) = Broker::own(version, 1) else { return };
    let mut log = kafka::open(&broker.settings(&broker.new_topic_name())).expect("opening");
    rewind(&mut *log.reader, 10);
    let load = Load::start(&log.appender);
    let mut seen = Seen::default();
    for _ in 0..2 {
        seen.poll_to(&mut *log.reader, load.last() + 200);
        broker.kill(0);
        // While it is away: more is taken, and nothing comes out but what was on its way.
        let away = load.last();
        while load.last() < away + 100 {
            seen.poll(&mut *log.reader);
        }
        broker.start(0);
    }
    seen.poll_to(&mut *log.reader, load.last() + 200);
    let taken = load.stop();
    let handed_back = seen.accounts_for(&mut log, &taken);
    // It was away for less than the producer is patient, if the machine is not overloaded.
    eprintln!("Kafka {version}: {} taken, {handed_back} of them handed back", taken.len());
    assert!(seen.seqs.len() >= 600);
}

#[test]
fn killed_and_started_again() {
    a_broker_that_is_killed_and_started_again_loses_nothing(VERSIONS[0]);
}

#[test]
fn killed_and_started_again_in_the_version_before() {
    a_broker_that_is_killed_and_started_again_loses_nothing(VERSIONS[1]);
}

#[test]
fn down_at_the_start() {
    let Some(broker) = Broker::own_not_started(VERSIONS[0], 1) else { return };
    let mut log = kafka::open(&broker.settings(&broker.new_topic_name())).expect("opening");
    assert!(log.reader.rewind(10).is_err());
    broker.start_all();
    let span = rewind(&mut *log.reader, 10);
    assert_eq!((span.start, span.end), (0, 0));
    log.appender.append(record(1)).expect("appending");
    assert_eq!(read(&mut *log.reader, 1)[0].record.seq, 1);
}

#[test]
fn frozen_for_longer_than_a_request_may_take() {
    let Some(broker) = Broker::own(VERSIONS[0], 1) else { return };
    let mut log = kafka::open(&broker.settings(&broker.new_topic_name())).expect("opening");
    rewind(&mut *log.reader, 10);
    let load = Load::start(&log.appender);
    let mut seen = Seen::default();
    seen.poll_to(&mut *log.reader, 100);
    broker.freeze(0);
    let until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < until {
        let started = Instant::now();
        seen.poll(&mut *log.reader);
        assert!(started.elapsed() < Duration::from_secs(2), "polling waits for a frozen broker");
    }
    let frozen_at = load.last();
    broker.thaw(0);
    seen.poll_to(&mut *log.reader, frozen_at + 100);
    let taken = load.stop();
    seen.accounts_for(&mut log, &taken);
}

#[test]
fn dropping_does_not_wait_for_a_frozen_broker() {
    let Some(broker) = Broker::own(VERSIONS[0], 1) else { return };
    let mut log = kafka::open(&broker.settings(&broker.new_topic_name())).expect("opening");
    rewind(&mut *log.reader, 10);
    log.appender.append(record(1)).expect("appending");
    read(&mut *log.reader, 1);
    broker.freeze(0);
    log.appender.append(record(2)).expect("appending");
    let started = Instant::now();
    drop(log);
    assert!(started.elapsed() < Duration::from_secs(6), "dropping took {:?}", started.elapsed());
}

#[test]
fn the_leader_of_three_is_killed() {
    let Some(broker) = Broker::own(VERSIONS[0], 3) else { return };
    let topic = broker.new_topic_name();
    let mut log = kafka::open(&broker.settings(&topic)).expect("opening");
    rewind(&mut *log.reader, 10);
    let load = Load::start(&log.appender);
    let mut seen = Seen::default();
    seen.poll_to(&mut *log.reader, 200);
    let made = broker.describe(&topic);
    assert_eq!((made.partitions, made.copies), (1, 3));
    broker.kill(made.leader);
    seen.poll_to(&mut *log.reader, load.last() + 200);
    let taken = load.stop();
    let handed_back = seen.accounts_for(&mut log, &taken);
    assert_eq!(handed_back, 0, "two nodes went on: nothing had to be given up");
    assert_ne!(broker.describe(&topic).leader, made.leader);
}
