//! Accounts: who may come in. Registration, login, and the tokens that a login gives.
//!
//! - [`Accounts`]: what the HTTP side calls; checks, hashes and stores on its own few threads.
//! - [`rules`]: what an email, a username and a password may be, and which of them are the same.
//! - [`store`]: the contract of a store; [`sqlite`] and [`postgres`] keep it.
//! - [`password`]: argon2id. [`token`]: JWT. [`secret`]: the token secret that is drawn at the first start.
//! - [`limits`]: how often an address and an account may try. `fair_queue`: whose turn it is to be hashed.
//!
//! Nothing secret (password, hash, token, key, database URL) is in any error, log line or `Debug` text made here.

mod error;
mod fair_queue;
mod jobs;
pub mod limits;
pub mod password;
mod pool;
pub mod postgres;
mod rate_table;
pub mod rules;
pub mod secret;
mod service;
pub mod sqlite;
pub mod store;
#[cfg(test)]
mod testing;
pub mod token;

pub use error::AccountError;
pub use limits::AccountLimits;
pub use service::{Accounts, NewUser};
pub use store::{Account, AccountStore, CreateError, NewAccount, StoreError, StoredAccount};
pub use token::{Claims, TokenError, TokenKey, TokenSettings, Tokens};
