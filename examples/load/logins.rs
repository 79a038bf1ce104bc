//! Logins while people chat, beside the same number of bare password hashes on as many threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::target::random_hex;

/// The parameters that OWASP recommends for argon2id, which the server uses.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Accounts that the logins go round.
const ACCOUNTS: usize = 4;
const PASSWORD: &str = "correct horse battery";
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// What came out.
pub struct Outcome {
    /// Logins a second.
    pub a_second: f64,
    /// Logins that were not answered with a token.
    pub failed: usize,
}

/// Has `threads` workers, each made by `hire`, work `count` times in all, and says how often a second, and how often
/// it failed.
fn spread<W: FnMut(usize) -> Result<(), String>>(
    count: usize,
    threads: usize,
    hire: impl Fn() -> W + Sync,
) -> (f64, usize, Option<String>) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let first_error = std::sync::OnceLock::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut work = hire();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    if let Err(error) = work(turn) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let _ = first_error.set(error);
                    }
                }
            });
        }
    });
    (count as f64 / begun.elapsed().as_secs_f64(), failed.into_inner(), first_error.into_inner())
}

/// Password hashes a second, with nothing around them: each thread has its memory already.
pub fn bare_hashes(count: usize) -> Result<f64, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| format!("argon2: {error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let hire = || {
        let mut blocks = vec![Block::new(); argon2.params().block_count()];
        let argon2 = &argon2;
        move |_| {
            let mut out = [0; 32];
            argon2
                .hash_password_into_with_memory(PASSWORD.as_bytes(), b"0123456789abcdef", &mut out, &mut blocks)
                .map_err(|error| error.to_string())
        }
    };
    match spread(count, threads, hire) {
        (a_second, 0, _) => Ok(a_second),
        (_, _, error) => Err(format!("argon2: {}", error.unwrap_or_default())),
    }
}

/// Makes the accounts, then logs in `count` times, on a thread of its own.
pub fn start(addresses: Vec<SocketAddr>, count: usize) -> Result<JoinHandle<Result<Outcome, String>>, String> {
    let run = random_hex(6)?;
    let emails: Vec<String> = (0..ACCOUNTS).map(|number| format!("load-{run}-{number}@example.com")).collect();
    let work = move || {
        for (number, email) in emails.iter().enumerate() {
            let body = format!(r#"{{"email":"{email}","username":"load {run} {number}","password":"{PASSWORD}"}}"#);
            post(addresses[0], "/createUser", &body)?;
        }
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let log_in = |turn: usize| {
            let email = &emails[turn % emails.len()];
            let body = format!(r#"{{"email":"{email}","password":"{PASSWORD}"}}"#);
            post(addresses[turn % addresses.len()], "/login", &body)
        };
        let (a_second, failed, error) = spread(count, threads, || log_in);
        match error {
            Some(error) if failed == count => Err(format!("no login succeeded: {error}")),
            _ => Ok(Outcome { a_second, failed }),
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
    let mut answer = String::new();
    socket.take(64 * 1024).read_to_string(&mut answer).map_err(failed)?;
    let status = answer.lines().next().unwrap_or_default();
    if status.contains(" 200") || status.contains(" 201") { Ok(()) } else { Err(format!("POST {path}: {status}")) }
}
