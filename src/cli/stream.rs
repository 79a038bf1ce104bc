//! [`Stream`]: a connection to a server, with TLS or without.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use openssl::ssl::{HandshakeError, SslStream};

use super::server_url::ServerUrl;
use crate::proxies::protocol;
use crate::tls;

/// A connection. Reads and writes can time out.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

impl Stream {
    /// Connects to the first address of the host that answers. Each read and write then takes at most `timeout`.
    ///
    /// # Errors
    /// A text with the reason.
    pub(super) fn connect(url: &ServerUrl, timeout: Duration) -> Result<Stream, String> {
        let stream = connect(url, timeout).map_err(|error| cause_within(&error, timeout))?;
        if !url.has_tls {
            return Ok(Stream::Plain(stream));
        }
        let connector = tls::web_connector().map_err(|error| format!("TLS cannot be used: {error}"))?;
        match connector.connect(&url.host, stream) {
            Ok(stream) => Ok(Stream::Tls(stream)),
            Err(HandshakeError::WouldBlock(_)) => Err(timed_out(timeout)),
            Err(error) => Err(format!("the server has no valid certificate, or no TLS: {error}")),
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }
}

/// The text of an error, without the number of the system.
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The text of an error of a read or a write that takes at most `timeout`.
pub(super) fn cause_within(error: &io::Error, timeout: Duration) -> String {
    match error.kind() {
        // The system reports a read that took too long as EAGAIN, "Resource temporarily unavailable".
        ErrorKind::WouldBlock | ErrorKind::TimedOut => timed_out(timeout),
        _ => cause(error),
    }
}

/// The text for a server that did not answer within `timeout`.
pub(super) fn timed_out(timeout: Duration) -> String {
    format!(
        "it took longer than {} seconds; check the address, and whether the server and the network work",
        timeout.as_secs()
    )
}

fn connect(url: &ServerUrl, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = Err(io::Error::other("the host has no address"));
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        last = TcpStream::connect_timeout(&address, left);
        if last.is_ok() {
            break;
        }
    }
    let mut stream = last?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    if url.proxies.expects_proxy_header(stream.local_addr()?.ip()) {
        stream.write_all(protocol::HEADER_WITHOUT_CLIENT)?;
    }
    Ok(stream)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
