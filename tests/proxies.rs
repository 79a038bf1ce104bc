//! The documented configurations of reverse proxies (`doc/proxies/`), each in front of two instances of one lobby: users chat
//! over `wss`, the server knows their addresses, a large body gets its answer, and nobody notices a restart.

mod harness;

use std::path::Path;
use std::process::Command;

use harness::certificates::Authority;
use harness::folder::Folder;
use harness::http::Answer;
use harness::proxy::{Kind, Proxy};
use harness::server::{Server, token};
use harness::tls::{TlsClient, connect, request};
use harness::{skip, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// The addresses of users.
const ANN: [u8; 4] = [127, 0, 0, 2];
const BOB: [u8; 4] = [127, 0, 0, 3];
const CID: [u8; 4] = [127, 0, 0, 4];

/// Two instances of one lobby behind a proxy. The fields end in this order.
struct Site {
    proxy: Proxy,
    authority: Authority,
    instances: [Server; 2],
    folder: Folder,
}

impl Site {
    /// `None`: the proxy is not installed.
    fn start(kind: Kind, settings: &[(&str, &str)]) -> Option<Site> {
        Self::start_with(kind, settings, |configuration| configuration)
    }

    fn start_with(kind: Kind, settings: &[(&str, &str)], change: impl Fn(String) -> String) -> Option<Site> {
        if !kind.is_installed() {
            return None;
        }
        let folder = Folder::new();
        let data = folder.0.join("data").display().to_string();
        let settings = [settings, &[("ICH_DATA_DIR", &data), ("ICH_TRUSTED_PROXIES", "127.0.0.1")]].concat();
        let instances = [Server::launch(&settings), Server::launch(&settings)];
        instances.iter().for_each(|instance| wait_until("a ready instance", || instance.log().contains(" ready")));
        let authority = Authority::new();
        let addresses = [instances[0].address, instances[1].address];
        let site = Site { proxy: Proxy::start_with(kind, &authority, addresses, change), authority, instances, folder };
        // A proxy may not know yet that the instances are ready.
        wait_until("a ready site", || site.request(ANN, "GET", "/ready", "", "").status == 200);
        Some(site)
    }

    fn request(&self, from: [u8; 4], method: &str, path: &str, fields: &str, body: &str) -> Answer {
        request(connect(self.proxy.address, from, &self.authority), method, path, fields, body)
    }

    fn join(&self, from: [u8; 4], token: &str) -> Result<TlsClient, (u16, String)> {
        TlsClient::join(connect(self.proxy.address, from, &self.authority), token)
    }

    fn sign_up_and_join(&self, from: [u8; 4], name: &str) -> TlsClient {
        let account = json!({"email": format!("{name}@example.com"), "username": name, "password": "qwerty123456"});
        let answer = self.request(from, "POST", "/createUser", "", &account.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = self.request(from, "POST", "/login", "", &account.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        self.join(from, answer.json()["token"].as_str().expect("a token")).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// The logs of both instances.
    fn logs(&self) -> String {
        self.instances.iter().map(Server::log).collect()
    }
}

/// Two users sign up, log in, join and chat. What the client itself says about its address does not count.
fn users_chat_and_have_their_own_addresses(site: &Site) {
    let mut ann = site.sign_up_and_join(ANN, "Ann");
    let mut bob = site.sign_up_and_join(BOB, "Bob");
    ann.wait_for("user_joined", &json!({"username": "Bob"}));
    ann.say("Hello!");
    bob.wait_for("chat_message", &json!({"from_user": "Ann", "text": "Hello!"}));
    bob.say("Hi!");
    ann.wait_for("chat_message", &json!({"from_user": "Bob", "text": "Hi!"}));
    let invented =
        "X-Forwarded-For: 203.0.113.7, 203.0.113.8\r\nForwarded: for=203.0.113.7;proto=https\r\nForwarded: for=\"\r\n";
    let wrong = json!({"email": "Ann@example.com", "password": "wrong password"}).to_string();
    assert_eq!(site.request(ANN, "POST", "/login", invented, &wrong).status, 401);
    assert_eq!(site.request(BOB, "POST", "/login", "", &wrong).status, 401);
    wait_until("the addresses in the log", || {
        ["failed login from 127.0.0.2", "failed login from 127.0.0.3"].iter().all(|line| site.logs().contains(line))
    });
    assert_eq!(site.logs().matches("failed login").count(), 2);
    assert_eq!(site.request(ANN, "GET", "/metrics", "", "").status, 403);
}

/// With a limit of one connection for each address on each of the two instances.
fn joins_count_for_the_address_of_the_user(site: &Site) {
    let mut joined = Vec::new();
    let refused = (0..3).find_map(|_| site.join(CID, &token("Cid")).map(|client| joined.push(client)).err());
    let (status, body) = refused.expect("a refusal");
    assert!(status == 429 && body.contains("too_many_connections"), "{status}: {body}");
    site.join(BOB, &token("Bob")).unwrap_or_else(|error| panic!("{error:?}"));
}

/// The answer of ich, and not one of the proxy.
fn a_large_body_gets_413(site: &Site) {
    for _ in 0..5 {
        let answer = site.request(ANN, "POST", "/createUser", "", &"x".repeat(900 * 1024));
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{answer:?}");
    }
}

/// Of two instances, one stops while users join one after the other. Returns the answers that refused a join.
fn joins_while_an_instance_stops(site: &mut Site) -> Vec<(u16, String)> {
    let join = |site: &Site, number: usize| site.join(ANN, &token(&format!("User {number}"))).err();
    let mut refused: Vec<_> = (0..10).filter_map(|number| join(site, number)).collect();
    site.instances[0].signal(Signal::TERM);
    let mut number = 10;
    wait_for("the end of the instance", || {
        refused.extend(join(site, number));
        number += 1;
        let has_ended = site.instances[0].has_ended();
        has_ended.then_some(())
    });
    refused.extend((number..number + 20).filter_map(|number| join(site, number)));
    refused
}

/// The tests of one proxy.
macro_rules! proxy {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn users_chat_and_have_their_own_addresses() {
                let Some(site) = Site::start($kind, &[]) else { return };
                super::users_chat_and_have_their_own_addresses(&site);
            }

            #[test]
            fn joins_count_for_the_address_of_the_user() {
                let Some(site) = Site::start($kind, &[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "1")]) else { return };
                super::joins_count_for_the_address_of_the_user(&site);
            }

            #[test]
            fn a_large_body_gets_413() {
                let Some(site) = Site::start($kind, &[]) else { return };
                super::a_large_body_gets_413(&site);
            }

            #[test]
            fn nobody_notices_that_an_instance_stops() {
                let Some(mut site) = Site::start($kind, &[("ICH_DRAIN_DELAY_SECONDS", "3")]) else { return };
                let refused = joins_while_an_instance_stops(&mut site);
                assert!(refused.is_empty(), "{refused:?}");
            }
        }
    };
}

proxy!(nginx, Kind::Nginx);
proxy!(haproxy, Kind::Haproxy);
proxy!(caddy, Kind::Caddy);
proxy!(httpd, Kind::Httpd);

/// The two lines of the instances with the PROXY protocol instead of `X-Forwarded-For`, as the comment in the file says.
fn with_proxy_protocol(version: &'static str) -> impl Fn(String) -> String {
    move |configuration| {
        let without_field = configuration.replace("    http-request set-header X-Forwarded-For %[src]\n", "");
        without_field
            .replace("server one 127.0.0.1:8080\n", &format!("server one 127.0.0.1:8080 {version}\n"))
            .replace("server two 127.0.0.1:8081\n", &format!("server two 127.0.0.1:8081 {version}\n"))
    }
}

#[test]
fn haproxy_names_the_client_in_the_proxy_protocol() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let settings = [("ICH_PROXY_PROTOCOL", "on")];
        let Some(site) = Site::start_with(Kind::Haproxy, &settings, with_proxy_protocol(version)) else { return };
        users_chat_and_have_their_own_addresses(&site);
        a_large_body_gets_413(&site);
        assert!(!site.logs().contains("PROXY header"), "{}", site.logs());
    }
}

/// RFC 8441: HAProxy translates a websocket over HTTP/2 to one over HTTP/1.1.
#[test]
fn a_websocket_over_http2_goes_through_haproxy() {
    // `tests/run` installs the library here.
    let libraries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = || {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &libraries);
        command
    };
    if !python().args(["-c", "import h2.connection"]).output().is_ok_and(|output| output.status.success()) {
        return skip("Python's h2: tests/run --prepare");
    }
    let Some(site) = Site::start(Kind::Haproxy, &[]) else { return };
    let authority = site.folder.0.join("authority.pem");
    std::fs::write(&authority, site.authority.pem()).expect("writing");
    let mut bob = site.join(BOB, &token("Bob")).unwrap_or_else(|error| panic!("{error:?}"));
    let output = python()
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/websocket_over_http2.py"))
        .arg(site.proxy.address.port().to_string())
        .arg(authority)
        .arg(token("Ann"))
        .output()
        .expect("running Python");
    assert!(output.status.success(), "{output:?}");
    bob.wait_for("chat_message", &json!({"from_user": "Ann", "text": "over HTTP/2"}));
}
