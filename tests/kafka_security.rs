//! Kafka with TLS, client certificates, SASL and ACLs: what works, and what an instance logs when it does not. In each
//! case the log has one line with the broker or the topic, the cause and the setting to change, at most once a minute.
//! The instance waits without using the CPU, connects seldom, and never falls back to a connection without TLS.
//!
//! All instances run at the same time, for as long as two attempts to read the topic take. Each test judges one of them.

mod harness;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use harness::counting_proxy::CountingProxy;
use harness::event_log::rewind;
use harness::http;
use harness::kafka::NEEDS;
use harness::secure_kafka::{Operation, PASSWORD, SecureBroker, USER};
use harness::server::Server;
use harness::wait_for;
use harness::watcher::Watcher;
use ich::event_log::{EventLog, kafka};
use ich::supervisor::Supervisor;

/// How long the instances run before their logs and their CPU time are judged.
const WATCHED: Duration = Duration::from_secs(13);
/// The CPU time that an instance may use meanwhile, including its start.
const CPU_MAX: Duration = Duration::from_secs(2);
/// The connections to the broker that an instance may make meanwhile.
const CONNECTIONS_MAX: usize = 60;

/// Settings of an instance that uses a listener with a protocol.
struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    fn new(broker: &SecureBroker, listener: &str, protocol: &str) -> Settings {
        let mut settings = BTreeMap::from([
            ("ICH_KAFKA_BROKERS", broker.address(listener)),
            ("ICH_KAFKA_SECURITY_PROTOCOL", protocol.to_owned()),
            ("ICH_KAFKA_TOPIC", broker.broker.new_topic_name()),
        ]);
        if protocol.ends_with("ssl") {
            settings.insert("ICH_KAFKA_CA_FILE", broker.file("ca.pem"));
        }
        if protocol.starts_with("sasl") {
            settings.insert("ICH_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".to_owned());
            settings.insert("ICH_KAFKA_USERNAME", USER.to_owned());
            settings.insert("ICH_KAFKA_PASSWORD", PASSWORD.to_owned());
        }
        Settings(settings)
    }

    /// Sets or replaces one.
    fn with(mut self, name: &'static str, value: &str) -> Settings {
        self.0.insert(name, value.to_owned());
        self
    }

    /// With the certificate of this name.
    fn certified(self, broker: &SecureBroker, name: &str) -> Settings {
        self.with("ICH_KAFKA_CERT_FILE", &broker.file(&format!("{name}.pem")))
            .with("ICH_KAFKA_KEY_FILE", &broker.file(&format!("{name}-key.pem")))
    }

    fn topic(&self) -> &str {
        &self.0["ICH_KAFKA_TOPIC"]
    }

    fn launch(&self) -> Server {
        let settings: Vec<(&str, &str)> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Server::launch(&settings)
    }
}

/// What an instance did.
struct Outcome {
    log: String,
    cpu_time: Duration,
    is_ready: bool,
    connections: usize,
    /// After the missing right was granted.
    has_recovered: bool,
}

/// All instances that cannot work, by the name of their test.
fn instances(broker: &SecureBroker) -> Vec<(&'static str, Settings)> {
    let new = |listener, protocol| Settings::new(broker, listener, protocol);
    let plain = broker.broker.addresses();
    let restricted = |user| new("USER", "sasl_plaintext").with("ICH_KAFKA_USERNAME", user);
    vec![
        ("another host", new("NAME", "ssl")),
        ("expired", new("EXPIRED", "ssl")),
        ("not yet valid", new("FUTURE", "ssl")),
        ("unknown authority", new("UNTRUSTED", "ssl")),
        ("no tls", new("TLS", "plaintext")),
        ("no tls with sasl", new("USERTLS", "sasl_plaintext")),
        ("tls", new("TLS", "ssl").with("ICH_KAFKA_BROKERS", plain)),
        ("tls with sasl", new("USERTLS", "sasl_ssl").with("ICH_KAFKA_BROKERS", plain)),
        ("no sasl", new("USER", "plaintext")),
        ("no sasl with tls", new("USERTLS", "ssl")),
        ("sasl", new("TLS", "sasl_ssl")),
        ("sasl without tls", new("TLS", "sasl_plaintext").with("ICH_KAFKA_BROKERS", plain)),
        ("wrong password", new("USER", "sasl_plaintext").with("ICH_KAFKA_PASSWORD", "not hunter2")),
        ("wrong mechanism", new("USER", "sasl_plaintext").with("ICH_KAFKA_SASL_MECHANISM", "PLAIN")),
        ("no certificate", new("MUTUAL", "ssl")),
        ("unknown certificate", new("MUTUAL", "ssl").certified(broker, "stranger")),
        ("reader", restricted("reader")),
        ("writer", restricted("writer")),
        ("stranger", restricted("stranger")),
        ("creator", restricted("creator")),
    ]
}

/// Prepares the topics and rights of the users who lack a right.
fn restrict(broker: &SecureBroker, user: &str, topic: &str) {
    use Operation::{DescribeConfigs, Read, Write};
    let rights = match user {
        "reader" => &[Read, DescribeConfigs][..],
        "writer" => &[Write, DescribeConfigs],
        "creator" => &[Read, Write, DescribeConfigs],
        "stranger" => &[],
        _ => return,
    };
    if user != "creator" {
        broker.broker.create_topic(topic, 1);
    }
    rights.iter().for_each(|right| broker.grant(user, topic, *right));
}

/// Gives the user what it lacks. False: there is nothing to give.
fn repair(broker: &SecureBroker, user: &str, topic: &str) -> bool {
    match user {
        "reader" => broker.grant(user, topic, Operation::Write),
        "writer" => broker.grant(user, topic, Operation::Read),
        "creator" => broker.broker.create_topic(topic, 1),
        _ => return false,
    }
    true
}

fn run(broker: &SecureBroker) -> BTreeMap<&'static str, Outcome> {
    let started_at = Instant::now();
    let mut running = Vec::new();
    for (name, settings) in instances(broker) {
        restrict(broker, name, settings.topic());
        // Counts the connections, and is where the instance connects to first.
        let proxy = CountingProxy::start(&settings.0["ICH_KAFKA_BROKERS"]);
        let address = proxy.address();
        let server = settings.0.clone();
        let server = Settings(server).with("ICH_KAFKA_BROKERS", &address).launch();
        running.push((name, settings, proxy, server));
    }
    let launched_in = started_at.elapsed();
    std::thread::sleep(WATCHED);
    println!("launching took {launched_in:?}");
    let judge = |(name, settings, proxy, server): (_, Settings, CountingProxy, Server)| {
        let (log, cpu_time) =
            (server.log().replace(&proxy.address(), &settings.0["ICH_KAFKA_BROKERS"]), server.cpu_time());
        let is_ready = http::get(server.address, "/ready").status == 200;
        let connections = proxy.count();
        let has_recovered = repair(broker, name, settings.topic());
        if has_recovered {
            server.wait_ready();
        }
        (name, Outcome { log, cpu_time, is_ready, connections, has_recovered })
    };
    running.into_iter().map(judge).collect()
}

/// One broker for all tests.
fn broker() -> Option<&'static SecureBroker> {
    static BROKER: OnceLock<Option<SecureBroker>> = OnceLock::new();
    let broker = BROKER.get_or_init(SecureBroker::start).as_ref();
    if broker.is_none() {
        harness::skip(NEEDS);
    }
    broker
}

fn assert_reported(name: &str, parts: &[&str]) -> Option<&'static Outcome> {
    static OUTCOMES: OnceLock<BTreeMap<&str, Outcome>> = OnceLock::new();
    let broker = broker()?;
    let outcome = &OUTCOMES.get_or_init(|| run(broker))[name];
    let log = &outcome.log;
    println!("{:?} of CPU time, {} connections; the log:\n{log}", outcome.cpu_time, outcome.connections);
    assert!(!outcome.is_ready && outcome.cpu_time < CPU_MAX);
    assert!(outcome.connections < CONNECTIONS_MAX, "{} connections", outcome.connections);
    // One line, and the same cause is not reported in other words, too.
    let is_problem = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let problems: Vec<&str> = log
        .lines()
        .filter(is_problem)
        .filter(|line| !line.contains("not ready: ") && !line.contains("nothing comes back"))
        .collect();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    parts.iter().for_each(|part| assert!(problems[0].contains(part), "{part:?} in {}", problems[0]));
    assert!(!log.contains("hunter2"), "{log}");
    Some(outcome)
}

/// As [`assert_reported`]; the line begins with the address of this listener.
fn assert_reported_about(name: &str, listener: &str, parts: &[&str]) {
    let Some(broker) = broker() else { return };
    let address = if listener.is_empty() { broker.broker.addresses().to_owned() } else { broker.address(listener) };
    assert_reported(name, &[&[address.as_str()], parts].concat());
}

#[test]
fn tls_sasl_and_client_certificates_work() {
    let Some(broker) = broker() else { return };
    let new = |listener, protocol| Settings::new(broker, listener, protocol);
    let all = [
        new("TLS", "ssl"),
        new("USER", "sasl_plaintext"),
        new("USERTLS", "sasl_ssl"),
        new("MUTUAL", "ssl").certified(broker, "client"),
    ];
    for server in all.map(|settings| settings.launch()) {
        server.wait_ready();
        let ann = Watcher::join(&server, "Ann");
        ann.say("1", "Hello!");
        ann.wait_text("Hello!");
    }
}

#[test]
fn a_certificate_for_another_host() {
    assert_reported_about("another host", "NAME", &["mismatch", "it is for kafka.example", "ICH_KAFKA_BROKERS"]);
}

#[test]
fn an_expired_certificate() {
    assert_reported_about("expired", "EXPIRED", &["certificate has expired", "renew", "clock"]);
}

#[test]
fn a_certificate_that_is_not_yet_valid() {
    assert_reported_about("not yet valid", "FUTURE", &["certificate is not yet valid", "clock"]);
}

#[test]
fn a_certificate_of_an_unknown_authority() {
    assert_reported_about("unknown authority", "UNTRUSTED", &["issuer certificate", "ICH_KAFKA_CA_FILE"]);
}

#[test]
fn no_tls_to_a_port_with_tls() {
    assert_reported_about("no tls", "TLS", &["expects TLS", "ICH_KAFKA_SECURITY_PROTOCOL to ssl or sasl_ssl"]);
    assert_reported_about("no tls with sasl", "USERTLS", &["expects TLS", "ICH_KAFKA_SECURITY_PROTOCOL to sasl_ssl"]);
}

#[test]
fn tls_to_a_port_without() {
    assert_reported_about("tls", "", &["has no TLS", "ICH_KAFKA_SECURITY_PROTOCOL to plaintext or sasl_plaintext"]);
    assert_reported_about("tls with sasl", "", &["has no TLS", "ICH_KAFKA_SECURITY_PROTOCOL to sasl_plaintext"]);
}

#[test]
fn no_sasl_to_a_port_with_sasl() {
    assert_reported_about("no sasl", "USER", &["(SASL)", "ICH_KAFKA_SECURITY_PROTOCOL=sasl_plaintext"]);
    assert_reported_about("no sasl with tls", "USERTLS", &["(SASL)", "ICH_KAFKA_SECURITY_PROTOCOL=sasl_ssl"]);
}

#[test]
fn sasl_to_a_port_without() {
    assert_reported_about("sasl", "TLS", &["(SASL)", "ICH_KAFKA_SECURITY_PROTOCOL=ssl"]);
    assert_reported_about("sasl without tls", "", &["(SASL)", "ICH_KAFKA_SECURITY_PROTOCOL=plaintext"]);
}

#[test]
fn a_wrong_password_or_mechanism() {
    assert_reported_about("wrong password", "USER", &["invalid credentials", "ICH_KAFKA_PASSWORD"]);
    assert_reported_about("wrong mechanism", "USER", &["SCRAM-SHA-512", "ICH_KAFKA_SASL_MECHANISM"]);
}

#[test]
fn no_client_certificate() {
    assert_reported_about("no certificate", "MUTUAL", &["requires a client certificate", "ICH_KAFKA_CERT_FILE"]);
}

#[test]
fn a_client_certificate_of_an_unknown_authority() {
    assert_reported_about("unknown certificate", "MUTUAL", &["refuses the certificate in ICH_KAFKA_CERT_FILE"]);
}

#[test]
fn no_right_to_write() {
    let Some(outcome) = assert_reported("reader", &["write to the topic ich-test", "grant WRITE"]) else { return };
    assert!(outcome.has_recovered);
}

#[test]
fn no_right_to_read() {
    let Some(outcome) = assert_reported("writer", &["read the topic ich-test", "grant READ"]) else { return };
    assert!(outcome.has_recovered);
}

#[test]
fn no_right_at_all() {
    assert_reported("stranger", &["the topic ich-test", "grant READ, WRITE and DESCRIBE"]);
}

#[test]
fn no_right_to_create_a_missing_topic() {
    let parts = ["the topic ich-test", "cannot be created", "grant CREATE"];
    let Some(outcome) = assert_reported("creator", &parts) else { return };
    assert!(outcome.has_recovered);
}

/// Without the right to read the limit, Kafka would refuse larger batches, with all their records.
#[test]
fn a_limit_of_the_topic_stays_when_it_can_no_longer_be_read() {
    const LIMIT: usize = 65_536;
    let Some(broker) = broker() else { return };
    let topic = broker.broker.new_topic_name();
    broker.broker.create_topic_with(&topic, 1, &[("max.message.bytes", &LIMIT.to_string())]);
    for right in [Operation::Read, Operation::Write, Operation::DescribeConfigs] {
        broker.grant("writer", &topic, right);
    }
    let settings = kafka::KafkaSettings {
        brokers: broker.address("USER"),
        topic: topic.clone(),
        security_protocol: Some("sasl_plaintext".into()),
        sasl_mechanism: Some("SCRAM-SHA-512".into()),
        username: Some("writer".into()),
        password: Some(PASSWORD.into()),
        ..kafka::KafkaSettings::default()
    };
    let open = || {
        let mut log = kafka::open(&settings, &Supervisor::default()).expect("opening");
        rewind(&mut *log.reader, 10);
        log
    };
    let is_limited = |log: &EventLog| log.appender.record_bytes_max() < LIMIT;
    // The broker applies a change of the rights a moment after it has answered.
    let mut log = wait_for("the limit", || Some(open()).filter(is_limited));
    broker.deny("writer", &topic, Operation::DescribeConfigs);
    wait_for("the end of the right", || (!is_limited(&open())).then_some(()));
    rewind(&mut *log.reader, 10);
    assert!(is_limited(&log), "records of up to {} bytes", log.appender.record_bytes_max());
}
