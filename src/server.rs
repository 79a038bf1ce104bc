//! The server: [`Server`] owns all parts. `preflight` checks what the start will need, `start` opens the parts and starts
//! the threads, `stop` stops them in order.
//! Called on the main thread.

mod preflight;
mod sanctions;
mod start;
mod stop;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;

pub(crate) use self::preflight::check;
pub use self::start::StartError;
pub(crate) use self::start::open_accounts;
use crate::accounts::AccountStore;
use crate::archive::RunningArchive;
use crate::event_log::EventLog;
use crate::http::Readiness;
use crate::http::app_state::AppState;
use crate::http::pending::Pending;
use crate::http::permits::Permits;
use crate::log_thread::LogThreadEnd;
use crate::one_shot;
use crate::publisher::Publisher;
use crate::session::fan_out::FanOut;
use crate::supervisor::Failure;

/// The stores of a server: chosen by the settings, or by a test.
pub struct Backends {
    /// The store of the accounts.
    pub store: Arc<dyn AccountStore>,
    /// The event log. Only one server may use it.
    pub log: EventLog,
    /// Describes both, for the line that the program prints at start.
    pub description: String,
}

/// A running server. Dropping it stops nothing: end it with [`Server::stop`] or [`Server::close_after_failure`].
pub struct Server {
    address: SocketAddr,
    description: String,
    app: Arc<AppState>,
    drain_delay: Duration,
    drain: Duration,
    listener: Arc<TcpListener>,
    /// When set, the accept loop ends.
    stopping: Arc<AtomicBool>,
    /// When set, the log thread ends, even if the last record is not in the log.
    abandon: Arc<AtomicBool>,
    publisher: Arc<Publisher>,
    connections: Arc<Permits<IpAddr>>,
    pending: Arc<Pending>,
    fan_out: FanOut,
    accept_thread: JoinHandle<()>,
    log_thread_end: one_shot::Receiver<LogThreadEnd>,
    archive: Option<RunningArchive>,
}

impl Server {
    /// The address that the server listens on, with the real port if the setting was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// See [`Backends::description`].
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Whether the lobby can be joined. Any thread; never blocks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    /// The state that `/ready` reports. Any thread; never blocks.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.app.readiness()
    }

    /// Receives the first failure of a supervised thread. The server cannot continue then: end it with
    /// [`Server::close_after_failure`].
    #[must_use]
    pub fn failed(&self) -> &Receiver<Failure> {
        self.app.supervisor.failures()
    }
}
