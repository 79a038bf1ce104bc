//! [`Accounts`]: registration and login on a fixed number of threads.
//!
//! Called by connection threads, whose stacks are small. They check the limits and the rules of a registration, and
//! wait for the answer. All other work runs on the threads of this module (`ich-account-N`). Each owns one [`Hasher`],
//! so hashing takes 19 MiB per thread and no more. If the queue is full, the request is refused at once
//! ([`AccountError::Busy`]).

use std::borrow::Cow;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::RecvTimeoutError;

use super::error::AccountError;
use super::jobs::{Jobs, Kind};
use super::limits::AccountLimits;
use super::password::{self, Hasher, PasswordError};
use super::rules;
use super::store::{Account, AccountStore, CreateError, NewAccount, StoreError, StoredAccount};
use crate::log_throttle::LogThrottle;
use crate::moderation::Sanction;
use crate::one_shot;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// How long a caller waits for the queue, the store and the hash together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer if the queue is full, or the request was not answered within [`ANSWER_TIMEOUT`].
const BUSY: AccountError = AccountError::Busy { retry_after_seconds: 2 };
/// How long a client should wait if the store does not answer.
const UNAVAILABLE_RETRY_SECONDS: u64 = 5;

/// The fields of a registration.
#[derive(Clone)]
pub struct NewUser {
    /// See [`rules::check_email`].
    pub email: String,
    /// See [`rules::check_username`].
    pub username: String,
    /// See [`rules::check_password`].
    pub password: String,
}

impl fmt::Debug for NewUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewUser").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Registers users and checks their logins. Shared by all connection threads.
///
/// Dropping it ends its threads and waits for them; a thread finishes its request within about 2 seconds.
pub struct Accounts {
    jobs: Arc<Jobs<Job>>,
    limits: AccountLimits,
    threads: Vec<JoinHandle<()>>,
    store: Arc<dyn AccountStore>,
}

/// The work of a [`Job`]. It gets no worker if the server is busy.
type Work = Box<dyn FnOnce(Option<&mut Worker>) + Send>;

struct Job {
    /// Does the work with the worker, or answers that the server is busy if it gets none. Sends the answer to the caller,
    /// who may have stopped waiting.
    run: Work,
    /// The time at which the caller stops waiting.
    deadline: Instant,
}

impl Accounts {
    /// Starts `hash_threads` threads (at least one). Each calls `on_thread_start` first, to lower its priority so that
    /// hashing does not delay the chat.
    ///
    /// # Errors
    /// The system has no thread or no random bytes.
    pub fn new(
        store: Arc<dyn AccountStore>,
        limits: AccountLimits,
        hash_threads: usize,
        on_thread_start: fn(),
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        let hash_threads = hash_threads.max(1);
        let unmatchable: Arc<str> = password::unmatchable_hash().map_err(io::Error::other)?.into();
        let store_errors = Arc::new(LogThrottle::default());
        let jobs = Arc::new(Jobs::new(hash_threads));
        let mut accounts = Accounts { jobs: Arc::clone(&jobs), limits, threads: Vec::new(), store: Arc::clone(&store) };
        for number in 0..hash_threads {
            let worker = Worker {
                jobs: Arc::clone(&jobs),
                store: Arc::clone(&store),
                hasher: Hasher::default(),
                unmatchable: Arc::clone(&unmatchable),
                store_errors: Arc::clone(&store_errors),
            };
            let thread = supervisor.spawn(&format!("account-{number}"), Stack::Normal, move || {
                on_thread_start();
                worker.run();
                Ok(())
            })?;
            accounts.threads.push(thread);
        }
        Ok(accounts)
    }

    /// Registers a user for a client at `address`. Blocks for at most 5 seconds. Checks the email first, then the
    /// username, then the password. A registration that breaks a rule does not count towards the limit.
    ///
    /// # Errors
    /// Any [`AccountError`] except `WrongCredentials` and `TooManyLogins`.
    pub fn create_user(&self, address: IpAddr, mut user: NewUser) -> Result<Account, AccountError> {
        rules::check_email(&user.email)?;
        // The bound comes first, because the texts may be as long as a request.
        rules::check_username(&user.username)?;
        if let Cow::Owned(shown) = rules::shown_username(&user.username) {
            rules::check_username(&shown)?;
            user.username = shown;
        }
        rules::check_password(&user.password)?;
        self.limits.begin_registration(address, Instant::now())?;
        self.submit(Kind::Registration, address, |worker| worker.create(user))
    }

    /// The account with this email and password, for a client at `address`. Blocks for at most 5 seconds. An unknown
    /// email takes as long as a wrong password.
    ///
    /// # Errors
    /// `WrongCredentials`, `TooManyLogins`, `Busy`, `Unavailable` or `Internal`.
    pub fn log_in(&self, address: IpAddr, email: &str, password: &str) -> Result<Account, AccountError> {
        self.limits.begin_login(address, &rules::email_key(email), Instant::now())?;
        let (email, password) = (email.to_owned(), password.to_owned());
        let result = self.submit(Kind::Login, address, move |worker| worker.log_in(&email, &password));
        if result == Err(AccountError::WrongCredentials) {
            self.limits.login_failed(address, Instant::now());
        }
        result
    }

    /// Whether the account with this id and username is that of an administrator, for a client at `address`. Blocks for
    /// at most 5 seconds.
    ///
    /// # Errors
    /// `Busy`, `Unavailable` or `Internal`.
    pub(crate) fn is_admin(&self, address: IpAddr, id: &str, username: &str) -> Result<bool, AccountError> {
        let (id, key) = (id.to_owned(), rules::username_key(username));
        self.submit(Kind::Login, address, move |worker| {
            let found = worker.with_store(|store| store.find_by_username_key(&key))?;
            Ok(found.is_some_and(|found| found.is_admin && found.account.id == id))
        })
    }

    /// Stores bans and mutes for an administrator at `address`. Blocks for at most 5 seconds.
    ///
    /// # Errors
    /// `Busy`, `Unavailable` or `Internal`.
    pub(crate) fn put_sanctions(&self, address: IpAddr, sanctions: Vec<Sanction>) -> Result<(), AccountError> {
        self.submit(Kind::Login, address, move |worker| worker.with_store(|store| store.put_sanctions(&sanctions)))
    }

    /// See [`AccountStore::is_ready`].
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    fn submit<T: Send + 'static>(
        &self,
        kind: Kind,
        address: IpAddr,
        work: impl FnOnce(&mut Worker) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (answer, receiver) = one_shot::channel();
        let run = move |worker: Option<&mut Worker>| {
            answer.send(worker.map_or(Err(BUSY), work));
        };
        if let Some(rejected) = self.jobs.push(kind, address, Job { run: Box::new(run), deadline }) {
            (rejected.run)(None);
        }
        match receiver.recv_deadline(deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(BUSY),
            // The work panicked.
            Err(RecvTimeoutError::Disconnected) => Err(AccountError::Internal),
        }
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.jobs.close();
        for thread in self.threads.drain(..) {
            // The supervisor has reported a panic.
            let _ = thread.join();
        }
    }
}

struct Worker {
    jobs: Arc<Jobs<Job>>,
    store: Arc<dyn AccountStore>,
    hasher: Hasher,
    unmatchable: Arc<str>,
    store_errors: Arc<LogThrottle>,
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.jobs.next() {
            if Instant::now() >= job.deadline {
                (job.run)(None);
                continue;
            }
            // A panic may leave only the memory of the hasher half-changed, and each hash overwrites it.
            if catch_unwind(AssertUnwindSafe(|| (job.run)(Some(&mut self)))).is_err() {
                log::error!("accounts: a request panicked; the thread continues");
            }
        }
    }

    /// Calls the store, and logs its errors.
    fn with_store<T>(&self, call: impl FnOnce(&dyn AccountStore) -> Result<T, StoreError>) -> Result<T, AccountError> {
        self.require_ready_store()?;
        call(&*self.store).map_err(|error| self.store_failed(&error))
    }

    fn create(&mut self, user: NewUser) -> Result<Account, AccountError> {
        self.require_ready_store()?;
        let forms = rules::password_forms(&user.password);
        let prepared = forms.first().map_or(user.password.as_str(), |form| form.as_ref());
        let password_hash = self.hasher.hash(prepared).map_err(internal)?;
        let account = NewAccount::new(user.email, user.username, password_hash);
        match self.store.create(&account) {
            Ok(id) => Ok(Account { id: id.to_string(), email: account.email, username: account.username }),
            Err(CreateError::EmailTaken) => Err(AccountError::EmailTaken),
            Err(CreateError::UsernameTaken) => Err(AccountError::UsernameTaken),
            Err(CreateError::Store(error)) => Err(self.store_failed(&error)),
        }
    }

    /// Also hashes if the email or password is invalid or the email unknown, so that all failures take the same time
    /// and get the same answer.
    fn log_in(&mut self, email: &str, password: &str) -> Result<Account, AccountError> {
        self.require_ready_store()?;
        let is_valid = rules::check_email(email).is_ok() && rules::check_password(password).is_ok();
        let found = if is_valid { self.find(email).map_err(|error| self.store_failed(&error))? } else { None };
        let stored = found.as_ref().map_or(&*self.unmatchable, |found| found.password_hash.as_str());
        let mut matches = false;
        for form in rules::password_forms(password) {
            matches = matches || self.hasher.verify(&form, stored).map_err(internal)?;
        }
        match found {
            Some(found) if matches => Ok(found.account),
            _ => Err(AccountError::WrongCredentials),
        }
    }

    fn find(&self, email: &str) -> Result<Option<StoredAccount>, StoreError> {
        if let Some(found) = self.store.find_by_email_key(&rules::email_key(email))? {
            return Ok(Some(found));
        }
        rules::earlier_email_key(email).map_or(Ok(None), |key| self.store.find_by_email_key(&key))
    }

    /// While the store is known to be down, no request is hashed.
    fn require_ready_store(&self) -> Result<(), AccountError> {
        if self.store.is_ready() {
            return Ok(());
        }
        Err(AccountError::Unavailable { retry_after_seconds: UNAVAILABLE_RETRY_SECONDS })
    }

    fn store_failed(&self, error: &StoreError) -> AccountError {
        let error_text = error.to_string();
        if let Some(suppressed) = self.store_errors.may_log(&error_text, Instant::now()) {
            log::error!("accounts: the store failed: {error_text}{suppressed}");
        }
        match error {
            StoreError::Unavailable(_) => AccountError::Unavailable { retry_after_seconds: UNAVAILABLE_RETRY_SECONDS },
            StoreError::Unusable(_) => AccountError::Internal,
        }
    }
}

fn internal(error: PasswordError) -> AccountError {
    log::error!("accounts: {error}");
    AccountError::Internal
}

#[cfg(test)]
mod tests;
