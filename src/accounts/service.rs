//! [`Accounts`]: registration and login on a fixed number of threads.
//!
//! Called by connection threads, whose stacks are small: everything but waiting for the answer happens on the threads
//! here (`ich-account-N`). Each owns one [`Hasher`], so all hashing together takes 19 MiB per thread, whatever is asked.
//! A full queue is an answer ([`AccountError::Busy`]), not a wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::error::AccountError;
use super::password::{self, Hasher, PasswordError};
use super::rules;
use super::store::{Account, AccountStore, CreateError, NewAccount, StoreError};
use crate::threads::lock;

/// How many requests may wait for each thread: what it works off in about a second (a hash takes 30 to 40 ms).
const QUEUE_PER_THREAD: usize = 24;
/// How long a caller waits for queue, store and hash together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a caller is told to wait when the queue is full.
const BUSY_RETRY_SECONDS: u64 = 2;
/// What a caller is told to wait when the store does not answer.
const UNAVAILABLE_RETRY_SECONDS: u64 = 5;
/// A failing store is logged this often at most, however many ask.
const STORE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What a registration gives.
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

/// Registers people and lets them in. Shared by all connection threads, in an `Arc`.
///
/// Dropping it ends its threads and waits for them: each is done with what it does within about 2 seconds.
pub struct Accounts {
    /// `None` only while it is dropped.
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    store: Arc<dyn AccountStore>,
}

struct Job {
    request: Request,
    /// Nobody waits for the answer any more after this.
    deadline: Instant,
    answer: Sender<Result<Account, AccountError>>,
}

enum Request {
    Create(NewUser),
    LogIn { email: String, password: String },
}

impl Accounts {
    /// Starts `hash_threads` threads (at least one). Each calls `on_thread_start` first: the place to lower its
    /// priority, so that hashing does not delay the chat.
    ///
    /// # Errors
    /// When the system gives no thread or no random bytes.
    pub fn new(store: Arc<dyn AccountStore>, hash_threads: usize, on_thread_start: fn()) -> io::Result<Self> {
        let hash_threads = hash_threads.max(1);
        let unmatchable: Arc<str> = password::unmatchable_hash().map_err(io::Error::other)?.into();
        let last_store_log = Arc::new(Mutex::new(None));
        let (queue, jobs) = bounded(QUEUE_PER_THREAD * hash_threads);
        let mut accounts = Accounts { queue: Some(queue), threads: Vec::new(), store: Arc::clone(&store) };
        for number in 0..hash_threads {
            let worker = Worker {
                jobs: jobs.clone(),
                store: Arc::clone(&store),
                hasher: Hasher::default(),
                unmatchable: Arc::clone(&unmatchable),
                last_store_log: Arc::clone(&last_store_log),
            };
            let thread = thread::Builder::new().name(format!("ich-account-{number}")).spawn(move || {
                on_thread_start();
                worker.run();
            })?;
            accounts.threads.push(thread);
        }
        Ok(accounts)
    }

    /// Registers somebody. Blocks for at most 5 seconds. The email is checked first, then the username, then the
    /// password.
    ///
    /// # Errors
    /// Any [`AccountError`] but `WrongCredentials`.
    pub fn create_user(&self, user: NewUser) -> Result<Account, AccountError> {
        self.ask(Request::Create(user))
    }

    /// The account with this email and password. Blocks for at most 5 seconds; an unknown email takes as long as a wrong
    /// password.
    ///
    /// # Errors
    /// `WrongCredentials`, `Busy`, `Unavailable` or `Internal`.
    pub fn log_in(&self, email: &str, password: &str) -> Result<Account, AccountError> {
        self.ask(Request::LogIn { email: email.to_owned(), password: password.to_owned() })
    }

    /// Whether the store is ready: see [`AccountStore::is_ready`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    fn ask(&self, request: Request) -> Result<Account, AccountError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (answer, answers) = bounded(1);
        let queue = self.queue.as_ref().ok_or(AccountError::Internal)?;
        queue.try_send(Job { request, deadline, answer }).map_err(|error| match error {
            TrySendError::Full(_) => AccountError::Busy { retry_after_seconds: BUSY_RETRY_SECONDS },
            TrySendError::Disconnected(_) => AccountError::Internal,
        })?;
        match answers.recv_deadline(deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(AccountError::Busy { retry_after_seconds: BUSY_RETRY_SECONDS }),
            Err(RecvTimeoutError::Disconnected) => Err(AccountError::Internal),
        }
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic is caught and logged where it happens.
            let _ = thread.join();
        }
    }
}

struct Worker {
    jobs: Receiver<Job>,
    store: Arc<dyn AccountStore>,
    hasher: Hasher,
    unmatchable: Arc<str>,
    last_store_log: Arc<Mutex<Option<Instant>>>,
}

impl Worker {
    fn run(mut self) {
        while let Ok(Job { request, deadline, answer }) = self.jobs.recv() {
            if Instant::now() >= deadline {
                // The caller may not have noticed yet that its time is over.
                let _ = answer.try_send(Err(AccountError::Busy { retry_after_seconds: BUSY_RETRY_SECONDS }));
                continue;
            }
            // What a panic leaves behind is the hasher's memory, which each hash overwrites.
            let result = catch_unwind(AssertUnwindSafe(|| match request {
                Request::Create(user) => self.create(user),
                Request::LogIn { email, password } => self.log_in(&email, &password),
            }));
            let result = result.unwrap_or_else(|_| {
                log::error!("accounts: a request panicked; the thread goes on");
                Err(AccountError::Internal)
            });
            // The caller may have gone.
            let _ = answer.try_send(result);
        }
    }

    fn create(&mut self, user: NewUser) -> Result<Account, AccountError> {
        rules::check_email(&user.email)?;
        rules::check_username(&user.username)?;
        rules::check_password(&user.password)?;
        self.require_ready_store()?;
        let password_hash = self.hasher.hash(&user.password).map_err(internal)?;
        let account = NewAccount {
            email_key: rules::email_key(&user.email),
            username_key: rules::username_key(&user.username),
            email: user.email,
            username: user.username,
            password_hash,
        };
        match self.store.create(&account) {
            Ok(id) => Ok(Account { id: id.to_string(), email: account.email, username: account.username }),
            Err(CreateError::EmailTaken) => Err(AccountError::EmailTaken),
            Err(CreateError::UsernameTaken) => Err(AccountError::UsernameTaken),
            Err(CreateError::Store(error)) => Err(self.store_failed(&error)),
        }
    }

    /// What cannot be an email or a password of an account is hashed as well, against nothing: one answer, one time.
    fn log_in(&mut self, email: &str, password: &str) -> Result<Account, AccountError> {
        self.require_ready_store()?;
        let possible = rules::check_email(email).is_ok() && rules::check_password(password).is_ok();
        let found = if possible {
            self.store.find_by_email_key(&rules::email_key(email)).map_err(|error| self.store_failed(&error))?
        } else {
            None
        };
        let stored = found.as_ref().map_or(&*self.unmatchable, |found| found.password_hash.as_str());
        let fits = self.hasher.verify(password, stored).map_err(internal)?;
        match found {
            Some(found) if fits => Ok(found.account),
            _ => Err(AccountError::WrongCredentials),
        }
    }

    /// A store that is known to be down must not cost a hash per request.
    fn require_ready_store(&self) -> Result<(), AccountError> {
        if self.store.is_ready() {
            return Ok(());
        }
        Err(AccountError::Unavailable { retry_after_seconds: UNAVAILABLE_RETRY_SECONDS })
    }

    fn store_failed(&self, error: &StoreError) -> AccountError {
        let mut last = lock(&self.last_store_log);
        if last.is_none_or(|last| last.elapsed() >= STORE_LOG_INTERVAL) {
            *last = Some(Instant::now());
            log::error!("accounts: the store failed: {error}");
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
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::super::store::StoredAccount;
    use super::*;

    /// A store in memory that can be told to hang, fail or panic.
    #[derive(Default)]
    struct FakeStore {
        accounts: Mutex<Vec<NewAccount>>,
        hang: Mutex<()>,
        panics: AtomicBool,
        down: AtomicBool,
        fails: AtomicBool,
        finds: AtomicUsize,
    }

    impl AccountStore for FakeStore {
        fn create(&self, account: &NewAccount) -> Result<i64, CreateError> {
            let mut accounts = self.accounts.lock().unwrap();
            if accounts.iter().any(|known| known.email_key == account.email_key) {
                return Err(CreateError::EmailTaken);
            }
            if accounts.iter().any(|known| known.username_key == account.username_key) {
                return Err(CreateError::UsernameTaken);
            }
            accounts.push(account.clone());
            Ok(accounts.len() as i64)
        }

        fn find_by_email_key(&self, email_key: &str) -> Result<Option<StoredAccount>, StoreError> {
            self.finds.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics.load(Ordering::Relaxed), "injected");
            if self.fails.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("injected".to_owned()));
            }
            drop(self.hang.lock().unwrap());
            let accounts = self.accounts.lock().unwrap();
            Ok(accounts.iter().enumerate().find(|(_, known)| known.email_key == email_key).map(|(row, known)| {
                StoredAccount {
                    account: Account {
                        id: (row + 1).to_string(),
                        email: known.email.clone(),
                        username: known.username.clone(),
                    },
                    password_hash: known.password_hash.clone(),
                }
            }))
        }

        fn is_ready(&self) -> bool {
            !self.down.load(Ordering::Relaxed)
        }
    }

    fn accounts(threads: usize) -> (Arc<FakeStore>, Accounts) {
        let store = Arc::new(FakeStore::default());
        let accounts = Accounts::new(Arc::clone(&store) as Arc<dyn AccountStore>, threads, || {}).unwrap();
        (store, accounts)
    }

    fn user(email: &str, username: &str, password: &str) -> NewUser {
        NewUser { email: email.to_owned(), username: username.to_owned(), password: password.to_owned() }
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(4);
        while !condition() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_request_that_waited_too_long_is_not_carried_out_and_told_so() {
        let store = Arc::new(FakeStore::default());
        let (queue, jobs) = bounded(1);
        let (answer, answers) = bounded(1);
        let request = Request::LogIn { email: "bob@example.com".to_owned(), password: "12345678".to_owned() };
        queue.send(Job { request, deadline: Instant::now(), answer }).unwrap();
        drop(queue);
        let unmatchable = password::unmatchable_hash().unwrap().into();
        let hasher = Hasher::default();
        Worker { jobs, store: store.clone(), hasher, unmatchable, last_store_log: Arc::default() }.run();
        assert!(matches!(answers.recv(), Ok(Err(AccountError::Busy { .. }))));
        assert_eq!(store.finds.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_registered_can_log_in() {
        let (_, accounts) = accounts(1);
        let bob = accounts.create_user(user("Bob@Example.com", "Bob", "12345678")).unwrap();
        assert_eq!(
            bob,
            Account { id: "1".to_owned(), email: "Bob@Example.com".to_owned(), username: "Bob".to_owned() }
        );
        assert_eq!(accounts.log_in("bob@example.COM", "12345678"), Ok(bob));
        for (email, password) in [
            ("bob@example.com", "12345679"),
            ("eve@example.com", "12345678"),
            ("not an email", "12345678"),
            ("bob@example.com", "short"),
            ("bob@example.com", "1234567\0"),
            ("", ""),
        ] {
            assert_eq!(accounts.log_in(email, password), Err(AccountError::WrongCredentials), "{email} {password}");
        }
        assert_eq!(accounts.create_user(user("bob@example.com", "Eve", "12345678")), Err(AccountError::EmailTaken));
        assert_eq!(accounts.create_user(user("eve@example.com", "bOB", "12345678")), Err(AccountError::UsernameTaken));
    }

    #[test]
    fn fields_are_checked_in_order() {
        let (_, accounts) = accounts(1);
        let field = |email, username, password| match accounts.create_user(user(email, username, password)) {
            Err(AccountError::InvalidField { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field("", "", ""), "email");
        assert_eq!(field("a@b", "", ""), "username");
        assert_eq!(field("a@b", "Bob", "1234567"), "password");
    }

    #[test]
    fn an_unknown_email_is_hashed_like_a_wrong_password() {
        let (_, accounts) = accounts(1);
        accounts.create_user(user("bob@example.com", "Bob", "12345678")).unwrap();
        // The least of many, in turns, as long as it takes: what a busy machine does besides only adds.
        let emails = ["bob@example.com", "eve@example.com", "nobody"];
        let mut least = [Duration::MAX; 3];
        let alike = |least: &[Duration; 3]| {
            let [wrong, unknown, impossible] = *least;
            [unknown, impossible].iter().all(|other| *other * 2 > wrong && wrong * 2 > *other)
        };
        let start = Instant::now();
        for round in 0.. {
            for (email, least) in emails.iter().zip(&mut least) {
                let asked = Instant::now();
                assert_eq!(accounts.log_in(email, "wrong password"), Err(AccountError::WrongCredentials));
                *least = asked.elapsed().min(*least);
            }
            if round >= 5 && alike(&least) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{least:?}");
        }
    }

    #[test]
    fn a_full_queue_and_a_hanging_store_are_busy_in_time() {
        let (store, accounts) = accounts(1);
        let hang = store.hang.lock().unwrap();
        thread::scope(|scope| {
            let start = Instant::now();
            let mut waiting = vec![scope.spawn(|| accounts.log_in("bob@b", "12345678"))];
            until(|| store.finds.load(Ordering::Relaxed) == 1);
            waiting.extend((0..QUEUE_PER_THREAD).map(|_| scope.spawn(|| accounts.log_in("bob@b", "12345678"))));
            until(|| accounts.queue.as_ref().unwrap().is_full());
            let refused = Instant::now();
            assert!(matches!(accounts.log_in("bob@b", "12345678"), Err(AccountError::Busy { .. })));
            assert!(refused.elapsed() < Duration::from_secs(1));
            for waiting in waiting {
                assert!(matches!(waiting.join().unwrap(), Err(AccountError::Busy { .. })));
            }
            assert!(start.elapsed() < ANSWER_TIMEOUT + Duration::from_secs(3));
        });
        drop(hang);
        until(|| accounts.queue.as_ref().unwrap().is_empty());
        assert_eq!(accounts.log_in("bob@b", "12345678"), Err(AccountError::WrongCredentials));
        assert!(store.finds.load(Ordering::Relaxed) <= 3, "what nobody waits for is not done");
    }

    #[test]
    fn a_panic_is_one_answer_and_the_thread_goes_on() {
        let (store, accounts) = accounts(1);
        store.panics.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(accounts.log_in("bob@b", "12345678"), Err(AccountError::Internal));
        }
        store.panics.store(false, Ordering::Relaxed);
        assert_eq!(accounts.log_in("bob@b", "12345678"), Err(AccountError::WrongCredentials));
    }

    #[test]
    fn a_store_that_is_down_or_fails_is_unavailable() {
        let (store, accounts) = accounts(1);
        store.fails.store(true, Ordering::Relaxed);
        assert!(matches!(accounts.log_in("bob@b", "12345678"), Err(AccountError::Unavailable { .. })));
        store.down.store(true, Ordering::Relaxed);
        assert!(!accounts.is_ready());
        assert!(matches!(accounts.log_in("bob@b", "12345678"), Err(AccountError::Unavailable { .. })));
        let registration = accounts.create_user(user("bob@b", "Bob", "12345678"));
        assert!(matches!(registration, Err(AccountError::Unavailable { .. })));
        assert_eq!(store.finds.load(Ordering::Relaxed), 1, "one that is down is not asked");
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert!(!format!("{:?}", user("bob@b", "Bob", "12345678")).contains("12345678"));
    }

    #[test]
    fn every_thread_is_prepared_and_ends() {
        static PREPARED: AtomicUsize = AtomicUsize::new(0);
        fn prepare() {
            assert!(thread::current().name().is_some_and(|name| name.starts_with("ich-account-")));
            PREPARED.fetch_add(1, Ordering::Relaxed);
        }
        let store = Arc::new(FakeStore::default());
        drop(Accounts::new(Arc::clone(&store) as Arc<dyn AccountStore>, 3, prepare).unwrap());
        assert_eq!(PREPARED.load(Ordering::Relaxed), 3);
        assert_eq!(Arc::strong_count(&store), 1);
    }
}
