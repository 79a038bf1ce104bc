//! The contract of account stores, tested on SQLite in a temporary folder and on a real PostgreSQL. And failures of the
//! database: stopped, frozen, disconnected or not started yet.

mod harness;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use harness::folder::Folder;
use harness::postgres::{Database, Server, database, silent_listener};
use harness::wait_until;
use ich::accounts::rules::{email_key, username_key};
use ich::accounts::{
    AccountError, AccountLimits, AccountStore, Accounts, Change, CreateError, NewAccount, NewUser, StoreError,
    postgres, sqlite,
};
use ich::moderation::{Sanction, SanctionKind};
use ich::supervisor::Supervisor;

/// The documented limit is 2 seconds; the rest allows for a busy machine.
const CALL_LIMIT: Duration = Duration::from_secs(5);

fn new_account(email: &str, username: &str) -> NewAccount {
    NewAccount::new(email.to_owned(), username.to_owned(), format!("hash of {username}"))
}

fn open_postgres(url: &str) -> Arc<dyn AccountStore> {
    let store = postgres::open(url, &Supervisor::default()).unwrap();
    wait_until("the store to be ready", || store.is_ready());
    Arc::new(store)
}

/// The storage of an account store. A test may open it several times.
trait Storage {
    fn open(&self) -> Arc<dyn AccountStore>;
}

impl Storage for Folder {
    fn open(&self) -> Arc<dyn AccountStore> {
        Arc::new(sqlite::open(&self.0).unwrap())
    }
}

impl Storage for Database {
    fn open(&self) -> Arc<dyn AccountStore> {
        open_postgres(&self.url)
    }
}

/// Makes two tests of each function: one on SQLite, one on PostgreSQL.
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
    a_created_account_is_found
    a_taken_email_or_username_is_reported
    one_of_several_concurrent_registrations_succeeds
    several_instances_share_the_accounts
    texts_are_stored_unchanged
    accounts_are_changed_listed_and_removed
    the_latest_sanction_of_a_user_is_stored
    users_register_and_log_in
}

fn a_created_account_is_found(storage: &dyn Storage) {
    let store = storage.open();
    assert!(store.is_ready());
    assert_eq!(store.find_by_email_key("bob@example.com"), Ok(None));
    let first = store.create(&new_account("Bob@Example.com", "Bob")).unwrap();
    let second = store.create(&new_account("eve@example.com", "Eve")).unwrap();
    assert!(first > 0 && second > first);
    let found = store.find_by_email_key("bob@example.com").unwrap().unwrap();
    assert_eq!(found.account.id, first.to_string());
    assert_eq!((found.account.email.as_str(), found.account.username.as_str()), ("Bob@Example.com", "Bob"));
    assert_eq!(found.password_hash, "hash of Bob");
    assert_eq!(store.find_by_email_key("Bob@Example.com"), Ok(None), "accounts are found by the key, not by the email");
    drop(store);
    assert_eq!(storage.open().find_by_email_key("bob@example.com"), Ok(Some(found)));
}

fn a_taken_email_or_username_is_reported(storage: &dyn Storage) {
    let store = storage.open();
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
    let create = |email, username| store.create(&new_account(email, username));
    assert_eq!(create("BOB@example.com", "Another"), Err(CreateError::EmailTaken));
    assert_eq!(create("another@example.com", "BOB"), Err(CreateError::UsernameTaken));
    assert_eq!(create("bob@example.com", "bob"), Err(CreateError::EmailTaken), "the email comes first");
    assert_eq!(create("bob@example.com", "eve"), Err(CreateError::EmailTaken), "the email comes first");
    assert_eq!(create("another@example.com", "\u{412}\u{43E}b"), Err(CreateError::UsernameTaken), "it looks like Bob");
    assert_eq!(create("bob@example.com", "\u{415}ve"), Err(CreateError::EmailTaken), "the email comes first");
    assert!(create("another@example.com", "Another").is_ok(), "rejected accounts reserved an email or username");
}

fn one_of_several_concurrent_registrations_succeeds(storage: &dyn Storage) {
    let stores = [storage.open(), storage.open()];
    for round in 0..10 {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = ["Bob", "bob", "BOB", "bOb"]
                .into_iter()
                .enumerate()
                .map(|(number, name)| {
                    let account = new_account(&format!("{number}.{round}@example.com"), &format!("{name}{round}"));
                    let store = &stores[number % 2];
                    scope.spawn(move || store.create(&account))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let taken = outcomes.iter().filter(|outcome| **outcome == Err(CreateError::UsernameTaken)).count();
        assert_eq!(taken, 3, "{outcomes:?}");
    }
}

fn several_instances_share_the_accounts(storage: &dyn Storage) {
    let (one, other) = (storage.open(), storage.open());
    one.create(&new_account("bob@example.com", "Bob")).unwrap();
    assert_eq!(other.create(&new_account("bob@example.com", "Other")), Err(CreateError::EmailTaken));
    assert!(other.find_by_email_key("bob@example.com").unwrap().is_some());
}

fn texts_are_stored_unchanged(storage: &dyn Storage) {
    let store = storage.open();
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

fn accounts_are_changed_listed_and_removed(storage: &dyn Storage) {
    let store = storage.open();
    let ids: Vec<i64> =
        (0..3).map(|n| store.create(&new_account(&format!("{n}@b"), &format!("User {n}"))).unwrap()).collect();
    let found = |name: &str| store.find_by_username_key(&username_key(name)).unwrap();
    assert_eq!(found("USER 1").map(|found| (found.account.id, found.is_admin)), Some((ids[1].to_string(), false)));
    assert_eq!(found("nobody"), None);
    assert_eq!(store.change(ids[1], &Change::Admin(true)), Ok(true));
    assert_eq!(store.change(ids[1], &Change::Admin(true)), Ok(true), "it can be repeated");
    assert_eq!(store.change(ids[1], &Change::PasswordHash("another hash".into())), Ok(true));
    let changed = store.find_by_email_key("1@b").unwrap().unwrap();
    assert!(changed.is_admin && changed.password_hash == "another hash");
    assert_eq!(store.change(ids[0], &Change::Remove), Ok(true));
    assert_eq!(store.change(ids[0], &Change::Remove), Ok(false));
    assert_eq!(store.change(ids[0], &Change::Admin(true)), Ok(false));
    let listed = |after| store.list(after).unwrap().into_iter().map(|found| found.account.email).collect::<Vec<_>>();
    assert_eq!((listed(0), listed(ids[1])), (vec!["1@b".to_owned(), "2@b".to_owned()], vec!["2@b".to_owned()]));
    let again = store.create(&new_account("0@b", "User 0")).unwrap();
    assert!(again > ids[2], "the id of a removed account is not used again");
}

fn the_latest_sanction_of_a_user_is_stored(storage: &dyn Storage) {
    let sanction = |kind, username: &str, at_ms, until_ms| Sanction {
        kind,
        username: username.into(),
        by: "Ann".into(),
        reason: "'; DROP TABLE sanctions; --".into(),
        at_ms,
        until_ms,
    };
    let (ban, mute) = (SanctionKind::Ban, SanctionKind::Mute);
    let store = storage.open();
    let (bob, eve) = (sanction(ban, "BOB", 7, None), sanction(mute, "Eve", 9, Some(u64::MAX >> 1)));
    store.put_sanctions(&[sanction(ban, "Bob", 5, Some(6)), bob.clone(), sanction(ban, "bob", 6, Some(1))]).unwrap();
    let dan = sanction(mute, "Dan", 1, Some(2));
    store.put_sanctions(&[eve.clone(), dan.clone(), sanction(mute, "Cid", 1, None)]).unwrap();
    let cid = sanction(mute, "Cid", 3, Some(3));
    // An administrator ended this one on an instance whose clock is ahead.
    let fay = sanction(ban, "Fay", u64::MAX >> 1, Some(u64::MAX >> 1));
    store.put_sanctions(&[cid.clone(), fay.clone()]).unwrap();
    assert_eq!(storage.open().sanctions(), Ok(vec![eve, bob, fay, cid, dan]));
}

/// Two of the accounts look the same, and there are more of them than one transaction migrates.
#[test]
fn accounts_of_an_earlier_version_get_skeletons_in_postgres() {
    let Some(database) = database() else { return };
    database.execute(include_str!("../sql/postgres/0001_accounts.sql"));
    database.execute(
        "CREATE TABLE ich_schema_migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO ich_schema_migrations (version) VALUES (1);
         INSERT INTO accounts (email, email_key, username, username_key, password_hash)
             SELECT name, name, name, name, 'x' FROM (SELECT 'user' || n AS name FROM generate_series(1, 2500) AS n) AS names
             UNION ALL SELECT name, name, name, name, 'x' FROM (VALUES ('Bob'), ('\u{412}ob')) AS names (name)",
    );
    let store = open_postgres(&database.url);
    for email in ["user7", "Bob", "\u{412}ob"] {
        assert!(store.find_by_email_key(email).unwrap().is_some(), "{email}");
    }
    assert_eq!(database.number("SELECT count(*) FROM accounts WHERE username_skeleton IS NULL"), 0);
    for taken in ["B\u{43E}b", "\u{412}\u{43E}b", "us\u{435}r2500"] {
        assert_eq!(store.create(&new_account("new@example.com", taken)), Err(CreateError::UsernameTaken), "{taken}");
    }
    // An instance of the earlier version runs beside this one.
    database.execute(
        "INSERT INTO accounts (email, email_key, username, username_key, password_hash) VALUES ('c', 'c', 'Cid', 'cid', 'x')",
    );
    let restarted = open_postgres(&database.url);
    let looks_like_cid = restarted.create(&new_account("new@example.com", "C\u{456}d"));
    assert_eq!(looks_like_cid, Err(CreateError::UsernameTaken));
}

/// The address of every client here.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn users_register_and_log_in(storage: &dyn Storage) {
    let accounts =
        Accounts::new(storage.open(), AccountLimits::new(None, None), 2, || {}, &Supervisor::default()).unwrap();
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

/// Asserts that each call fails with `Unavailable` in time.
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

fn wait_until_available(store: &dyn AccountStore) {
    wait_until("a successful call", || store.find_by_email_key("bob@example.com").is_ok_and(|found| found.is_some()));
}

#[test]
fn a_stopped_server_is_unavailable_and_recovers_by_itself() {
    let Some(server) = Server::start() else { return };
    let database = server.database();
    let store = open_postgres(&database.url);
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
    for _ in 0..2 {
        server.stop();
        assert_unavailable(&*store);
        wait_until("the store to be not ready", || !store.is_ready());
        server.launch();
        wait_until_available(&*store);
        wait_until("the store to be ready", || store.is_ready());
    }
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
}

#[test]
fn calls_to_a_frozen_server_fail_in_time_and_the_store_recovers_by_itself() {
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
    // Long enough for the store to abandon and replace its threads.
    thread::sleep(Duration::from_secs(4));
    assert_unavailable(&*store);
    drop(frozen);
    wait_until_available(&*store);
    store.create(&new_account("eve@example.com", "Eve")).unwrap();
}

#[test]
fn killed_connections_are_replaced_without_a_failed_call() {
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
    assert_eq!(database.number("SELECT count(*) FROM ich_schema_migrations"), 4);
    // The migrations were serialized: no transaction failed.
    let failed = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.number(failed), 0);
}

#[test]
fn a_store_connects_in_the_background_to_a_server_that_starts_later() {
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
    wait_until("the store to be ready", || store.is_ready());
    store.create(&new_account("bob@example.com", "Bob")).unwrap();
}

#[test]
fn a_database_with_a_newer_schema_is_not_used() {
    let Some(database) = database() else { return };
    drop(open_postgres(&database.url));
    database.execute("INSERT INTO ich_schema_migrations (version) VALUES (99)");
    let store = postgres::open(&database.url, &Supervisor::default()).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(!store.is_ready());
    assert_unavailable(&store);
    database.execute("DELETE FROM ich_schema_migrations WHERE version = 99");
    wait_until("the store to be ready", || store.is_ready());
}

#[test]
fn a_role_without_the_right_to_create_tables_can_use_existing_ones() {
    let Some(database) = database() else { return };
    drop(open_postgres(&database.url));
    let role = format!("ich_guest_{}", std::process::id());
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT, INSERT ON accounts TO {role}; GRANT SELECT ON ich_schema_migrations TO {role}"
    ));
    let guest_url = database.url.replacen("ich@", &format!("{role}@"), 1);
    // Skipped on a server where roles need passwords: this role has none.
    if guest_url != database.url {
        let store = open_postgres(&guest_url);
        store.create(&new_account("bob@example.com", "Bob")).unwrap();
    }
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_table_lock_of_another_client_does_not_block_the_caller() {
    let Some(database) = database() else { return };
    let store = open_postgres(&database.url);
    thread::scope(|scope| {
        let locker =
            scope.spawn(|| database.execute("BEGIN; LOCK TABLE accounts IN EXCLUSIVE MODE; SELECT pg_sleep(4)"));
        wait_until("the table lock", || {
            database.number(
                "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'accounts'::regclass",
            ) > 0
        });
        let asked = Instant::now();
        assert!(matches!(store.create(&new_account("bob@example.com", "Bob")), Err(CreateError::Store(_))));
        assert!(asked.elapsed() < CALL_LIMIT);
        assert_eq!(store.find_by_email_key("bob@example.com"), Ok(None), "reads are not blocked");
        locker.join().unwrap();
    });
    wait_until("a successful registration", || store.create(&new_account("bob@example.com", "Bob")).is_ok());
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
