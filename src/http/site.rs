//! [`Site`]: what all connections answer from.

use std::sync::Arc;

use super::permits::Permits;
use crate::accounts::{Accounts, LoginLimiter, Tokens};
use crate::metrics::Metrics;
use crate::publisher::Publisher;

/// What the answers are made from. Shared by all connections.
pub struct Site {
    /// Making accounts, logging in.
    pub accounts: Accounts,
    /// Tokens.
    pub tokens: Tokens,
    /// Bounds logins.
    pub login_limiter: LoginLimiter,
    /// Bounds the sessions of one person.
    pub permits_per_user: Arc<Permits<Arc<str>>>,
    /// Whether the lobby can be joined.
    pub publisher: Arc<Publisher>,
    /// What is shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Whose pages may join.
    pub allowed_origins: Vec<String>,
}
