//! [`Pending`]: the connections that are not sessions, so that a stop can end them: those without a complete request at
//! once, those with one after they had time for the answer. A connection that becomes a session leaves, and the fan-out
//! closes it.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::threads::lock;

/// The connections without a session. Shared by their threads and the server.
#[derive(Debug, Default)]
pub struct Pending {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    next_key: u64,
    connections: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<TcpStream>,
    has_request: bool,
}

/// A connection that can be reached by a stop. It is taken off the list when it is dropped.
#[derive(Debug)]
pub struct PendingConnection {
    pending: Arc<Pending>,
    key: u64,
    stream: Arc<TcpStream>,
}

impl Pending {
    /// Adds a connection. During a stop its request is not waited for.
    pub fn add(self: &Arc<Self>, stream: TcpStream) -> PendingConnection {
        let stream = Arc::new(stream);
        let mut state = lock(&self.state);
        let key = state.next_key;
        state.next_key += 1;
        if state.is_stopping {
            end_reading(&stream);
        }
        state.connections.insert(key, Entry { stream: stream.clone(), has_request: false });
        PendingConnection { pending: self.clone(), key, stream }
    }

    /// Whether the server stops: no request is waited for any more.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        lock(&self.state).is_stopping
    }

    /// From now on no request is waited for: the reads of connections without a complete one return at once.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.is_stopping = true;
        state.connections.values().filter(|entry| !entry.has_request).for_each(|entry| end_reading(&entry.stream));
    }

    /// Closes all connections, also those that wait for an answer.
    pub fn close_all(&self) {
        for entry in lock(&self.state).connections.values() {
            // It fails only when the connection is gone already.
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
    }

    fn remove(&self, key: u64) {
        let mut state = lock(&self.state);
        state.connections.remove(&key);
        // The room that a burst of connections took is given back.
        let (len, capacity) = (state.connections.len(), state.connections.capacity());
        if capacity > 64 && len < capacity / 8 {
            state.connections.shrink_to(len * 2);
        }
    }
}

impl PendingConnection {
    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// A whole head was read: a stop lets the request be answered.
    pub fn has_request(&self) {
        if let Some(entry) = lock(&self.pending.state).connections.get_mut(&self.key) {
            entry.has_request = true;
        }
    }

    /// Takes it off the list, as it becomes a session. `None` never happens: only the list has the socket besides.
    #[must_use]
    pub fn into_stream(self) -> Option<TcpStream> {
        let stream = self.stream.clone();
        drop(self);
        Arc::into_inner(stream)
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.pending.remove(self.key);
    }
}

/// A blocked read returns; what is sent still arrives.
fn end_reading(stream: &TcpStream) {
    // It fails only when the connection is gone already.
    let _ = stream.shutdown(Shutdown::Read);
}
