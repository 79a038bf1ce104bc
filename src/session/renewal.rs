//! Token renewal: a client sends a new token, and its session then ends when that token expires. The session does not
//! know how tokens are checked: the server gives it a [`CheckToken`].

use std::time::{Duration, Instant};

use super::client_error::{ClientError, ErrorCode};
use crate::config::Secret;
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

/// Checks a token. The error is the reason for the client. Blocks until a worker thread has checked the token.
pub type CheckToken = Box<dyn Fn(String) -> Result<TokenGrant, String> + Send + Sync>;

/// Checks the token with which `user` wants to continue a session.
///
/// # Errors
/// The token is refused, or it is the token of another user.
pub(super) fn check(check_token: &CheckToken, token: Secret, user: &User) -> Result<TokenGrant, ClientError> {
    let grant = check_token(token.0).map_err(|reason| ErrorCode::BadToken.with_text(reason))?;
    if grant.user == *user { Ok(grant) } else { Err(ErrorCode::OtherUser.into()) }
}
