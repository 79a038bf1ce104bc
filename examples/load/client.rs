//! One client's connection: its socket, what of a frame has come so far, and what still has to go out.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

/// More than this a server that does not read is not sent.
const MAX_OUT_BYTES: usize = 1 << 20;
/// A kept piece of a frame above this gives its memory back once it is used.
const KEPT_BYTES: usize = 16 * 1024;
/// The receive buffer of one who never reads: small, so that the server notices soon.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is none.
    Away,
    /// The upgrade is asked for, its answer is not there.
    Upgrading,
    /// Frames come and go.
    Open,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes are at the start of the buffer now. `all`: the socket has no more at the moment.
    Bytes {
        /// With those that were kept.
        filled: usize,
        /// Whether the read took less than there was room for.
        all: bool,
    },
    /// Nothing is there to be read.
    Nothing,
    /// The connection ended without a close frame.
    End(&'static str),
}

/// One client.
pub struct Client {
    stream: Option<TcpStream>,
    /// How far it is.
    pub stage: Stage,
    /// Whether it does not read, once it is in.
    pub asleep: bool,
    /// When the connection was begun.
    pub begun_ns: u64,
    partial: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// One that is not connected.
    pub fn new() -> Self {
        Self { stream: None, stage: Stage::Away, asleep: false, begun_ns: 0, partial: Vec::new(), out: Vec::new() }
    }

    /// Begins a connection, with `request` as its first bytes.
    pub fn connect(
        &mut self,
        registry: &Registry,
        token: Token,
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
        if let Err(error) = socket.connect(&address.into())
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.stage = Stage::Upgrading;
        self.asleep = false;
        self.partial.clear();
        self.out.clear();
        self.out.extend_from_slice(request);
        Ok(())
    }

    /// Ends the connection. With `politely` a close frame goes out first, when the socket takes it.
    pub fn close(&mut self, politely: bool) {
        if let Some(mut stream) = self.stream.take()
            && politely
            && self.out.is_empty()
        {
            let mut goodbye = Vec::new();
            crate::wire::push_masked(&mut goodbye, crate::wire::Opcode::Close, &1000_u16.to_be_bytes());
            // Whether it arrives or not, the server sees an end.
            let _ = stream.write(&goodbye);
        }
        self.stage = Stage::Away;
        self.partial = Vec::new();
        self.out = Vec::new();
    }

    /// Reads into `buffer`, behind what was kept of the last frame, at most `read_bytes` more.
    pub fn read(&mut self, buffer: &mut [u8], read_bytes: usize) -> Got {
        let Some(stream) = &mut self.stream else { return Got::Nothing };
        let kept = self.partial.len();
        let end = buffer.len().min(kept + read_bytes);
        if end <= kept {
            return Got::End("a frame that is too long");
        }
        match stream.read(&mut buffer[kept..end]) {
            Ok(0) => Got::End("end without a close frame"),
            Ok(bytes) => {
                buffer[..kept].copy_from_slice(&self.partial);
                self.partial.clear();
                if self.partial.capacity() > KEPT_BYTES {
                    self.partial = Vec::new();
                }
                Got::Bytes { filled: kept + bytes, all: bytes < end - kept }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::NotConnected => Got::Nothing,
                ErrorKind::Interrupted => Got::Nothing,
                ErrorKind::ConnectionReset => Got::End("reset"),
                ErrorKind::ConnectionRefused => Got::End("connection refused"),
                ErrorKind::TimedOut => Got::End("timed out"),
                _ => Got::End("read error"),
            },
        }
    }

    /// Keeps the beginning of a frame until the rest is there.
    pub fn keep(&mut self, piece: &[u8]) {
        self.partial.extend_from_slice(piece);
    }

    /// Sends `bytes`, now or when the socket takes them. False when too much waits already.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if self.out.len() + bytes.len() > MAX_OUT_BYTES {
            return false;
        }
        self.out.extend_from_slice(bytes);
        self.flush();
        true
    }

    /// Sends what waits, as far as the socket takes it. A failure shows when the socket is read.
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
