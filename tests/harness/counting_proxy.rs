//! A TCP proxy on loopback that counts connections.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs until the test process ends.
pub struct CountingProxy {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl CountingProxy {
    /// Connects each client with `target`, `host:port`.
    pub fn start(target: &str) -> CountingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, target) = (listener.local_addr().expect("its address"), target.to_owned());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Ok(server) = TcpStream::connect(&target) {
                    let (from_client, from_server) =
                        (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                    thread::spawn(move || copy(from_client, server));
                    thread::spawn(move || copy(from_server, client));
                }
            }
        });
        CountingProxy { address, count }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The connections so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Copies until one side closes, and then closes both.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
