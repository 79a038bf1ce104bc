//! A client that knows the id of the last message it received, and asks for the messages since then when it returns.

use serde_json::{Value, json};

use super::client::Client;
use super::server::{Server, token};

/// A client, with the texts of all messages that it received, also before it returned.
pub struct Returning {
    pub client: Client,
    pub name: String,
    pub last_id: Option<String>,
    pub texts: Vec<String>,
}

/// The `msg` of `caught_up`.
#[derive(Debug, PartialEq, Eq)]
pub struct CaughtUp {
    pub complete: bool,
    pub messages: usize,
}

pub fn complete(messages: usize) -> CaughtUp {
    CaughtUp { complete: true, messages }
}

pub fn incomplete(messages: usize) -> CaughtUp {
    CaughtUp { complete: false, messages }
}

impl Returning {
    /// Joins without a query, and reads up to the client's own `user_joined`.
    pub fn join(server: &Server, name: &str) -> Returning {
        let mut joined = Self::begin(server, name, "").expect("a join");
        joined.client.wait_for("user_joined", &json!({ "username": name }));
        joined
    }

    /// Joins with this query, and reads up to `caught_up`.
    pub fn join_query(server: &Server, name: &str, query: &str) -> (Returning, CaughtUp) {
        let mut joined = Self::begin(server, name, query).expect("a join");
        let caught_up = joined.catch_up();
        (joined, caught_up)
    }

    /// Joins with this query, and reads `users_online`. The error is the status of a rejected join.
    fn begin(server: &Server, name: &str, query: &str) -> Result<Returning, u16> {
        let mut client = Client::try_join_query(server.address, &token(name), query)?;
        let first = client.next();
        assert_eq!(first["type"], "users_online");
        let last_id = first["event_id"].as_str().map(str::to_owned);
        Ok(Returning { client, name: name.to_owned(), last_id, texts: Vec::new() })
    }

    /// Drops the connection, joins again, and asks for the messages since the last one received.
    pub fn return_to(self, server: &Server) -> (Returning, CaughtUp) {
        self.client.vanish();
        Self::resume(server, &self.name, self.last_id, self.texts).unwrap_or_else(|status| panic!("{status} to a join"))
    }

    /// Joins, and asks for the messages since `last_id`. The error is the status of a rejected join.
    pub fn resume(
        server: &Server,
        name: &str,
        last_id: Option<String>,
        texts: Vec<String>,
    ) -> Result<(Returning, CaughtUp), u16> {
        let query = format!("after={}", last_id.as_deref().expect("the id of a message"));
        let mut returned = Returning { texts, last_id, ..Self::begin(server, name, &query)? };
        let caught_up = returned.catch_up();
        Ok((returned, caught_up))
    }

    /// Reads the messages after `users_online` up to `caught_up`.
    fn catch_up(&mut self) -> CaughtUp {
        let before = self.texts.len();
        loop {
            let frame = self.client.next();
            match frame["type"].as_str() {
                Some("chat_message") => self.take(&frame),
                Some("caught_up") => {
                    let (messages, complete) = (frame["msg"]["messages"].as_u64(), frame["msg"]["complete"].as_bool());
                    assert_eq!(messages, Some((self.texts.len() - before) as u64), "{frame}");
                    return CaughtUp {
                        complete: complete.expect("a truth value"),
                        messages: self.texts.len() - before,
                    };
                }
                _ => panic!("{frame} before caught_up"),
            }
        }
    }

    fn take(&mut self, message: &Value) {
        let id = message["event_id"].as_str().expect("an id");
        assert!(id.len() <= 40, "{id}");
        self.last_id = Some(id.to_owned());
        self.texts.push(message["msg"]["text"].as_str().expect("a text").to_owned());
    }

    /// Reads one frame. The error is the end of the connection.
    pub fn read(&mut self) -> Result<Value, ()> {
        let frame = self.client.next_or_close().map_err(drop)?;
        if frame["type"] == "chat_message" {
            self.take(&frame);
        }
        Ok(frame)
    }

    /// Reads frames until a message has this text.
    pub fn read_until(&mut self, text: &str) {
        while self.texts.last().is_none_or(|last| last != text) {
            self.read().expect("a frame");
        }
    }

    /// Sends a message and waits until the server returns it.
    pub fn say(&mut self, text: &str) {
        self.client.say(text);
        self.read_until(text);
    }
}
