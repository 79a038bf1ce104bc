//! A network between a client and a server that can become silent: a TCP relay that stops forwarding, while all
//! connections stay open.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often a thread checks whether the relay has become silent.
const CHECK: Duration = Duration::from_millis(50);

/// A relay to one server. Its threads end with their connections, and the process ends the rest.
pub struct Relay {
    pub address: SocketAddr,
    is_silent: Arc<AtomicBool>,
}

impl Relay {
    pub fn start(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let is_silent = Arc::new(AtomicBool::new(false));
        let relay = Relay { address, is_silent: is_silent.clone() };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                // A connection that has been silent once stays silent, as after a change of the network.
                let is_dead = Arc::new(AtomicBool::new(false));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let (is_silent, is_dead) = (is_silent.clone(), is_dead.clone());
                    thread::spawn(move || forward(from, to, &is_silent, &is_dead));
                }
            }
        });
        relay
    }

    /// Stops forwarding, on all connections and on new ones.
    pub fn silence(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    /// Forwards again, on new connections only.
    pub fn restore(&self) {
        self.is_silent.store(false, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool, is_dead: &AtomicBool) {
    from.set_read_timeout(Some(CHECK)).expect("an option");
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer);
        // After the read: what arrives in the silence is not forwarded.
        if is_silent.load(Ordering::SeqCst) {
            is_dead.store(true, Ordering::SeqCst);
        }
        match read {
            Ok(0) => break,
            Ok(_) if is_dead.load(Ordering::SeqCst) => {}
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    if !is_dead.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
