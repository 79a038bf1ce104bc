//! The boundaries of HTTP requests: the server rejects ambiguous framing, sends one response per connection, and never
//! treats the bytes after a request as another request.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use harness::http::{Answer, get, post, raw, read_answer};
use harness::server::Server;
use harness::{PATIENCE, wait_for};

const BOB: &str = r#"{"email":"bob@example.com","username":"Bob","password":"qwerty123456"}"#;

fn create(fields: &str, body: &str) -> String {
    format!("POST /createUser HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}")
}

/// A complete request that creates the account of Bob.
fn create_bob() -> String {
    create(&format!("Content-Length: {}\r\n", BOB.len()), BOB)
}

/// Asserts that there is one response with this status and nothing after it.
fn assert_one_response(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()), "{what}: {answer:?}");
}

/// Asserts that no earlier request has created the account of Bob.
fn assert_no_account(server: &Server) {
    let answer = post(server.address, "/createUser", BOB);
    assert_eq!(answer.status, 200, "the account of Bob existed: {answer:?}");
}

#[test]
fn ambiguous_framing_is_rejected_and_the_following_bytes_are_ignored() {
    let server = Server::start(&[]);
    let hidden = create_bob();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: \r\nContent-Length: 5\r\n",
        "transfer-encoding:\tchunked\r\ncontent-length:5\r\n",
    ] {
        for body in
            [format!("0\r\n\r\n{hidden}"), hidden.clone(), format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())]
        {
            assert_one_response(&raw(server.address, create(fields, &body).as_bytes()), 400, fields);
        }
    }
    let behind_empty_body = format!("0\r\n\r\n{hidden}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_one_response(&raw(server.address, create(chunked, &behind_empty_body).as_bytes()), 400, chunked);
    for fields in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: x\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
    ] {
        assert_one_response(&raw(server.address, create(fields, &behind_empty_body).as_bytes()), 411, fields);
    }
    for bad in
        ["Transfer-Encoding : chunked\r\n", "Content-Length : 0\r\n", "Content-Length\r\n", ": x\r\n", "a b: c\r\n"]
    {
        assert_one_response(&raw(server.address, create(bad, &hidden).as_bytes()), 400, bad);
    }
    assert_no_account(&server);
}

/// The body in chunks of this length.
fn chunks(body: &str, length: usize) -> String {
    let chunk = |bytes: &[u8]| format!("{:x};x=y\r\n{}\r\n", bytes.len(), str::from_utf8(bytes).expect("ASCII"));
    body.as_bytes().chunks(length).map(chunk).collect::<String>() + "0\r\nX-Trailer: x\r\n\r\n"
}

/// Proxies and clients that do not know the length of a body in advance send chunks.
#[test]
fn a_body_may_come_in_chunks() {
    let server = Server::start(&[]);
    let request = create("Transfer-Encoding: Chunked\r\n", &chunks(BOB, 7));
    assert_one_response(&raw(server.address, request.as_bytes()), 200, "chunks");
    // Byte by byte, after the head.
    let request = create("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "");
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.set_nodelay(true).expect("an option");
    assert_eq!(first_line(&mut stream, &request), "HTTP/1.1 100 Continue\r\n");
    for byte in chunks(&BOB.replace("bob", "eve").replace("Bob", "Eve"), 50).as_bytes() {
        stream.write_all(&[*byte]).expect("sending");
    }
    let answer = read_answer(&mut stream);
    assert!(answer.head.starts_with("\r\nHTTP/1.1 200 "), "{answer:?}");
    // A body of a `GET` is ignored.
    for path in ["/health", "/", "/ready"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks("x", 1));
        assert_one_response(&raw(server.address, get.as_bytes()), 200, path);
    }
}

#[test]
fn invalid_chunks_are_rejected_and_large_bodies_too() {
    let server = Server::start(&[]);
    let post = |body: &str| raw(server.address, create("Transfer-Encoding: chunked\r\n", body).as_bytes());
    let length = BOB.len();
    for bad in [
        format!("{length:x}\n{BOB}\r\n0\r\n\r\n"),
        format!("0x{length:x}\r\n{BOB}\r\n0\r\n\r\n"),
        format!("{length:x} \r\n{BOB}\r\n0\r\n\r\n"),
        format!("-{length:x}\r\n{BOB}\r\n0\r\n\r\n"),
        format!("{:x}\r\n{BOB}\r\n0\r\n\r\n", length - 1),
        format!("{length:x}\r\n{BOB}\n0\r\n\r\n"),
        format!("{length:x}\r\n{BOB}\r\n0\r\n folded: x\r\n\r\n"),
        format!("{length:x}\r\n{BOB}\r\n0\r\nno field\r\n\r\n"),
    ] {
        assert_one_response(&post(&bad), 400, &bad);
    }
    assert_one_response(&post(&chunks(&"x".repeat(16 * 1024 + 1), 1000)), 413, "too large");
    assert_one_response(&post("ffffffffffffffff\r\n"), 413, "too large");
    assert_one_response(&post(&format!("5;{}", "x".repeat(200 * 1024))), 413, "a long extension");
    let old = format!("POST /createUser HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks(BOB, 9));
    assert_one_response(&raw(server.address, old.as_bytes()), 400, "HTTP/1.0");
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.write_all(create("Transfer-Encoding: chunked\r\n", "5\r\nab").as_bytes()).expect("sending");
    stream.shutdown(Shutdown::Write).expect("shutting down");
    assert_eq!(read_answer(&mut stream).status, 0, "an incomplete body is dropped");
    assert_no_account(&server);
}

#[test]
fn a_content_length_is_one_decimal_number() {
    let server = Server::start(&[]);
    let length = BOB.len();
    for bad in [
        format!("{length}x"),
        format!("+{length}"),
        format!("-{length}"),
        "-1".into(),
        format!("{length}, {length}"),
        format!("{length} {length}"),
        format!("0x{length:x}"),
        format!("{length}.0"),
        format!("{length}e0"),
        String::new(),
        "\u{0663}".into(),
        format!("{length}\r\nContent-Length: {length}"),
        format!("{length}\r\nContent-Length: 0"),
        format!("0\r\nContent-Length: {length}"),
    ] {
        let request = create(&format!("Content-Length: {bad}\r\n"), BOB);
        assert_one_response(&raw(server.address, request.as_bytes()), 400, &bad);
        let get = format!("GET /health HTTP/1.1\r\nHost: test\r\nContent-Length: {bad}\r\n\r\n");
        assert_one_response(&raw(server.address, get.as_bytes()), 400, &bad);
    }
    assert_no_account(&server);
}

#[test]
fn leading_zeros_and_spaces_around_a_length_are_accepted() {
    let server = Server::start(&[]);
    let request = create(&format!("Content-Length:  00{}  \r\n", BOB.len()), BOB);
    assert_one_response(&raw(server.address, request.as_bytes()), 200, "blanks");
}

#[test]
fn only_the_first_request_of_a_connection_is_answered() {
    let server = Server::start(&[]);
    let health = "GET /health HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\n\r\n";
    let answer = raw(server.address, format!("{health}{}{health}", create_bob()).as_bytes());
    assert_one_response(&answer, 200, "pipelined");
    assert_eq!(answer.header("Connection"), Some("close"));

    let eve = BOB.replace("bob", "eve").replace("Bob", "Eve");
    let first = create(&format!("Content-Length: {}\r\n", eve.len()), &eve);
    let answer = raw(server.address, format!("{first}{}", create_bob()).as_bytes());
    assert_one_response(&answer, 200, "after a body");
    assert_eq!(answer.json()["username"], "Eve");

    let with_body = format!("GET /health HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n{}", create_bob());
    assert_one_response(&raw(server.address, with_body.as_bytes()), 200, "a body that is not read");
    assert_no_account(&server);
}

#[test]
fn a_request_must_have_exactly_one_host() {
    let server = Server::start(&[]);
    for bad in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "host: a\r\nHOST: b\r\n"] {
        let answer = raw(server.address, format!("GET /health HTTP/1.1\r\n{bad}\r\n").as_bytes());
        assert_one_response(&answer, 400, bad);
    }
    assert_one_response(&raw(server.address, b"GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400, "1.0, two");
}

#[test]
fn lines_must_end_with_cr_lf_and_must_not_be_folded() {
    let server = Server::start(&[]);
    for bad in [
        "GET /health HTTP/1.1\nHost: test\n\n",
        "GET /health HTTP/1.1\r\nHost: test\n\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\n\n",
        "GET /health HTTP/1.1\nHost: test\r\n\r\n",
        "GET /health HTTP/1.1\rHost: test\r\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: te\rst\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\n folded\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\nx: y\r\n\tfolded\r\n\r\n",
        "GET /health HTTP/1.1\r\n Host: test\r\n\r\n",
        "\r\nGET /health HTTP/1.1\r\nHost: test\r\n\r\n",
        " GET /health HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET  /health HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET\t/health HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /health\r\nHost: test\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: test\r\nx: a\0b\r\n\r\n",
        "GET /he\0alth HTTP/1.1\r\nHost: test\r\n\r\n",
        "get /health HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        assert_one_response(&raw(server.address, bad.as_bytes()), 400, &format!("{bad:?}"));
    }
    // Text in place of the version may also be rejected as an unsupported version (505).
    for bad in ["GET /health  HTTP/1.1", "GET /health HTTP/1.1 ", "GET /health x HTTP/1.1", "GET /health http/1.1"] {
        let answer = raw(server.address, format!("{bad}\r\nHost: test\r\n\r\n").as_bytes());
        assert!(matches!(answer.status, 400 | 505), "{bad:?}: {answer:?}");
    }
}

#[test]
fn a_target_must_be_a_path() {
    let server = Server::start(&[]);
    for target in ["http://test/health", "https://other/health", "*", "test:80", "health", "../health", "?x"] {
        let answer = raw(server.address, format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        assert_one_response(&answer, 400, target);
    }
}

#[test]
fn other_protocols_are_rejected_and_their_connections_released() {
    let server = Server::start(&[]);
    let (descriptors, threads) = (server.descriptors(), server.proc_status("Threads"));
    // The beginning of a TLS 1.3 ClientHello whose random bytes contain the end of a head.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n\r\n\x00\xff\x80\n\n\n".as_slice();
    for _ in 0..20 {
        assert_one_response(&raw(server.address, tls), 400, "TLS");
        assert_one_response(&raw(server.address, b"\x16"), 400, "one byte of TLS");
        assert_one_response(
            &raw(server.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
            505,
            "HTTP/2",
        );
        assert_one_response(
            &raw(server.address, b"GET / HTTP/2.0\r\nHost: test\r\n\r\n"),
            505,
            "HTTP/2 in a request line",
        );
        assert_one_response(&raw(server.address, b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), 400, "SSH");
        assert_one_response(&raw(server.address, &[0; 9000]), 400, "zeros");
    }
    wait_for("the threads to end", || (server.proc_status("Threads") <= threads).then_some(()));
    wait_for("the descriptors to be closed", || (server.descriptors() <= descriptors).then_some(()));
}

#[test]
fn an_http_1_0_request_is_answered_and_the_connection_closed() {
    let server = Server::start(&[]);
    let answer = raw(server.address, b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_one_response(&answer, 200, "1.0");
    assert_eq!(answer.header("Connection"), Some("close"));
}

/// Sends this head and returns the first line of the response.
fn first_line(stream: &mut TcpStream, head: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
    stream.write_all(head.as_bytes()).expect("sending");
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("a response"), 1, "closed");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// Sends a head with `Expect: 100-continue` and returns the first line of the response; for HTTP/1.0, which gets no
/// interim response, returns the unsent head.
fn expecting(address: SocketAddr, version: &str, length: u64) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).expect("connecting");
    let head = format!(
        "POST /createUser HTTP/{version}\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    if version == "1.0" {
        return (stream, head);
    }
    let line = first_line(&mut stream, &head);
    (stream, line)
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let server = Server::start(&[]);
    let (mut stream, line) = expecting(server.address, "1.1", BOB.len() as u64);
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    stream.write_all(BOB.as_bytes()).expect("sending");
    let answer = read_answer(&mut stream);
    assert!(answer.head.starts_with("\r\nHTTP/1.1 200 "), "{answer:?}");
}

#[test]
fn a_body_that_is_too_large_is_rejected_before_it_is_sent() {
    let server = Server::start(&[]);
    for length in [16 * 1024 + 1, 1 << 40] {
        let (_, line) = expecting(server.address, "1.1", length);
        assert!(line.starts_with("HTTP/1.1 413 "), "{line}");
    }
}

#[test]
fn a_client_of_http_1_0_never_gets_a_100() {
    let server = Server::start(&[]);
    let (mut stream, head) = expecting(server.address, "1.0", BOB.len() as u64);
    stream.write_all(head.as_bytes()).expect("sending");
    // 20 other requests give the server time to read the head before the body arrives.
    (0..20).for_each(|_| assert_eq!(get(server.address, "/health").status, 200));
    stream.write_all(BOB.as_bytes()).expect("sending");
    assert_one_response(&read_answer(&mut stream), 200, "1.0");
}

#[test]
fn an_incomplete_body_is_dropped() {
    let server = Server::start(&[]);
    let threads = server.proc_status("Threads");
    let request = create_bob();
    // All but the last byte; only the head; a part of the head.
    for end in [request.len() - 1, request.len() - BOB.len(), 20] {
        let mut stream = TcpStream::connect(server.address).expect("connecting");
        stream.write_all(&request.as_bytes()[..end]).expect("sending");
        stream.shutdown(Shutdown::Write).expect("shutting down");
        stream.set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
        assert_eq!(read_answer(&mut stream).status, 0, "dropped without a response");
    }
    // A body that is complete JSON but shorter than announced is also dropped.
    let mut stream = TcpStream::connect(server.address).expect("connecting");
    stream.write_all(create(&format!("Content-Length: {}\r\n", BOB.len() + 1), BOB).as_bytes()).expect("sending");
    stream.shutdown(Shutdown::Write).expect("shutting down");
    assert_eq!(read_answer(&mut stream).status, 0);
    assert_no_account(&server);
    wait_for("the threads to end", || (server.proc_status("Threads") <= threads).then_some(()));
}
