//! The commands of an operator: `ich user` on the database itself, and `ich kick`, `mute`, `ban`, `unban` and `bans`, which
//! call a running server. A password or a token is never an argument.

mod harness;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use harness::folder::Folder;
use harness::http::post;
use harness::postgres::database;
use harness::server::{Server, command};
use serde_json::json;

/// Runs `ich` with these settings, arguments and standard input.
fn ich(dir: &Path, settings: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut command = command(dir, settings);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fails(output: &Output, code: i32, text: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && errors.contains(text), "{output:?}");
    assert!(!errors.contains("secret"), "{errors}");
}

fn login(server: &Server, password: &str) -> u16 {
    let body = json!({"email": "ann@example.com", "password": password}).to_string();
    post(server.address, "/login", &body).status
}

fn accounts_are_managed(settings: &[(&str, &str)]) {
    let folder = Folder::new();
    let user = |arguments: &[&str], input: &str| ich(&folder.0, settings, &[&["user"], arguments].concat(), input);
    let add = ["add", "ann@example.com", "Ann"];
    assert_eq!(succeeds(&user(&add, "secret password\n")), "");
    succeeds(&user(&["add", "bob@example.com", "Bob"], "secret password"));
    fails(&user(&add, "secret password\n"), 1, "taken");
    fails(&user(&["add", "cid", "Cid"], "secret password\n"), 1, "email must look like");
    fails(&user(&["add", "cid@example.com", "Cid"], "secret\n"), 1, "password must have 8");
    fails(&user(&["add", "cid@example.com", "Cid"], ""), 1, "the password is empty");
    succeeds(&user(&["promote", "ANN@example.com"], ""));
    let list = "1\tann@example.com\tAnn\tadmin\n2\tbob@example.com\tBob\tuser\n";
    assert_eq!(succeeds(&user(&["list"], "")), list);
    succeeds(&user(&["demote", "Ann"], ""));
    succeeds(&user(&["remove", "Bob"], ""));
    assert_eq!(succeeds(&user(&["list"], "")), "1\tann@example.com\tAnn\tuser\n");
    fails(&user(&["promote", "Bob"], ""), 1, "there is no account \"Bob\"");
    let server = Server::start_in(&folder.0, settings);
    assert_eq!(login(&server, "secret password"), 200);
    succeeds(&user(&["set-password", "ann"], "another secret\n"));
    assert_eq!((login(&server, "secret password"), login(&server, "another secret")), (401, 200));
}

#[test]
fn accounts_are_managed_in_sqlite() {
    accounts_are_managed(&[]);
}

#[test]
fn accounts_are_managed_in_postgres() {
    if let Some(database) = database() {
        accounts_are_managed(&[("ICH_DATABASE_URL", &database.url)]);
    }
}

#[test]
fn users_are_moderated_by_commands() {
    let server = Server::start(&[]);
    let dir = server.dir();
    succeeds(&ich(dir, &[], &["user", "add", "ann@example.com", "Ann"], "secret password\n"));
    succeeds(&ich(dir, &[], &["user", "promote", "Ann"], ""));
    let body = json!({"email": "ann@example.com", "password": "secret password"}).to_string();
    let token = post(server.address, "/login", &body).json()["token"].as_str().unwrap().to_owned();
    let port = server.address.port().to_string();
    let settings = [("ICH_PORT", port.as_str()), ("ICH_TOKEN", token.as_str())];
    let run = |arguments: &[&str]| ich(dir, &settings, arguments, "");

    succeeds(&run(&["ban", "Bob", "--reason", "threats"]));
    succeeds(&run(&["mute", "Cid", "--minutes", "60"]));
    succeeds(&run(&["kick", "Dan"]));
    let bans = succeeds(&run(&["bans"]));
    let lines: Vec<Vec<&str>> = bans.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2, "{bans}");
    assert_eq!(lines[0][..2], ["mute", "Cid"]);
    assert_eq!(lines[1], ["ban", "Bob", "-", "Ann", "threats"]);
    succeeds(&run(&["unban", "Bob"]));

    // The token from standard input, and the server by its address.
    let url = format!("http://{}", server.address);
    let bans = succeeds(&ich(dir, &[], &["bans", "--url", &url], &format!("{token}\n")));
    assert!(bans.starts_with("mute\tCid\t") && bans.lines().count() == 1, "{bans}");
    fails(&ich(dir, &[], &["bans", "--url", &url], "no token\n"), 1, "token");
    fails(&ich(dir, &[], &["bans", "--url", &url], "wrong\n"), 1, "the server answers 401");
    fails(&ich(dir, &[("ICH_TOKEN", "x")], &["bans", "--url", "http://127.0.0.1:1"], ""), 1, "no answer from");
    fails(&ich(dir, &[("ICH_TOKEN", "x")], &["bans", "--url", "https://127.0.0.1:1"], ""), 1, "no answer from");
    fails(&ich(dir, &[("ICH_TOKEN", "x")], &["bans", "--url", "127.0.0.1"], ""), 2, "must look like http://");
    fails(&run(&["kick"]), 2, "USERNAME");
}
