//! [`Socket`]: the operations that a session needs on its connection. In production it is a `TcpStream`. The unit tests
//! have one in memory, which accepts as few bytes at a time as a test wants.
//!
//! The types that own or share a socket are generic over it, so that a write costs no dynamic dispatch.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::net;

/// One connection whose handshake is done. The session thread reads it, its fan-out thread writes it.
pub trait Socket: Send + Sync + 'static {
    /// Writes as much of `parts` as the socket accepts now. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock` when the socket accepts nothing now; any other error means that the connection is gone.
    fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads the next bytes. Blocks until there are some, or until the read timeout.
    ///
    /// # Errors
    /// The connection is gone, or the timeout has passed.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Copies the next bytes without reading them. Never blocks. 0 at the end of the connection.
    ///
    /// # Errors
    /// `WouldBlock` when no bytes were received; any other error means that the connection is gone.
    fn peek_now(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Bounds how long [`Socket::read`] blocks.
    ///
    /// # Errors
    /// The connection is gone.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;

    /// Ends one direction or both: a blocked read returns.
    ///
    /// # Errors
    /// The connection is gone already.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn send_now(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        net::send_now(self, parts)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }

    fn peek_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        net::peek_now(self, buffer)
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_read_timeout(self, Some(timeout))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        TcpStream::shutdown(self, how)
    }
}
