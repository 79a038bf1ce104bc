//! All instances of a lobby are replaced, one after the other, while users chat. Clients return to any instance with the
//! id of the last message that they received: they miss nothing and get nothing twice.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

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
const CLIENTS: usize = 12;
/// Clients that send.
const SENDERS: usize = 4;

/// The instances that run at present. Clients choose one.
struct Instances<'a> {
    /// Starts another instance of the same lobby.
    start: &'a (dyn Fn() -> Server + Sync),
    running: Mutex<Vec<Server>>,
}

impl Instances<'_> {
    fn servers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.running.lock().expect("no client panics while it holds the lock")
    }

    /// Joins one of the instances behind the last message.
    fn return_somewhere(&self, client: Returning) -> Returning {
        let (last_id, texts, name) = (client.last_id.clone(), client.texts, client.name);
        drop(client.client);
        for attempt in texts.len().. {
            let servers = self.servers();
            let server = &servers[attempt % servers.len()];
            match Returning::resume(server, &name, last_id.clone(), texts.clone()) {
                Ok((client, caught_up)) => {
                    assert!(caught_up.complete, "{name} missed messages: {caught_up:?}");
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
        let count = self.servers().len();
        for _ in 0..count {
            let fresh = (self.start)();
            let mut old = {
                let mut servers = self.servers();
                servers.push(fresh);
                servers.remove(0)
            };
            assert!(old.stop().success());
        }
    }
}

/// Reads until a message has this text, and returns whenever the connection ends.
fn read_to_the_end(instances: &Instances<'_>, mut client: Returning, last: &str) -> Vec<String> {
    while client.texts.last().is_none_or(|text| text != last) {
        if client.read().is_err() {
            client = instances.return_somewhere(client);
        }
    }
    client.texts
}

/// Sends messages with ids, and repeats each until it has come back.
fn send_until(instances: &Instances<'_>, mut client: Returning, done: &AtomicBool) {
    let name = client.name.clone();
    for number in 0.. {
        if done.load(Ordering::Acquire) {
            return;
        }
        let text = format!("{name} {number}");
        let message = serde_json::json!({"type": "chat_message", "id": text, "msg": {"text": text}}).to_string();
        client.texts.clear();
        let mut is_sent = false;
        while !client.texts.contains(&text) {
            if !is_sent {
                is_sent = client.client.socket.send(tungstenite::Message::text(message.clone())).is_ok();
            }
            let frame = client.read();
            let is_refused = frame.as_ref().is_ok_and(|frame| frame["msg"]["code"] == "unavailable");
            if is_refused || frame.is_err() {
                is_sent = false;
            }
            if frame.is_err() {
                client = instances.return_somewhere(client);
            }
        }
    }
}

/// Replaces two instances under load, and checks that every client gets every message once and in order.
fn restart_under_load(start: &(dyn Fn() -> Server + Sync)) {
    let servers = vec![start(), start()];
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| Returning::join(&servers[number % 2], &format!("Client {number}"))).collect();
    let senders: Vec<_> =
        (0..SENDERS).map(|number| Returning::join(&servers[number % 2], &format!("Sender {number}"))).collect();
    let instances = Instances { start, running: Mutex::new(servers) };
    let done = AtomicBool::new(false);
    let texts: Vec<Vec<String>> = thread::scope(|scope| {
        let (instances, done) = (&instances, &done);
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    client.read_until("begin");
                    client.texts.clear();
                    read_to_the_end(instances, client, "end")
                })
            })
            .collect();
        let mut first = Returning::join(&instances.servers()[0], "First");
        first.say("begin");
        let senders: Vec<_> =
            senders.into_iter().map(|client| scope.spawn(move || send_until(instances, client, done))).collect();
        instances.restart_all();
        done.store(true, Ordering::Release);
        senders.into_iter().for_each(|thread| thread.join().expect("a sender"));
        Returning::join(&instances.servers()[0], "Last").say("end");
        readers.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
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
