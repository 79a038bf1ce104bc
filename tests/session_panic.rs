//! A defect that makes a session thread panic: this session ends, and no other.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use harness::client::Client;
use harness::http::get;
use harness::server::{SECRET, new_dir, token, tokens};
use harness::wait_for;
use ich::accounts::sqlite;
use ich::config::Config;
use ich::event_log::{AppendError, Appender, memory};
use ich::lobby::{Body, Record};
use ich::server::{Backends, Server};
use serde_json::json;
use tungstenite::protocol::frame::coding::CloseCode;

/// The text that makes the appender panic.
const FATAL_TEXT: &str = "the text that ends the session";

/// An appender with a defect: panics on the session thread that sends [`FATAL_TEXT`].
struct PanickingAppender(Arc<dyn Appender>);

impl Appender for PanickingAppender {
    fn append(&self, record: Record) -> Result<(), AppendError> {
        if let Body::Said { text, .. } = &record.body {
            assert_ne!(&**text, FATAL_TEXT, "injected by a test");
        }
        self.0.append(record)
    }
}

#[test]
fn one_session_panics_and_the_others_continue() {
    let dir = new_dir();
    let values = [("ICH_HOST", "127.0.0.1"), ("ICH_PORT", "0"), ("ICH_JWT_SECRET", SECRET)];
    let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let config = Config::from_values(&values, Vec::new()).expect("settings");
    let mut log = memory::open();
    log.appender = Arc::new(PanickingAppender(log.appender));
    let store = Arc::new(sqlite::open(&dir).expect("accounts"));
    let backends = Backends { store, log, description: String::new() };
    let server = Server::start_on(&config, tokens(Duration::from_secs(3600)), backends).expect("a server");
    wait_for("a ready server", || server.is_ready().then_some(()));
    let address = server.address();
    let join = |name: &str| {
        let mut client = Client::join(address, &token(name));
        client.wait_for("user_joined", &json!({ "username": name }));
        client
    };

    let (mut ann, mut bob) = (join("Ann"), join("Bob"));
    // More than once: a panic must not leak a permit or an outbox.
    for _ in 0..3 {
        let mut eve = join("Eve");
        eve.say(FATAL_TEXT);
        let close = loop {
            if let Err(close) = eve.next_or_close() {
                break close;
            }
        };
        assert!(close.is_none_or(|frame| frame.code == CloseCode::Error));
        for client in [&mut ann, &mut bob] {
            client.wait_for("user_left", &json!({"username": "Eve"}));
        }
        ann.say("what was that?");
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.event(), ("chat_message".into(), json!({"from_user": "Ann", "text": "what was that?"})));
        }
    }
    let mut cid = Client::join(address, &token("Cid"));
    assert_eq!(cid.event(), ("users_online".into(), json!({"list": ["Ann", "Bob"]})));
    assert!(get(address, "/metrics").body.contains("ich_sessions_ended_total{reason=\"internal\"} 3"));
    drop((ann, bob, cid));
    assert!(server.stop(), "a permit was not released");
    let _ = fs::remove_dir_all(dir);
}
