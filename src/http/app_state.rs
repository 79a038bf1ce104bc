//! [`AppState`]: what all endpoints answer from. Shared by all connections, behind an `Arc`.

use std::sync::Arc;

use super::permits::Permits;
use crate::accounts::{Accounts, LoginLimiter, Tokens};
use crate::metrics::Metrics;
use crate::publisher::Publisher;

/// The shared state of the HTTP side.
pub(crate) struct AppState {
    pub(crate) accounts: Accounts,
    pub(crate) tokens: Tokens,
    /// Limits logins per address and per account.
    pub(crate) login_limiter: LoginLimiter,
    /// Limits the sessions of one user, by user id.
    pub(crate) permits_per_user: Arc<Permits<Arc<str>>>,
    /// Knows whether the lobby can be joined.
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) metrics: Arc<Metrics>,
    /// Origins besides the server's own whose pages may join.
    pub(crate) allowed_origins: Vec<String>,
}
