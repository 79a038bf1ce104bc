//! Looks into archives, and clients that talk while the servers behind an archive are stopped.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;

use super::cluster::metric;
use super::postgres::Database;
use super::returning::Returning;
use super::server::Server;
use super::{wait_for, wait_until};

/// Between two messages of a [`Chatter`].
const PAUSE: Duration = Duration::from_millis(2);

/// Where an archive is.
pub enum Archive<'a> {
    /// In the data folder of servers in this folder.
    Sqlite(&'a Path),
    Postgres(&'a Database),
}

impl Archive<'_> {
    /// The ids of all messages, in the order of the archive.
    pub fn event_ids(&self) -> Vec<String> {
        self.texts_of("SELECT event_id FROM messages ORDER BY id")
    }

    /// The texts of all messages, in the order of the archive.
    pub fn texts(&self) -> Vec<String> {
        self.texts_of("SELECT text FROM messages ORDER BY id")
    }

    /// The causes of all gaps.
    pub fn gaps(&self) -> Vec<String> {
        self.texts_of("SELECT cause FROM archive_gaps ORDER BY id")
    }

    /// A query with one text column.
    fn texts_of(&self, sql: &str) -> Vec<String> {
        match self {
            Archive::Sqlite(dir) => {
                let connection = connect(dir);
                let mut statement = connection.prepare(sql).expect("a query");
                let rows = statement.query_map([], |row| row.get(0)).expect("the rows");
                rows.map(|row| row.expect("a text")).collect()
            }
            Archive::Postgres(database) => {
                let mut client = postgres::Client::connect(&database.url, postgres::NoTls).expect("connecting");
                client.query(sql, &[]).expect("the rows").iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// Waits until the archive has exactly these messages, in this order.
    pub fn wait_for_ids(&self, expected: &[String]) {
        wait_for("the last message in the archive", || {
            self.event_ids().last().is_some_and(|last| Some(last) == expected.last()).then_some(())
        });
        let archived = self.event_ids();
        let known: HashSet<_> = archived.iter().collect();
        let missing: Vec<_> = expected.iter().filter(|id| !known.contains(id)).collect();
        assert!(missing.is_empty(), "{} of {} messages are missing: {missing:?}", missing.len(), expected.len());
        assert_eq!(archived.len(), expected.len(), "messages are doubled or were never published");
        assert_eq!(archived, expected);
    }
}

/// A connection of the test to the accounts of servers in this folder.
pub fn connect(dir: &Path) -> Connection {
    let file = dir.join("data").join("accounts.sqlite3");
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("opening the file");
    connection.busy_timeout(super::PATIENCE).expect("a pragma");
    connection
}

/// Which of the servers archives.
fn archiver_of(servers: &[&Server]) -> usize {
    wait_for("an archiver", || servers.iter().position(|server| metric(server, "ich_archiver") == 1))
}

/// Kills the one of two servers that archives, waits until the other one archives, and starts another server; all that
/// `rounds` times.
pub fn replace_archivers(
    servers: &mut Vec<Server>,
    archive: &Archive<'_>,
    chatter: &Chatter,
    rounds: usize,
    start: impl Fn() -> Server,
) {
    for _ in 0..rounds {
        let leader = archiver_of(&[&servers[0], &servers[1]]);
        chatter.wait_for_more(100);
        let archived = archive.event_ids().len();
        let mut killed = servers.remove(leader);
        killed.signal(Signal::KILL);
        killed.wait();
        wait_until("the other archiver", || archive.event_ids().len() > archived + 100);
        servers.push(start());
    }
}

/// A client that says something, waits until it comes back, and says something again.
pub struct Chatter {
    done: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    ids: Arc<Mutex<Vec<String>>>,
    round_trips: Arc<Mutex<Vec<Duration>>>,
    thread: JoinHandle<()>,
}

impl Chatter {
    /// Joins and begins.
    pub fn start(server: &Server, name: &str) -> Chatter {
        let mut client = Returning::join(server, name);
        let (done, said) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ids = Arc::<Mutex<Vec<String>>>::default();
        let round_trips = Arc::<Mutex<Vec<Duration>>>::default();
        let thread = {
            let (done, said, ids) = (done.clone(), said.clone(), Arc::clone(&ids));
            let round_trips = Arc::clone(&round_trips);
            thread::spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Acquire) {
                        return;
                    }
                    let text = format!("{} {number}", client.name);
                    let said_at = Instant::now();
                    client.client.say(&text);
                    client.texts.clear();
                    while client.texts.last() != Some(&text) {
                        let Ok(frame) = client.read() else { return };
                        assert_ne!(frame["type"], "error", "{frame}");
                        if let Some(id) = frame["event_id"].as_str().filter(|_| frame["type"] == "chat_message") {
                            lock(&ids).push(id.to_owned());
                        }
                    }
                    lock(&round_trips).push(said_at.elapsed());
                    said.fetch_add(1, Ordering::AcqRel);
                    thread::sleep(PAUSE);
                }
            })
        };
        Chatter { done, said, ids, round_trips, thread }
    }

    /// How many messages have come back.
    pub fn said(&self) -> usize {
        self.said.load(Ordering::Acquire)
    }

    /// Waits until so many more messages have come back.
    pub fn wait_for_more(&self, messages: usize) {
        let before = self.said();
        wait_for("messages", || (self.said() >= before + messages).then_some(()));
    }

    /// The time from sending to receiving of each message since the last call.
    pub fn take_round_trips(&self) -> Vec<Duration> {
        std::mem::take(&mut *lock(&self.round_trips))
    }

    /// Ends, and returns the ids of all messages that the client received, its own and those of others.
    pub fn finish(self) -> Vec<String> {
        self.done.store(true, Ordering::Release);
        self.thread.join().expect("the thread of the client");
        std::mem::take(&mut *lock(&self.ids))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds the lock")
}
