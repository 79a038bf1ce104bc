//! Registration and login on a store in memory: the answers, and a full queue.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::super::store::Change;
use super::*;
use crate::accounts::testing::until;
use crate::moderation::Sanction;

/// A store in memory that hangs, fails or panics when the test wants it.
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
        let is_same_name = |known: &NewAccount| {
            known.username_key == account.username_key || known.username_skeleton == account.username_skeleton
        };
        if accounts.iter().any(is_same_name) {
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
                is_admin: false,
            }
        }))
    }

    fn find_by_username_key(&self, _: &str) -> Result<Option<StoredAccount>, StoreError> {
        Ok(None)
    }

    fn list(&self, _: i64) -> Result<Vec<StoredAccount>, StoreError> {
        Ok(Vec::new())
    }

    fn change(&self, _: i64, _: &Change) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn put_sanctions(&self, _: &[Sanction]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sanctions(&self) -> Result<Vec<Sanction>, StoreError> {
        Ok(Vec::new())
    }

    fn is_ready(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }
}

/// The address of all clients.
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn accounts(threads: usize) -> (Arc<FakeStore>, Accounts) {
    let store = Arc::new(FakeStore::default());
    let accounts = Accounts::new(
        Arc::clone(&store) as Arc<dyn AccountStore>,
        AccountLimits::new(None, None),
        threads,
        || {},
        &Supervisor::default(),
    )
    .unwrap();
    (store, accounts)
}

fn user(email: &str, username: &str, password: &str) -> NewUser {
    NewUser { email: email.to_owned(), username: username.to_owned(), password: password.to_owned() }
}

#[test]
fn a_request_that_waited_too_long_is_answered_and_not_executed() {
    let store = Arc::new(FakeStore::default());
    let jobs = Arc::new(Jobs::new(1));
    let (answer, receiver) = one_shot::channel();
    let run = move |worker: Option<&mut Worker>| {
        answer.send(worker.map_or(Err(BUSY), |worker| worker.log_in("bob@example.com", "12345678")));
    };
    assert!(jobs.push(Kind::Login, ADDRESS, Job { run: Box::new(run), deadline: Instant::now() }).is_none());
    jobs.close();
    let unmatchable = password::unmatchable_hash().unwrap().into();
    let hasher = Hasher::default();
    Worker { jobs, store: store.clone(), hasher, unmatchable, store_errors: Arc::default() }.run();
    assert!(matches!(receiver.recv(), Ok(Err(AccountError::Busy { .. }))));
    assert_eq!(store.finds.load(Ordering::Relaxed), 0);
}

#[test]
fn a_registered_user_can_log_in() {
    let (_, accounts) = accounts(1);
    let bob = accounts.create_user(ADDRESS, user("Bob@Example.com", "Bob", "12345678")).unwrap();
    assert_eq!(bob, Account { id: "1".to_owned(), email: "Bob@Example.com".to_owned(), username: "Bob".to_owned() });
    assert_eq!(accounts.log_in(ADDRESS, "bob@example.COM", "12345678"), Ok(bob));
    for (email, password) in [
        ("bob@example.com", "12345679"),
        ("eve@example.com", "12345678"),
        ("not an email", "12345678"),
        ("bob@example.com", "short"),
        ("bob@example.com", "1234567\0"),
        ("", ""),
    ] {
        assert_eq!(
            accounts.log_in(ADDRESS, email, password),
            Err(AccountError::WrongCredentials),
            "{email} {password}"
        );
    }
    assert_eq!(
        accounts.create_user(ADDRESS, user("bob@example.com", "Eve", "12345678")),
        Err(AccountError::EmailTaken)
    );
    assert_eq!(
        accounts.create_user(ADDRESS, user("eve@example.com", "bOB", "12345678")),
        Err(AccountError::UsernameTaken)
    );
}

#[test]
fn accents_and_spaces_can_be_typed_in_different_ways() {
    let (store, accounts) = accounts(1);
    let jose =
        accounts.create_user(ADDRESS, user("Jose\u{301}@example.com", "Jose\u{301}", "ma\u{F1}ana\u{A0}5")).unwrap();
    assert_eq!(jose.username, "José");
    for (email, password) in [
        ("José@example.com", "mañana 5"),
        ("jose\u{301}@example.com", "man\u{303}ana 5"),
        ("JOSÉ@example.com", "mañana\u{2003}5"),
    ] {
        assert_eq!(accounts.log_in(ADDRESS, email, password), Ok(jose.clone()), "{email} {password}");
    }
    for name in ["José", "JOSE\u{301}", "Jоsé"] {
        let created = accounts.create_user(ADDRESS, user("other@example.com", name, "12345678"));
        assert_eq!(created, Err(AccountError::UsernameTaken), "{name}");
    }
    // An account as an earlier version made it.
    let typed = "man\u{303}ana 12";
    let mut earlier =
        NewAccount::new("Zoe\u{308}@example.com".into(), "Zoe\u{308}".into(), Hasher::default().hash(typed).unwrap());
    earlier.email_key = "zoe\u{308}@example.com".into();
    store.create(&earlier).unwrap();
    assert!(accounts.log_in(ADDRESS, "Zoe\u{308}@example.com", typed).is_ok());
    let wrong = accounts.log_in(ADDRESS, "Zoe\u{308}@example.com", "man\u{303}ana 13");
    assert_eq!(wrong, Err(AccountError::WrongCredentials));
}

#[test]
fn the_email_is_checked_first_then_the_username_then_the_password() {
    let (_, accounts) = accounts(1);
    let field = |email, username, password| match accounts.create_user(ADDRESS, user(email, username, password)) {
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
    accounts.create_user(ADDRESS, user("bob@example.com", "Bob", "12345678")).unwrap();
    // Compares the minimum of many samples, taken in turns, until they are alike: other load only adds time.
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
            assert_eq!(accounts.log_in(ADDRESS, email, "wrong password"), Err(AccountError::WrongCredentials));
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
    /// More than the queue of one thread accepts from one address.
    const CALLERS: usize = 40;
    let (store, accounts) = accounts(1);
    let hang = store.hang.lock().unwrap();
    thread::scope(|scope| {
        let mut waiting = vec![scope.spawn(|| accounts.log_in(ADDRESS, "bob@b", "12345678"))];
        until(|| store.finds.load(Ordering::Relaxed) == 1);
        waiting.extend((0..CALLERS).map(|_| scope.spawn(|| accounts.log_in(ADDRESS, "bob@b", "12345678"))));
        until(|| waiting.iter().any(|caller| caller.is_finished()));
        assert!(!waiting[0].is_finished(), "a full queue is an answer at once, before the first caller gives up");
        for waiting in waiting {
            assert!(matches!(waiting.join().unwrap(), Err(AccountError::Busy { .. })));
        }
    });
    drop(hang);
    until(|| accounts.log_in(ADDRESS, "bob@b", "12345678") == Err(AccountError::WrongCredentials));
    assert!(store.finds.load(Ordering::Relaxed) <= 3, "requests were executed after their callers had stopped waiting");
}

#[test]
fn a_request_beyond_a_limit_is_not_hashed() {
    let store = Arc::new(FakeStore::default());
    let limits = AccountLimits::new(NonZeroU32::new(2), NonZeroU32::new(1));
    let accounts =
        Accounts::new(Arc::clone(&store) as Arc<dyn AccountStore>, limits, 1, || {}, &Supervisor::default()).unwrap();
    let register = |name: &str| accounts.create_user(ADDRESS, user(&format!("{name}@b"), name, "12345678"));
    assert!(matches!(
        accounts.create_user(ADDRESS, user("bob@b", "bob", "short")),
        Err(AccountError::InvalidField { .. })
    ));
    assert!(register("bob").is_ok(), "a registration that breaks a rule counted");
    assert!(matches!(register("eve"), Err(AccountError::TooManyRegistrations { .. })));
    for email in ["bob@b", "eve@b"] {
        assert_eq!(accounts.log_in(ADDRESS, email, "wrong password"), Err(AccountError::WrongCredentials));
    }
    let finds = store.finds.load(Ordering::Relaxed);
    for email in ["bob@b", "eve@b", "igor@b"] {
        assert!(matches!(accounts.log_in(ADDRESS, email, "12345678"), Err(AccountError::TooManyLogins { .. })));
    }
    assert_eq!(store.finds.load(Ordering::Relaxed), finds);
}

#[test]
fn after_a_panic_the_request_is_answered_and_the_thread_continues() {
    let (store, accounts) = accounts(1);
    store.panics.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(accounts.log_in(ADDRESS, "bob@b", "12345678"), Err(AccountError::Internal));
    }
    store.panics.store(false, Ordering::Relaxed);
    assert_eq!(accounts.log_in(ADDRESS, "bob@b", "12345678"), Err(AccountError::WrongCredentials));
}

#[test]
fn a_store_that_is_down_or_fails_is_unavailable() {
    let (store, accounts) = accounts(1);
    store.fails.store(true, Ordering::Relaxed);
    assert!(matches!(accounts.log_in(ADDRESS, "bob@b", "12345678"), Err(AccountError::Unavailable { .. })));
    store.down.store(true, Ordering::Relaxed);
    assert!(!accounts.is_ready());
    assert!(matches!(accounts.log_in(ADDRESS, "bob@b", "12345678"), Err(AccountError::Unavailable { .. })));
    let registration = accounts.create_user(ADDRESS, user("bob@b", "Bob", "12345678"));
    assert!(matches!(registration, Err(AccountError::Unavailable { .. })));
    assert_eq!(store.finds.load(Ordering::Relaxed), 1, "a store that is down was called");
}

#[test]
fn nothing_secret_is_printed() {
    assert!(!format!("{:?}", user("bob@b", "Bob", "12345678")).contains("12345678"));
}

#[test]
fn each_thread_calls_the_start_function_and_ends() {
    static PREPARED: AtomicUsize = AtomicUsize::new(0);
    fn prepare() {
        assert!(thread::current().name().is_some_and(|name| name.starts_with("ich-account-")));
        PREPARED.fetch_add(1, Ordering::Relaxed);
    }
    let store = Arc::new(FakeStore::default());
    drop(
        Accounts::new(
            Arc::clone(&store) as Arc<dyn AccountStore>,
            AccountLimits::new(None, None),
            3,
            prepare,
            &Supervisor::default(),
        )
        .unwrap(),
    );
    assert_eq!(PREPARED.load(Ordering::Relaxed), 3);
    assert_eq!(Arc::strong_count(&store), 1);
}
