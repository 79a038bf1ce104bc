//! What every account store must do, done to each of them: SQLite in a temporary folder and a real PostgreSQL. And what
//! the stores must survive: a database that is stopped, frozen, cut off or not there yet.

mod harness;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use harness::postgres::{Database, Server, database, silent_listener};
use ich::accounts::rules::{email_key, username_key};
use ich::accounts::{
    AccountError, AccountLimits, AccountStore, Accounts, CreateError, NewAccount, NewUser, StoreError, postgres, sqlite,
};
use ich::supervisor::Supervisor;

/// The promise is 2 seconds; a busy machine adds to it.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

fn new_account(email: &str, username: &str) -> NewAccount {
    NewAccount {
        email: email.to_owned(),
        email_key: email_key(email),
        username: username.to_owned(),
        username_key: username_key(username),
        password_hash: format!("hash of {username}"),
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn open_postgres(url: &str) -> Arc<dyn AccountStore> {
    let store = postgres::open(url, &Supervisor::default()).unwrap();
    until("the store is ready", || store.is_ready());
    Arc::new(store)
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ich-account-stores-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a store keeps its accounts; the contract opens it, and opens it again.
trait Place {
    fn open(&self) -> Arc<dyn AccountStore>;
}

impl Place for Folder {
    fn open(&self) -> Arc<dyn AccountStore> {
        Arc::new(sqlite::open(&self.0).unwrap())
    }
}

impl Place for Database {
    fn open(&self) -> Arc<dyn AccountStore> {
        open_postgres(&self.url)
    }
}

/// Each line: a part of the contract, held against both stores.
macro_rules! contract {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(&super::Folder::new()); })*
        }
        mod on_postgres {
            $(#[test] fn $name() { if let Some(database) = super::database() { super::$name(&database); } })*
        }
    };
}

contract! {
    what_is_created_is_found
    what_is_taken_is_told
    of_many_at_once_exactly_one_wins
    several_instances_share_the_accounts
    texts_are_kept_as_they_are
    people_register_and_log_in
}

fn what_is_created_is_found(place: &dyn Place) {
    let store = place.open();
    assert!(store.is_ready());
    assert_eq!(store.find_by_email_key("bob@example.com"), Ok(None));
    let first = store.create(&new_account("Bob@Example.com", "Bob")).unwrap();
    let second = store.create(&new_account("eve@example.com", "Eve")).unwrap();
    assert!(first > 0 && second > first);
    let found = store.find_by_email_key("bob@example.com").unwrap().unwrap();
    assert_eq!(found.account.id, first.to_string());
    assert_eq!((found.account.email.as_str(), found.account.username.as_str()), ("Bob@Example.com", "Bob"));
    assert_eq!(found.password_hash, "hash of Bob");
    assert_eq!(store.find_by_email_key("Bob@Example.com"), Ok(None), "found by the key, not by the email");
    drop(store);
    assert_eq!(place.open().find_by_email_key("bob@example.com"), Ok(Some(found)));
}

fn what_is_taken_is_told(place: &dyn Place) {
    let store = place.open();
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
    let create = |email, username| store.create(&new_account(email, username));
    assert_eq!(create("BOB@example.com", "Another"), Err(CreateError::EmailTaken));
    assert_eq!(create("another@example.com", "BOB"), Err(CreateError::UsernameTaken));
    assert_eq!(create("bob@example.com", "bob"), Err(CreateError::EmailTaken), "the email comes first");
    assert_eq!(create("bob@example.com", "eve"), Err(CreateError::EmailTaken), "the email comes first");
    assert!(create("another@example.com", "Another").is_ok(), "what was refused left nothing behind");
}

fn of_many_at_once_exactly_one_wins(place: &dyn Place) {
    let stores = [place.open(), place.open()];
    for round in 0..10 {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = ["Bob", "bob", "BOB", "bOb"]
                .into_iter()
                .enumerate()
                .map(|(number, name)| {
                    let account = new_account(&format!("{number}.{round}@example.com"), &format!("{name}{round}"));
                    let store = &stores[number % 2];
                    scope.spawn(move || store.create(&account))
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let taken = outcomes.iter().filter(|outcome| **outcome == Err(CreateError::UsernameTaken)).count();
        assert_eq!(taken, 3, "{outcomes:?}");
    }
}

fn several_instances_share_the_accounts(place: &dyn Place) {
    let (one, other) = (place.open(), place.open());
    one.create(&new_account("bob@example.com", "Bob")).unwrap();
    assert_eq!(other.create(&new_account("bob@example.com", "Other")), Err(CreateError::EmailTaken));
    assert!(other.find_by_email_key("bob@example.com").unwrap().is_some());
}

fn texts_are_kept_as_they_are(place: &dyn Place) {
    let store = place.open();
    for username in ["'; DROP TABLE accounts; --", "日本語", "ﷺ", "🦀", "%s$1?1\\", "<b>x</b>"] {
        let email = format!("{}@exämple.org", username.replace(' ', "_"));
        store.create(&new_account(&email, username)).unwrap();
        let found = store.find_by_email_key(&email_key(&email)).unwrap().unwrap();
        assert_eq!((found.account.username.as_str(), found.account.email.as_str()), (username, email.as_str()));
    }
    let (email, username) = (format!("{}@b", "ΐ".repeat(252)), "ΐ".repeat(64));
    store.create(&new_account(&email, &username)).unwrap();
    assert_eq!(store.find_by_email_key(&email_key(&email)).unwrap().unwrap().account.username, username);
}

/// Of every client here.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn people_register_and_log_in(place: &dyn Place) {
    let accounts = Accounts::new(place.open(), AccountLimits::new(0, 0), 2, || {}, &Supervisor::default()).unwrap();
    let bob = accounts
        .create_user(
            ADDRESS,
            NewUser {
                email: "Bob@example.com".to_owned(),
                username: "Bob".to_owned(),
                password: "correct horse".to_owned(),
            },
        )
        .unwrap();
    assert_eq!(accounts.log_in(ADDRESS, "bob@EXAMPLE.com", "correct horse"), Ok(bob));
    assert_eq!(accounts.log_in(ADDRESS, "bob@example.com", "correct hors"), Err(AccountError::WrongCredentials));
    assert_eq!(accounts.log_in(ADDRESS, "eve@example.com", "correct horse"), Err(AccountError::WrongCredentials));
}

/// Fails in time, whatever is asked.
fn assert_unavailable(store: &dyn AccountStore) {
    let asked = Instant::now();
    let found = store.find_by_email_key("bob@example.com");
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    let found_in = asked.elapsed();
    let created = store.create(&new_account("new@example.com", "New"));
    assert!(matches!(created, Err(CreateError::Store(StoreError::Unavailable(_)))), "{created:?}");
    let created_in = asked.elapsed() - found_in;
    assert!(found_in < CALL_LIMIT && created_in < CALL_LIMIT, "{found_in:?} {created_in:?}");
}

fn until_it_works_again(store: &dyn AccountStore) {
    until("the store works again", || store.find_by_email_key("bob@example.com").is_ok_and(|found| found.is_some()));
}

#[test]
fn a_stopped_server_is_unavailable_and_comes_back_by_itself() {
    let Some(server) = Server::start() else { return };
    let database = server.database();
    let store = open_postgres(&database.url);
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    for _ in 0..2 {
        server.stop();
        assert_unavailable(&*store);
        until("it is known not to be ready", || !store.is_ready());
        server.launch();
        until_it_works_again(&*store);
        until("it is ready", || store.is_ready());
    }
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
}

#[test]
fn a_frozen_server_is_unavailable_in_time_and_comes_back_by_itself() {
    let Some(server) = Server::start() else { return };
    let database = server.database();
    let store = open_postgres(&database.url);
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    let frozen = server.freeze();
    let slowest = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let asked = Instant::now();
                    assert!(store.find_by_email_key("bob@example.com").is_err());
                    asked.elapsed()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).max().unwrap()
    });
    assert!(slowest < CALL_LIMIT, "{slowest:?}");
    assert_unavailable(&*store);
    assert!(!store.is_ready());
    // Long enough for threads to be given up and replaced.
    thread::sleep(Duration::from_secs(4));
    assert_unavailable(&*store);
    drop(frozen);
    until_it_works_again(&*store);
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
}

#[test]
fn killed_connections_are_replaced_without_anybody_noticing() {
    let Some(database) = database() else { return };
    let store = open_postgres(&database.url);
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    for round in 0..5 {
        assert!(database.kill_connections() > 0);
        assert!(store.find_by_email_key("bob@example.com").unwrap().is_some());
        database.kill_connections();
        store.create(&new_account(&format!("{round}@example.com"), &format!("user{round}"))).unwrap();
    }
}

#[test]
fn ten_instances_start_on_an_empty_database_at_once() {
    let Some(database) = database() else { return };
    thread::scope(|scope| {
        for number in 0..10 {
            let url = &database.url;
            scope.spawn(move || {
                let store = open_postgres(url);
                store.create(&new_account(&format!("{number}@example.com"), &format!("user{number}"))).unwrap();
            });
        }
    });
    assert_eq!(database.number("SELECT count(*) FROM accounts"), 10);
    assert_eq!(database.number("SELECT count(*) FROM ich_schema_migrations"), 1);
    // Each waited for its turn; none ran into another and had to try again.
    let failed = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.number(failed), 0);
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for_in_the_background() {
    let (listener, port) = silent_listener();
    let opened = Instant::now();
    let store = postgres::open(&format!("postgres://ich@127.0.0.1:{port}/ich"), &Supervisor::default()).unwrap();
    assert!(opened.elapsed() < CALL_LIMIT);
    assert!(!store.is_ready());
    assert_unavailable(&store);
    let closed = Instant::now();
    drop(store);
    assert!(closed.elapsed() < CALL_LIMIT);
    drop(listener);

    let Some(server) = Server::start() else { return };
    let database = server.database();
    server.stop();
    let store = postgres::open(&database.url, &Supervisor::default()).unwrap();
    assert_unavailable(&store);
    server.launch();
    until("the store is ready", || store.is_ready());
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
}

#[test]
fn a_database_of_a_later_version_is_not_used() {
    let Some(database) = database() else { return };
    drop(open_postgres(&database.url));
    database.execute("INSERT INTO ich_schema_migrations (version) VALUES (99)");
    let store = postgres::open(&database.url, &Supervisor::default()).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(!store.is_ready());
    assert_unavailable(&store);
    database.execute("DELETE FROM ich_schema_migrations WHERE version = 99");
    until("the store is ready", || store.is_ready());
}

#[test]
fn a_user_who_may_not_create_tables_can_use_those_that_are_there() {
    let Some(database) = database() else { return };
    drop(open_postgres(&database.url));
    let role = format!("ich_guest_{}", std::process::id());
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT, INSERT ON accounts TO {role}; GRANT SELECT ON ich_schema_migrations TO {role}"
    ));
    let guest_url = database.url.replacen("ich@", &format!("{role}@"), 1);
    // On another server than our own, where users have passwords, this role could not log in.
    if guest_url != database.url {
        let store = open_postgres(&guest_url);
        store.create(&new_account("bob@example.com", "Bob")).unwrap();
    }
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn an_account_that_is_locked_by_somebody_else_does_not_hang_the_caller() {
    let Some(database) = database() else { return };
    let store = open_postgres(&database.url);
    thread::scope(|scope| {
        let locker =
            scope.spawn(|| database.execute("BEGIN; LOCK TABLE accounts IN EXCLUSIVE MODE; SELECT pg_sleep(4)"));
        until("the table is locked", || {
            database.number(
                "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'accounts'::regclass",
            ) > 0
        });
        let asked = Instant::now();
        assert!(matches!(store.create(&new_account("bob@example.com", "Bob")), Err(CreateError::Store(_))));
        assert!(asked.elapsed() < CALL_LIMIT);
        assert_eq!(store.find_by_email_key("bob@example.com"), Ok(None), "reading goes on");
        locker.join().unwrap();
    });
    until("registering works again", || store.create(&new_account("bob@example.com", "Bob")).is_ok());
}

#[test]
fn two_processes_may_share_a_sqlite_file() {
    let folder = Folder::new();
    let (one, other) = (folder.open(), folder.open());
    thread::scope(|scope| {
        for (which, store) in [("one", &one), ("other", &other)] {
            scope.spawn(move || {
                for number in 0..50 {
                    let name = format!("{which}{number}");
                    store.create(&new_account(&format!("{name}@example.com"), &name)).unwrap();
                }
            });
        }
    });
    drop(one);
    drop(other);
    assert_eq!(files(&folder.0), ["accounts.sqlite3"]);
    assert!(folder.open().find_by_email_key("other49@example.com").unwrap().is_some());
}

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
