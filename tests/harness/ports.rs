//! Free ports, for servers that cannot choose one themselves.

use std::net::TcpListener;

/// A free port.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// Different free ports.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}
