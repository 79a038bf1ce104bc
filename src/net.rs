//! Sockets, as this server wants them: the one place that sets their options and writes without blocking, and that says
//! what counts as one address.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// `MSG_DONTWAIT | MSG_NOSIGNAL` of Linux (`man 2 send`): this call only does not block, and a closed peer is an error
/// instead of a signal.
const DONT_WAIT: i32 = 0x40 | 0x4000;

/// How long sent data may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// What the kernel may hold for one client that does not read (it doubles the figure for its bookkeeping). Left to
/// itself, it would grow the buffer to several megabytes before our own bound on slow clients begins to count.
const SEND_BUFFER_BYTES: usize = 208 * 1024;

/// Opens the listener. Its options are inherited by what it accepts; the accept queue is as long as the system allows.
///
/// # Errors
/// The address is taken, not ours, or not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    // The kernel lowers it to net.core.somaxconn.
    socket.listen(i32::MAX)?;
    Ok(socket.into())
}

/// Makes a blocked `accept` on `listener` return, and every later one.
pub fn stop_listening(listener: &TcpListener) {
    // It fails only when it was done before.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}

/// Writes as much of `parts` as the socket takes at once, and does not wait.
///
/// # Errors
/// `WouldBlock` when it takes nothing now; any other error means that the connection is gone.
pub fn send_now(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    loop {
        // One part is the common case, and `send` costs less than `sendmsg`.
        let sent = match parts {
            [single] => socket.send_with_flags(single, DONT_WAIT),
            several => socket.send_vectored_with_flags(several, DONT_WAIT),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What counts as one address: for IPv6 the network of 64 bits that one household or host usually has all of.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
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
    fn a_host_is_one_address() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }
}
