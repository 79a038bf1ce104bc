//! A stop does not wait for the next heartbeat, nor for an event log that has no record of this instance.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::server::{SECRET, Server as Program, new_dir, tokens};
use harness::wait_for;
use ich::accounts::sqlite;
use ich::config::Config;
use ich::event_log::{Entry, EventLog, ReadError, Reader, Span, memory};
use ich::server::{Backends, Server};

/// Counts the polls that reached their timeout.
struct CountingReader {
    reader: Box<dyn Reader>,
    waited: Arc<AtomicUsize>,
}

impl Reader for CountingReader {
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        self.reader.rewind(records)
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let polled = self.reader.poll(timeout, max, entries);
        if entries.is_empty() && !timeout.is_zero() {
            self.waited.fetch_add(1, Ordering::SeqCst);
        }
        polled
    }
}

#[test]
fn an_idle_server_does_not_wait_for_the_next_heartbeat() {
    let values = [("ICH_HOST", "127.0.0.1"), ("ICH_PORT", "0"), ("ICH_JWT_SECRET", SECRET)];
    let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let config = Config::from_values(&values, Vec::new()).expect("settings");
    let dir = new_dir();
    let store = Arc::new(sqlite::open(&dir).expect("accounts"));
    let waited = Arc::new(AtomicUsize::new(0));
    let log = memory::open();
    let log = EventLog { reader: Box::new(CountingReader { reader: log.reader, waited: waited.clone() }), ..log };
    let backends = Backends { store, log, description: String::new() };
    let server = Server::start_on(&config, tokens(Duration::from_secs(3600)), backends).expect("a server");
    wait_for("a ready server", || server.is_ready().then_some(()));
    // Wait until a poll has timed out for a heartbeat: the next heartbeat is then one second away.
    let before = waited.load(Ordering::SeqCst);
    let before = wait_for("a heartbeat", || Some(waited.load(Ordering::SeqCst)).filter(|now| *now > before));
    let stopped_at = Instant::now();
    assert!(server.stop());
    println!("the stop took {:?}", stopped_at.elapsed());
    assert_eq!(waited.load(Ordering::SeqCst), before, "the stop waited for a heartbeat");
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn a_server_that_never_reached_kafka_stops_at_once_and_does_not_mention_other_instances() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let brokers = silent.local_addr().expect("its address").to_string();
    // The first address accepts connections and does not answer; no process listens on the second.
    for brokers in [brokers.as_str(), "127.0.0.1:1"] {
        let mut server = Program::launch(&[("ICH_KAFKA_BROKERS", brokers), ("ICH_DRAIN_SECONDS", "60")]);
        wait_for("the first attempt", || server.log().contains("not ready: ").then_some(()));
        let stopped_at = Instant::now();
        let status = server.stop();
        let took = stopped_at.elapsed();
        println!("the stop took {took:?}");
        assert_eq!(status.code(), Some(0), "{}", server.log());
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!server.log().contains("other instances"), "{}", server.log());
    }
}
