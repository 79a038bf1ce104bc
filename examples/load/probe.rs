//! Finds out whether a server accepts joins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wire;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Tries to join with `token` until that succeeds. A server that is not ready answers 503.
pub fn wait_until_joinable(address: SocketAddr, token: &str) -> Result<(), String> {
    wait_for(address, &wire::upgrade_request(&address.to_string(), token, ""), 101)
}

/// Asks an instance of this project whether it is ready. Clients that chat already do not notice.
pub fn wait_until_ready(address: SocketAddr) -> Result<(), String> {
    wait_for(address, format!("GET /ready HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(), 200)
}

/// Repeats `request` until the answer has the status `wanted`.
fn wait_for(address: SocketAddr, request: &[u8], wanted: u16) -> Result<(), String> {
    let deadline = Instant::now() + READY_DEADLINE;
    loop {
        match status(address, request) {
            Ok(status) if status == wanted => return Ok(()),
            Ok(401) => return Err(format!("{address} rejects the tokens of this tool: check --secret")),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Ok(status) => return Err(format!("{address} answers with status {status} instead of {wanted}")),
            Err(error) => return Err(format!("cannot reach {address}: {error}")),
        }
    }
}

/// The status of the answer to `request`.
fn status(address: SocketAddr, request: &[u8]) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
    socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
    socket.write_all(request)?;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match socket.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            bytes => head.extend_from_slice(&buffer[..bytes]),
        }
        if let Some((status, _)) = wire::response_head(&head) {
            return Ok(status);
        }
    }
}
