//! The contract of an account store, and what goes over it. `tests/account_stores.rs` holds every store to it.
//!
//! Called on the threads of [`Accounts`](super::Accounts) only. Every call ends within [`CALL_TIMEOUT`], whatever the
//! disk or the database does.

use std::fmt;
use std::time::Duration;

/// How long a call to a store takes at most.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Where accounts are kept.
pub trait AccountStore: Send + Sync {
    /// Adds an account and returns its id, which is never given again.
    ///
    /// When both the email and the username are taken, the email is reported.
    ///
    /// # Errors
    /// [`CreateError::EmailTaken`] and [`CreateError::UsernameTaken`] are reliable when many register at once. After
    /// [`CreateError::Store`] the account may exist all the same: the answer was lost, not necessarily the request.
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError>;

    /// The account with this email key (see [`rules::email_key`](super::rules::email_key)), if there is one.
    ///
    /// # Errors
    /// When the store cannot answer now.
    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError>;

    /// Whether calls are likely to be answered now: the readiness of the whole server depends on it.
    fn is_ready(&self) -> bool;
}

/// A person's account, as it may be shown to him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The row's id in decimal.
    pub id: String,
    /// As it was given at registration.
    pub email: String,
    /// As it was given at registration.
    pub username: String,
}

/// What [`AccountStore::create`] keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// As it was given.
    pub email: String,
    /// The email with case folded: unique.
    pub email_key: String,
    /// As it was given.
    pub username: String,
    /// The username with case folded: unique.
    pub username_key: String,
    /// A PHC string.
    pub password_hash: String,
}

/// What [`AccountStore::find_by_email_key`] finds.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAccount {
    /// Whose it is.
    pub account: Account,
    /// A PHC string.
    pub password_hash: String,
}

impl fmt::Debug for NewAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewAccount").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StoredAccount").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Why a store did not do what it was asked. The texts are for the operator's log, not for clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may work later: the database is down, busy, or the disk is full.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work until somebody changes something: a wrong setting, a file that is no database.
    #[error("{0}")]
    Unusable(String),
}

/// Why an account was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Another account has this email.
    #[error("the email is taken")]
    EmailTaken,
    /// Another account has this username.
    #[error("the username is taken")]
    UsernameTaken,
    /// The store failed; whether the account was created is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}
