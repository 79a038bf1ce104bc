//! `ICH_PROXY_PROTOCOL=on`: a connection of a trusted proxy begins with a PROXY header, which names the client. In these
//! tests, 127.0.0.1 is a proxy, and 127.0.0.2 is not.

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use harness::http::{Answer, connect_from, raw, read_answer};
use harness::raw_websocket::{RawClient, handshake};
use harness::server::{Server, command, token};
use harness::{PATIENCE, wait_until};
use rustix::process::Signal;

const LOGIN: &str = "POST /login HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 203.0.113.99\r\nContent-Length: 58\r\n\r\n\
                     {\"email\":\"nobody@example.com\",\"password\":\"wrong password\"}";
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

fn start(settings: &[(&str, &str)]) -> Server {
    let proxies = [("ICH_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1"), ("ICH_PROXY_PROTOCOL", "on")];
    let server = Server::launch(&[settings, &proxies].concat());
    wait_until("a ready server", || server.log().contains(": ready"));
    server
}

fn v1(client: &str) -> Vec<u8> {
    let (family, server) = if client.contains(':') { ("TCP6", "2001:db8::ff") } else { ("TCP4", "192.0.2.1") };
    format!("PROXY {family} {client} {server} 51234 443\r\n").into_bytes()
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a length").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, rest].concat()
}

fn with_header(server: &Server, header: &[u8], request: &str) -> Answer {
    raw(server.address, &[header, request.as_bytes()].concat())
}

fn connect_directly(address: SocketAddr) -> TcpStream {
    connect_from([127, 0, 0, 2], address)
}

fn directly(server: &Server, bytes: &[u8]) -> Answer {
    let mut stream = connect_directly(server.address);
    stream.write_all(bytes).expect("sending");
    read_answer(&mut stream)
}

fn wait_for_failed_login(server: &Server, address: &str) {
    wait_until("the address in the log", || server.log().contains(&format!("failed login from {address}\n")));
}

#[test]
fn the_header_names_the_client() {
    let server = start(&[]);
    let v4 = [203, 0, 113, 2, 192, 0, 2, 1, 200, 34, 1, 187];
    // 300 bytes of an additional field: it is skipped.
    let tlv = [v4.as_slice(), &[0xee, 1, 41], &[b'x'; 297]].concat();
    let v6 = [&[0x20, 1, 0xd, 0xb8], [0; 11].as_slice(), &[4], &[0; 20]].concat();
    for (header, client) in [
        (v1("203.0.113.1"), "203.0.113.1"),
        (v1("2001:db8::1"), "2001:db8::1"),
        (v2(0x21, 0x11, &v4), "203.0.113.2"),
        (v2(0x21, 0x11, &[&[203, 0, 113, 3], &tlv[4..]].concat()), "203.0.113.3"),
        (v2(0x21, 0x21, &v6), "2001:db8::4"),
        // A second proxy: its header fields name the client.
        (v1("10.1.2.3"), "203.0.113.99"),
        // Without an address, it is that of the proxy. The header fields may be those of any client.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        assert!(!server.log().contains(&format!("failed login from {client}\n")), "{client}");
        assert_eq!(with_header(&server, &header, LOGIN).status, 401, "{client}");
        wait_for_failed_login(&server, client);
    }
    for header in [v2(0x20, 0, &[]), v2(0x21, 0, &[]), v2(0x21, 0x31, &[0; 216])] {
        assert_eq!(with_header(&server, &header, LOGIN).status, 401);
    }
    wait_until("the address of the proxy", || server.log().matches("failed login from 127.0.0.1\n").count() == 4);
}

#[test]
fn a_header_may_arrive_in_parts() {
    let server = start(&[]);
    for header in [v1("203.0.113.1"), v2(0x21, 0x11, &[203, 0, 113, 2, 192, 0, 2, 1, 200, 34, 1, 187])] {
        let mut stream = TcpStream::connect(server.address).expect("connecting");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        [header.as_slice(), LOGIN.as_bytes()]
            .concat()
            .iter()
            .for_each(|byte| stream.write_all(&[*byte]).expect("sending"));
        assert_eq!(read_answer(&mut stream).status, 401);
    }
    wait_for_failed_login(&server, "203.0.113.1");
    wait_for_failed_login(&server, "203.0.113.2");
}

#[test]
fn a_trusted_proxy_must_send_a_header_and_others_must_not() {
    let server = start(&[]);
    let too_long = v2(0x21, 0x11, &[0; 5000]);
    let long_line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    for bad in [
        &b""[..],
        b"PROXY TCP4 x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        &too_long,
        long_line.as_bytes(),
        b"\x16\x03\x01",
    ] {
        let answer = with_header(&server, bad, GET);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_proxy_header"), "{bad:?}");
        assert!(answer.body.contains("ICH_PROXY_PROTOCOL"), "{answer:?}");
    }
    let warning = "refused a connection from 127.0.0.1: the connection does not begin with a PROXY header";
    wait_until("a warning", || server.log().contains(warning));
    assert_eq!(server.log().matches(warning).count(), 1, "two connections without a header: {}", server.log());
    assert_eq!(directly(&server, GET.as_bytes()).status, 200);
    for header in [v1("203.0.113.1"), v2(0x20, 0, &[])] {
        let answer = directly(&server, &[header, GET.into()].concat());
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
        assert!(answer.body.contains("ICH_TRUSTED_PROXIES"), "{answer:?}");
    }
    assert_eq!(directly(&server, LOGIN.as_bytes()).status, 401);
    wait_for_failed_login(&server, "127.0.0.2");
    let metrics = with_header(&server, b"PROXY UNKNOWN\r\n", GET).body;
    assert!(metrics.contains("ich_http_errors_total{code=\"bad_proxy_header\"} 6"), "{metrics}");
}

#[test]
fn connections_count_for_the_client_in_the_header() {
    let server = start(&[("ICH_MAX_CONNECTIONS_PER_ADDRESS", "2")]);
    let open = |client: &str| {
        let mut stream = TcpStream::connect(server.address).expect("connecting");
        stream.write_all(&v1(client)).expect("sending");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream
    };
    let join = |client: &str, name: &str| RawClient::upgrade(open(client), handshake(name).as_bytes());
    let joined = [join("203.0.113.1", "Ann"), join("203.0.113.1", "Bob")];
    // Without a request: the header is enough.
    assert_eq!(read_answer(&mut open("203.0.113.1")).code(), "too_many_connections");
    let _other = [join("203.0.113.2", "Cid"), join("203.0.113.2", "Cid")];
    drop(joined);
    wait_until("a free connection for the client", || with_header(&server, &v1("203.0.113.1"), GET).status == 200);
}

#[test]
fn a_header_that_does_not_arrive_ends_the_connection() {
    let mut server = start(&[]);
    let mut silent = TcpStream::connect(server.address).expect("connecting");
    silent.set_read_timeout(Some(PATIENCE)).expect("an option");
    silent.write_all(b"PROXY TCP4 203.0.113.1").expect("sending");
    assert_eq!(read_answer(&mut silent).status, 408);
    // And it does not delay a stop.
    let mut waiting = TcpStream::connect(server.address).expect("connecting");
    waiting.set_read_timeout(Some(PATIENCE)).expect("an option");
    waiting.write_all(b"PROXY ").expect("sending");
    assert_eq!(with_header(&server, b"PROXY UNKNOWN\r\n", GET).status, 200, "the other was accepted before");
    server.signal(Signal::TERM);
    let mut received = Vec::new();
    let _ = waiting.read_to_end(&mut received);
    assert!(String::from_utf8_lossy(&received).starts_with("HTTP/1.1 503 "), "{received:?}");
    assert!(server.wait().success());
}

#[test]
fn the_commands_of_an_administrator_send_the_header() {
    let server = start(&[]);
    let port = server.address.port().to_string();
    let settings = [
        ("ICH_TRUSTED_PROXIES", "127.0.0.1"),
        ("ICH_PROXY_PROTOCOL", "on"),
        ("ICH_PORT", &port),
        ("ICH_TOKEN", &token("Ann")),
    ];
    let mut bans: Command = command(server.dir(), &settings);
    let output = bans.arg("bans").output().expect("running the command");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the server answers 403: only an administrator"), "{error}");
}
