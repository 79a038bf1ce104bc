//! The bare loop, for comparison: a server with one thread per connection that calls `send` once per socket and
//! message. It speaks the same wire format and has no accounts, limits, queues or event log.
//!
//! It runs in a child process of the tool, so that its CPU and memory are measured separately.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// The internal first argument that makes this program run the bare loop.
pub const BASELINE_ARGUMENT: &str = "__bare_loop";
/// The internal second argument for a bare loop that sends no presence events.
pub const NO_PRESENCE_ARGUMENT: &str = "__no_presence";

const STACK_BYTES: usize = 128 * 1024;
const READ_BYTES: usize = 4096;

/// All connected clients. One mutex guards the room; it is held while an event is written to every socket.
struct Room {
    /// Whether clients receive `user_joined` and `user_left`.
    sends_presence: bool,
    clients: Vec<(String, Arc<TcpStream>)>,
}

impl Room {
    fn broadcast(&self, frame: &[u8]) {
        for (_, socket) in &self.clients {
            // The thread that reads a failed socket removes it.
            let _ = (&**socket).write_all(frame);
        }
    }

    fn join(&mut self, name: &str, socket: &Arc<TcpStream>, response: &[u8]) {
        let listed = if self.sends_presence { self.clients.as_slice() } else { &[] };
        let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        let mut first = response.to_vec();
        first.extend(frame("users_online", &json!({ "list": names })));
        let _ = (&**socket).write_all(&first);
        self.clients.push((name.to_owned(), Arc::clone(socket)));
        self.send_presence("user_joined", name);
    }

    fn send_presence(&self, kind: &str, name: &str) {
        if self.sends_presence {
            self.broadcast(&frame(kind, &json!({ "username": name })));
        }
    }

    fn leave(&mut self, name: &str, socket: &Arc<TcpStream>) {
        self.clients.retain(|(_, other)| !Arc::ptr_eq(other, socket));
        self.send_presence("user_left", name);
    }
}

/// Listens, prints the address, and serves until the process is killed.
pub fn serve(sends_presence: bool) -> Result<Infallible, std::io::Error> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    let listener: std::net::TcpListener = socket.into();
    println!("bare loop listening on http://{}", listener.local_addr()?);
    let room = Arc::new(Mutex::new(Room { sends_presence, clients: Vec::new() }));
    loop {
        let started = listener.accept().and_then(|(socket, _)| {
            let room = Arc::clone(&room);
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                let _ = serve_one(socket, &room);
            })
        });
        if let Err(error) = started {
            eprintln!("bare loop: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Serves one connection from the handshake to its end.
fn serve_one(socket: TcpStream, room: &Mutex<Room>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let lock = || room.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = [0; READ_BYTES];
    let mut filled = 0;
    let (name, response, mut used) = loop {
        filled += read_some(&socket, &mut buffer[filled..])?;
        if let Some(joined) = handshake(&buffer[..filled])? {
            break joined;
        }
    };
    let socket = Arc::new(socket);
    lock().join(&name, &socket, &response);
    let ended = loop {
        buffer.copy_within(used..filled, 0);
        filled -= used;
        used = 0;
        match read_some(&socket, &mut buffer[filled..]) {
            Ok(more) => filled += more,
            Err(error) => break error,
        }
        while let Some((text, length)) = masked_text(&buffer[used..filled]) {
            used += length;
            let text = serde_json::from_slice::<Value>(&text)
                .ok()
                .and_then(|mut frame| frame.pointer_mut("/msg/text").map(Value::take));
            if let Some(text) = text {
                let frame = frame("chat_message", &json!({ "from_user": name, "text": text }));
                lock().broadcast(&frame);
            }
        }
    };
    lock().leave(&name, &socket);
    Err(ended)
}

fn read_some(mut socket: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    match socket.read(buffer)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}

/// The username in the token, the response to the upgrade, and the length of the request. `None`: incomplete.
fn handshake(request: &[u8]) -> std::io::Result<Option<(String, Vec<u8>, usize)>> {
    #[derive(Deserialize)]
    struct Claims {
        username: String,
    }
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&request[..end]);
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let token = header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    let claims = token.and_then(|token| jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token).ok());
    let (Some(claims), Some(key)) = (claims, header("Sec-WebSocket-Key")) else {
        return Err(std::io::ErrorKind::InvalidData.into());
    };
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(Some((claims.username, response.into_bytes(), end + 4)))
}

/// The payload of the first masked frame (at most 64 KiB) in `bytes`, and its length. `None`: incomplete.
fn masked_text(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let short = usize::from(bytes.get(1)? & 0x7f);
    let (mask_at, payload_bytes) = match short {
        126.. => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        _ => (2, short),
    };
    let mask: &[u8; 4] = bytes.get(mask_at..)?.first_chunk()?;
    let payload = bytes.get(mask_at + 4..mask_at + 4 + payload_bytes)?;
    let text = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((text, mask_at + 4 + payload_bytes))
}

/// Encodes one event as an unmasked text frame.
fn frame(kind: &str, msg: &Value) -> Vec<u8> {
    let payload = format!(r#"{{"type":"{kind}","sent_at":"{}","msg":{msg}}}"#, jiff::Timestamp::now());
    let mut frame = vec![0x81];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(short as u8),
        Ok(middle) => {
            frame.push(126);
            frame.extend(middle.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload.into_bytes());
    frame
}
