//! Several instances on one topic.

use std::collections::BTreeSet;

use super::http;
use super::kafka::Broker;
use super::server::Server;
use super::wait_for;
use super::watcher::Watcher;

/// A topic of its own, and instances that share it.
pub struct Cluster<'a> {
    /// Where the topic is.
    pub broker: &'a Broker,
    /// Its name. No instance was started yet: it does not exist.
    pub topic: String,
}

impl<'a> Cluster<'a> {
    /// No instance, and no topic yet.
    pub fn new(broker: &'a Broker) -> Cluster<'a> {
        Cluster { broker, topic: broker.new_topic_name() }
    }

    /// Starts an instance and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_with(&[])
    }

    /// As [`Cluster::start`], with more settings.
    pub fn start_with(&self, settings: &[(&str, &str)]) -> Server {
        let server = self.launch_with(settings);
        server.wait_ready();
        server
    }

    /// Starts an instance and waits no longer than until it listens.
    pub fn launch(&self) -> Server {
        self.launch_with(&[])
    }

    /// As [`Cluster::launch`], with more settings.
    pub fn launch_with(&self, settings: &[(&str, &str)]) -> Server {
        let mut all = vec![
            ("ICH_KAFKA_BROKERS", self.broker.addresses()),
            ("ICH_KAFKA_TOPIC", &self.topic),
            ("ICH_MAX_MESSAGES_PER_SECOND", "0"),
        ];
        all.extend_from_slice(settings);
        Server::launch(&all)
    }
}

/// A number out of `GET /metrics`.
pub fn metric(server: &Server, name: &str) -> u64 {
    let body = http::get(server.address, "/metrics").body;
    let line = body.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// Waits until each of these clients, by what he was told, believes exactly these people to be there.
pub fn wait_online<'a>(watchers: impl IntoIterator<Item = &'a Watcher>, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for watcher in watchers {
        wait_for(&format!("{names:?} in the eyes of {}", watcher.name), || {
            (watcher.online() == expected).then_some(())
        });
    }
}

/// One says something, and all of these wait until they were told: they have seen everything that came before it.
pub fn sync<'a>(speaker: &Watcher, watchers: impl IntoIterator<Item = &'a Watcher>, text: &str) {
    speaker.say(text, text);
    for watcher in watchers {
        watcher.wait_text(text);
    }
}
