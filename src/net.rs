//! Socket options, non-blocking writes and the lingering close: the only module that configures sockets. Also decides
//! which addresses count as one client.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, bind,
    listen as start_listening, recv, send, sendmsg, shutdown, socket_with, sockopt,
};

/// The call does not block, and a closed connection causes an error instead of a signal (`man 2 send`).
const NON_BLOCKING: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// How long sent data may stay unacknowledged before the kernel closes the connection, in milliseconds
/// (`TCP_USER_TIMEOUT`, `man 7 tcp`).
const UNACKNOWLEDGED_MS_MAX: u32 = 30_000;

/// The kernel's send buffer for one client, in bytes (the kernel doubles the figure for its bookkeeping). By default
/// the buffer would grow to several megabytes before `ICH_OUTBOX_BYTES` begins to count.
const SEND_BUFFER_BYTES: usize = 208 * 1024;

/// Opens the listener. Accepted connections inherit its options. The accept queue is as long as `net.core.somaxconn`
/// allows. A listener on `::` accepts IPv4 connections too, whatever the default of the system. On a machine without IPv6,
/// `::` means all addresses of IPv4.
///
/// # Errors
/// The address is in use, does not belong to this machine, or needs a privilege.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound_socket(address)?;
    // The kernel lowers the length to net.core.somaxconn.
    start_listening(&socket, i32::MAX)?;
    Ok(socket.into())
}

/// Checks whether [`listen`] would succeed, without accepting a connection.
///
/// # Errors
/// See [`listen`].
pub(crate) fn check_address(address: SocketAddr) -> io::Result<()> {
    bound_socket(address).map(drop)
}

fn bound_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    match socket_bound_to(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            socket_bound_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        bound => bound,
    }
}

fn socket_bound_to(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS_MAX)?;
    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Whether a socket cannot be bound to an IPv6 address because the kernel has no IPv6, or IPv6 is turned off.
fn has_no_ipv6(error: &io::Error) -> bool {
    let no_ipv6 = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    no_ipv6.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Copies the next bytes that were received, without a wait and without reading them. 0 at the end of the connection.
///
/// # Errors
/// `WouldBlock` when nothing was received; any other error means that the connection is gone.
pub(crate) fn peek_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    Ok(retry_on_intr(|| recv(stream, &mut *buffer, flags)).map(|(_, received)| received)?)
}

/// Makes a blocked `accept` on `listener` return with an error, and each later `accept` too.
pub(crate) fn stop_listening(listener: &TcpListener) {
    // It fails only if the listener was shut down before.
    let _ = shutdown(listener, Shutdown::Both);
}

/// Writes as much of `parts` as the socket accepts now. Never blocks.
///
/// # Errors
/// `WouldBlock` if the socket accepts nothing now; any other error means that the connection is closed.
pub(crate) fn send_now(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    // One part is the common case, and `send` costs less than `sendmsg`.
    let sent = match parts {
        [single] => retry_on_intr(|| send(stream, single, NON_BLOCKING)),
        several => retry_on_intr(|| sendmsg(stream, several, &mut SendAncillaryBuffer::default(), NON_BLOCKING)),
    };
    sent.map_err(io::Error::from)
}

/// How long [`linger`] reads.
pub(crate) struct LingerLimits {
    /// The longest wait for the next bytes.
    pub(crate) idle: Duration,
    /// The most time in total.
    pub(crate) total: Duration,
    /// The most bytes.
    pub(crate) bytes: usize,
}

/// Reads and discards what the peer still sends, until the peer closes the connection or a limit is reached. Called after the last write: if a socket is closed while unread bytes are in it, the
/// kernel sends a reset, and the reset can destroy sent bytes that the peer has not read yet (RFC 9112, section 9.6).
///
/// `read` waits at most the given time for the next bytes.
// Not inlined: otherwise the buffer is on the stack of each connection from its start to its end, and the stack takes a
// third page of memory.
#[inline(never)]
pub(crate) fn linger(limits: &LingerLimits, mut read: impl FnMut(Duration, &mut [u8]) -> io::Result<usize>) {
    let deadline = Instant::now() + limits.total;
    let mut buffer = [0; 1024];
    let mut discarded = 0;
    while discarded < limits.bytes {
        let left = deadline.saturating_duration_since(Instant::now()).min(limits.idle);
        if left.is_zero() {
            return;
        }
        match read(left, &mut buffer) {
            Ok(0) => return,
            Ok(bytes) => discarded += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The address that limits per address count. For IPv6 it is the network of 64 bits, because one household or host
/// usually has all addresses of such a network.
#[must_use]
pub(crate) fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_listener_on_all_addresses_accepts_both_families() {
        // A machine may have no IPv6.
        let listener = match listen("[::]:0".parse().unwrap()) {
            Err(error) if has_no_ipv6(&error) => return,
            opened => opened.unwrap(),
        };
        for host in ["127.0.0.1", "::1"] {
            let client = TcpStream::connect((host, listener.local_addr().unwrap().port())).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip().to_canonical().to_string(), host);
            drop(client);
        }
    }

    #[test]
    fn a_listener_has_the_options_that_connections_inherit() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = listen(address.parse().unwrap()) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert!(accepted.nodelay().unwrap());
            assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), UNACKNOWLEDGED_MS_MAX);
            assert!(sockopt::socket_send_buffer_size(&accepted).unwrap() >= SEND_BUFFER_BYTES);
            drop(client);
            stop_listening(&listener);
            assert!(listener.accept().is_err());
        }
    }

    #[test]
    fn parts_are_sent_in_order_and_a_full_socket_does_not_block() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let parts = [b"ab".as_slice(), b"", b"cd"].map(IoSlice::new);
        assert_eq!(send_now(&accepted, &parts[..1]).unwrap() + send_now(&accepted, &parts).unwrap(), 6);
        let mut received = [0; 6];
        io::Read::read_exact(&mut client, &mut received).unwrap();
        assert_eq!(&received, b"ababcd");
        let large = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = send_now(&accepted, &[IoSlice::new(&large)]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn linger_reads_to_the_end_or_to_a_limit() {
        let minute = Duration::from_secs(60);
        let calls_until_end = |bytes, end_after| {
            let mut calls = 0;
            linger(&LingerLimits { idle: minute, total: minute, bytes }, |timeout, buffer| {
                assert!(timeout <= minute);
                calls += 1;
                if calls == 1 {
                    return Err(ErrorKind::Interrupted.into());
                }
                Ok(if calls > end_after { 0 } else { buffer.len() })
            });
            calls
        };
        assert_eq!(calls_until_end(usize::MAX, 3), 4);
        assert_eq!(calls_until_end(2048, usize::MAX), 3);
        for (idle, total) in [(Duration::ZERO, minute), (minute, Duration::ZERO)] {
            linger(&LingerLimits { idle, total, bytes: 1024 }, |_, _| panic!("the time has passed"));
        }
    }
}
