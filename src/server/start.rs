//! Starting: opens the listener and the stores, and starts the threads. The listener comes first: if the port is in
//! use, no thread has started and nothing is in the event log.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::bounded;
use thiserror::Error;

use super::{Backends, Server, sanctions};
use crate::accounts::{
    AccountLimits, AccountStore, Accounts, StoreError, TokenError, TokenKey, TokenSettings, Tokens, postgres, secret,
    sqlite,
};
use crate::archive::place::Place;
use crate::archive::reader::ArchiveReader;
use crate::archive::{self, RunningArchive};
use crate::config::{Config, EventLogSettings, KafkaSettings, Secret};
use crate::event_log::{self, EventLog, OpenReader};
use crate::http::accept_loop;
use crate::http::address_limit::AddressLimit;
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::connection::ConnectionContext;
use crate::http::pending::Pending;
use crate::http::permits::Permits;
use crate::http::refusal_log::RefusalLog;
use crate::lobby::InstanceId;
use crate::log_thread::{LogThread, LogThreadEnd};
use crate::log_throttle::LogThrottle;
use crate::machine::{self, limits::Limits};
use crate::metrics::Metrics;
use crate::net;
use crate::one_shot;
use crate::publisher;
use crate::random;
use crate::session::client_error::ErrorCode;
use crate::session::end::End;
use crate::session::fan_out::{FanOut, Settings};
use crate::session::history::History;
use crate::session::outbox::HealthTimes;
use crate::session::reader::Sessions;
use crate::session::renewal::CheckToken;
use crate::supervisor::Supervisor;
use crate::threads::Stack;
use crate::workers::Workers;

/// More fan-out threads than this only add wake-ups.
const FAN_OUT_THREADS_MAX: usize = 8;
/// The file of the generated token secret, in the data folder.
pub(super) const SECRET_FILE: &str = "jwt-secret";

/// Why a server does not start. The text says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder cannot be created or written. The text names it, the cause and what to do.
    #[error("the data folder cannot be used: {0}")]
    DataDir(String),
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {source}: {}", listen_advice(source))]
    Listen {
        /// The address and port from the settings.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The store of the accounts cannot be opened.
    #[error("the accounts cannot be opened: {0}")]
    Accounts(#[source] StoreError),
    /// Kafka cannot be used as the event log.
    #[error("the event log cannot be opened: {0}")]
    #[cfg(feature = "kafka")]
    EventLog(#[source] event_log::kafka::OpenError),
    /// The file of the event log cannot be used.
    #[error("the event log cannot be opened: {0}")]
    EventLogFile(#[source] event_log::sqlite::OpenError),
    /// The settings ask for Kafka, which was not compiled in.
    #[error("the event log cannot be opened: this program was built without Kafka: build it with the feature `kafka`")]
    WithoutKafka,
    /// The file of the generated token secret cannot be used.
    #[error("the tokens cannot be used: {0}")]
    TokenSecret(#[source] io::Error),
    /// A key of the tokens cannot be used.
    #[error("the tokens cannot be used: {0}")]
    Tokens(#[source] TokenError),
    /// The system has no memory for a thread, or no random bytes.
    #[error("the system does not let the server start: {0}")]
    System(#[from] io::Error),
}

impl Server {
    /// Opens the stores of the settings, and starts the server. `supervisor` starts all threads and reports the first
    /// that fails.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config, supervisor: &Supervisor) -> Result<Server, StartError> {
        create_data_dir(&config.data_dir)?;
        let tokens = open_tokens(config)?;
        let listener = listen(config)?;
        let backends = open_backends(config, supervisor)?;
        Self::start_with(config, listener, tokens, backends, &Limits::read(), supervisor)
    }

    /// Starts the server on these stores.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_on(config: &Config, tokens: Tokens, backends: Backends) -> Result<Server, StartError> {
        Self::start_within(config, tokens, backends, &Limits::read())
    }

    /// As [`Server::start_on`], with these limits instead of the machine's own.
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

    fn start_with(
        config: &Config,
        listener: TcpListener,
        tokens: Tokens,
        backends: Backends,
        limits: &Limits,
        supervisor: &Supervisor,
    ) -> Result<Server, StartError> {
        let address = listener.local_addr()?;
        tokens.watch_key_file(supervisor)?;
        let listener = Arc::new(listener);
        let Backends { store, mut log, description } = backends;
        let open_reader = log.open_reader.take();
        let end_reasons = End::ALL.map(|end| end.row().label);
        let metrics = Metrics::new(log.skipped.clone(), &end_reasons)
            .with_codes(&ApiError::ALL.map(|error| error.row().code), &ErrorCode::ALL.map(|error| error.row().code));
        let metrics = Arc::new(metrics);
        let cores = machine::cores();
        let health = HealthTimes { ping_interval: config.ping_interval, pong_timeout: config.pong_timeout };
        let settings = Settings { outbox_bytes_max: config.limits.outbox_bytes, health, metrics: metrics.clone() };
        let fan_out = FanOut::start(cores.min(FAN_OUT_THREADS_MAX), &settings, supervisor)?;
        let (publisher, driver) = publisher::open(InstanceId(random::u64()?), log.appender.clone());
        let abandon = Arc::new(AtomicBool::new(false));
        let history = Arc::new(Mutex::new(History::new(config.limits.history_messages)));
        let (on_state_built, state_built) = bounded(1);
        let log_thread = LogThread::new(
            log,
            driver,
            fan_out.clone(),
            history.clone(),
            metrics.clone(),
            abandon.clone(),
            on_state_built,
        );
        let log_thread_end = start_log_thread(log_thread, supervisor)?;
        sanctions::start(&store, &publisher, &fan_out, state_built, supervisor)?;
        let account_limits =
            AccountLimits::new(config.limits.logins_per_minute, config.limits.registrations_per_minute);
        let (archive, archive_reader) = start_archive(config, open_reader, &metrics, supervisor)?.unzip();
        let app = Arc::new(AppState {
            accounts: Accounts::new(store, account_limits, cores, machine::lower_priority, supervisor)?,
            tokens,
            refused_tokens: LogThrottle::default(),
            permits_per_user: Permits::new(None, config.limits.connections_per_user),
            publisher: publisher.clone(),
            supervisor: supervisor.clone(),
            will_stop: AtomicBool::new(false),
            metrics: metrics.clone(),
            history,
            archive: archive_reader,
            history_limit: AddressLimit::per_minute(config.limits.history_requests_per_minute),
            allowed_origins: config.allowed_origins.clone(),
            proxies: config.proxies.clone(),
            proxy_warnings: LogThrottle::default(),
        });
        let workers = Workers::start("worker", cores, supervisor)?;
        let sessions = Sessions {
            publisher: publisher.clone(),
            fan_out: fan_out.clone(),
            limits: config.limits.clone(),
            metrics,
            check_token: check_token(&app, &workers),
            leave_grace: config.leave_grace,
        };
        let pending = Arc::new(Pending::default());
        let refusals = RefusalLog::new(Instant::now());
        let context = ConnectionContext { app: app.clone(), sessions, workers, pending: pending.clone(), refusals };
        let connections_max = machine::connections_max(config.limits.connections, limits);
        let connections = Permits::new(connections_max, config.limits.connections_per_address);
        let stopping = Arc::new(AtomicBool::new(false));
        let accept_thread = start_accept_thread(&listener, context, &connections, &stopping, supervisor)?;
        Ok(Server {
            address,
            description,
            app,
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
            archive,
        })
    }
}

/// Checks the tokens that clients send in open sessions, on a worker thread.
fn check_token(app: &Arc<AppState>, workers: &Workers) -> CheckToken {
    let (app, workers) = (app.clone(), workers.clone());
    Box::new(move |token| {
        let app = app.clone();
        let checked = workers.run(move || app.check_token(&token).map_err(|refused| refused.to_string()));
        checked.unwrap_or_else(|failed| Err(failed.to_string()))
    })
}

/// Starts the archive thread and the threads that read the archive, if the settings ask for an archive.
fn start_archive(
    config: &Config,
    open_reader: Option<OpenReader>,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> Result<Option<(RunningArchive, ArchiveReader)>, StartError> {
    let (Some(settings), Some(open_reader)) = (config.archive, open_reader) else { return Ok(None) };
    let place = Place::of(config).map_err(|error| StartError::Accounts(StoreError::Unusable(error)))?;
    let days = settings.days.map(NonZeroU32::get);
    let running = archive::start(place.store(), open_reader, days, metrics.clone(), supervisor)?;
    Ok(Some((running, ArchiveReader::start(place, supervisor)?)))
}

/// Starts the log thread. The receiver gets the reason of its end.
fn start_log_thread(log_thread: LogThread, supervisor: &Supervisor) -> io::Result<one_shot::Receiver<LogThreadEnd>> {
    let (end_sender, log_thread_end) = one_shot::channel();
    supervisor.spawn("log-reader", Stack::Normal, move || {
        let end = log_thread.run();
        let outcome = if let LogThreadEnd::Unusable(_) = end { Err(end.to_string()) } else { Ok(()) };
        end_sender.send(end);
        outcome
    })?;
    Ok(log_thread_end)
}

/// Starts the thread of the accept loop, which ends when `stopping` is set and the listener was shut down.
fn start_accept_thread(
    listener: &Arc<TcpListener>,
    context: ConnectionContext,
    connections: &Arc<Permits<IpAddr>>,
    stopping: &Arc<AtomicBool>,
    supervisor: &Supervisor,
) -> io::Result<JoinHandle<()>> {
    let (listener, permits, stopping) = (listener.clone(), connections.clone(), stopping.clone());
    let context = Arc::new(context);
    supervisor.spawn("accept", Stack::Normal, move || {
        accept_loop::run(&listener, &context, &permits, || stopping.load(Ordering::Acquire));
        Ok(())
    })
}

/// Opens the listener. Connections wait in its accept queue until the accept thread runs.
fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.host, config.port);
    net::listen(address).map_err(|source| StartError::Listen { address, source })
}

/// Creates the folder if it is missing, with access for its owner only.
fn create_data_dir(path: &Path) -> Result<(), StartError> {
    crate::sqlite::create_folder(path).map_err(|error| StartError::DataDir(error.to_string()))
}

/// What to do when the server cannot listen.
fn listen_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses the port, perhaps another ich: stop it, or set ICH_PORT to another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: set ICH_HOST to one of its addresses, or to 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs the capability CAP_NET_BIND_SERVICE (for systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE): grant it, or set ICH_PORT to a port above 1023"
        }
        _ => "check ICH_HOST and ICH_PORT",
    }
}

fn open_tokens(config: &Config) -> Result<Tokens, StartError> {
    let bytes = |Secret(secret): &Secret| secret.clone().into_bytes();
    let key = match (&config.jwt_secret, &config.jwt_public_key_file) {
        (Some(secret), _) => {
            TokenKey::Secret { current: bytes(secret), previous: config.jwt_previous_secret.as_ref().map(bytes) }
        }
        (None, Some(path)) => TokenKey::PublicKeyFile(path.clone()),
        (None, None) => {
            let path = config.data_dir.join(SECRET_FILE);
            let current = secret::load_or_generate(&path).map_err(StartError::TokenSecret)?;
            TokenKey::Secret { current, previous: None }
        }
    };
    let settings = TokenSettings {
        key,
        issuer: config.jwt_issuer.clone(),
        audience: config.jwt_audience.clone(),
        claims: config.jwt_claims.clone(),
        ttl: config.token_ttl,
    };
    Tokens::new(settings).map_err(StartError::Tokens)
}

fn open_backends(config: &Config, supervisor: &Supervisor) -> Result<Backends, StartError> {
    let (store, accounts) = open_accounts(config, supervisor)?;
    let (log, events) = open_event_log(config, supervisor)?;
    Ok(Backends { store, log, description: format!("{accounts}, {events}") })
}

/// The store of the accounts, and where it is.
///
/// # Errors
/// [`StartError::Accounts`].
pub(crate) fn open_accounts(
    config: &Config,
    supervisor: &Supervisor,
) -> Result<(Arc<dyn AccountStore>, String), StartError> {
    Ok(match &config.database_url {
        None => {
            let store = sqlite::open(&config.data_dir).map_err(StartError::Accounts)?;
            (Arc::new(store), format!("accounts in SQLite in {}", config.data_dir.display()))
        }
        Some(Secret(url)) => {
            let store = postgres::open(url, supervisor).map_err(StartError::Accounts)?;
            (Arc::new(store), "accounts in PostgreSQL".to_owned())
        }
    })
}

/// The log, and where it is.
fn open_event_log(config: &Config, supervisor: &Supervisor) -> Result<(EventLog, String), StartError> {
    Ok(match &config.event_log {
        EventLogSettings::Kafka(kafka) => {
            (open_kafka(kafka, supervisor)?, format!("event log in Kafka at {}, topic {}", kafka.brokers, kafka.topic))
        }
        EventLogSettings::Memory => (event_log::memory::open(), "event log in this process".to_owned()),
        EventLogSettings::Sqlite(retention) => {
            let log =
                event_log::sqlite::open(&config.data_dir, *retention, supervisor).map_err(StartError::EventLogFile)?;
            (log, format!("event log in SQLite in {}", config.data_dir.display()))
        }
    })
}

#[cfg(feature = "kafka")]
fn open_kafka(settings: &KafkaSettings, supervisor: &Supervisor) -> Result<EventLog, StartError> {
    event_log::kafka::open(settings, supervisor).map_err(StartError::EventLog)
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_: &KafkaSettings, _: &Supervisor) -> Result<EventLog, StartError> {
    Err(StartError::WithoutKafka)
}
