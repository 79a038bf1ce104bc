//! [`Pending`]: the list of the connections that are not sessions. A stop closes those without a complete request at
//! once, and the others after their requests had time to be answered. A connection that becomes a session leaves
//! the list; the fan-out closes it.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::threads::lock;

/// Connections without a session. Shared by their threads and the main thread.
#[derive(Debug, Default)]
pub(crate) struct Pending {
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

/// An entry of the list, owned by the thread of the connection. Removes the entry on drop.
#[derive(Debug)]
pub(crate) struct PendingConnection {
    pending: Arc<Pending>,
    key: u64,
    stream: Arc<TcpStream>,
}

impl Pending {
    /// Adds a connection. During a stop, its reads return at once.
    pub(crate) fn add(self: &Arc<Self>, stream: TcpStream) -> PendingConnection {
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

    /// Whether [`Pending::stop`] was called.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.state).is_stopping
    }

    /// Makes the reads of all connections without a complete request return at once, now and later.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        state.is_stopping = true;
        state.connections.values().filter(|entry| !entry.has_request).for_each(|entry| end_reading(&entry.stream));
    }

    /// Closes all connections, also those that wait for an answer.
    pub(crate) fn close_all(&self) {
        for entry in lock(&self.state).connections.values() {
            // It fails only if the connection is closed already.
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
    }

    fn remove(&self, key: u64) {
        let mut state = lock(&self.state);
        state.connections.remove(&key);
        // Frees the memory after a burst of connections.
        let (len, capacity) = (state.connections.len(), state.connections.capacity());
        if capacity > 64 && len < capacity / 8 {
            state.connections.shrink_to(len * 2);
        }
    }
}

impl PendingConnection {
    #[must_use]
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Records that a whole head was read: a stop then gives the request time for its answer.
    pub(crate) fn set_has_request(&self) {
        if let Some(entry) = lock(&self.pending.state).connections.get_mut(&self.key) {
            entry.has_request = true;
        }
    }

    /// Removes the entry and returns the socket, which becomes a session. Never `None`: only the entry shares the
    /// socket.
    #[must_use]
    pub(crate) fn into_stream(self) -> Option<TcpStream> {
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

/// Makes a blocked read return. Answers can still be sent.
fn end_reading(stream: &TcpStream) {
    // It fails only if the connection is closed already.
    let _ = stream.shutdown(Shutdown::Read);
}
