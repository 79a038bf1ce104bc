//! The connection of one client: its non-blocking socket, the beginning of an incomplete frame, and the output buffer.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

/// Bound of the output buffer.
const MAX_OUT_BYTES: usize = 1 << 20;
/// Buffers above this capacity are freed when they are empty.
const KEPT_BYTES: usize = 16 * 1024;
/// Receive buffer of a client that never reads: small, so that the server soon cannot write to it.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection.
    Disconnected,
    /// The upgrade request is sent, the response is not complete.
    Upgrading,
    /// The websocket is open.
    Open,
}

/// The result of one read.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// Bytes are at the start of the buffer.
    Bytes {
        /// How many, including the kept beginning of a frame.
        filled: usize,
        /// The read was short: the socket is empty for now.
        drained: bool,
    },
    WouldBlock,
    /// The connection ended without a close frame, for this reason.
    Closed(&'static str),
}

/// One client of the load tool.
pub struct Client {
    stream: Option<TcpStream>,
    pub stage: Stage,
    /// The engine does not read from this client.
    pub paused: bool,
    /// When the connection was started.
    pub begun_ns: u64,
    partial: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// A disconnected client.
    pub fn new() -> Self {
        Self {
            stream: None,
            stage: Stage::Disconnected,
            paused: false,
            begun_ns: 0,
            partial: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Starts a connection from `source` and queues `request` as its first bytes.
    pub fn connect(
        &mut self,
        registry: &Registry,
        token: Token,
        source: Option<IpAddr>,
        address: SocketAddr,
        slow: bool,
        request: &[u8],
    ) -> std::io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        if let Err(error) = socket.connect(&address.into())
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.stage = Stage::Upgrading;
        self.paused = false;
        self.partial.clear();
        self.out.clear();
        self.out.extend_from_slice(request);
        Ok(())
    }

    /// Closes the connection. With `close_frame` a close frame is sent first, if the socket accepts it.
    pub fn close(&mut self, close_frame: bool) {
        if let Some(mut stream) = self.stream.take()
            && close_frame
            && self.out.is_empty()
        {
            let mut frame = Vec::new();
            crate::wire::push_masked(&mut frame, crate::wire::Opcode::Close, &1000_u16.to_be_bytes());
            // The server sees the end of the connection in any case.
            let _ = stream.write(&frame);
        }
        self.stage = Stage::Disconnected;
        self.partial = Vec::new();
        self.out = Vec::new();
    }

    /// Puts the kept beginning of a frame into `buffer` and reads at most `read_bytes` after it.
    pub fn read(&mut self, buffer: &mut [u8], read_bytes: usize) -> ReadResult {
        let Some(stream) = &mut self.stream else { return ReadResult::WouldBlock };
        let kept = self.partial.len();
        let end = buffer.len().min(kept + read_bytes);
        if end <= kept {
            return ReadResult::Closed("frame too long");
        }
        match stream.read(&mut buffer[kept..end]) {
            Ok(0) => ReadResult::Closed("closed without a close frame"),
            Ok(bytes) => {
                buffer[..kept].copy_from_slice(&self.partial);
                self.partial.clear();
                if self.partial.capacity() > KEPT_BYTES {
                    self.partial = Vec::new();
                }
                ReadResult::Bytes { filled: kept + bytes, drained: bytes < end - kept }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::NotConnected => ReadResult::WouldBlock,
                ErrorKind::Interrupted => ReadResult::WouldBlock,
                ErrorKind::ConnectionReset => ReadResult::Closed("reset"),
                ErrorKind::ConnectionRefused => ReadResult::Closed("connection refused"),
                ErrorKind::TimedOut => ReadResult::Closed("timed out"),
                _ => ReadResult::Closed("read error"),
            },
        }
    }

    /// Keeps the beginning of a frame for the next [`Client::read`].
    pub fn keep(&mut self, piece: &[u8]) {
        self.partial.extend_from_slice(piece);
    }

    /// Queues `bytes` and sends as much as the socket accepts. False: the output buffer is full, nothing was queued.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if self.out.len() + bytes.len() > MAX_OUT_BYTES {
            return false;
        }
        self.out.extend_from_slice(bytes);
        self.flush();
        true
    }

    /// Sends the output buffer as far as the socket accepts it. An error is found by the next read.
    pub fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(bytes) => drop(self.out.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
    }
}
