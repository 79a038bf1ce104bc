//! A client that reads on a thread of its own whatever comes, and folds it into who is there, as a chat program does.

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

/// How long the thread reads before it looks whether there is something to send.
const LOOK: Duration = Duration::from_millis(10);

/// One frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// When it was read.
    pub came_at: Instant,
    /// `type`.
    pub kind: String,
    /// The client's id of the message, or empty.
    pub id: String,
    /// Whom it is about: the name of who joined, left or said something, or empty.
    pub name: String,
    /// What was said, or empty.
    pub text: String,
}

/// Who watches. Ends its connection, without a word, when it is dropped.
pub struct Watcher {
    /// Who he is.
    pub name: String,
    view: Arc<Mutex<View>>,
    orders: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct View {
    frames: Vec<Frame>,
    /// None until the list came.
    online: Option<BTreeSet<String>>,
    /// What cannot follow from what came before.
    contradictions: Vec<String>,
    /// The close code, or 0 where the connection ended without one.
    closed: Option<u16>,
}

impl Watcher {
    /// Joins, and waits until he sees himself in the lobby.
    pub fn join(server: &Server, name: &str) -> Watcher {
        let watcher = Self::start(Client::join(server.address, &token(name)), name);
        wait_for(&format!("{name} to see himself"), || watcher.online().contains(name).then_some(()));
        watcher
    }

    fn start(client: Client, name: &str) -> Watcher {
        let view = Arc::new(Mutex::new(View::default()));
        let (orders, to_send) = mpsc::channel();
        let thread = {
            let view = Arc::clone(&view);
            thread::spawn(move || run(client, &view, &to_send))
        };
        Watcher { name: name.to_owned(), view, orders: Some(orders), thread: Some(thread) }
    }

    /// Says something under an id. Where the connection has ended nothing happens.
    pub fn say(&self, id: &str, text: &str) {
        let frame = json!({"type": "chat_message", "id": id, "msg": {"text": text}}).to_string();
        let _ = self.orders.as_ref().expect("it is there until the end").send(frame);
    }

    /// All that came so far. All of these methods panic when that contradicts itself.
    pub fn frames(&self) -> Vec<Frame> {
        self.view().frames.clone()
    }

    /// Who is there by what came so far.
    pub fn online(&self) -> BTreeSet<String> {
        self.view().online.clone().unwrap_or_default()
    }

    fn view(&self) -> MutexGuard<'_, View> {
        let view = self.view.lock().unwrap();
        assert!(view.contradictions.is_empty(), "what {} was told: {:?}", self.name, view.contradictions);
        view
    }

    /// How many frames of this kind came about this person.
    pub fn count(&self, kind: &str, name: &str) -> usize {
        self.view().frames.iter().filter(|frame| frame.kind == kind && frame.name == name).count()
    }

    /// Waits for a frame of this kind about this person.
    pub fn wait_frame(&self, kind: &str, name: &str) -> Frame {
        wait_for(&format!("{kind} {name}, told to {}", self.name), || {
            self.view().frames.iter().find(|frame| frame.kind == kind && frame.name == name).cloned()
        })
    }

    /// Waits until he was told this text.
    pub fn wait_text(&self, text: &str) {
        wait_for(&format!("{text:?}, told to {}", self.name), || {
            self.view().frames.iter().any(|frame| frame.kind == "chat_message" && frame.text == text).then_some(())
        });
    }

    /// Waits until the message with this id came back, or an error about it: whether it came back.
    pub fn wait_answer(&self, id: &str) -> bool {
        wait_for(&format!("an answer to message {id} of {}", self.name), || {
            let view = self.view();
            let answer = view.frames.iter().find(|frame| frame.id == id)?;
            Some(answer.kind == "chat_message")
        })
    }

    /// The ids of the messages that came back, in their order.
    pub fn chat_ids(&self) -> Vec<String> {
        self.ids("chat_message")
    }

    /// The ids of the messages that were answered by an error.
    pub fn error_ids(&self) -> Vec<String> {
        self.ids("error")
    }

    fn ids(&self, kind: &str) -> Vec<String> {
        self.view().frames.iter().filter(|frame| frame.kind == kind).map(|frame| frame.id.clone()).collect()
    }

    /// The code that the connection was closed with; 0: without any; none: it is open.
    pub fn closed(&self) -> Option<u16> {
        self.view.lock().unwrap().closed
    }

    /// Waits for the end of the connection, and gives its code, or 0.
    pub fn wait_closed(&self) -> u16 {
        wait_for(&format!("the end of the connection of {}", self.name), || self.closed())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.orders.take());
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || thread::panicking(), "the thread of {} panicked", self.name);
    }
}

fn run(mut client: Client, view: &Mutex<View>, to_send: &Receiver<String>) {
    client.socket.get_ref().set_read_timeout(Some(LOOK)).expect("an option");
    loop {
        loop {
            match to_send.try_recv() {
                // The end of the connection is seen by reading.
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
            came_at: Instant::now(),
            kind: text(&frame["type"]),
            id: text(&frame["id"]),
            name: text(if msg["username"].is_string() { &msg["username"] } else { &msg["from_user"] }),
            text: text(&msg["text"]),
        };
        let fits = match (frame.kind.as_str(), &mut self.online) {
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
        if !fits {
            self.contradictions.push(format!("{frame:?} with {:?} there", self.online));
        }
        self.frames.push(frame);
    }
}
