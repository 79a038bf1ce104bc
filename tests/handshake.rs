//! Where the token is in a handshake, and header fields as browsers, libraries and proxies send them.

mod harness;

use std::net::TcpStream;

use harness::client::Client;
use harness::http::raw;
use harness::raw_websocket::{RawClient, handshake_with};
use harness::server::{Server, token};

const BASIC: &str = "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n";

/// Joins with these fields instead of the usual `Connection` and `Upgrade`.
fn joins_with(server: &Server, fields: &str) {
    let request = handshake_with(&format!("Authorization: Bearer {}\r\n", token("Bob")));
    let usual = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert!(request.contains(usual));
    let stream = TcpStream::connect(server.address).expect("connecting");
    RawClient::upgrade(stream, request.replacen(usual, fields, 1).as_bytes());
}

/// A browser sends `Authorization: Basic` with each request to a site behind a password.
#[test]
fn a_token_in_a_subprotocol_is_found_beside_credentials_for_a_proxy() {
    let server = Server::start(&[]);
    let token = token("Bob");
    let offers = format!("Sec-WebSocket-Protocol: ich, bearer.{token}\r\n");
    for fields in [
        format!("{BASIC}{offers}"),
        format!("Authorization: Digest username=\"Bob\"\r\n{offers}"),
        format!("{BASIC}Authorization: Bearer {token}\r\n"),
        format!("Authorization: bearer   {token}\r\n"),
        format!("Sec-WebSocket-Protocol: ich\r\nSec-WebSocket-Protocol: bearer.{token}\r\n"),
        format!("Sec-WebSocket-Protocol: chat,,ich\r\nSec-WebSocket-Protocol: bearer.{token}, x\r\n"),
    ] {
        let stream = TcpStream::connect(server.address).expect("connecting");
        RawClient::upgrade(stream, handshake_with(&fields).as_bytes()).wait_for("users_online");
    }
    for fields in [
        BASIC.to_owned(),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer {token}\r\nAuthorization: Bearer x\r\n"),
        format!("Sec-WebSocket-Protocol: ich, bearer.{token}, bearer.x\r\n"),
        format!("Authorization: Bearer x\r\n{offers}"),
    ] {
        assert_eq!(raw(server.address, handshake_with(&fields).as_bytes()).status, 401, "{fields}");
    }
}

/// A client that offers a subprotocol may fail if the server selects none.
#[test]
fn the_subprotocol_is_selected_whenever_it_is_offered() {
    let server = Server::start(&[]);
    let authorization = ("Authorization", format!("Bearer {}", token("Bob")));
    let selected = |fields: &[(&'static str, String)]| {
        let (_, response) = Client::try_join_with(server.address, fields).expect("a join");
        response.headers().get("Sec-WebSocket-Protocol").map(|value| value.to_str().expect("text").to_owned())
    };
    let offers = |protocols: &str| ("Sec-WebSocket-Protocol", protocols.to_owned());
    assert_eq!(selected(&[authorization.clone(), offers("ich")]).as_deref(), Some("ich"));
    assert_eq!(selected(&[authorization.clone(), offers("ich, other")]).as_deref(), Some("ich"));
    assert_eq!(selected(&[offers(&format!("ich, bearer.{}", token("Bob")))]).as_deref(), Some("ich"));
    assert_eq!(selected(&[authorization]), None);
}

#[test]
fn fields_that_are_lists_may_have_several_lines_and_members() {
    let server = Server::start(&[]);
    for fields in [
        "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: keep-alive,Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
        "Connection: ,\r\nConnection: , Upgrade ,\r\nUpgrade: websocket\r\n",
    ] {
        joins_with(&server, fields);
    }
}

/// A browser's websocket over HTTP/2 (RFC 8441), as HAProxy 2.6 passes it on.
#[test]
fn a_websocket_over_http2_is_passed_on_by_haproxy_in_this_form() {
    let server = Server::start(&[]);
    let request = format!(
        "GET /join HTTP/1.1\r\nhost: chat.example\r\nsec-websocket-version: 13\r\nauthorization: Bearer {}\r\n\
         upgrade: websocket\r\nconnection: upgrade\r\nx-forwarded-for: 127.0.0.1\r\n\
         Sec-Websocket-Key: UhxkCZ1yGl52W55alBSFug==\r\n\r\n",
        token("Bob")
    );
    let stream = TcpStream::connect(server.address).expect("connecting");
    RawClient::upgrade(stream, request.as_bytes()).wait_for("users_online");
}
