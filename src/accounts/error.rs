//! [`AccountError`]: why a registration or a login failed.

use thiserror::Error;

/// Why a registration or a login failed. The texts may be sent to clients; they say what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccountError {
    /// A field breaks a rule of [`super::rules`].
    #[error("{message}")]
    InvalidField {
        /// The name of the field in the request.
        field: &'static str,
        /// The rule, as a sentence for the user.
        message: String,
    },
    /// Another account has this email.
    #[error("this email has an account already: log in, or use another email")]
    EmailTaken,
    /// Another account has this username, or one that looks the same.
    #[error("this username, or one that looks like it, is taken: choose another one")]
    UsernameTaken,
    /// No account has this email, or the password is wrong. Both look the same, so that nobody can find out which
    /// emails have an account.
    #[error("email or password is wrong: check both and try again")]
    WrongCredentials,
    /// Too many logins from this address or for this account, whether or not the account exists.
    #[error("too many logins: try again in {retry_after_seconds} seconds")]
    TooManyLogins {
        /// In how many seconds the next login may be accepted, at least 1.
        retry_after_seconds: u64,
    },
    /// Too many registrations from this address.
    #[error("too many registrations: try again in {retry_after_seconds} seconds")]
    TooManyRegistrations {
        /// In how many seconds the next registration may be accepted, at least 1.
        retry_after_seconds: u64,
    },
    /// The queue is full, or the request waited in it for too long.
    #[error("too many users are logging in: try again in {retry_after_seconds} seconds")]
    Busy {
        /// In how many seconds the queue is probably shorter.
        retry_after_seconds: u64,
    },
    /// The store does not answer. A registration may have created the account nevertheless.
    #[error("the database of accounts does not answer: try again in {retry_after_seconds} seconds")]
    Unavailable {
        /// In how many seconds the store may be available again.
        retry_after_seconds: u64,
    },
    /// An error of this server. Its log has the reason.
    #[error("the server failed: try again later, and contact its operator if it happens again")]
    Internal,
}
