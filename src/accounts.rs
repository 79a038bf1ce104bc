//! Accounts: registration, login and tokens.
//!
//! - [`Accounts`]: called by the HTTP endpoints. It checks, hashes and stores on its own threads.
//! - [`rules`]: the rules for emails, usernames and passwords.
//! - [`store`]: the contract of a store. [`sqlite`] and [`postgres`] implement it; `pool` has the threads of the
//!   latter, and those that read the archive.
//! - `directory`: the accounts as `ich user` changes them.
//! - `password`: argon2id. [`token`]: JWT. `secret`: the token secret that is generated at the first start.
//! - `limits`: how often an address and an account may try. `fair_queue`: the order in which requests are hashed.
//!
//! No error, log line or `Debug` text of these modules contains a password, hash, token, key or database URL.

pub(crate) mod directory;
mod error;
mod fair_queue;
mod jobs;
mod limits;
mod password;
pub(crate) mod pool;
pub mod postgres;
pub(crate) mod rate_table;
pub mod rules;
pub(crate) mod secret;
mod service;
pub mod sqlite;
pub mod store;
#[cfg(test)]
mod testing;
pub(crate) mod token;

pub use error::AccountError;
pub use limits::AccountLimits;
pub use service::{Accounts, NewUser};
pub use store::{Account, AccountStore, Change, CreateError, NewAccount, StoreError, StoredAccount};
pub use token::{AdminClaim, ClaimNames, TokenError, TokenKey, TokenSettings, Tokens};
pub(crate) use token::{Claims, TokenRefused};
