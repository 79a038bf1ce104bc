//! A defect that ends a supervised thread: the server closes the sessions with 1011, `/health` fails, and the program
//! logs the name of the thread and ends with exit code 1. The tests inject defects through the event log, the store of
//! accounts and a setting out of its range.

mod harness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, panic, thread};

use harness::client::Client;
use harness::http::{get, post};
use harness::server::{SECRET, new_dir, token, tokens};
use harness::{PATIENCE, wait_for};
use ich::accounts::{AccountStore, Change, CreateError, NewAccount, StoreError, StoredAccount};
use ich::config::Config;
use ich::event_log::{Entry, EventLog, ReadError, Reader, Span, memory};
use ich::lobby::Body;
use ich::moderation::Sanction;
use ich::server::{Backends, Server};
use ich::supervisor::Failure;
use ich::systemd::Notifier;
use ich::{accounts, cli};
use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;

/// The text at which the log thread panics.
const FATAL_TEXT: &str = "the text that ends the log thread";

/// The reader of an event log with a defect: panics on the log thread.
struct PanickingReader(Box<dyn Reader>);

impl Reader for PanickingReader {
    fn rewind(&mut self, records: u64) -> Result<Span, ReadError> {
        self.0.rewind(records)
    }

    fn position(&self) -> u64 {
        self.0.position()
    }

    fn poll(&mut self, timeout: Duration, max: usize, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        self.0.poll(timeout, max, entries)?;
        for entry in entries {
            if let Body::Said { text, .. } = &entry.record.body {
                assert_ne!(&**text, FATAL_TEXT, "injected by a test");
            }
        }
        Ok(())
    }
}

fn panicking_log() -> EventLog {
    let log = memory::open();
    EventLog { reader: Box::new(PanickingReader(log.reader)), ..log }
}

/// Panics again on drop, outside the `catch_unwind` around a request, so that the thread ends.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("injected by a test");
        }
    }
}

/// A store of accounts with a defect: `create` ends the calling thread, and so does `is_ready` on a worker once armed.
#[derive(Default)]
struct PanickingStore {
    is_armed_for_workers: AtomicBool,
}

impl AccountStore for PanickingStore {
    fn create(&self, _account: &NewAccount) -> Result<i64, CreateError> {
        panic::panic_any(PanicsOnDrop)
    }

    fn find_by_email_key(&self, _email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
        Ok(None)
    }

    fn find_by_username_key(&self, _: &str) -> Result<Option<StoredAccount>, StoreError> {
        Ok(None)
    }

    fn list(&self, _: i64) -> Result<Vec<StoredAccount>, StoreError> {
        Ok(Vec::new())
    }

    fn change(&self, _: i64, _: &Change) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn put_sanctions(&self, _: &[Sanction]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sanctions(&self) -> Result<Vec<Sanction>, StoreError> {
        Ok(Vec::new())
    }

    fn is_ready(&self) -> bool {
        let on_worker = thread::current().name().is_some_and(|name| name.starts_with("ich-worker"));
        if on_worker && self.is_armed_for_workers.load(Ordering::Acquire) {
            panic::panic_any(PanicsOnDrop)
        }
        true
    }
}

/// A server in this process, and its data folder.
struct Running {
    server: Server,
    dir: PathBuf,
}

impl Running {
    fn start(log: EventLog, store: Option<Arc<PanickingStore>>, change: impl FnOnce(&mut Config)) -> Running {
        let dir = new_dir();
        let values = [("ICH_HOST", "127.0.0.1"), ("ICH_PORT", "0"), ("ICH_JWT_SECRET", SECRET)];
        let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut config = Config::from_values(&values, Vec::new()).expect("settings");
        change(&mut config);
        let store: Arc<dyn AccountStore> = match store {
            Some(store) => store,
            None => Arc::new(accounts::sqlite::open(&dir).expect("accounts")),
        };
        let backends = Backends { store, log, description: String::new() };
        let server = Server::start_on(&config, tokens(Duration::from_secs(3600)), backends).expect("a server");
        wait_for("a ready server", || server.is_ready().then_some(()));
        Running { server, dir }
    }

    fn join(&self, name: &str) -> Client {
        let mut client = Client::join(self.server.address(), &token(name));
        client.wait_for("user_joined", &json!({ "username": name }));
        client
    }

    /// Waits for the report of a failure and returns the name of the thread. Checks that `/health` and `/ready` fail
    /// now.
    fn failed_thread(&self) -> String {
        let failure = self.server.failed().recv_timeout(PATIENCE).expect("a report of the failure");
        let Failure::Panicked { thread, .. } = &failure else { panic!("{failure}") };
        let health = get(self.server.address(), "/health");
        assert_eq!((health.status, health.code().as_str()), (503, "failed"), "{health:?}");
        assert_eq!(get(self.server.address(), "/ready").status, 503);
        thread.clone()
    }

    /// Ends the server, and checks that each client gets the close code 1011.
    fn assert_closed(self, clients: Vec<Client>) {
        self.server.close_after_failure();
        for mut client in clients {
            let close = loop {
                if let Err(close) = client.next_or_close() {
                    break close;
                }
            };
            assert_eq!(close.expect("a close frame").code, CloseCode::Error);
        }
        let _ = fs::remove_dir_all(self.dir);
    }
}

#[test]
fn the_log_thread() {
    let running = Running::start(panicking_log(), None, |_| ());
    let (mut ann, bob) = (running.join("Ann"), running.join("Bob"));
    ann.say(FATAL_TEXT);
    assert_eq!(running.failed_thread(), "ich-log-reader");
    running.assert_closed(vec![ann, bob]);
}

#[test]
fn a_fan_out_thread() {
    // The time of the first ping depends on the session's number. For the fifth session and this interval the time is
    // out of range, and the thread panics. No valid setting allows such an interval.
    let running = Running::start(memory::open(), None, |config| {
        config.ping_interval = Duration::from_secs(10_300_000_000_000_000_000)
    });
    // With up to four fan-out threads, one of these clients shares the thread that fails; the other threads continue.
    let clients = ["1", "2", "3", "4"].map(|name| running.join(name));
    // It gets no frame.
    let _fifth = Client::try_join(running.server.address(), &token("5"));
    assert!(running.failed_thread().starts_with("ich-fan-out-"));
    running.assert_closed(clients.into());
}

#[test]
fn an_account_thread() {
    let running = Running::start(memory::open(), Some(Arc::default()), |_| ());
    let ann = running.join("Ann");
    let body = json!({"email": "bob@example.com", "username": "Bob", "password": "12345678"}).to_string();
    assert_eq!(post(running.server.address(), "/createUser", &body).status, 500);
    assert!(running.failed_thread().starts_with("ich-account-"));
    running.assert_closed(vec![ann]);
}

#[test]
fn a_worker() {
    // On a machine with one core it is the only worker, so no thread answers `/health` after the failure.
    if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return;
    }
    let store = Arc::new(PanickingStore::default());
    let running = Running::start(memory::open(), Some(store.clone()), |_| ());
    let ann = running.join("Ann");
    store.is_armed_for_workers.store(true, Ordering::Release);
    assert_eq!(get(running.server.address(), "/ready").status, 500);
    store.is_armed_for_workers.store(false, Ordering::Release);
    assert!(running.failed_thread().starts_with("ich-worker-"));
    running.assert_closed(vec![ann]);
}

/// Runs in its own process, for [`the_program_ends_with_exit_code_1`].
#[test]
#[ignore = "ends its process"]
fn a_program_with_a_defect() {
    let running = Running::start(panicking_log(), None, |_| ());
    let mut ann = running.join("Ann");
    ann.say(FATAL_TEXT);
    let code = cli::run(running.server, &crossbeam_channel::never(), &Notifier::default());
    let _ = fs::remove_dir_all(running.dir);
    std::process::exit(code.into());
}

#[test]
fn the_program_ends_with_exit_code_1() {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "--nocapture", "a_program_with_a_defect"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting it");
    let status = wait_for("its end", || child.try_wait().expect("waiting"));
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut errors).expect("text");
    assert_eq!(status.code(), Some(1), "{errors}");
    assert_eq!(errors.matches("ich: the thread ich-log-reader panicked: ").count(), 1, "{errors}");
}

/// The files that may start threads without the supervisor: the supervisor and what it calls, and the files that start
/// threads for one connection or for the clients of Kafka.
const STARTS_THREADS: [&str; 7] = [
    "src/threads.rs",
    "src/supervisor.rs",
    "src/http/accept_loop.rs",
    "src/event_log/kafka/certificates.rs",
    "src/event_log/kafka/consumer.rs",
    "src/event_log/kafka/drop_within.rs",
    "src/event_log/kafka/topic.rs",
];

/// The terminal client: it is no server, and has no supervisor.
const CLIENT: &str = "src/cli/chat";

#[test]
fn no_thread_is_started_without_the_supervisor() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let name = path.strip_prefix(&root).expect("a path below it").display().to_string();
            let source = fs::read_to_string(&path).unwrap_or_default();
            let starts =
                ["threads::spawn(", "thread::spawn(", "thread::Builder"].iter().any(|call| source.contains(call));
            assert!(
                !starts || name.starts_with(CLIENT) || STARTS_THREADS.contains(&name.as_str()),
                "{name} starts a thread without the supervisor"
            );
        }
    }
    assert!(files > 50, "{files} files");
}
