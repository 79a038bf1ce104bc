//! The servers that are measured: the bare loop, instances started with the settings for a measurement, or servers that
//! already run.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::baseline::{BASELINE_ARGUMENT, NO_PRESENCE_ARGUMENT};
use crate::history;
use crate::jwt::sign_with_secret;
use crate::options::Options;
use crate::process::{Folder, Server};
use crate::wire;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const TOKEN_SECONDS: u64 = 48 * 3600;

/// The servers under load. Those that this tool started are stopped on drop.
pub struct Target {
    /// The name in the table.
    pub name: &'static str,
    pub addresses: Vec<SocketAddr>,
    /// The process ids, as far as they are known.
    pub pids: Vec<u32>,
    /// The servers that this tool started.
    servers: Vec<Server>,
    secret: String,
    started_at: Option<Instant>,
    /// Whether clients receive `user_joined` and `user_left`.
    pub sends_presence: bool,
    /// Time from the start of the first server until all servers accept joins.
    pub ready_after: Option<Duration>,
}

impl Target {
    /// Starts the bare loop.
    pub fn bare_loop(sends_presence: bool) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let arguments: &[&str] =
            if sends_presence { &[BASELINE_ARGUMENT] } else { &[BASELINE_ARGUMENT, NO_PRESENCE_ARGUMENT] };
        let server = Server::start(&this, arguments, &[], None)?;
        Ok(Self { sends_presence, ..Self::from_children("bare loop", vec![server], random_hex(32)?) })
    }

    /// Starts the servers that `options` describe, or takes running ones, and waits until all accept joins.
    pub fn from_options(options: &Options) -> Result<Self, String> {
        let mut target = if options.connect.is_empty() {
            Self::start(options)?
        } else {
            let secret = options.secret.clone().unwrap_or_default();
            let (addresses, pids) = (options.connect.clone(), options.pids.clone());
            Self { addresses, pids, ..Self::from_children("ich", Vec::new(), secret) }
        };
        target.wait_until_ready()?;
        target.ready_after = target.started_at.map(|at| at.elapsed());
        Ok(target)
    }

    fn start(options: &Options) -> Result<Self, String> {
        let program = match &options.server {
            Some(path) => path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?,
            None => project_server()?,
        };
        let (secret, topic) = (random_hex(32)?, format!("ich-load-{}", random_hex(6)?));
        if let Some(brokers) = options.kafka.as_deref().filter(|_| options.history > 0) {
            history::write(brokers, &topic, options.history)?;
        }
        let started_at = Instant::now();
        let mut servers = Vec::new();
        for instance in 0..options.instances {
            let folder = Folder::new(&format!("{}-{instance}", random_hex(4)?))?;
            let mut settings: Vec<(&str, OsString)> = vec![
                ("ICH_HOST", "127.0.0.1".into()),
                ("ICH_PORT", "0".into()),
                ("ICH_DATA_DIR", folder.path().into()),
                ("ICH_JWT_SECRET", secret.clone().into()),
                ("ICH_LOG", "warn".into()),
            ];
            let unbounded = [
                "ICH_MAX_CONNECTIONS",
                "ICH_MAX_CONNECTIONS_PER_ADDRESS",
                "ICH_MAX_CONNECTIONS_PER_USER",
                "ICH_MAX_MESSAGES_PER_SECOND",
                "ICH_MAX_LOGINS_PER_MINUTE",
                "ICH_MAX_REGISTRATIONS_PER_MINUTE",
            ];
            settings.extend(unbounded.map(|name| (name, OsString::from("0"))));
            settings.extend(options.event_log.iter().map(|kind| ("ICH_EVENT_LOG", kind.into())));
            if let Some(brokers) = &options.kafka {
                settings.push(("ICH_KAFKA_BROKERS", brokers.into()));
                settings.push(("ICH_KAFKA_TOPIC", topic.clone().into()));
            }
            settings.extend(options.database.iter().map(|url| ("ICH_DATABASE_URL", url.into())));
            servers.push(Server::start(&program, &[], &settings, Some(folder))?);
        }
        Ok(Self { started_at: Some(started_at), ..Self::from_children("ich", servers, secret) })
    }

    fn from_children(name: &'static str, servers: Vec<Server>, secret: String) -> Self {
        let addresses = servers.iter().map(|server| server.address).collect();
        let pids = servers.iter().map(Server::pid).collect();
        Self { name, addresses, pids, servers, secret, started_at: None, sends_presence: true, ready_after: None }
    }

    /// An access token for `username`. A join needs only a valid token, no account.
    pub fn token(&self, id: usize, username: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = json!({ "id": id.to_string(), "username": username, "iss": "ich", "exp": now + TOKEN_SECONDS });
        sign_with_secret("HS256", &claims, self.secret.as_bytes())
    }

    /// Returns an error if a server that this tool started has exited.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.servers.iter_mut().find_map(|server| (!server.is_alive()).then(|| server.last_lines())) {
            Some(lines) => Err(format!("{} exited under load; its last lines:\n{lines}", self.name)),
            None => Ok(()),
        }
    }

    /// Tries to join each server until that succeeds. A server that is not ready answers 503.
    fn wait_until_ready(&self) -> Result<(), String> {
        let token = self.token(99_999, "load-probe");
        for &address in &self.addresses {
            let deadline = Instant::now() + READY_DEADLINE;
            loop {
                let answer = probe(address, &token);
                match answer {
                    Ok(101) => break,
                    Ok(401) => {
                        return Err(format!("{address} rejects the tokens of this tool: check --secret"));
                    }
                    _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                    Ok(status) => return Err(format!("{address} answers a join with status {status} instead of 101")),
                    Err(error) => return Err(format!("cannot join {address}: {error}")),
                }
            }
        }
        Ok(())
    }
}

fn probe(address: SocketAddr, token: &str) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(&wire::upgrade_request(&address.to_string(), token))?;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match socket.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            bytes => head.extend_from_slice(&buffer[..bytes]),
        }
        if let Some((status, _)) = wire::response_head(&head) {
            return Ok(status);
        }
    }
}

/// The path of the server in the build folder of this example. Builds the server if it is missing or older than its
/// sources.
fn project_server() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let profile = this.ancestors().nth(2).ok_or("this program is not in a build folder: use --server")?;
    let (binary, sources) = (profile.join("ich"), Path::new(env!("CARGO_MANIFEST_DIR")));
    let built = modified(&binary);
    if built.is_none() || built < newest(&sources.join("src")).max(modified(&sources.join("Cargo.toml"))) {
        let release = profile.ends_with("release");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--bin", "ich"]).args(release.then_some("--release")).current_dir(sources);
        eprintln!(
            "the server is missing or older than its sources; running cargo build{} --bin ich",
            if release { " --release" } else { "" }
        );
        let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}; use --server"))?;
        if !status.success() {
            return Err("the server could not be built".to_owned());
        }
    }
    if !binary.exists() {
        return Err(format!("no server at {}: use --server", binary.display()));
    }
    Ok(binary)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| if entry.path().is_dir() { newest(&entry.path()) } else { modified(&entry.path()) })
        .max()
}

/// `bytes` random bytes as hexadecimal digits.
pub fn random_hex(bytes: usize) -> Result<String, String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
