//! The servers that are measured: the bare loop, instances started with the settings for a measurement, or servers that
//! already run.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::baseline::{BASELINE_ARGUMENT, NO_PRESENCE_ARGUMENT};
use crate::jwt::sign_with_secret;
use crate::launch::Launch;
use crate::options::Options;
use crate::probe;
use crate::process::Server;

/// The user whose joins find out whether a server is ready.
const PROBE_ID: usize = 99_999;
const PROBE_NAME: &str = "load-probe";
const TOKEN_SECONDS: u64 = 48 * 3600;

/// The servers under load. Those that this tool started are stopped on drop.
pub struct Target {
    /// The name in the table.
    pub name: &'static str,
    pub addresses: Vec<SocketAddr>,
    /// The process ids, as far as they are known and do not change.
    pub pids: Vec<u32>,
    /// The servers that this tool started.
    servers: Vec<Server>,
    /// How it started them.
    launch: Option<Launch>,
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
        let server = Server::start(&this, arguments, &[], None)?.wait()?;
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
        let token = target.token(PROBE_ID, PROBE_NAME);
        target.addresses.iter().try_for_each(|address| probe::wait_until_joinable(*address, &token))?;
        target.ready_after = target.started_at.map(|at| at.elapsed());
        Ok(target)
    }

    fn start(options: &Options) -> Result<Self, String> {
        let secret = random_hex(32)?;
        let launch = Launch::new(options, &secret)?;
        let started_at = Instant::now();
        let servers = (0..options.instances).map(|_| launch.start()?.wait()).collect::<Result<Vec<_>, _>>()?;
        let mut target = Self::from_children("ich", servers, secret);
        if options.restart_every > 0.0 {
            target.pids.clear();
        }
        Ok(Self { started_at: Some(started_at), launch: Some(launch), ..target })
    }

    fn from_children(name: &'static str, servers: Vec<Server>, secret: String) -> Self {
        let addresses = servers.iter().map(|server| server.address).collect();
        let pids = servers.iter().map(Server::pid).collect();
        Self {
            name,
            addresses,
            pids,
            servers,
            launch: None,
            secret,
            started_at: None,
            sends_presence: true,
            ready_after: None,
        }
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

    /// Starts an instance that can replace another one. The thread returns it when it is ready.
    pub fn start_replacement(&self) -> Result<JoinHandle<Result<Server, String>>, String> {
        let launch = self.launch.as_ref().ok_or("only servers that this tool started can be replaced")?;
        let starting = launch.start()?;
        let start = move || {
            let server = starting.wait()?;
            probe::wait_until_ready(server.address)?;
            Ok(server)
        };
        let thread = std::thread::Builder::new().name("replacement".into()).spawn(start);
        thread.map_err(|error| format!("cannot start a thread: {error}"))
    }

    /// Puts `fresh` into the place of the instance with this number, and returns the old one, which still runs.
    pub fn replace(&mut self, number: usize, fresh: Server) -> Server {
        self.addresses[number] = fresh.address;
        std::mem::replace(&mut self.servers[number], fresh)
    }
}

/// `bytes` random bytes as hexadecimal digits.
pub fn random_hex(bytes: usize) -> Result<String, String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
