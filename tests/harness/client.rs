//! A websocket client, as people have one.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use super::PATIENCE;

/// A client that has joined.
pub struct Client {
    /// The connection.
    pub socket: WebSocket<TcpStream>,
}

impl Client {
    /// Joins with this token.
    ///
    /// # Panics
    /// The server refuses.
    pub fn join(address: SocketAddr, token: &str) -> Client {
        Self::try_join(address, token).unwrap_or_else(|status| panic!("the server answers {status} to a join"))
    }

    /// Joins, or gives the status of the answer.
    pub fn try_join(address: SocketAddr, token: &str) -> Result<Client, u16> {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut request = format!("ws://{address}/join").into_client_request().expect("a request");
        let authorization = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("Authorization", authorization);
        match tungstenite::client::client(request, stream) {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("joining: {error}"),
        }
    }

    /// The next frame that is not a ping or pong.
    ///
    /// # Panics
    /// The connection is closed, or nothing comes.
    pub fn next(&mut self) -> Value {
        match self.next_or_close() {
            Ok(frame) => frame,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next frame, or the close frame at the end (none where the connection ended without one).
    pub fn next_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "only pings came within {PATIENCE:?}");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => return Err(frame),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came within {PATIENCE:?}")
                }
                Err(_) => return Err(None),
            }
        }
    }

    /// The next frame, as `type` and the `msg`; its `sent_at` is looked at.
    pub fn event(&mut self) -> (String, Value) {
        let frame = self.next();
        let sent_at = frame["sent_at"].as_str().expect("sent_at");
        assert!(sent_at.len() == 35 && sent_at.as_bytes()[19] == b'.', "{sent_at} has no nanoseconds and offset");
        (frame["type"].as_str().expect("type").to_owned(), frame["msg"].clone())
    }

    /// Reads on until a frame of this type and `msg`.
    pub fn wait_for(&mut self, kind: &str, msg: &Value) {
        let deadline = Instant::now() + PATIENCE;
        while self.event() != (kind.to_owned(), msg.clone()) {
            assert!(Instant::now() < deadline, "waited in vain for {kind} {msg}");
        }
    }

    /// Reads on until this text comes, and gives all texts until then, that one too.
    pub fn texts_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let (kind, msg) = self.event();
            if kind == "chat_message" {
                texts.push(msg["text"].as_str().expect("text").to_owned());
                if texts.last().is_some_and(|text| text == last) {
                    return texts;
                }
            }
        }
    }

    /// Says something.
    pub fn say(&mut self, text: &str) {
        self.send(&json!({"type": "chat_message", "msg": {"text": text}}).to_string());
    }

    /// Sends a text frame as it is.
    pub fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).expect("sending");
    }

    /// Closes, and waits for the reply.
    pub fn leave(mut self) {
        self.socket.close(None).expect("closing");
        while self.next_or_close().is_ok() {}
    }

    /// Goes without a word.
    pub fn vanish(self) {
        drop(self);
    }

    /// Panics when a frame comes within this time. For what must not happen, after what must has.
    pub fn expect_silence(&mut self, time: Duration) {
        self.socket.get_ref().set_read_timeout(Some(time)).expect("an option");
        let read = self.socket.read();
        assert!(matches!(read, Err(Error::Io(_))), "something came: {read:?}");
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("an option");
    }
}
