//! Several instances on one Kafka topic, which form one lobby.

use std::collections::BTreeSet;

use super::http;
use super::kafka::Broker;
use super::server::Server;
use super::wait_for;
use super::watcher::Watcher;

/// A topic name that no other test uses. The instances started here share this topic.
pub struct Cluster<'a> {
    /// The broker of the topic.
    pub broker: &'a Broker,
    /// The first instance creates the topic.
    pub topic: String,
}

impl<'a> Cluster<'a> {
    /// Chooses a topic name. Nothing is created or started.
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

    /// Starts an instance and waits only until it listens.
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

/// The value of the metric `name` in `GET /metrics`.
pub fn metric(server: &Server, name: &str) -> u64 {
    let body = http::get(server.address, "/metrics").body;
    let line = body.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// Waits until every watcher, according to the events it received, has exactly these users online.
pub fn wait_online<'a>(watchers: impl IntoIterator<Item = &'a Watcher>, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for watcher in watchers {
        wait_for(&format!("{names:?} in the list of {}", watcher.name), || {
            (watcher.online() == expected).then_some(())
        });
    }
}

/// `speaker` sends a message and all watchers wait for it. They have then received every event before it in the log.
pub fn sync<'a>(speaker: &Watcher, watchers: impl IntoIterator<Item = &'a Watcher>, text: &str) {
    speaker.say(text, text);
    for watcher in watchers {
        watcher.wait_text(text);
    }
}
