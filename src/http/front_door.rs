//! The accept loop, on its own thread: it takes connections, keeps the bounds, and gives each a thread. Nothing that a
//! client or the system does ends it.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{debug, warn};

use super::api_error::ApiError;
use super::connection::{self, Door};
use super::permits::{NoPermit, Permits};
use super::response::Response;
use crate::net::address_key;
use crate::threads::{self, Stack, lock};

/// The pause when the system has no descriptors or memory: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// Accepts until `is_stopping` says true after the listener was shut down ([`crate::net::stop_listening`]).
pub fn run(listener: &TcpListener, door: &Arc<Door>, permits: &Arc<Permits<IpAddr>>, is_stopping: impl Fn() -> bool) {
    let mut pause = PAUSE_FIRST;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                pause = PAUSE_FIRST;
                admit(stream, peer.ip(), door, permits);
            }
            Err(_) if is_stopping() => return,
            Err(error) if concerns_one_connection(&error) => {
                debug!("a connection was gone before it was taken: {error}")
            }
            Err(error) => {
                warn!("cannot accept connections, trying again in {pause:?}: {error}");
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_LONGEST);
            }
        }
        if is_stopping() {
            return;
        }
    }
}

/// Errors of `accept` that say nothing about the next one (`man 2 accept`).
fn concerns_one_connection(error: &io::Error) -> bool {
    use ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

fn admit(stream: TcpStream, address: IpAddr, door: &Arc<Door>, permits: &Arc<Permits<IpAddr>>) {
    let permit = match permits.take(address_key(address)) {
        Ok(permit) => permit,
        Err(NoPermit::Full) => {
            return refuse(&stream, door, &ApiError::Full.response());
        }
        Err(NoPermit::KeyFull) => {
            return refuse(&stream, door, &ApiError::TooManyConnections.response());
        }
    };
    // Where there is no thread for the connection, it is taken back and refused.
    let handover = Arc::new(Mutex::new(Some((stream, permit))));
    let (taker, for_thread) = (handover.clone(), door.clone());
    let spawned = threads::spawn("connection", Stack::Connection, move || {
        let taken = lock(&taker).take();
        drop(taker);
        if let Some((stream, permit)) = taken {
            connection::serve(&for_thread, stream, address, permit);
        }
    });
    if let Err(error) = spawned {
        warn!("no thread for a connection: {error}");
        if let Some((stream, _permit)) = lock(&handover).take() {
            refuse(&stream, door, &ApiError::Full.response());
        }
    }
}

/// Says no without a thread and without waiting: the answer fits the socket's empty buffer, or is lost.
fn refuse(mut stream: &TcpStream, door: &Door, response: &Response) {
    door.site.metrics.response_sent(response.status);
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&response.to_bytes()));
    let _ = stream.shutdown(std::net::Shutdown::Write);
}
