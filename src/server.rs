//! The server, put together: opens what it needs, starts the threads, and stops them in order.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use log::{error, info, warn};
use thiserror::Error;

use crate::accounts::{
    AccountLimits, AccountStore, Accounts, StoreError, TokenKey, TokenSettings, Tokens, postgres, secret, sqlite,
};
use crate::config::{Config, Secret};
use crate::event_log::kafka_settings::KafkaSettings;
use crate::event_log::{self, EventLog};
use crate::http::app_state::AppState;
use crate::http::connection::Door;
use crate::http::front_door;
use crate::http::pending::Pending;
use crate::http::permits::Permits;
use crate::http::readiness::Readiness;
use crate::lobby::InstanceId;
use crate::log_thread::{LogThread, LogThreadEnd};
use crate::machine::{self, limits::Limits};
use crate::metrics::Metrics;
use crate::net;
use crate::publisher::{self, Publisher};
use crate::random;
use crate::session::end::End;
use crate::session::fan_out::{Command, FanOut, Settings};
use crate::session::history::History;
use crate::session::outbox::HealthTimes;
use crate::session::reader::Sessions;
use crate::supervisor::{Failure, Supervisor};
use crate::threads::Stack;
use crate::workers::Workers;

/// The share of the drain time in which the sessions are closed; the rest is for the log and the stores.
const CLOSING_SHARE: f64 = 0.6;
/// How long requests have to be answered during a stop.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long the sessions have to end after a failure.
const FAILURE_CLOSING: Duration = Duration::from_secs(2);
/// Between two looks at whether all sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// Fan-out threads beyond this many only add wake-ups.
const FAN_OUT_THREADS_MAX: usize = 8;
/// The file of the drawn secret, in the data folder.
const SECRET_FILE: &str = "jwt-secret";

/// Why a server does not start. The text says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used: {error} (see ICH_DATA_DIR)")]
    DataDir {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error} (see ICH_HOST and ICH_PORT)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The accounts cannot be opened.
    #[error("the accounts cannot be opened: {0}")]
    Accounts(String),
    /// The event log cannot be opened.
    #[error("the event log cannot be opened: {0}")]
    EventLog(String),
    /// The tokens cannot be made or checked.
    #[error("the tokens cannot be used: {0}")]
    Tokens(String),
    /// The system has no room for a thread, or no randomness.
    #[error("the system does not let the server start: {0}")]
    System(#[from] io::Error),
}

/// What the server is built on: chosen by the settings, or by a test.
pub struct Backends {
    /// The accounts.
    pub store: Arc<dyn AccountStore>,
    /// The event log.
    pub log: EventLog,
    /// How both are called, for the line that is printed at start.
    pub description: String,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    description: String,
    site: Arc<AppState>,
    drain_delay: Duration,
    drain: Duration,
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    abandon: Arc<AtomicBool>,
    publisher: Arc<Publisher>,
    connections: Arc<Permits<IpAddr>>,
    pending: Arc<Pending>,
    fan_out: FanOut,
    accept_thread: JoinHandle<()>,
    log_thread_end: Receiver<LogThreadEnd>,
}

impl Server {
    /// Opens what `config` names, and starts. `supervisor` starts all threads and knows which of them failed.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config, supervisor: &Supervisor) -> Result<Server, StartError> {
        prepare_data_dir(&config.data_dir)?;
        let tokens = open_tokens(config)?;
        let listener = listen(config)?;
        let backends = open_backends(config, supervisor)?;
        Self::start_with(config, listener, tokens, backends, &Limits::read(), supervisor)
    }

    /// Starts on these backends.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_on(config: &Config, tokens: Tokens, backends: Backends) -> Result<Server, StartError> {
        Self::start_within(config, tokens, backends, &Limits::read())
    }

    /// The same on a machine that has these limits.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_within(
        config: &Config,
        tokens: Tokens,
        backends: Backends,
        limits: &Limits,
    ) -> Result<Server, StartError> {
        Self::start_with(config, listen(config)?, tokens, backends, limits, &Supervisor::default())
    }

    /// `listener` is open already: when the port is taken, no thread has started and nothing is in the event log.
    fn start_with(
        config: &Config,
        listener: TcpListener,
        tokens: Tokens,
        backends: Backends,
        limits: &Limits,
        supervisor: &Supervisor,
    ) -> Result<Server, StartError> {
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let Backends { store, log, description } = backends;
        let metrics = Arc::new(Metrics::new(log.skipped.clone()));
        let cores = machine::cores();
        let health = HealthTimes { ping_interval: config.ping_interval, pong_timeout: config.pong_timeout };
        let settings = Settings { outbox_bytes_max: config.limits.outbox_bytes, health, metrics: metrics.clone() };
        let fan_out = FanOut::start(cores.min(FAN_OUT_THREADS_MAX), &settings, supervisor)?;
        let (publisher, driver) = publisher::open(InstanceId(random::u64()?), log.appender.clone());
        let abandon = Arc::new(AtomicBool::new(false));
        let history = History::new(config.limits.history_messages);
        let log_thread = LogThread::new(log, driver, fan_out.clone(), history, metrics.clone(), abandon.clone());
        let (end_sender, log_thread_end) = bounded(1);
        supervisor.spawn("log-reader", Stack::Normal, move || {
            let end = log_thread.run();
            let outcome = if let LogThreadEnd::Unusable(_) = end { Err(end.to_string()) } else { Ok(()) };
            let _ = end_sender.send(end);
            outcome
        })?;
        let account_limits =
            AccountLimits::new(config.limits.logins_per_minute, config.limits.registrations_per_minute);
        let site = Arc::new(AppState {
            accounts: Accounts::new(store, account_limits, cores, machine::run_in_background, supervisor)?,
            tokens,
            permits_per_user: Permits::new(0, config.limits.connections_per_user),
            publisher: publisher.clone(),
            supervisor: supervisor.clone(),
            metrics: metrics.clone(),
            allowed_origins: config.allowed_origins.clone(),
        });
        let sessions =
            Sessions { publisher: publisher.clone(), fan_out: fan_out.clone(), limits: config.limits.clone(), metrics };
        let pending = Arc::new(Pending::default());
        let workers = Workers::start("worker", cores, supervisor)?;
        let door = Arc::new(Door { site: site.clone(), sessions, workers, pending: pending.clone() });
        let connections_max = machine::connections_max(config.limits.connections, limits);
        let connections = Permits::new(connections_max, config.limits.connections_per_address);
        let stopping = Arc::new(AtomicBool::new(false));
        let accept_thread = {
            let (listener, permits, stopping) = (listener.clone(), connections.clone(), stopping.clone());
            supervisor.spawn("accept", Stack::Normal, move || {
                front_door::run(&listener, &door, &permits, || stopping.load(Ordering::Acquire));
                Ok(())
            })?
        };
        Ok(Server {
            address,
            description,
            site,
            drain_delay: config.drain_delay,
            drain: config.drain,
            listener,
            stopping,
            abandon,
            publisher,
            connections,
            pending,
            fan_out,
            accept_thread,
            log_thread_end,
        })
    }

    /// Where it listens: the real port, also when any free one was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is built on, in words.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Whether the lobby can be joined.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    /// What `/ready` answers from.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.site.readiness()
    }

    /// Receives why the server cannot continue: a thread that it needs has failed. Then end it with
    /// [`Server::close_after_failure`].
    #[must_use]
    pub fn failed(&self) -> &Receiver<Failure> {
        self.site.supervisor.failures()
    }

    /// Ends a server of which a thread has failed: nobody joins any more, and every session is closed with 1011, as far as
    /// the threads for it still run. Takes no longer than [`FAILURE_CLOSING`]. Requests are answered meanwhile, so that
    /// `/health` says it.
    pub fn close_after_failure(self) {
        self.publisher.begin_drain();
        self.fan_out.send_to_all(|| Command::CloseAll(End::Internal));
        if !wait_until(Instant::now() + FAILURE_CLOSING, || self.publisher.session_count() == 0) {
            warn!("{} sessions could not be closed in time", self.publisher.session_count());
        }
    }

    /// Stops: not ready, and after the delay no new connections; the sessions are told and closed; the last record; the
    /// end. Takes no longer than the delay and the drain time together. False when the event log did not take the last record within it, or a thread failed meanwhile.
    #[must_use]
    pub fn stop(self) -> bool {
        let failure = self.await_load_balancers();
        let deadline = Instant::now() + self.drain;
        info!("stopping: {} sessions, {:?} at most", self.publisher.session_count(), self.drain);
        let is_in_the_log = self.publisher.begin_drain();
        self.stopping.store(true, Ordering::Release);
        net::stop_listening(&self.listener);
        self.close_connections(self.drain.mul_f64(CLOSING_SHARE));
        let said = !is_in_the_log || self.wait_for_last_record(deadline);
        self.abandon.store(true, Ordering::Release);
        let _ = self.accept_thread.join();
        if let Some(failure) = failure.or_else(|| self.site.supervisor.failures().try_recv().ok()) {
            error!("{failure}");
            return false;
        }
        info!("stopped");
        said
    }

    /// Goes on for the delay, but is not ready and takes no joins. A failure ends it early.
    fn await_load_balancers(&self) -> Option<Failure> {
        self.publisher.announce_stop();
        if self.drain_delay.is_zero() {
            return None;
        }
        info!("not ready: stopping in {:?}, so that load balancers notice", self.drain_delay);
        self.failed().recv_timeout(self.drain_delay).ok()
    }

    /// Ends all connections: those that idle at once, requests that are being answered after [`ANSWER_TIME`], sessions
    /// spread over the first half of the time.
    fn close_connections(&self, closing: Duration) {
        let begun_at = Instant::now();
        let have_ended = || self.connections.in_total() == 0;
        self.pending.stop();
        self.fan_out.send_to_all(|| Command::Drain(closing / 2));
        if wait_until(begun_at + ANSWER_TIME.min(closing), have_ended) {
            return;
        }
        self.pending.close_all();
        if wait_until(begun_at + closing, have_ended) {
            return;
        }
        warn!("closing {} connections that did not end in time", self.connections.in_total());
        self.fan_out.send_to_all(|| Command::DisconnectAll);
        self.pending.close_all();
    }

    fn wait_for_last_record(&self, deadline: Instant) -> bool {
        match self.log_thread_end.recv_deadline(deadline) {
            Ok(end) => end == LogThreadEnd::Stopped,
            Err(RecvTimeoutError::Timeout) => {
                warn!("the event log did not take the last record in time: the other instances will time us out");
                false
            }
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }
}

fn wait_until(deadline: Instant, condition: impl Fn() -> bool) -> bool {
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(DRAIN_LOOK);
    }
    true
}

/// Takes the port. Connections wait in its queue until the accept thread runs.
fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.host, config.port);
    net::listen(address).map_err(|error| StartError::Listen { address, error })
}

/// Makes the folder if it is not there; only its owner may look into it.
fn prepare_data_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StartError::DataDir { path: path.display().to_string(), error })
}

fn open_tokens(config: &Config) -> Result<Tokens, StartError> {
    fn failed(error: impl std::fmt::Display) -> StartError {
        StartError::Tokens(error.to_string())
    }
    let key = match (&config.jwt_secret, &config.jwt_public_key_file) {
        (Some(Secret(secret)), _) => TokenKey::Secret(secret.clone().into_bytes()),
        (None, Some(file)) => TokenKey::PublicKeyPem(
            std::fs::read_to_string(file).map_err(|error| failed(format_args!("{}: {error}", file.display())))?,
        ),
        (None, None) => TokenKey::Secret(secret::load_or_draw(&config.data_dir.join(SECRET_FILE)).map_err(failed)?),
    };
    Tokens::new(TokenSettings { key, issuer: config.jwt_issuer.clone(), ttl: config.token_ttl }).map_err(failed)
}

fn open_backends(config: &Config, supervisor: &Supervisor) -> Result<Backends, StartError> {
    let failed = |error: StoreError| StartError::Accounts(error.to_string());
    let (store, accounts): (Arc<dyn AccountStore>, _) = match &config.database_url {
        None => {
            let store = sqlite::open(&config.data_dir).map_err(failed)?;
            (Arc::new(store), format!("accounts in SQLite in {}", config.data_dir.display()))
        }
        Some(Secret(url)) => {
            (Arc::new(postgres::open(url, supervisor).map_err(failed)?), "accounts in PostgreSQL".to_owned())
        }
    };
    let (log, events) = match &config.kafka {
        None => (event_log::memory::open(), "event log in this process".to_owned()),
        Some(kafka) => (open_kafka(kafka)?, format!("event log in Kafka at {}, topic {}", kafka.brokers, kafka.topic)),
    };
    Ok(Backends { store, log, description: format!("{accounts}, {events}") })
}

#[cfg(feature = "kafka")]
fn open_kafka(settings: &KafkaSettings) -> Result<EventLog, StartError> {
    event_log::kafka::open(settings).map_err(|error| StartError::EventLog(error.to_string()))
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_: &KafkaSettings) -> Result<EventLog, StartError> {
    Err(StartError::EventLog("this program was built without Kafka: build it with the feature `kafka`".into()))
}
