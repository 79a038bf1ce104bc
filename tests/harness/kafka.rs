//! A real Kafka broker for tests, and what tests do to it and to its topics behind the back of `ich`.
//!
//! [`Broker::shared`] is one broker for all tests of a binary, each with a topic of its own. [`Broker::own`] is for
//! tests that end brokers. Each node is a process below `tests/kafka/broker`, which ends it as soon as the pipe from
//! this process closes: also when a test process is killed.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use ich::event_log::kafka::KafkaSettings;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};

/// The versions of Kafka that tests run on; the first is that of the shared broker.
pub const VERSIONS: [&str; 2] = ["4.1.1", "3.9.1"];

/// How long a node may take to start. A loaded machine takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long one thing done to a topic may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/broker");
const NOT_HERE: i32 = 69;
const NEEDS: &str = "Java 17 and Maven: apt-get install -y openjdk-17-jre-headless maven";

/// A cluster: of nodes that run below this process, or somebody else's.
pub struct Broker {
    addresses: String,
    dir: Option<PathBuf>,
    nodes: Vec<Mutex<Option<Node>>>,
}

struct Node {
    /// The script that runs the node and watches our end of its input.
    watchdog: Child,
    java: Pid,
}

impl Broker {
    /// The broker of this test binary, or the one that `ICH_TEST_KAFKA_BROKERS` names. `None`: there cannot be one
    /// here; that was said, and the test is over.
    pub fn shared() -> Option<&'static Broker> {
        static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
        let broker = SHARED.get_or_init(|| match env::var("ICH_TEST_KAFKA_BROKERS") {
            Ok(addresses) => Some(Broker { addresses, dir: None, nodes: Vec::new() }),
            Err(_) => Broker::prepare(VERSIONS[0], 1).inspect(Broker::start_all),
        });
        if broker.is_none() {
            super::skip(NEEDS);
        }
        broker.as_ref()
    }

    /// A cluster of 1 or 3 nodes for one test. It ends when this is dropped. `None` as with [`Broker::shared`].
    pub fn own(version: &str, nodes: usize) -> Option<Broker> {
        let broker = Self::own_not_started(version, nodes)?;
        broker.start_all();
        Some(broker)
    }

    /// A cluster of one node for one test, with these properties of the node besides those that every node has.
    pub fn own_with(version: &str, properties: &[(&str, &str)]) -> Option<Broker> {
        let broker = Self::own_not_started(version, 1)?;
        let path = broker.dir.as_deref().expect("a cluster of its own").join("node1.properties");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("the properties of the node");
        for (name, value) in properties {
            // The last value of a property counts.
            writeln!(file, "{name}={value}").expect("writing the properties of the node");
        }
        broker.start_all();
        Some(broker)
    }

    /// As [`Broker::own`], with its addresses chosen, and no node started yet.
    pub fn own_not_started(version: &str, nodes: usize) -> Option<Broker> {
        let broker = Self::prepare(version, nodes);
        if broker.is_none() {
            super::skip(NEEDS);
        }
        broker
    }

    fn prepare(version: &str, nodes: usize) -> Option<Broker> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("ich-test-kafka-{}-{count}", process::id()));
        fs::create_dir_all(&dir).expect("making a folder for the broker");
        fs::write(dir.join(".disposable"), "").expect("marking the broker's folder");
        let ports = free_ports(nodes * 2);
        let prepared = Command::new(SCRIPT)
            .arg("prepare")
            .arg(&dir)
            .arg(version)
            .args(ports.iter().map(u16::to_string))
            .output()
            .expect("running tests/kafka/broker");
        if prepared.status.code() == Some(NOT_HERE) {
            let _ = fs::remove_dir_all(&dir);
            return None;
        }
        let said = String::from_utf8_lossy(&prepared.stderr);
        assert!(prepared.status.success(), "tests/kafka/broker prepare: {}: {said}", prepared.status);
        let addresses: Vec<String> = ports.iter().step_by(2).map(|port| format!("127.0.0.1:{port}")).collect();
        Some(Broker {
            addresses: addresses.join(","),
            dir: Some(dir),
            nodes: (0..nodes).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// Starts all nodes and waits until they serve.
    pub fn start_all(&self) {
        // Together: a node of three serves only when there is a quorum.
        thread::scope(|scope| {
            for node in 0..self.nodes.len() {
                scope.spawn(move || self.start(node));
            }
        });
    }

    /// Starts a node, counted from 0, that does not run, with what it had written, and waits until it serves.
    pub fn start(&self, node: usize) {
        let dir = self.dir.as_deref().expect("somebody else's broker cannot be started");
        let mut place = self.nodes[node].lock().unwrap();
        assert!(place.is_none(), "node {node} runs already");
        *place = Some(start_node(dir, node));
    }

    /// Ends a node as a loss of power would.
    pub fn kill(&self, node: usize) {
        let running = self.nodes[node].lock().unwrap().take();
        running.expect("the node runs").end();
    }

    /// Freezes a node: its connections stay open and nothing answers.
    pub fn freeze(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let place = self.nodes[node].lock().unwrap();
        kill_process(place.as_ref().expect("the node runs").java, signal).expect("signalling a broker");
    }

    /// What a server needs to know to use `topic` here.
    pub fn settings(&self, topic: &str) -> KafkaSettings {
        KafkaSettings { brokers: self.addresses.clone(), topic: topic.into(), ..KafkaSettings::default() }
    }

    /// `host:port,..` of all nodes.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// A name that no other test uses, in other processes neither.
    pub fn new_topic_name(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        format!("ich-test-{since_epoch}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.addresses).set("reconnect.backoff.max.ms", "500");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    /// Makes a topic, and waits until it can be used.
    pub fn make_topic(&self, topic: &str, partitions: i32) {
        self.make_topic_with(topic, partitions, &[]);
    }

    /// As [`Broker::make_topic`], with settings of the topic.
    pub fn make_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        let made = wait_for(self.admin().create_topics([&topic], &options));
        made.expect("making a topic")[0].as_ref().expect("making a topic");
    }

    /// Gives a topic these settings, and resets its other settings to the defaults of the broker.
    pub fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let change = settings.iter().fold(change, |change, (name, value)| change.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        let changed = wait_for(self.admin().alter_configs([&change], &options));
        changed.expect("changing a topic")[0].as_ref().expect("changing a topic");
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        let deleted = wait_for(self.admin().delete_topics(&[topic], &options));
        deleted.expect("deleting a topic")[0].as_ref().expect("deleting a topic");
    }

    /// The offset after the last record.
    pub fn end(&self, topic: &str) -> u64 {
        let (_, end) = self.admin().inner().fetch_watermarks(topic, 0, ADMIN_TIMEOUT).expect("the end of the topic");
        end as u64
    }

    /// Cuts off what stands before `offset`, as retention does.
    pub fn delete_records_before(&self, topic: &str, offset: u64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(offset as i64)).expect("an offset");
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        wait_for(self.admin().delete_records(&offsets, &options)).expect("deleting records");
    }

    /// Appends raw bytes (`None`: a record without a value) to partition 0.
    pub fn produce(&self, topic: &str, payloads: &[Option<&[u8]>]) {
        let producer: BaseProducer = self.client().set("message.max.bytes", "10000000").create().expect("a producer");
        for payload in payloads {
            let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(0);
            record.payload = *payload;
            producer.send(record).map_err(|(error, _)| error).expect("producing");
            producer.flush(ADMIN_TIMEOUT).expect("producing");
        }
    }

    /// Appends `count` records in a transaction, whose end leaves a mark in the log that is no record.
    pub fn produce_transaction(&self, topic: &str, payload: &[u8], count: usize) {
        let producer: BaseProducer =
            self.client().set("transactional.id", self.new_topic_name()).create().expect("a producer");
        producer.init_transactions(ADMIN_TIMEOUT).expect("transactions");
        producer.begin_transaction().expect("a transaction");
        for _ in 0..count {
            let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(0).payload(payload);
            producer.send(record).map_err(|(error, _)| error).expect("producing");
        }
        producer.commit_transaction(ADMIN_TIMEOUT).expect("committing");
    }

    /// How many partitions a topic has, with how many copies, and the node (from 0) that leads the first of them.
    pub fn describe(&self, topic: &str) -> Topic {
        let admin = self.admin();
        let metadata = admin.inner().fetch_metadata(Some(topic), ADMIN_TIMEOUT).expect("metadata");
        let partitions = metadata.topics()[0].partitions();
        Topic {
            partitions: partitions.len(),
            copies: partitions[0].replicas().len(),
            leader: partitions[0].leader() as usize - 1,
        }
    }
}

/// See [`Broker::describe`].
pub struct Topic {
    pub partitions: usize,
    pub copies: usize,
    pub leader: usize,
}

impl Drop for Broker {
    fn drop(&mut self) {
        for place in &self.nodes {
            if let Some(node) = place.lock().unwrap_or_else(|error| error.into_inner()).take() {
                node.end();
            }
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

impl Node {
    fn end(mut self) {
        let _ = kill_process(self.java, Signal::KILL);
        // Its input must not end before it has: it would take that for the end of this process, and clean up.
        let input = self.watchdog.stdin.take();
        let _ = self.watchdog.wait();
        drop(input);
    }
}

fn start_node(dir: &Path, node: usize) -> Node {
    let mut watchdog = Command::new(SCRIPT)
        .arg("run")
        .arg(dir)
        .arg((node + 1).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("running tests/kafka/broker");
    let stdout = BufReader::new(watchdog.stdout.take().expect("piped"));
    let (lines, said) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let deadline = Instant::now() + START_TIMEOUT;
    let mut java = None;
    loop {
        let line = said
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .unwrap_or_else(|error| panic!("node {node} of the broker did not start: {error}"));
        match line.strip_prefix("pid ") {
            Some(pid) => java = pid.parse().ok().and_then(Pid::from_raw),
            None => return Node { watchdog, java: java.expect("its pid comes first") },
        }
    }
}

/// Ports that were free a moment ago, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}

fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let deadline = Instant::now() + ADMIN_TIMEOUT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        assert!(Instant::now() < deadline, "the broker does not answer the admin client");
        thread::sleep(Duration::from_millis(2));
    }
}
