//! By default, the server listens on IPv4 and IPv6. An IPv4 address that arrives mapped into IPv6 counts as that address.

mod harness;

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use harness::client::Client;
use harness::http::{get, post};
use harness::server::{Server, token};
use harness::{skip, wait_for, wait_until};

/// An empty value counts as not set.
const DEFAULT_HOST: (&str, &str) = ("ICH_HOST", "");

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip("IPv6 on the loopback interface");
    }
    has
}

#[test]
fn clients_of_both_families_are_in_one_lobby() {
    if !has_ipv6() {
        return;
    }
    let server = Server::launch(&[DEFAULT_HOST]);
    let address = |host: &str| SocketAddr::new(host.parse().expect("an address"), server.address.port());
    wait_until("a ready server", || get(address("127.0.0.1"), "/ready").status == 200);
    assert_eq!(get(address("::1"), "/ready").status, 200);
    let mut ann = Client::join(address("::1"), &token("Ann"));
    let mut bob = Client::join(address("127.0.0.1"), &token("Bob"));
    ann.wait_for("user_joined", &serde_json::json!({"username": "Bob"}));
    ann.say("over IPv6");
    bob.wait_for("chat_message", &serde_json::json!({"from_user": "Ann", "text": "over IPv6"}));
}

#[test]
fn an_ipv4_address_is_limited_and_logged_as_such() {
    let server = Server::launch(&[
        DEFAULT_HOST,
        ("ICH_MAX_CONNECTIONS_PER_ADDRESS", "2"),
        ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "1"),
    ]);
    let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    wait_until("a ready server", || get(address, "/ready").status == 200);
    let register = |name: &str| {
        let body = format!(r#"{{"email":"{name}@example.com","username":"{name}","password":"qwerty123456"}}"#);
        post(address, "/createUser", &body).status
    };
    assert_eq!((register("Ann"), register("Bob")), (200, 429));
    wait_until("a line about the refusal", || {
        server.log().contains("refused a request of 127.0.0.1: too_many_registrations")
    });
    // The connections of earlier requests may count for a moment.
    let _open = ["Ann", "Bob"].map(|name| wait_for("a join", || Client::try_join(address, &token(name)).ok()));
    assert_eq!(Client::try_join(address, &token("Cid")).err(), Some(429));
    assert!(!server.log().contains("::ffff"), "{}", server.log());
}

#[test]
fn one_family_can_be_chosen() {
    let server = Server::launch(&[("ICH_HOST", "0.0.0.0")]);
    let port = server.address.port();
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/health").status, 200);
    let refused = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).err().map(|error| error.kind());
    assert!(matches!(refused, Some(ErrorKind::ConnectionRefused | ErrorKind::AddrNotAvailable)), "{refused:?}");
}
