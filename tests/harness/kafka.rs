//! Real Kafka brokers for tests, and changes to them and to their topics while `ich` uses them.
//!
//! [`Broker::shared`] is one broker for all tests of a binary; each test has its own topic. [`Broker::own`] is for
//! tests that stop brokers. Each node is a child process of `tests/kafka/broker`. That script kills the node when the
//! pipe from this process closes, also when a test process is killed.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
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

use super::ports::free_ports;

/// The versions of Kafka for the tests. The shared broker has the first.
pub const VERSIONS: [&str; 2] = ["4.1.1", "3.9.1"];

/// How long a node may take to start on a loaded machine.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long one change of a topic may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/broker");
/// The exit code of the script without Java or Maven.
const UNAVAILABLE: i32 = 69;
/// What the tests that use a broker need.
pub const NEEDS: &str = "Java 17 and Maven: apt-get install -y openjdk-17-jre-headless maven";

/// A cluster: nodes that this process started, or an existing cluster.
pub struct Broker {
    addresses: String,
    /// The folder of the nodes. `None`: an existing cluster.
    dir: Option<PathBuf>,
    nodes: Vec<Mutex<Option<Node>>>,
}

struct Node {
    /// The script that runs the node, and kills it when its standard input ends.
    watchdog: Child,
    java: Pid,
}

impl Broker {
    /// The broker of this test binary, or the existing one in `ICH_TEST_KAFKA_BROKERS`. `None`: Java or Maven is
    /// missing; this function has reported the test as skipped.
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

    /// Starts a cluster of 1 or 3 nodes for one test. Dropping it ends the nodes. `None` as with [`Broker::shared`].
    pub fn own(version: &str, nodes: usize) -> Option<Broker> {
        let broker = Self::own_not_started(version, nodes)?;
        broker.start_all();
        Some(broker)
    }

    /// Starts a cluster of one node for one test, with these additional properties of the node.
    pub fn own_with(version: &str, properties: &[(&str, &str)]) -> Option<Broker> {
        let broker = Self::own_not_started(version, 1)?;
        let path = broker.folder().join("node1.properties");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("the properties of the node");
        for (name, value) in properties {
            // The last value of a property is effective.
            writeln!(file, "{name}={value}").expect("writing the properties of the node");
        }
        broker.start_all();
        Some(broker)
    }

    /// The folder of the nodes, with their properties.
    pub fn folder(&self) -> &Path {
        self.dir.as_deref().expect("the folder of the nodes")
    }

    /// As [`Broker::own`], but starts no node. The addresses are known.
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
        fs::create_dir_all(&dir).expect("creating a folder for the broker");
        fs::write(dir.join(".disposable"), "").expect("marking the broker's folder");
        let ports = free_ports(nodes * 2);
        let prepared = Command::new(SCRIPT)
            .arg("prepare")
            .arg(&dir)
            .arg(version)
            .args(ports.iter().map(u16::to_string))
            .output()
            .expect("running tests/kafka/broker");
        if prepared.status.code() == Some(UNAVAILABLE) {
            let _ = fs::remove_dir_all(&dir);
            return None;
        }
        let stderr = String::from_utf8_lossy(&prepared.stderr);
        assert!(prepared.status.success(), "tests/kafka/broker prepare: {}: {stderr}", prepared.status);
        let addresses: Vec<String> = ports.iter().step_by(2).map(|port| format!("127.0.0.1:{port}")).collect();
        Some(Broker {
            addresses: addresses.join(","),
            dir: Some(dir),
            nodes: (0..nodes).map(|_| Mutex::new(None)).collect(),
        })
    }

    /// Starts all nodes and waits until they are ready.
    pub fn start_all(&self) {
        // In parallel: a node of three becomes ready only with a quorum.
        thread::scope(|scope| {
            for node in 0..self.nodes.len() {
                scope.spawn(move || self.start(node));
            }
        });
    }

    /// Starts a node that does not run, with the data that it had, and waits until it is ready. `node` counts from 0.
    pub fn start(&self, node: usize) {
        let dir = self.dir.as_deref().expect("an existing cluster cannot be started");
        let mut slot = self.nodes[node].lock().unwrap();
        assert!(slot.is_none(), "node {node} runs already");
        *slot = Some(start_node(dir, node));
    }

    /// Kills a node, like a power failure.
    pub fn kill(&self, node: usize) {
        let running = self.nodes[node].lock().unwrap().take();
        running.expect("the node runs").end();
    }

    /// Freezes a node: its connections stay open, and it does not answer.
    pub fn freeze(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// Lets a frozen node continue.
    pub fn thaw(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let slot = self.nodes[node].lock().unwrap();
        kill_process(slot.as_ref().expect("the node runs").java, signal).expect("signalling a broker");
    }

    /// The settings of a server that uses `topic`.
    pub fn settings(&self, topic: &str) -> KafkaSettings {
        KafkaSettings { brokers: self.addresses.clone(), topic: topic.into(), ..KafkaSettings::default() }
    }

    /// The addresses of all nodes: `host:port,host:port`.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// A topic name that no other test of any process uses.
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

    /// Creates a topic and waits until it can be used.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// As [`Broker::create_topic`], with settings of the topic.
    pub fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        let created = wait_for(self.admin().create_topics([&topic], &options));
        created.expect("creating a topic")[0].as_ref().expect("creating a topic");
    }

    /// Changes these settings of a topic, and resets all others to the defaults of the broker.
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

    /// Deletes the records before `offset`, as retention does.
    pub fn delete_records_before(&self, topic: &str, offset: u64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(offset as i64)).expect("an offset");
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
        wait_for(self.admin().delete_records(&offsets, &options)).expect("deleting records");
    }

    /// Appends messages to partition 0. `None`: a message without a value.
    pub fn produce(&self, topic: &str, payloads: &[Option<&[u8]>]) {
        let producer: BaseProducer = self.client().set("message.max.bytes", "10000000").create().expect("a producer");
        for payload in payloads {
            let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(0);
            record.payload = *payload;
            producer.send(record).map_err(|(error, _)| error).expect("producing");
            producer.flush(ADMIN_TIMEOUT).expect("producing");
        }
    }

    /// Appends `count` messages in a transaction. Its end adds a marker to the log, which has an offset too.
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

    /// The metadata of a topic.
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

/// The metadata of a topic.
pub struct Topic {
    pub partitions: usize,
    /// The number of replicas of the first partition.
    pub copies: usize,
    /// The node that leads the first partition, counted from 0.
    pub leader: usize,
}

impl Drop for Broker {
    fn drop(&mut self) {
        for slot in &self.nodes {
            if let Some(node) = slot.lock().unwrap_or_else(|error| error.into_inner()).take() {
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
        // Keep its input open until it has ended: at the end of its input, the script deletes the data of the node.
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
    let (lines, output) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let deadline = Instant::now() + START_TIMEOUT;
    let mut java = None;
    loop {
        let line = output
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .unwrap_or_else(|error| panic!("node {node} of the broker did not start: {error}"));
        match line.strip_prefix("pid ") {
            Some(pid) => java = pid.parse().ok().and_then(Pid::from_raw),
            None => return Node { watchdog, java: java.expect("the line with the pid comes first") },
        }
    }
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
