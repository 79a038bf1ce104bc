//! [`Directory`]: accounts as an operator manages them, on the store itself. For `ich user`: a running server is not
//! needed. Blocks on the calling thread.

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;

use super::error::AccountError;
use super::password::{Hasher, PasswordError};
use super::rules;
use super::store::{AccountStore, Change, CreateError, NewAccount, PAGE_ACCOUNTS, StoreError, StoredAccount};

/// Why a command failed. No text contains a password.
#[derive(Debug, Error)]
pub(crate) enum DirectoryError {
    /// A field breaks a rule, or is taken.
    #[error("{0}")]
    Field(#[from] AccountError),
    #[error("the email or the username is taken: {0}")]
    Taken(CreateError),
    #[error("there is no account {0:?}: `ich user list` lists them")]
    Unknown(String),
    #[error("{0}")]
    Password(#[from] PasswordError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// See the module.
pub(crate) struct Directory(pub(crate) Arc<dyn AccountStore>);

impl Directory {
    /// Calls `show` for each account, ordered by id.
    pub(crate) fn list(&self, mut show: impl FnMut(&StoredAccount)) -> Result<(), DirectoryError> {
        let mut after_id = 0;
        loop {
            let page = self.0.list(after_id)?;
            page.iter().for_each(&mut show);
            match page.last() {
                Some(last) if page.len() >= PAGE_ACCOUNTS as usize => after_id = id_of(last)?,
                _ => return Ok(()),
            }
        }
    }

    /// Adds an account, by the rules of a registration.
    pub(crate) fn add(&self, email: String, username: String, password: &str) -> Result<(), DirectoryError> {
        rules::check_email(&email)?;
        rules::check_username(&username)?;
        let username = match rules::shown_username(&username) {
            Cow::Borrowed(_) => username,
            Cow::Owned(shown) => {
                rules::check_username(&shown)?;
                shown
            }
        };
        let account = NewAccount::new(email, username, hash(password)?);
        match self.0.create(&account) {
            Ok(_) => Ok(()),
            Err(CreateError::Store(error)) => Err(error.into()),
            Err(taken) => Err(DirectoryError::Taken(taken)),
        }
    }

    /// Changes the account of a user, given by email or by username.
    pub(crate) fn change(&self, user: &str, change: &Change) -> Result<(), DirectoryError> {
        let found = match self.0.find_by_email_key(&rules::email_key(user))? {
            None => self.0.find_by_username_key(&rules::username_key(user))?,
            found => found,
        };
        let unknown = || DirectoryError::Unknown(user.to_owned());
        let id = id_of(&found.ok_or_else(unknown)?)?;
        if self.0.change(id, change)? { Ok(()) } else { Err(unknown()) }
    }

    /// Sets the password of a user, by the rules of a registration.
    pub(crate) fn set_password(&self, user: &str, password: &str) -> Result<(), DirectoryError> {
        self.change(user, &Change::PasswordHash(hash(password)?))
    }
}

fn hash(password: &str) -> Result<String, DirectoryError> {
    rules::check_password(password)?;
    let forms = rules::password_forms(password);
    Ok(Hasher::default().hash(forms.first().map_or(password, |form| form.as_ref()))?)
}

fn id_of(account: &StoredAccount) -> Result<i64, StoreError> {
    let id = account.account.id.parse();
    id.map_err(|_| StoreError::Unusable("the database has an account whose id is no number".to_owned()))
}
