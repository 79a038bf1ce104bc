//! All instances of a lobby are replaced, one after the other, while users chat. Clients return to any instance with the
//! id of the last message that they received, some of them after seconds: they miss nothing and get nothing twice.

mod harness;

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::PATIENCE;
use harness::cluster::Cluster;
use harness::kafka::Broker;
use harness::returning::Returning;
use harness::server::Server;
use harness::sqlite::{DataFolder, check_integrity};

/// More than a client can miss in these tests.
const HISTORY: (&str, &str) = ("ICH_HISTORY_MESSAGES", "10000");
/// A client that finds no ready instance waits so long.
const RETRY: Duration = Duration::from_millis(20);
/// Clients that read.
const READERS: usize = 50;
/// Clients that send.
const SENDERS: usize = 10;
/// One of so many clients is a phone.
const PHONES: usize = 3;
/// How long a phone stays away after each disconnect.
const AWAY: Duration = Duration::from_secs(2);

/// The instances that run at present. Clients choose one.
struct Instances<'a> {
    /// Starts another instance of the same lobby.
    start: &'a (dyn Fn() -> Server + Sync),
    /// An instance stops after it was removed.
    running: RwLock<Vec<Server>>,
    /// A client that still waits then has missed a message. Without it, the clients of a failed test would wait for each
    /// other: when one gives up, the others receive its `user_left`.
    deadline: Instant,
    seen: Seen,
}

/// The counts of hard cases.
#[derive(Debug, Default)]
struct Seen {
    /// Phones that returned and got messages that they had missed.
    absences: AtomicUsize,
    /// Messages that were sent again, because the connection ended before they came back.
    repeats: AtomicUsize,
    /// Those of them that the lobby had published before.
    duplicates: AtomicUsize,
}

fn count(counter: &AtomicUsize, is_seen: bool) {
    counter.fetch_add(usize::from(is_seen), Ordering::Relaxed);
}

/// A client, and whether it is a phone.
struct Member {
    client: Returning,
    is_phone: bool,
}

impl Member {
    /// Joins one of the servers.
    fn join(servers: &[Server], name: &str, number: usize) -> Member {
        let client = Returning::join(&servers[number % servers.len()], &format!("{name} {number}"));
        Member { client, is_phone: number.is_multiple_of(PHONES) }
    }
}

impl Instances<'_> {
    fn check_deadline(&self, name: &str) {
        assert!(Instant::now() < self.deadline, "{name} still waits for a message");
    }

    /// Joins one of the instances behind the last message.
    fn return_somewhere(&self, client: Returning, is_phone: bool) -> Returning {
        let (last_id, texts, name) = (client.last_id.clone(), client.texts, client.name);
        drop(client.client);
        if is_phone {
            thread::sleep(AWAY);
        }
        for attempt in texts.len().. {
            let servers = self.running.read().expect("no client panics while it changes the list");
            let server = &servers[attempt % servers.len()];
            match Returning::resume(server, &name, last_id.clone(), texts.clone()) {
                Ok((client, caught_up)) => {
                    assert!(caught_up.complete, "{name} missed messages: {caught_up:?}");
                    count(&self.seen.absences, is_phone && caught_up.messages > 0);
                    return client;
                }
                Err(status) => assert_eq!(status, 503),
            }
            drop(servers);
            thread::sleep(RETRY);
        }
        unreachable!("the loop has no end")
    }

    /// Replaces one instance after the other. The port of an instance that stops refuses connections.
    fn restart_all(&self) {
        let servers = || self.running.write().expect("no client panics while it changes the list");
        let count = servers().len();
        for _ in 0..count {
            let fresh = (self.start)();
            let mut old = {
                let mut servers = servers();
                servers.push(fresh);
                servers.remove(0)
            };
            assert!(old.stop().success());
        }
    }

    /// Joins, and sends one message.
    fn say(&self, name: &str, text: &str) {
        Returning::join(&self.running.read().expect("no client panics while it changes the list")[0], name).say(text);
    }
}

/// Reads from a message with the text `begin` to one with the text `end`, and returns whenever the connection ends.
fn read_all(instances: &Instances<'_>, Member { mut client, is_phone }: Member) -> Vec<String> {
    client.read_until("begin");
    client.texts.clear();
    while client.texts.last().is_none_or(|text| text != "end") {
        instances.check_deadline(&client.name);
        if client.read().is_err() {
            client = instances.return_somewhere(client, is_phone);
        }
    }
    client.texts
}

/// Sends messages with ids, and waits for each. After a disconnect, the client sends the message again before it reads
/// whether it was published.
fn send_until(instances: &Instances<'_>, Member { mut client, is_phone }: Member, done: &AtomicBool) {
    let name = client.name.clone();
    for number in 0.. {
        if done.load(Ordering::Acquire) {
            return;
        }
        let text = format!("{name} {number}");
        let message = serde_json::json!({"type": "chat_message", "id": text, "msg": {"text": text}}).to_string();
        client.texts.clear();
        let (mut is_sent, mut is_repeated) = (false, false);
        loop {
            if !is_sent {
                is_sent = client.client.socket.send(tungstenite::Message::text(message.clone())).is_ok();
                count(&instances.seen.repeats, is_sent && is_repeated);
                is_repeated |= is_sent;
            }
            if client.texts.contains(&text) {
                break;
            }
            instances.check_deadline(&name);
            match client.read() {
                Ok(frame) => {
                    count(&instances.seen.duplicates, frame["msg"]["code"] == "duplicate");
                    is_sent &= frame["msg"]["code"] != "unavailable" || frame["id"] != text;
                }
                Err(()) => {
                    client = instances.return_somewhere(client, is_phone);
                    is_sent = false;
                }
            }
        }
    }
}

/// Replaces two instances under load, and checks that every client gets every message once and in order.
fn restart_under_load(start: &(dyn Fn() -> Server + Sync)) {
    let servers = vec![start(), start()];
    let readers: Vec<_> = (0..READERS).map(|number| Member::join(&servers, "Reader", number)).collect();
    let senders: Vec<_> = (0..SENDERS).map(|number| Member::join(&servers, "Sender", number)).collect();
    let instances = Instances {
        start,
        running: RwLock::new(servers),
        deadline: Instant::now() + 2 * PATIENCE,
        seen: Seen::default(),
    };
    let done = AtomicBool::new(false);
    let texts: Vec<Vec<String>> = thread::scope(|scope| {
        let (instances, done) = (&instances, &done);
        let readers: Vec<_> =
            readers.into_iter().map(|member| scope.spawn(move || read_all(instances, member))).collect();
        instances.say("First", "begin");
        let senders: Vec<_> =
            senders.into_iter().map(|member| scope.spawn(move || send_until(instances, member, done))).collect();
        instances.restart_all();
        done.store(true, Ordering::Release);
        senders.into_iter().for_each(|thread| thread.join().expect("a sender"));
        instances.say("Last", "end");
        readers.into_iter().map(|thread| thread.join().expect("a reader")).collect()
    });
    println!("{} messages, {:?}", texts[0].len(), instances.seen);
    assert!(texts[0].len() > 100, "{} messages are no load", texts[0].len());
    for other in &texts[1..] {
        assert!(*other == texts[0], "two clients received different messages");
    }
    for sender in 0..SENDERS {
        let prefix = format!("Sender {sender} ");
        let numbers = texts[0].iter().filter_map(|text| text.strip_prefix(&prefix)?.parse::<usize>().ok());
        let count = numbers.clone().count();
        assert!(numbers.eq(0..count), "messages of a sender are missing, repeated or reordered");
    }
    let seen = &instances.seen;
    for counter in [&seen.absences, &seen.repeats, &seen.duplicates] {
        assert!(counter.load(Ordering::Relaxed) > 0, "nothing hard happened: {seen:?}");
    }
}

#[test]
fn instances_on_kafka_are_replaced_and_every_client_gets_every_message_once_and_in_order() {
    let Some(broker) = Broker::shared() else { return };
    let cluster = Cluster::new(broker);
    restart_under_load(&|| cluster.start_with(&[HISTORY]));
}

#[test]
fn processes_on_one_data_folder_are_replaced_and_every_client_gets_every_message_once_and_in_order() {
    let folder = DataFolder::new();
    restart_under_load(&|| Server::start_in(folder.path(), &[HISTORY, ("ICH_MAX_MESSAGES_PER_SECOND", "0")]));
    check_integrity(&folder.connect());
}
