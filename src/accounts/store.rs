//! The contract of an account store. `tests/account_stores.rs` tests it on every store.
//!
//! Called only on the threads of [`Accounts`](super::Accounts), except [`AccountStore::is_ready`]. Every call returns
//! within [`CALL_TIMEOUT`], also while the disk or the database hangs.

use std::fmt;
use std::time::Duration;

use super::rules;
use crate::moderation::Sanction;
pub(crate) use crate::moderation::sanctions::SANCTIONS_MAX;

/// The most time of a call to a store.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The most accounts that [`AccountStore::list`] returns at once.
pub const PAGE_ACCOUNTS: u32 = 500;

/// A change of one account.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Whether the user is an administrator.
    Admin(bool),
    /// The PHC string of a new password.
    PasswordHash(String),
    /// The account is deleted. Its id is never used again.
    Remove,
}

/// A store of accounts. Any number of threads may call it at once.
pub trait AccountStore: Send + Sync {
    /// Adds an account and returns its id. An id is never used again.
    ///
    /// # Errors
    /// [`CreateError::EmailTaken`] also if the username is taken, too. Of several concurrent calls with the same email
    /// or username, exactly one succeeds. After [`CreateError::Store`] the account may exist nevertheless: perhaps only
    /// the answer was lost.
    fn create(&self, account: &NewAccount) -> Result<i64, CreateError>;

    /// The account with this email key (see [`rules::email_key`]), if it exists.
    ///
    /// # Errors
    /// The store does not answer.
    fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError>;

    /// The account with this username key (see [`rules::username_key`]), if it exists.
    ///
    /// # Errors
    /// The store does not answer.
    fn find_by_username_key(&self, username_key: &str) -> Result<Option<StoredAccount>, StoreError>;

    /// The accounts with an id greater than `after_id`, ordered by id: at most [`PAGE_ACCOUNTS`].
    ///
    /// # Errors
    /// The store does not answer.
    fn list(&self, after_id: i64) -> Result<Vec<StoredAccount>, StoreError>;

    /// Changes the account with this id. False if it does not exist.
    ///
    /// # Errors
    /// The store failed. It is unknown whether the account was changed.
    fn change(&self, id: i64, change: &Change) -> Result<bool, StoreError>;

    /// Stores bans and mutes, unless the store has one of the same kind and user that is not earlier.
    ///
    /// # Errors
    /// The store failed. It is unknown whether they were stored.
    fn put_sanctions(&self, sanctions: &[Sanction]) -> Result<(), StoreError>;

    /// The stored bans and mutes, at most [`SANCTIONS_MAX`]: first those that have not ended, then those that have, each the
    /// newest first. One that has ended may replace an earlier one that the caller knows.
    ///
    /// # Errors
    /// The store does not answer.
    fn sanctions(&self) -> Result<Vec<Sanction>, StoreError>;

    /// Whether calls are likely to succeed now. The readiness of the server depends on it. Any thread; never blocks.
    fn is_ready(&self) -> bool;
}

/// An account, as it may be shown to its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The id of the row, in decimal.
    pub id: String,
    /// As given at registration.
    pub email: String,
    /// As given at registration, in normal form C.
    pub username: String,
}

/// An account for [`AccountStore::create`].
#[derive(Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// As given at registration.
    pub email: String,
    /// See [`rules::email_key`]. Unique.
    pub email_key: String,
    /// As it is shown.
    pub username: String,
    /// See [`rules::username_key`]. Unique.
    pub username_key: String,
    /// See [`rules::username_skeleton`]. Unique.
    pub username_skeleton: String,
    /// A PHC string.
    pub password_hash: String,
}

impl NewAccount {
    /// Computes the keys.
    #[must_use]
    pub fn new(email: String, username: String, password_hash: String) -> Self {
        NewAccount {
            email_key: rules::email_key(&email),
            username_key: rules::username_key(&username),
            username_skeleton: rules::username_skeleton(&username),
            email,
            username,
            password_hash,
        }
    }
}

/// The skeleton of an account whose name looks like the name of an older account: the registrations of earlier versions did
/// not exclude that. No name has a line end, so it reserves nothing.
pub(super) fn colliding_skeleton(skeleton: &str, id: i64) -> String {
    format!("{skeleton}\n{id}")
}

/// An account with the hash of its password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAccount {
    /// The account without its hash.
    pub account: Account,
    /// A PHC string.
    pub password_hash: String,
    /// Whether the user may use the endpoints of administrators.
    pub is_admin: bool,
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

/// Why a call to a store failed. The texts are for the operator's log, not for clients. They replace the error of the
/// database as a source, because that error may quote stored values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The call may succeed later: the database is down or busy, or the disk is full.
    #[error("{0}")]
    Unavailable(String),
    /// Calls fail until the operator changes something: a wrong setting, a file that is not a database.
    #[error("{0}")]
    Unusable(String),
}

/// Why an account was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// Another account has this email.
    #[error("the email is taken")]
    EmailTaken,
    /// Another account has this username, or one that looks the same.
    #[error("the username is taken")]
    UsernameTaken,
    /// The store failed. It is unknown whether the account was created.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A time as both stores have it. A time of the far future is stored as the latest possible one.
pub(super) fn stored_time(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// The opposite of [`stored_time`].
pub(super) fn loaded_time(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
