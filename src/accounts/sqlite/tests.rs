//! The file and its migrations. `tests/account_stores.rs` tests the contract.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use super::*;
use crate::accounts::testing::Folder;

fn folder(name: &str) -> Folder {
    Folder::new(&format!("sqlite-{name}"))
}

impl Folder {
    fn file(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }
}

fn new_account(name: &str) -> NewAccount {
    NewAccount {
        email: format!("{name}@example.com"),
        email_key: format!("{name}@example.com"),
        username: name.to_owned(),
        username_key: name.to_owned(),
        username_skeleton: name.to_owned(),
        password_hash: "x".to_owned(),
    }
}

#[test]
fn only_the_owner_can_read_the_files_and_one_is_left_after_closing() {
    let folder = folder("modes");
    let data_dir = folder.0.join("data");
    let store = open(&data_dir).unwrap();
    store.create(&new_account("bob")).unwrap();
    assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&data_dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name());
    }
    assert_eq!(names.len(), 3, "{names:?}");
    drop(store);
    assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "the write-ahead log is merged and removed");
    let store = open(&data_dir).unwrap();
    assert_eq!(store.find_by_email_key("bob@example.com").unwrap().unwrap().account.id, "1");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_stays_unchanged() {
    let folder = folder("foreign");
    let text = "this is a diary, not a database. ".repeat(100);
    fs::write(folder.file(), &text).unwrap();
    let Err(StoreError::Unusable(message)) = open(&folder.0) else { panic!("it was opened") };
    assert!(message.contains("is not a database") && message.contains(FILE_NAME), "{message}");
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), text);
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let folder = folder("later");
    drop(open(&folder.0).unwrap());
    let connection = Connection::open(folder.file()).unwrap();
    for version in [99, -1] {
        connection.pragma_update(None, "user_version", version).unwrap();
        let Err(StoreError::Unusable(message)) = open(&folder.0) else { panic!("it was opened") };
        assert!(message.contains("run a later version"), "{message}");
    }
}

#[test]
fn accounts_of_an_earlier_version_get_skeletons_and_the_oldest_of_equal_names_reserves_it() {
    let folder = folder("skeletons");
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute_batch(include_str!("../../../sql/sqlite/0001_accounts.sql")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    for (email, name) in [("a@b", "Bob"), ("c@d", "\u{412}ob"), ("e@f", "Ann")] {
        let insert = "INSERT INTO accounts (email, email_key, username, username_key, password_hash) VALUES (?1, ?1, ?2, ?2, 'x')";
        connection.execute(insert, [email, name]).unwrap();
    }
    drop(connection);
    let store = open(&folder.0).unwrap();
    for email in ["a@b", "c@d", "e@f"] {
        assert!(store.find_by_email_key(email).unwrap().is_some(), "{email}");
    }
    let create = |name: &str| store.create(&NewAccount::new(format!("{name}@new"), name.to_owned(), "x".to_owned()));
    for taken in ["B\u{43E}b", "\u{412}\u{43E}b", "\u{410}nn"] {
        assert_eq!(create(taken), Err(CreateError::UsernameTaken), "{taken}");
    }
    assert!(create("Rob").is_ok());
    // An instance of an earlier version runs beside this one.
    let insert = "INSERT INTO accounts (email, email_key, username, username_key, password_hash) VALUES ('g@h', 'g@h', 'Cid', 'cid', 'x')";
    store.writer.with(|connection| connection.execute(insert, [])).unwrap().unwrap();
    assert_eq!(
        open(&folder.0).unwrap().create(&NewAccount::new("i@j".into(), "С\u{456}d".into(), "x".into())),
        Err(CreateError::UsernameTaken)
    );
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let folder = folder("blocked");
    fs::write(folder.0.join("file"), "").unwrap();
    let Err(StoreError::Unusable(message)) = open(&folder.0.join("file").join("data")) else { panic!("opened") };
    assert!(message.contains("ICH_DATA_DIR"), "{message}");
}

#[test]
fn several_threads_open_an_empty_folder_at_once() {
    for round in 0..10 {
        let folder = Folder::new(&format!("race-{round}"));
        let start = std::sync::Barrier::new(8);
        thread::scope(|scope| {
            for number in 0..8 {
                let (data_dir, start) = (&folder.0, &start);
                scope.spawn(move || {
                    start.wait();
                    let store = open(data_dir).unwrap();
                    store.create(&new_account(&format!("user{number}"))).unwrap();
                });
            }
        });
        let store = open(&folder.0).unwrap();
        let count = |connection: &mut Connection| {
            connection.query_row("SELECT count(*) FROM accounts", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(store.reader.with(count), Ok(8));
    }
}

#[test]
fn calls_fail_in_time_while_the_disk_is_full_or_another_process_holds_the_lock() {
    let folder = folder("full");
    let store = open(&folder.0).unwrap();
    let limit = |pages: i64| {
        store.writer.with(|connection| connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())))
    };
    limit(1).unwrap().unwrap();
    let mut large = new_account("large");
    large.password_hash = "x".repeat(100_000);
    assert!(matches!(store.create(&large), Err(CreateError::Store(StoreError::Unavailable(_)))));
    limit(1_000_000).unwrap().unwrap();
    store.create(&large).unwrap();

    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = Instant::now();
    assert!(matches!(store.create(&new_account("bob")), Err(CreateError::Store(StoreError::Unavailable(_)))));
    assert!(start.elapsed() < super::super::store::CALL_TIMEOUT, "{:?}", start.elapsed());
    assert!(store.find_by_email_key("large@example.com").unwrap().is_some(), "reads are not blocked");
    other.execute_batch("ROLLBACK").unwrap();
    store.create(&new_account("bob")).unwrap();
}

#[test]
fn a_panic_releases_the_connection() {
    let folder = folder("panic");
    let store = open(&folder.0).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.writer.with(|connection| {
            let _transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            panic!("injected");
        })
    }));
    assert!(panicked.is_err());
    store.create(&new_account("bob")).unwrap();
}
