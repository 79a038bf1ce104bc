//! [`AccountError`]: why somebody was not registered or not let in.

use thiserror::Error;

/// Why somebody was not registered or not let in. The texts may be shown to clients: they say what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccountError {
    /// A field breaks a rule of [`super::rules`].
    #[error("{message}")]
    InvalidField {
        /// Its name in the request.
        field: &'static str,
        /// The rule.
        message: String,
    },
    /// Another account has this email.
    #[error("this email has an account already: log in, or use another email")]
    EmailTaken,
    /// Another account has this username.
    #[error("this username is taken: choose another one")]
    UsernameTaken,
    /// No account with this email, or another password: which of them is not told.
    #[error("email or password is wrong: check both and try again")]
    WrongCredentials,
    /// Too many logins of this address, or of this account, whether or not it exists.
    #[error("too many logins: try again in {retry_after_seconds} seconds")]
    TooManyLogins {
        /// After how long it makes sense to try again.
        retry_after_seconds: u64,
    },
    /// Too many registrations of this address.
    #[error("too many registrations: try again in {retry_after_seconds} seconds")]
    TooManyRegistrations {
        /// After how long it makes sense to try again.
        retry_after_seconds: u64,
    },
    /// More requests than can be worked off.
    #[error("too many people are logging in: try again in {retry_after_seconds} seconds")]
    Busy {
        /// After how long it makes sense to try again.
        retry_after_seconds: u64,
    },
    /// The store does not answer. After a registration the account may exist all the same.
    #[error("accounts cannot be reached: try again in {retry_after_seconds} seconds")]
    Unavailable {
        /// After how long it makes sense to try again.
        retry_after_seconds: u64,
    },
    /// A fault of this server; its log has the reason.
    #[error("the server failed: try again later, and tell its operator if it happens again")]
    Internal,
}
