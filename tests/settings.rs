//! Settings and the command line, as whoever runs the program meets them.

mod harness;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use harness::client::Client;
use harness::http::{get, post};
use harness::server::{Server, command, new_dir};
use ich::config::SETTINGS;
use serde_json::json;

/// Goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Folder(new_dir())
    }

    /// Runs the program to its end.
    fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        command(&self.0, settings).args(arguments).output().expect("running the program")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn all_faults_are_told_together_with_exit_code_2() {
    let folder = Folder::new();
    let faulty = [
        ("ICH_PORT", "80800"),
        ("ICH_HOST", "here"),
        ("ICH_PROT", "8080"),
        ("ICH_JWT_SECRET", "short"),
        ("ICH_DRAIN_SECONDS", "soon"),
        ("ICH_LOG_FORMAT", "xml"),
        ("ICH_MAX_CONNECTIONS", "-1"),
        ("ICH_ALLOWED_ORIGINS", "chat.example"),
        ("ICH_DATABASE_URL", "mysql://here/db"),
        ("ICH_KAFKA_BROKERS", "here"),
    ];
    for arguments in [&[][..], &["check"]] {
        let output = folder.run(arguments, &faulty);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = text(&output.stderr);
        for (name, _) in faulty {
            assert!(said.contains(name), "{name} is missing in: {said}");
        }
        assert!(said.lines().count() <= faulty.len() + 1, "{said}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    assert!(!folder.0.join("data").exists(), "something was made in spite of the faults");
}

#[test]
fn an_unknown_name_is_a_fault_and_those_of_others_are_not() {
    let folder = Folder::new();
    let output = folder.run(&["check"], &[("ICH_MAX_CONECTIONS", "5")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("ICH_MAX_CONECTIONS is not a setting"), "{}", text(&output.stderr));
    let output = folder.run(&["check"], &[("PORT", "x"), ("MICHAEL", "1"), ("ICHABOD", "1"), ("ICH_TEST_X", "1")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_sound_check_says_so_and_touches_nothing() {
    let folder = Folder::new();
    let output = folder.run(&["check"], &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).contains("sound"), "{}", text(&output.stdout));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn kafka_without_a_secret_is_a_fault() {
    let folder = Folder::new();
    let output = folder.run(&["check"], &[("ICH_JWT_SECRET", ""), ("ICH_KAFKA_BROKERS", "127.0.0.1:9092")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("ICH_JWT_SECRET"), "{}", text(&output.stderr));
}

#[test]
fn help_lists_every_setting() {
    let folder = Folder::new();
    // Help is for those whose settings are wrong, too.
    for word in ["--help", "-h", "help"] {
        let output = folder.run(&[word], &[("ICH_PORT", "x")]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{word}");
        let help = text(&output.stdout);
        assert!(help.contains("ich check") && help.contains("exit codes"));
        for setting in SETTINGS {
            let line = help.lines().find(|line| line.trim_start().split(' ').next() == Some(setting.name));
            let line = line.unwrap_or_else(|| panic!("{} is missing", setting.name));
            assert!(line.ends_with(setting.default), "{line}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let folder = Folder::new();
    for word in ["--version", "-V"] {
        let output = folder.run(&[word], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), format!("ich {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_word_that_is_not_understood_is_a_fault() {
    let folder = Folder::new();
    for words in [&["--port=80"][..], &["check", "it"], &["chekc"]] {
        let output = folder.run(words, &[]);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains("ich --help"));
    }
}

#[test]
fn settings_are_read_from_a_file_in_the_working_directory() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "# the lobby\nICH_JWT_ISSUER=from-the-file\n\nICH_DATA_DIR=\"other data\"\n")
        .unwrap();
    let server = Server::start_in(&folder.0, &[]);
    assert!(folder.0.join("other data/accounts.sqlite3").exists());
    let refused = Client::try_join(server.address, &harness::server::token("Bob"));
    assert_eq!(refused.err(), Some(401), "the issuer is another one");
}

#[test]
fn the_environment_wins_over_the_file() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_DATA_DIR=from-the-file\nICH_DRAIN_SECONDS=nonsense\n").unwrap();
    let server = Server::start_in(&folder.0, &[("ICH_DATA_DIR", "from-outside"), ("ICH_DRAIN_SECONDS", "5")]);
    assert!(folder.0.join("from-outside/accounts.sqlite3").exists());
    assert!(!folder.0.join("from-the-file").exists());
    drop(server);
}

#[test]
fn faults_in_the_file_are_told_like_the_others() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_PING_INTERVAL_SECONDS=0\nICH_NONSENSE=1\n").unwrap();
    let output = folder.run(&["check"], &[("ICH_LOG_FORMAT", "xml")]);
    assert_eq!(output.status.code(), Some(2));
    for name in ["ICH_PING_INTERVAL_SECONDS", "ICH_NONSENSE", "ICH_LOG_FORMAT"] {
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    fs::write(folder.0.join(".env"), "this is no line of settings\n").unwrap();
    let output = folder.run(&["check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(".env"), "{}", text(&output.stderr));
}

#[test]
fn a_file_in_a_folder_above_is_somebody_elses() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_NONSENSE=1\n").unwrap();
    let below = folder.0.join("below");
    fs::create_dir(&below).unwrap();
    let output = command(&below, &[]).arg("check").output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn two_servers_beside_each_other_share_the_accounts_of_one_folder() {
    let folder = Folder::new();
    let (one, two) = (
        Server::start_in(&folder.0, &[("ICH_JWT_SECRET", "")]),
        Server::start_in(&folder.0, &[("ICH_JWT_SECRET", "")]),
    );
    assert_ne!(one.address, two.address);
    let registration = r#"{"email":"bob@example.com","username":"Bob","password":"12345678"}"#;
    assert_eq!(post(one.address, "/createUser", registration).status, 200);
    assert_eq!(post(two.address, "/createUser", registration).code(), "email_taken");
    let login = post(two.address, "/login", r#"{"email":"bob@example.com","password":"12345678"}"#);
    let token = login.json()["token"].as_str().unwrap().to_owned();
    for server in [&one, &two] {
        let mut bob = Client::join(server.address, &token);
        assert_eq!(bob.event(), ("users_online".into(), json!({"list": []})), "each has a lobby of its own");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new();
    let first = Server::start_in(&folder.0, &[]);
    let output = folder.run(&[], &[("ICH_PORT", &first.address.port().to_string())]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&first.address.to_string()) && said.contains("ICH_PORT"), "{said}");
    assert_eq!(get(first.address, "/ready").status, 200, "the first is not disturbed");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let folder = Folder::new();
    fs::write(folder.0.join("data"), "a file").unwrap();
    let output = folder.run(&[], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ICH_DATA_DIR"), "{}", text(&output.stderr));
}
