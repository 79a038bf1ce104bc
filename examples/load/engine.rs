//! All clients, on one thread around one `epoll`: it connects, reads, checks, sends on schedule, and counts.
//!
//! Clients are known by their index; the first ones send, the last ones never read. The scenario tells the engine what
//! to do and lets it run until a condition holds.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token, Waker};

use crate::client::{Client, Got, Stage};
use crate::clock::{nanos, now_ns};
use crate::events::{Event, Reader, Stamp};
use crate::histogram::Histogram;
use crate::ledger::Ledger;
use crate::pacer::Pacer;
use crate::wire::{self, Opcode};

/// The token of the waker; clients have their index.
const WAKER: Token = Token(usize::MAX);
/// Must take the longest frame: the list of 60,000 names.
const BUFFER_BYTES: usize = 2 << 20;
const READ_BYTES: usize = 128 * 1024;
/// Reads of one client before the others have their turn.
const READS_A_TURN: usize = 4;
/// Connections begun before the ones that are there have their turn.
const CONNECTS_A_TURN: usize = 32;
/// Events between two looks at the schedule.
const EVENTS_A_LOOK: usize = 32;
const UPGRADE_DEADLINE: Duration = Duration::from_secs(60);

/// The load, as far as the engine must know it.
pub struct Load {
    /// Clients that read.
    pub readers: usize,
    /// Clients that never read, behind those.
    pub slow: usize,
    /// How many send; they come first.
    pub senders: usize,
    /// Length of a text.
    pub bytes: usize,
    /// The servers; clients go round.
    pub addresses: Vec<SocketAddr>,
    /// The token of each client.
    pub tokens: Vec<String>,
    /// What marks the names and texts of this run.
    pub run: [u8; 4],
}

/// The clients and all that was counted. Fields that count are read, and taken, by the scenario.
pub struct Engine {
    /// Who saw what.
    pub ledger: Ledger,
    /// From due to received.
    pub latency: Histogram,
    /// The longest that a message was sent after it was due.
    pub lag_ns: u64,
    /// Messages that were not sent since their sender was away or its socket full.
    pub unsent: u64,
    /// When a message or a join or leave came last.
    pub last_event_ns: u64,
    /// When a join or leave came last.
    pub last_presence_ns: u64,
    /// Reading clients that the server cut, or that could not join, by reason.
    pub cut: BTreeMap<String, u64>,
    /// Clients who never read, and were cut, by reason.
    pub slow_cut: BTreeMap<String, u64>,
    /// `error` frames and frames that are not in the contract, by code.
    pub refusals: BTreeMap<String, u64>,
    /// Clients that are connected.
    pub open: usize,
    /// Joins that the engine may have under way at once.
    pub outstanding: usize,
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
    upgrading: usize,
    pacer: Option<Pacer>,
    /// Nothing said is on its way to anybody.
    all_quiet: bool,
    last_overdue_look_ns: u64,
}

impl Engine {
    /// The clients of `load`, none of them connected.
    pub fn new(load: Load) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot set up the clients: {error}");
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let people = load.readers + load.slow;
        Ok(Self {
            ledger: Ledger::new(people, load.senders, load.readers),
            latency: Histogram::default(),
            lag_ns: 0,
            unsent: 0,
            last_event_ns: 0,
            last_presence_ns: 0,
            cut: BTreeMap::new(),
            slow_cut: BTreeMap::new(),
            refusals: BTreeMap::new(),
            open: 0,
            outstanding: 1,
            accept: tungstenite::handshake::derive_accept_key(wire::WEBSOCKET_KEY.as_bytes()),
            reader: Reader::new(load.run),
            clients: (0..people).map(|_| Client::new()).collect(),
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
            all_quiet: true,
            last_overdue_look_ns: 0,
        })
    }

    /// Has `clients` join, as soon as there is room for them among the joins under way.
    pub fn join(&mut self, clients: impl Iterator<Item = usize>) {
        for client in clients {
            self.ledger.want(client, true);
            self.to_join.push_back(client);
        }
    }

    /// Has `client` leave.
    pub fn leave(&mut self, client: usize, politely: bool) {
        self.set_away(client, politely);
    }

    /// Whether `client` is in.
    pub fn is_open(&self, client: usize) -> bool {
        self.clients[client].stage == Stage::Open
    }

    /// Joins that are under way or have yet to begin.
    pub fn joining(&self) -> usize {
        self.upgrading + self.to_join.len()
    }

    /// Begins to send `rate` messages a second.
    pub fn start_chat(&mut self, rate: f64) -> Result<(), String> {
        self.all_quiet = false;
        self.pacer = Some(Pacer::start(rate, Arc::clone(&self.waker))?);
        Ok(())
    }

    /// Stops sending. `all_arrived`: the caller has seen that nothing is on its way any more.
    pub fn stop_chat(&mut self, all_arrived: bool) {
        self.pacer = None;
        self.all_quiet = all_arrived;
    }

    /// Has those who never read take what waits for them, so that it shows who was cut.
    pub fn wake_slow(&mut self) {
        for client in self.load.readers..self.clients.len() {
            self.clients[client].asleep = false;
            self.unfinished.push(client);
        }
    }

    /// Does what there is to do, and waits for more for at most `wait`.
    pub fn turn(&mut self, wait: Duration) -> Result<(), String> {
        self.start_joins();
        self.give_up_overdue();
        self.send_due();
        let wait = if self.unfinished.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(format!("cannot wait for the clients: {error}"));
            }
            _ => {}
        }
        for client in std::mem::take(&mut self.unfinished) {
            self.read(client, true);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        for (number, event) in events.iter().enumerate() {
            if number % EVENTS_A_LOOK == 0 {
                self.send_due();
            }
            if event.token() != WAKER {
                self.react(event);
            }
        }
        self.events = events;
        Ok(())
    }

    fn react(&mut self, event: &Readiness) {
        let index = event.token().0;
        if event.is_writable() {
            self.clients[index].flush();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    fn start_joins(&mut self) {
        for _ in 0..CONNECTS_A_TURN {
            if self.upgrading >= self.outstanding {
                return;
            }
            let Some(index) = self.to_join.pop_front() else { return };
            let address = self.load.addresses[index % self.load.addresses.len()];
            let request = wire::upgrade_request(&address.to_string(), &self.load.tokens[index]);
            let client = &mut self.clients[index];
            client.begun_ns = now_ns();
            let slow = index >= self.load.readers;
            match client.connect(self.poll.registry(), Token(index), address, slow, &request) {
                Ok(()) => self.upgrading += 1,
                Err(error) => self.cut_off(index, &format!("connect: {}", error.kind())),
            }
        }
    }

    /// Joins that were never answered: a connection left half-open would otherwise wait for ever.
    fn give_up_overdue(&mut self) {
        let now = now_ns();
        if self.upgrading == 0 || now < self.last_overdue_look_ns + 1_000_000_000 {
            return;
        }
        self.last_overdue_look_ns = now;
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.stage == Stage::Upgrading && now > client.begun_ns + nanos(UPGRADE_DEADLINE) {
                self.cut_off(index, "join never answered");
            }
        }
    }

    fn send_due(&mut self) {
        let now = now_ns();
        while let Some((number, due_ns)) = self.pacer.as_mut().and_then(|pacer| pacer.take_due(now)) {
            let sender = (number % self.load.senders.max(1) as u64) as usize;
            if !self.is_open(sender) {
                self.unsent += 1;
                continue;
            }
            let counter = self.ledger.send(sender);
            let text = self.reader.text(Stamp { sender: sender as u32, counter, due_ns }, self.load.bytes);
            let payload = format!(r#"{{"type":"chat_message","msg":{{"text":"{text}"}}}}"#);
            let mut frame = Vec::with_capacity(payload.len() + 8);
            wire::push_masked(&mut frame, Opcode::Text, payload.as_bytes());
            self.lag_ns = self.lag_ns.max(now_ns().saturating_sub(due_ns));
            if !self.clients[sender].send(&frame) {
                self.ledger.take_back(sender);
                self.unsent += 1;
            }
        }
    }

    /// Reads what `index` has, unless it sleeps. With `to_the_end`, until there is nothing more for certain.
    fn read(&mut self, index: usize, to_the_end: bool) {
        for _ in 0..READS_A_TURN {
            let client = &mut self.clients[index];
            if client.asleep || client.stage == Stage::Away {
                return;
            }
            let read_bytes = if client.stage == Stage::Upgrading { 4096 } else { READ_BYTES };
            match client.read(&mut self.buffer, read_bytes) {
                Got::Nothing => return,
                Got::End(reason) => return self.cut_off(index, reason),
                Got::Bytes { filled, all } => {
                    let buffer = std::mem::take(&mut self.buffer);
                    self.consume(index, &buffer[..filled]);
                    self.buffer = buffer;
                    // What comes after the socket was emptied wakes us again.
                    if all && !to_the_end {
                        return;
                    }
                }
            }
        }
        self.unfinished.push(index);
    }

    fn consume(&mut self, index: usize, bytes: &[u8]) {
        let now = now_ns();
        let mut at = 0;
        if self.clients[index].stage == Stage::Upgrading {
            let Some((status, end)) = wire::answer_head(bytes) else { return self.clients[index].keep(bytes) };
            let accepted = bytes[..end].windows(self.accept.len()).any(|window| window == self.accept.as_bytes());
            if status != 101 || !accepted {
                return self.cut_off(index, &format!("join answered with {status}"));
            }
            self.upgrading -= 1;
            self.open += 1;
            let client = &mut self.clients[index];
            client.stage = Stage::Open;
            client.asleep = index >= self.load.readers;
            at = end;
        }
        while let Some(frame) = wire::first_frame(&bytes[at..]) {
            at += frame.length;
            match frame.opcode {
                Opcode::Text if index < self.load.readers => self.take_in(index, frame.payload, now),
                Opcode::Text | Opcode::Pong => {}
                Opcode::Ping => {
                    let mut pong = Vec::with_capacity(frame.payload.len() + 8);
                    wire::push_masked(&mut pong, Opcode::Pong, frame.payload);
                    self.clients[index].send(&pong);
                }
                Opcode::Close => {
                    return self.cut_off(index, &format!("closed with {}", wire::close_code(frame.payload)));
                }
                Opcode::Odd => return self.cut_off(index, "a frame outside the contract"),
            }
        }
        self.clients[index].keep(&bytes[at..]);
    }

    fn take_in(&mut self, index: usize, payload: &[u8], now: u64) {
        let event = self.reader.read(payload, &mut self.list);
        match event {
            Event::Chat(Some(stamp)) => {
                self.last_event_ns = now;
                if self.ledger.chat(index, stamp.sender, stamp.counter) {
                    self.latency.record(now.saturating_sub(stamp.due_ns));
                }
            }
            Event::Joined(Some(person)) => self.presence(index, person, true, now),
            Event::Left(Some(person)) => self.presence(index, person, false, now),
            Event::UsersOnline => {
                self.last_event_ns = now;
                self.last_presence_ns = now;
                self.ledger.users_online(index, &self.list, self.all_quiet);
            }
            Event::Chat(None) | Event::Joined(None) | Event::Left(None) => self.ledger.counts.foreign += 1,
            Event::Error(code) => *self.refusals.entry(code).or_default() += 1,
            Event::Unknown => *self.refusals.entry("unknown frame".to_owned()).or_default() += 1,
        }
    }

    fn presence(&mut self, index: usize, person: u32, there: bool, now: u64) {
        self.last_event_ns = now;
        self.last_presence_ns = now;
        self.ledger.presence(index, person, there);
    }

    /// The connection of `index` ended, and not by us.
    fn cut_off(&mut self, index: usize, reason: &str) {
        let was = self.clients[index].stage;
        let book = if index < self.load.readers { &mut self.cut } else { &mut self.slow_cut };
        let reason = if was == Stage::Upgrading { format!("while joining: {reason}") } else { reason.to_owned() };
        *book.entry(reason).or_default() += 1;
        self.set_away(index, false);
    }

    fn set_away(&mut self, index: usize, politely: bool) {
        match self.clients[index].stage {
            Stage::Upgrading => self.upgrading -= 1,
            Stage::Open => self.open -= 1,
            Stage::Away => {}
        }
        self.clients[index].close(politely);
        self.ledger.want(index, false);
        self.ledger.forget(index);
    }
}
