//! [`Readiness`]: whether this instance is ready for users, and which dependency is missing. `/ready` and the log both
//! report this value, so they always agree.

use std::fmt;

/// The state of everything that readiness depends on, at one moment. Its text names each missing dependency, or is
/// `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The server stops, or one of its threads has failed.
    pub is_draining: bool,
    /// The event log was read far enough and accepts records.
    pub has_event_log: bool,
    /// The store of accounts answers.
    pub has_accounts: bool,
}

impl Readiness {
    /// Whether a load balancer should send users here.
    #[must_use]
    pub fn is_ready(self) -> bool {
        !self.is_draining && self.has_event_log && self.has_accounts
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EVENT_LOG: &str = "the event log does not answer or has not been read yet";
        const ACCOUNTS: &str = "the database of accounts does not answer";
        match (self.is_draining, self.has_event_log, self.has_accounts) {
            (true, _, _) => formatter.write_str("this instance is about to stop"),
            (false, true, true) => formatter.write_str("ready"),
            (false, false, true) => formatter.write_str(EVENT_LOG),
            (false, true, false) => formatter.write_str(ACCOUNTS),
            (false, false, false) => write!(formatter, "{EVENT_LOG}, and {ACCOUNTS}"),
        }
    }
}
