//! A client that reads all frames on its own thread and maintains the list of online users, as a chat program does.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, Message};

use super::client::Client;
use super::server::{Server, token};
use super::wait_for;

/// How long one read blocks before the thread checks for frames to send.
const READ_TIMEOUT: Duration = Duration::from_millis(10);

/// A received frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub received_at: Instant,
    /// `type`.
    pub kind: String,
    /// The client's id of the message, or empty.
    pub id: String,
    /// The user who joined, left or sent the message, or empty.
    pub name: String,
    /// The text of the message, or empty.
    pub text: String,
    /// The code of the error, or empty.
    pub code: String,
}

/// A watching client. Drops its connection without a close frame when it is dropped.
pub struct Watcher {
    pub name: String,
    view: Arc<Mutex<View>>,
    outgoing: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct View {
    frames: Vec<Frame>,
    /// None until `users_online` was received.
    online: Option<BTreeSet<String>>,
    /// Frames that contradict the frames before them.
    contradictions: Vec<String>,
    /// The close code, or 0 if the connection ended without one. None while it is open.
    closed: Option<u16>,
}

impl Watcher {
    /// Joins, and waits until the client has received its own `user_joined`.
    pub fn join(server: &Server, name: &str) -> Watcher {
        let client = Client::try_join(server.address, &token(name));
        let client = client.unwrap_or_else(|status| panic!("the server answers {status} to the join of {name}"));
        let watcher = Self::start(client, name);
        wait_for(&format!("the own user_joined of {name}"), || watcher.online().contains(name).then_some(()));
        watcher
    }

    fn start(client: Client, name: &str) -> Watcher {
        let view = Arc::new(Mutex::new(View::default()));
        let (outgoing, to_send) = mpsc::channel();
        let thread = {
            let view = Arc::clone(&view);
            thread::spawn(move || run(client, &view, &to_send))
        };
        Watcher { name: name.to_owned(), view, outgoing: Some(outgoing), thread: Some(thread) }
    }

    /// Sends a chat message with an id. Does nothing if the connection has ended.
    pub fn say(&self, id: &str, text: &str) {
        let frame = json!({"type": "chat_message", "id": id, "msg": {"text": text}}).to_string();
        let _ = self.outgoing.as_ref().expect("taken only in drop").send(frame);
    }

    /// All frames received so far. This and the methods below panic if a frame contradicts the frames before it.
    pub fn frames(&self) -> Vec<Frame> {
        self.view().frames.clone()
    }

    /// The online users according to the frames received so far.
    pub fn online(&self) -> BTreeSet<String> {
        self.view().online.clone().unwrap_or_default()
    }

    fn view(&self) -> MutexGuard<'_, View> {
        let view = self.view.lock().unwrap();
        assert!(view.contradictions.is_empty(), "contradictory frames to {}: {:?}", self.name, view.contradictions);
        view
    }

    /// How many frames of this kind about this user were received.
    pub fn count(&self, kind: &str, name: &str) -> usize {
        self.view().frames.iter().filter(|frame| frame.kind == kind && frame.name == name).count()
    }

    /// Waits for the first frame of this kind about this user.
    pub fn wait_frame(&self, kind: &str, name: &str) -> Frame {
        wait_for(&format!("{kind} {name} at {}", self.name), || {
            self.view().frames.iter().find(|frame| frame.kind == kind && frame.name == name).cloned()
        })
    }

    /// Waits for a chat message with this text.
    pub fn wait_text(&self, text: &str) {
        wait_for(&format!("{text:?} at {}", self.name), || {
            self.view().frames.iter().any(|frame| frame.kind == "chat_message" && frame.text == text).then_some(())
        });
    }

    /// Waits for the message with this id or an `error` about it. Returns whether it was the message.
    pub fn wait_answer(&self, id: &str) -> bool {
        wait_for(&format!("an answer to message {id} of {}", self.name), || {
            let view = self.view();
            let answer = view.frames.iter().find(|frame| frame.id == id)?;
            Some(answer.kind == "chat_message")
        })
    }

    /// The ids of the received chat messages, in the order of receipt.
    pub fn chat_ids(&self) -> Vec<String> {
        self.ids("chat_message")
    }

    /// The ids of the messages that were answered with an `error`.
    pub fn error_ids(&self) -> Vec<String> {
        self.ids("error")
    }

    /// The codes of the received errors, in the order of receipt.
    pub fn error_codes(&self) -> Vec<String> {
        self.view().frames.iter().filter(|frame| frame.kind == "error").map(|frame| frame.code.clone()).collect()
    }

    fn ids(&self, kind: &str) -> Vec<String> {
        self.view().frames.iter().filter(|frame| frame.kind == kind).map(|frame| frame.id.clone()).collect()
    }

    /// The close code of the connection; 0: it ended without one; none: it is open.
    pub fn closed(&self) -> Option<u16> {
        self.view.lock().unwrap().closed
    }

    /// Waits for the end of the connection and returns its close code, or 0.
    pub fn wait_closed(&self) -> u16 {
        wait_for(&format!("the end of the connection of {}", self.name), || self.closed())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.outgoing.take());
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || thread::panicking(), "the thread of {} panicked", self.name);
    }
}

fn run(mut client: Client, view: &Mutex<View>, to_send: &Receiver<String>) {
    client.socket.get_ref().set_read_timeout(Some(READ_TIMEOUT)).expect("setting a socket option");
    loop {
        loop {
            match to_send.try_recv() {
                // A failed send is ignored: the next read notices the end of the connection.
                Ok(frame) => drop(client.socket.send(Message::text(frame))),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        match client.socket.read() {
            Ok(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                view.lock().unwrap().take(&frame);
            }
            Ok(Message::Close(frame)) => {
                view.lock().unwrap().closed = Some(frame.map_or(0, |frame| frame.code.into()));
                return;
            }
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => {
                view.lock().unwrap().closed = Some(0);
                return;
            }
        }
    }
}

impl View {
    fn take(&mut self, frame: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let msg = &frame["msg"];
        let frame = Frame {
            received_at: Instant::now(),
            kind: text(&frame["type"]),
            id: text(&frame["id"]),
            name: text(if msg["username"].is_string() { &msg["username"] } else { &msg["from_user"] }),
            text: text(&msg["text"]),
            code: text(&msg["code"]),
        };
        let is_consistent = match (frame.kind.as_str(), &mut self.online) {
            ("users_online", online @ None) => {
                let list = msg["list"].as_array().expect("a list");
                let names: BTreeSet<String> = list.iter().map(text).collect();
                let is_set = names.len() == list.len();
                *online = Some(names);
                is_set
            }
            ("user_joined", Some(online)) => online.insert(frame.name.clone()),
            ("user_left", Some(online)) => online.remove(&frame.name),
            ("chat_message", Some(online)) => online.contains(&frame.name),
            ("error", _) => true,
            _ => false,
        };
        if !is_consistent {
            self.contradictions.push(format!("{frame:?} while {:?} are online", self.online));
        }
        self.frames.push(frame);
    }
}
