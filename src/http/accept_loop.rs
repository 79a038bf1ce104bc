//! The accept loop, on its own thread: accepts connections, enforces the connection limits, and starts one thread per
//! connection. No error of a client or of the system ends it.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::api_error::ApiError;
use super::connection::{self, ConnectionContext};
use super::permits::{NoPermit, Permits};
use crate::log_throttle::LogThrottle;
use crate::net::address_key;
use crate::threads::{self, Stack, lock};

/// The pause after `accept` failed, for example because the system has no descriptors or memory. It doubles up to
/// [`PAUSE_MAX`] while `accept` fails.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Accepts connections until `is_stopping` returns true after the listener was shut down
/// ([`crate::net::stop_listening`]).
pub(crate) fn run(
    listener: &TcpListener,
    context: &Arc<ConnectionContext>,
    permits: &Arc<Permits<IpAddr>>,
    is_stopping: impl Fn() -> bool,
) {
    let warnings = LogThrottle::default();
    let mut pause = PAUSE_FIRST;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                pause = PAUSE_FIRST;
                // A listener on `::` gets the addresses of IPv4 clients mapped into IPv6.
                admit(stream, peer.ip().to_canonical(), context, permits, &warnings);
            }
            Err(_) if is_stopping() => return,
            Err(error) if concerns_one_connection(&error) => {
                debug!("a connection was closed before it was accepted: {error}");
            }
            Err(error) => {
                warn_throttled(&warnings, &format!("cannot accept connections, retrying until it works: {error}"));
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        if is_stopping() {
            return;
        }
    }
}

/// Whether this error of `accept` concerns a single connection, so that the next call may succeed (`man 2 accept`).
fn concerns_one_connection(error: &io::Error) -> bool {
    use ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

/// Starts the thread of a connection, or refuses the connection.
fn admit(
    stream: TcpStream,
    address: IpAddr,
    context: &Arc<ConnectionContext>,
    permits: &Arc<Permits<IpAddr>>,
    warnings: &LogThrottle,
) {
    // The connections of a trusted proxy are those of many clients. Each is counted for its client later.
    let permit = if context.app.proxies.is_trusted(address) {
        permits.take_without_key()
    } else {
        permits.take(address_key(address))
    };
    let permit = match permit {
        Ok(permit) => permit,
        Err(NoPermit::Full) => return refuse(&stream, address, context, ApiError::Full),
        Err(NoPermit::KeyFull) => return refuse(&stream, address, context, ApiError::TooManyConnections),
    };
    // If the thread cannot be started, its closure is dropped. The stream must outlive it, for the 503.
    let shared = Arc::new(Mutex::new(Some((stream, permit))));
    let (for_thread, context_of_thread) = (shared.clone(), context.clone());
    let spawned = threads::spawn("connection", Stack::Connection, move || {
        let connection = lock(&for_thread).take();
        drop(for_thread);
        if let Some((stream, permit)) = connection {
            connection::serve(&context_of_thread, stream, address, permit);
        }
    });
    if let Err(error) = spawned {
        warn_throttled(warnings, &format!("cannot start a thread for a connection, refusing it: {error}"));
        if let Some((stream, _permit)) = lock(&shared).take() {
            refuse(&stream, address, context, ApiError::Full);
        }
    }
}

fn warn_throttled(warnings: &LogThrottle, text: &str) {
    if let Some(suppressed) = warnings.may_log(text, Instant::now()) {
        warn!("{text}{suppressed}");
    }
}

/// Answers with this error, without a thread and without waiting: the answer fits into the empty send buffer of the
/// socket, or is lost.
fn refuse(mut stream: &TcpStream, address: IpAddr, context: &ConnectionContext, error: ApiError) {
    let response = error.response();
    context.app.count(&response);
    context.refusals.log(error, address, None);
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&response.to_bytes()));
    let _ = stream.shutdown(Shutdown::Write);
}
