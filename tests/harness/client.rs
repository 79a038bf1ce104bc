//! A websocket client of the lobby, based on tungstenite.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use super::PATIENCE;

/// A client that has joined.
pub struct Client {
    pub socket: WebSocket<TcpStream>,
    /// What [`Client::join`] has read.
    first: Option<Received>,
}

/// A frame, or the close frame at the end (none if the connection ended without one).
type Received = Result<Value, Option<CloseFrame>>;

impl Client {
    /// Joins with this token, and waits for the first frame: a client that joins after that is not in its list.
    ///
    /// # Panics
    /// The server rejects the join.
    pub fn join(address: SocketAddr, token: &str) -> Client {
        Self::join_query(address, token, "")
    }

    /// As [`Client::join`], with this query: `after=...` or `last=...`.
    pub fn join_query(address: SocketAddr, token: &str, query: &str) -> Client {
        let joined = Self::try_join_query(address, token, query);
        let mut client = joined.unwrap_or_else(|status| panic!("the server answers {status} to a join with {query:?}"));
        client.first = Some(client.next_or_close());
        client
    }

    /// Joins, or returns the status with which the server rejects the join. Does not wait for a frame: whether a client
    /// that joins at the same time is in the list of this one is not known.
    pub fn try_join(address: SocketAddr, token: &str) -> Result<Client, u16> {
        Self::try_join_query(address, token, "")
    }

    /// As [`Client::try_join`], with this query.
    pub fn try_join_query(address: SocketAddr, token: &str, query: &str) -> Result<Client, u16> {
        let fields = [("Authorization", format!("Bearer {token}"))];
        Self::handshake(address, &format!("/join?{query}"), &fields).map(|(client, _)| client)
    }

    /// As [`Client::try_join`], with these header fields. Also returns the response to the handshake.
    pub fn try_join_with(address: SocketAddr, fields: &[(&'static str, String)]) -> Result<(Client, Response), u16> {
        Self::handshake(address, "/join", fields)
    }

    fn handshake(
        address: SocketAddr,
        target: &str,
        fields: &[(&'static str, String)],
    ) -> Result<(Client, Response), u16> {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true).expect("setting a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
        let mut request = format!("ws://{address}{target}").into_client_request().expect("a request");
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        match tungstenite::client::client(request, stream) {
            Ok((socket, response)) => Ok((Client { socket, first: None }, response)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("joining: {error}"),
        }
    }

    /// The next frame that is not a ping or pong.
    ///
    /// # Panics
    /// The connection is closed, or no frame is received.
    pub fn next(&mut self) -> Value {
        match self.next_or_close() {
            Ok(frame) => frame,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next frame, or the close frame at the end.
    pub fn next_or_close(&mut self) -> Received {
        if let Some(first) = self.first.take() {
            return first;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "only pings within {PATIENCE:?}");
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => return Err(frame),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no frame within {PATIENCE:?}")
                }
                Err(_) => return Err(None),
            }
        }
    }

    /// The `type` and `msg` of the next frame. Also checks the form of its `sent_at`.
    pub fn event(&mut self) -> (String, Value) {
        let frame = self.next();
        let sent_at = frame["sent_at"].as_str().expect("sent_at");
        assert!(sent_at.len() == 35 && sent_at.as_bytes()[19] == b'.', "{sent_at} has no nanoseconds and offset");
        (frame["type"].as_str().expect("type").to_owned(), frame["msg"].clone())
    }

    /// Reads frames until one has this type and `msg`.
    pub fn wait_for(&mut self, kind: &str, msg: &Value) {
        let deadline = Instant::now() + PATIENCE;
        while self.event() != (kind.to_owned(), msg.clone()) {
            assert!(Instant::now() < deadline, "timed out waiting for {kind} {msg}");
        }
    }

    /// Reads frames until a chat message with the text `last`. Returns all texts up to this one, inclusive.
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

    /// Sends a chat message.
    pub fn say(&mut self, text: &str) {
        self.send(&json!({"type": "chat_message", "msg": {"text": text}}).to_string());
    }

    /// Sends a chat message with this id.
    pub fn say_with_id(&mut self, id: &str, text: &str) {
        self.send(&json!({"type": "chat_message", "id": id, "msg": {"text": text}}).to_string());
    }

    /// Sends a text frame with exactly this payload.
    pub fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).expect("sending");
    }

    /// Sends a close frame and waits for the close frame of the server.
    pub fn leave(mut self) {
        self.socket.close(None).expect("closing");
        while self.next_or_close().is_ok() {}
    }

    /// Drops the connection without a close frame.
    pub fn vanish(self) {
        drop(self);
    }

    /// Panics if a frame is received within this time.
    pub fn expect_silence(&mut self, time: Duration) {
        assert!(self.first.is_none(), "unexpected frame: {:?}", self.first);
        self.socket.get_ref().set_read_timeout(Some(time)).expect("setting a socket option");
        let read = self.socket.read();
        assert!(matches!(read, Err(Error::Io(_))), "unexpected frame: {read:?}");
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("setting a socket option");
    }
}
