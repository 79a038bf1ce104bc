//! Measures logins during a chat (`--logins`) and, for comparison, the same number of bare password hashes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::target::random_hex;

/// The argon2id parameters that OWASP recommends, as in the server.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Number of accounts used in turn by the logins.
const ACCOUNTS: usize = 4;
const PASSWORD: &str = "correct horse battery";
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The result of all logins.
pub struct Outcome {
    pub per_second: f64,
    /// Logins without a successful response.
    pub failed: usize,
}

/// Runs `count` tasks on `threads` threads. `new_worker` creates the task function of each thread. Returns the tasks
/// per second, the number of failed tasks, and the first error.
fn spread<W: FnMut(usize) -> Result<(), String>>(
    count: usize,
    threads: usize,
    new_worker: impl Fn() -> W + Sync,
) -> (f64, usize, Option<String>) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let first_error = std::sync::OnceLock::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut work = new_worker();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    if let Err(error) = work(index) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let _ = first_error.set(error);
                    }
                }
            });
        }
    });
    (count as f64 / begun.elapsed().as_secs_f64(), failed.into_inner(), first_error.into_inner())
}

/// Measures password hashes per second on all cores, with preallocated memory.
pub fn bare_hashes(count: usize) -> Result<f64, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| format!("argon2: {error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let new_worker = || {
        let mut blocks = vec![Block::new(); argon2.params().block_count()];
        let argon2 = &argon2;
        move |_| {
            let mut out = [0; 32];
            argon2
                .hash_password_into_with_memory(PASSWORD.as_bytes(), b"0123456789abcdef", &mut out, &mut blocks)
                .map_err(|error| error.to_string())
        }
    };
    match spread(count, threads, new_worker) {
        (per_second, 0, _) => Ok(per_second),
        (_, _, error) => Err(format!("argon2: {}", error.unwrap_or_default())),
    }
}

/// Starts a thread that creates the accounts and logs in `count` times.
pub fn start(addresses: Vec<SocketAddr>, count: usize) -> Result<JoinHandle<Result<Outcome, String>>, String> {
    let run = random_hex(6)?;
    let emails: Vec<String> = (0..ACCOUNTS).map(|number| format!("load-{run}-{number}@example.com")).collect();
    let work = move || {
        for (number, email) in emails.iter().enumerate() {
            let body = format!(r#"{{"email":"{email}","username":"load {run} {number}","password":"{PASSWORD}"}}"#);
            post(addresses[0], "/createUser", &body)?;
        }
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let log_in = |index: usize| {
            let email = &emails[index % emails.len()];
            let body = format!(r#"{{"email":"{email}","password":"{PASSWORD}"}}"#);
            post(addresses[index % addresses.len()], "/login", &body)
        };
        let (per_second, failed, error) = spread(count, threads, || log_in);
        match error {
            Some(error) if failed == count => Err(format!("no login succeeded: {error}")),
            _ => Ok(Outcome { per_second, failed }),
        }
    };
    std::thread::Builder::new()
        .name("logins".into())
        .spawn(work)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

fn post(address: SocketAddr, path: &str, body: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("POST {path}: {error}");
    let mut socket = TcpStream::connect_timeout(&address, REQUEST_DEADLINE).map_err(failed)?;
    socket.set_read_timeout(Some(REQUEST_DEADLINE)).map_err(failed)?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).map_err(failed)?;
    let mut response = String::new();
    socket.take(64 * 1024).read_to_string(&mut response).map_err(failed)?;
    let status = response.lines().next().unwrap_or_default();
    if status.contains(" 200") || status.contains(" 201") { Ok(()) } else { Err(format!("POST {path}: {status}")) }
}
