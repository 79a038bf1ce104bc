//! A connection takes two memory maps of the process, so that more connections fit below `vm.max_map_count`: the server
//! has no stacks for signal handlers.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use harness::PATIENCE;
use harness::server::Server;

const CONNECTIONS: usize = 200;
/// The server may also map memory for its heap meanwhile.
const OTHER_MAPS: usize = 20;

fn maps(server: &Server) -> usize {
    fs::read_to_string(format!("/proc/{}/maps", server.pid())).expect("the maps").lines().count()
}

/// A connection whose thread runs: it has answered a request, and waits for the next one.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    assert!(stream.read(&mut [0; 1024]).expect("an answer") > 0);
    stream
}

#[test]
fn a_connection_takes_two_memory_maps() {
    let server = Server::start(&[]);
    let before = maps(&server);
    let connections: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(server.address)).collect();
    let more = maps(&server) - before;
    assert!(more >= CONNECTIONS, "each connection has a thread: {more}");
    assert!(more <= 2 * CONNECTIONS + OTHER_MAPS, "{CONNECTIONS} connections take {more} memory maps");
    drop(connections);
}
