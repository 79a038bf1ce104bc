//! [`TokenGrant`]: what a valid token grants to a session.

use std::time::{Duration, Instant};

use crate::lobby::User;

/// What a valid token grants.
pub struct TokenGrant {
    /// The user that the token names.
    pub user: User,
    /// For how long, from now on.
    pub lifetime: Duration,
}

impl TokenGrant {
    /// When the session ends. A lifetime that an `Instant` cannot represent is a year.
    pub(crate) fn expires_at(&self) -> Instant {
        const YEAR: Duration = Duration::from_secs(3600 * 24 * 366);
        let now = Instant::now();
        now.checked_add(self.lifetime).unwrap_or(now + YEAR)
    }
}
