//! The clients of this process on one thread and one `epoll`: connects them, sends chat messages on schedule, reads
//! events and passes them to the ledger.
//!
//! A client is identified by its index: the first clients send, the last ones never read. [`crate::engines`] calls
//! [`Engine::poll_once`] again and again.

mod receive;
mod returns;
mod send;
mod status;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::client::{Client, ReadResult, Stage};
use crate::clock::{nanos, now_ns};
use crate::events::Reader;
use crate::histogram::Histogram;
use crate::ledger::Ledger;
use crate::pacer::Pacer;
use crate::wire;

use self::returns::{ReturnCounts, Returns};
use self::status::Reasons;
pub use self::status::{Report, Status};

/// The `mio` token of the waker. The token of a client is its index.
const WAKER: Token = Token(usize::MAX);
/// Holds the longest frame: `users_online` with 60,000 names.
const BUFFER_BYTES: usize = 2 << 20;
const READ_BYTES: usize = 128 * 1024;
/// Reads of one client before the other clients are served.
const READS_PER_POLL: usize = 4;
/// Connections started before the connected clients are served.
const CONNECTS_PER_POLL: usize = 32;
/// Readiness events handled between two checks of the send schedule.
const EVENTS_PER_SCHEDULE_CHECK: usize = 32;
const UPGRADE_DEADLINE: Duration = Duration::from_secs(60);
/// How an instance that stops ends a connection.
const RESTART: &str = "closed with 1012";

/// The clients with one source address. An address has about 28,000 ports, of which those of closed connections stay
/// in use for a while.
const CLIENTS_PER_SOURCE: usize = 5000;

/// What the engine needs to know about the load.
#[derive(Clone, Serialize, Deserialize)]
pub struct Load {
    /// Clients that read.
    pub readers: usize,
    /// The clients of this process. The other ones are in other processes.
    pub own: Range<usize>,
    /// Clients that never read. Their indexes follow those of the readers.
    pub slow: usize,
    /// How many of the readers send: those with the lowest indexes.
    pub senders: usize,
    /// Length of a message's text.
    pub bytes: usize,
    /// The servers. Clients are distributed over them in turn.
    pub addresses: Vec<SocketAddr>,
    /// One access token per client; empty for clients of other processes.
    pub tokens: Vec<String>,
    /// Part of all usernames and texts of this run.
    pub run_id: [u8; 4],
    /// Clients whose instance stops return, and get the messages that they missed.
    pub returns: bool,
}

impl Load {
    /// The load of a process with the clients `own`.
    pub fn part(&self, own: Range<usize>) -> Self {
        let token =
            |(client, token): (usize, &String)| if own.contains(&client) { token.clone() } else { String::new() };
        Self { tokens: self.tokens.iter().enumerate().map(token).collect(), own, ..self.clone() }
    }
}

/// The clients and the measurements, which [`Status`] and [`Report`] explain.
pub struct Engine {
    /// Most joins in flight at once.
    pub outstanding: usize,
    ledger: Ledger,
    latency: Histogram,
    lag_ns: u64,
    unsent: u64,
    last_event_ns: u64,
    last_presence_ns: u64,
    disconnects: Reasons,
    slow_disconnects: Reasons,
    error_frames: Reasons,
    open: usize,
    /// Clients that have lost their connections and do not return.
    gone: Vec<usize>,
    load: Load,
    accept: String,
    reader: Reader,
    clients: Vec<Client>,
    poll: Poll,
    waker: Arc<Waker>,
    events: Events,
    buffer: Vec<u8>,
    list: Vec<u32>,
    unfinished: Vec<usize>,
    to_join: VecDeque<usize>,
    /// None if clients do not return.
    returns: Option<Returns>,
    upgrading: usize,
    pacer: Option<Pacer>,
    /// The senders send, in this process or in another one.
    chats: bool,
    /// No chat message is in flight.
    all_delivered: bool,
    overdue_checked_ns: u64,
}

impl Engine {
    /// Creates the clients of `load`, all disconnected.
    pub fn new(load: Load) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot set up the clients: {error}");
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let clients = load.readers + load.slow;
        Ok(Self {
            ledger: Ledger::new(clients, load.senders, load.readers, load.own.clone()),
            latency: Histogram::default(),
            lag_ns: 0,
            unsent: 0,
            last_event_ns: 0,
            last_presence_ns: 0,
            disconnects: Reasons::new(),
            slow_disconnects: Reasons::new(),
            error_frames: Reasons::new(),
            gone: Vec::new(),
            open: 0,
            outstanding: 1,
            accept: tungstenite::handshake::derive_accept_key(wire::WEBSOCKET_KEY.as_bytes()),
            reader: Reader::new(load.run_id),
            clients: (0..clients).map(|_| Client::new()).collect(),
            returns: load.returns.then(|| Returns::new(clients, load.senders)),
            load,
            poll,
            waker,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES],
            list: Vec::new(),
            unfinished: Vec::new(),
            to_join: VecDeque::new(),
            upgrading: 0,
            pacer: None,
            chats: false,
            all_delivered: true,
            overdue_checked_ns: 0,
        })
    }

    /// Queues joins of `clients`. At most `outstanding` joins are in flight at once.
    pub fn join(&mut self, clients: impl Iterator<Item = usize>) {
        for client in clients {
            self.ledger.expect(client, true);
            if self.load.own.contains(&client) {
                self.to_join.push_back(client);
            }
        }
    }

    /// Disconnects `client`, with a close frame if `close_frame` is set.
    pub fn leave(&mut self, client: usize, close_frame: bool) {
        if self.load.own.contains(&client) {
            self.disconnect(client, close_frame);
        } else {
            self.ledger.expect(client, false);
        }
    }

    /// `client` has lost its connection. In its own process this is known, and it may have joined again since.
    pub fn on_gone(&mut self, client: usize) {
        if !self.load.own.contains(&client) {
            self.ledger.expect(client, false);
        }
    }

    /// Clients that have lost their connections since the last call and do not return.
    pub fn take_gone(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.gone)
    }

    /// Whether `client` has joined.
    pub fn is_open(&self, client: usize) -> bool {
        self.clients[client].stage == Stage::Open
    }

    /// The clients of this process that read.
    pub fn own_readers(&self) -> Range<usize> {
        self.load.own.start..self.load.own.end.min(self.load.readers)
    }

    /// Joins that are queued or in flight.
    pub fn joining(&self) -> usize {
        self.upgrading + self.to_join.len() + self.returns.as_ref().map_or(0, Returns::waiting)
    }

    /// Another instance is in the place of the one with this number.
    pub fn set_address(&mut self, number: usize, address: SocketAddr) {
        self.load.addresses[number] = address;
    }

    /// From now on messages are in flight.
    pub fn expect_chat(&mut self) {
        self.chats = true;
        self.all_delivered = false;
    }

    /// Starts to send `rate` messages per second, which are expected.
    pub fn start_chat(&mut self, rate: f64) -> Result<(), String> {
        self.pacer = Some(Pacer::start(rate, Arc::clone(&self.waker))?);
        Ok(())
    }

    /// Stops sending. Each sender has sent so many messages. `all_arrived`: they were all received.
    pub fn stop_chat(&mut self, all_arrived: bool, sent: &[u32]) {
        self.pacer = None;
        self.chats = false;
        self.ledger.set_sent(sent);
        self.all_delivered = all_arrived;
    }

    /// How many messages each sender sent.
    pub fn sent(&self) -> &[u32] {
        self.ledger.sent()
    }

    /// The `share` (0 to 1) quantile of the latencies of this process.
    pub fn latency(&self, share: f64) -> u64 {
        self.latency.quantile(share)
    }

    /// Resumes the clients that never read, so that the engine sees which of them were disconnected.
    pub fn wake_slow(&mut self) {
        for client in self.load.own.start.max(self.load.readers)..self.load.own.end {
            self.clients[client].paused = false;
            self.unfinished.push(client);
        }
    }

    /// Runs the loop once: starts joins, sends due messages, waits at most `wait` for readiness and handles it.
    pub fn poll_once(&mut self, wait: Duration) -> Result<(), String> {
        self.take_returns();
        self.start_joins();
        self.fail_overdue_joins();
        self.send_due();
        let wait = if self.unfinished.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(format!("epoll: {error}"));
            }
            _ => {}
        }
        for client in std::mem::take(&mut self.unfinished) {
            self.read(client, true);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        for (number, event) in events.iter().enumerate() {
            if number % EVENTS_PER_SCHEDULE_CHECK == 0 {
                self.send_due();
            }
            if event.token() != WAKER {
                self.handle_readiness(event);
            }
        }
        self.events = events;
        Ok(())
    }

    fn handle_readiness(&mut self, event: &Readiness) {
        let index = event.token().0;
        if event.is_writable() {
            self.clients[index].flush();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    /// Queues the joins of clients that return now, and sends the messages again that senders repeat now.
    fn take_returns(&mut self) {
        let now = now_ns();
        while let Some(client) = self.returns.as_mut().and_then(|returns| returns.take_join(now)) {
            self.to_join.push_back(client);
        }
        while let Some(sender) = self.returns.as_mut().and_then(|returns| returns.take_repetition(now)) {
            if self.is_open(sender) {
                self.repeat(sender);
            }
        }
    }

    fn start_joins(&mut self) {
        for _ in 0..CONNECTS_PER_POLL {
            if self.upgrading >= self.outstanding {
                return;
            }
            let Some(index) = self.to_join.pop_front() else { return };
            let address = self.load.addresses[index % self.load.addresses.len()];
            let query = self.returns.as_ref().map_or(String::new(), |returns| returns.query(index));
            let request = wire::upgrade_request(&address.to_string(), &self.load.tokens[index], &query);
            let client = &mut self.clients[index];
            client.begun_ns = now_ns();
            let slow = index >= self.load.readers;
            let source = source_address(index, address);
            match client.connect(self.poll.registry(), Token(index), source, address, slow, &request) {
                Ok(()) => self.upgrading += 1,
                Err(error) => self.connection_lost(index, &format!("connect: {}", error.kind())),
            }
        }
    }

    /// Ends joins without a response within the deadline. A half-open connection would otherwise wait forever.
    fn fail_overdue_joins(&mut self) {
        let now = now_ns();
        if self.upgrading == 0 || now < self.overdue_checked_ns + 1_000_000_000 {
            return;
        }
        self.overdue_checked_ns = now;
        for index in self.load.own.clone() {
            let client = &self.clients[index];
            if client.stage == Stage::Upgrading && now > client.begun_ns + nanos(UPGRADE_DEADLINE) {
                self.connection_lost(index, "no response to the join");
            }
        }
    }

    /// Reads from client `index` unless it is paused. With `until_drained`, a short read does not end the loop.
    fn read(&mut self, index: usize, until_drained: bool) {
        for _ in 0..READS_PER_POLL {
            let client = &mut self.clients[index];
            if client.paused || client.stage == Stage::Disconnected {
                return;
            }
            let read_bytes = if client.stage == Stage::Upgrading { 4096 } else { READ_BYTES };
            match client.read(&mut self.buffer, read_bytes) {
                ReadResult::WouldBlock => return,
                ReadResult::Closed(reason) => return self.connection_lost(index, reason),
                ReadResult::Bytes { filled, drained } => {
                    let buffer = std::mem::take(&mut self.buffer);
                    self.consume(index, &buffer[..filled]);
                    self.buffer = buffer;
                    // The socket is empty. The next bytes cause a new readiness event.
                    if drained && !until_drained {
                        return;
                    }
                }
            }
        }
        self.unfinished.push(index);
    }

    /// Records that the connection of client `index` ended without this tool closing it.
    fn connection_lost(&mut self, index: usize, reason: &str) {
        let was = self.clients[index].stage;
        if index < self.load.readers
            && let Some(returns) = &mut self.returns
        {
            returns.on_lost(index, now_ns());
            if was == Stage::Open && reason != RESTART {
                *self.disconnects.entry(reason.to_owned()).or_default() += 1;
            }
            self.close(index, false);
            return self.ledger.reset_presence(index);
        }
        let reasons = if index < self.load.readers { &mut self.disconnects } else { &mut self.slow_disconnects };
        let reason = if was == Stage::Upgrading { format!("while joining: {reason}") } else { reason.to_owned() };
        *reasons.entry(reason).or_default() += 1;
        self.gone.push(index);
        self.disconnect(index, false);
    }

    /// Ends the connection of a client that does not return.
    fn disconnect(&mut self, index: usize, close_frame: bool) {
        self.close(index, close_frame);
        if let Some(returns) = &mut self.returns {
            returns.on_left(index);
        }
        self.ledger.expect(index, false);
        self.ledger.reset_client(index);
    }

    fn close(&mut self, index: usize, close_frame: bool) {
        match self.clients[index].stage {
            Stage::Upgrading => self.upgrading -= 1,
            Stage::Open => self.open -= 1,
            Stage::Disconnected => {}
        }
        self.clients[index].close(close_frame);
    }
}

/// The address from which client `index` connects to `server`. 127.0.0.0/8 is this machine. `None`: the kernel chooses.
fn source_address(index: usize, server: SocketAddr) -> Option<IpAddr> {
    let number = u8::try_from(1 + index / CLIENTS_PER_SOURCE).ok()?;
    (server.ip() == Ipv4Addr::LOCALHOST).then(|| Ipv4Addr::new(127, 0, 0, number).into())
}
