//! Brokers that answer at the address in the settings, and advertise another address that cannot be reached.

mod harness;

use std::net::TcpListener;
use std::time::Duration;

use harness::cluster::Cluster;
use harness::http;
use harness::kafka::{Broker, VERSIONS};
use harness::wait_for;

/// Starts an instance on a broker that advertises `address`; the topic is missing. Asserts that the instance logs the
/// address and the cause once, and uses little CPU time while it waits.
fn assert_waits_idle_and_logs_the_address(address: &str, cause: &str) {
    let advertised = format!("PLAINTEXT://{address}");
    let Some(broker) = Broker::own_with(VERSIONS[0], &[("advertised.listeners", &advertised)]) else { return };
    let cluster = Cluster::new(&broker);
    let server = cluster.launch();
    let mentions = || {
        let log = server.log();
        let is_match = |line: &&str| line.contains("advertise") && line.contains(address) && line.contains(cause);
        log.lines().filter(is_match).count()
    };
    wait_for("a log line with the address", || (mentions() > 0).then_some(()));
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_secs(13));
    let used = server.cpu_time() - before;
    assert!(used < Duration::from_secs(2), "{used:?} of CPU time in 13 s of waiting");
    assert_eq!(mentions(), 1, "{}", server.log());
    assert_eq!(http::get(server.address, "/ready").status, 503);
}

#[test]
fn an_advertised_address_that_refuses_connections() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    assert_waits_idle_and_logs_the_address(&closed.to_string(), "refused");
}

#[test]
fn an_advertised_address_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("its address").to_string();
    assert_waits_idle_and_logs_the_address(&address, "timed out");
}
