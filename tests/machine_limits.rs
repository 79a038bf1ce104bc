//! A machine with few memory maps: the server refuses connections above that limit with 503, and the chat continues.
//! The kernel's limit applies to the whole machine, so the test passes a lower limit to the server.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use harness::client::Client;
use harness::http::{get, read_answer};
use harness::server::{SECRET, new_dir, token, tokens};
use harness::{PATIENCE, wait_for};
use ich::accounts::sqlite;
use ich::config::Config;
use ich::event_log::memory;
use ich::machine::limits::{Limit, Limits};
use ich::server::{Backends, Server};
use serde_json::json;

const MAPS: u64 = 2500;
/// Memory maps of one thread with a stack for signal handlers: the test's process began with the usual signals.
const MAPS_PER_THREAD: u64 = 4;

fn idle(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

#[test]
fn connections_beyond_the_memory_maps_are_refused_and_a_chat_continues() {
    let dir = new_dir();
    let values = [
        ("ICH_HOST", "127.0.0.1"),
        ("ICH_PORT", "0"),
        ("ICH_JWT_SECRET", SECRET),
        ("ICH_MAX_CONNECTIONS", "0"),
        ("ICH_MAX_CONNECTIONS_PER_ADDRESS", "0"),
    ];
    let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let config = Config::from_values(&values, Vec::new()).expect("settings");
    let store = Arc::new(sqlite::open(&dir).expect("accounts"));
    let backends = Backends { store, log: memory::open(), description: String::new() };
    let limits = Limits { maps: Some(Limit { max: MAPS, in_use: 100 }), has_signal_stacks: true, ..Limits::default() };
    let tokens = tokens(Duration::from_secs(3600));
    let server = Server::start_within(&config, tokens, backends, &limits).expect("a server");
    wait_for("a ready server", || server.is_ready().then_some(()));
    let address = server.address();
    let mut ann = Client::join(address, &token("Ann"));
    ann.wait_for("user_joined", &json!({"username": "Ann"}));

    // More connections than the limit on maps allows.
    let mut idle: Vec<TcpStream> = (0..=MAPS / MAPS_PER_THREAD).map(|_| idle(address)).collect();
    let answer = get(address, "/health");
    assert_eq!((answer.status, answer.code().as_str()), (503, "full"), "{answer:?}");
    assert_eq!(Client::try_join(address, &token("Bob")).err(), Some(503));
    ann.say("still here");
    ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));

    // The server accepts connections in order, so the last one is refused.
    let last = read_answer(idle.last_mut().expect("the last"));
    assert_eq!((last.status, last.code().as_str()), (503, "full"), "{last:?}");
    drop(idle);
    wait_for("a permit for Bob", || Client::try_join(address, &token("Bob")).ok());
    drop(ann);
    assert!(server.stop());
    let _ = fs::remove_dir_all(dir);
}
