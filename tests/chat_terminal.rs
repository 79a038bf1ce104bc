//! `ich chat` in a terminal: what it draws, what it sends, and how it leaves the terminal.

mod harness;

use std::os::unix::process::ExitStatusExt;

use harness::server::{Server, command, token};
use harness::sqlite::DataFolder;
use harness::terminal::Terminal;
use harness::wait_until;
use harness::watcher::Watcher;
use rustix::process::Signal;
use serde_json::json;

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const ENTER: &str = "\r";
const ESC: &str = "\u{1b}";
const PAGE_UP: &str = "\u{1b}[5~";
const SHOW_CURSOR: &str = "\u{1b}[?25h";
/// Back from the screen of the program to what the terminal showed before.
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

fn chat(server: &Server, settings: &[(&str, &str)]) -> Terminal {
    let mut chat = command(server.dir(), settings);
    chat.env("TZ", "UTC").args(["chat", &format!("http://{}", server.address)]);
    Terminal::start(&chat, 80, 24)
}

fn chat_as_ann(server: &Server) -> Terminal {
    chat(server, &[("ICH_TOKEN", &token("Ann"))])
}

/// The program has ended and the terminal is as before.
fn assert_restored(terminal: &mut Terminal, code: i32) {
    assert_eq!(terminal.wait().code(), Some(code));
    assert!(terminal.is_cooked());
    wait_until("the end of the output", || terminal.output().contains(LEAVE_SCREEN));
    assert!(terminal.output().contains(SHOW_CURSOR));
}

#[test]
fn a_user_sees_the_lobby_and_writes() {
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    bob.say("1", "hello from Bob");
    bob.wait_text("hello from Bob");
    let mut terminal = chat_as_ann(&server);
    terminal.wait_text("Ann at http://");
    terminal.wait_text("2 users  Online");
    terminal.wait_text("Bob: hello from Bob");
    terminal.wait_text("│ Bob");
    assert!(!terminal.is_cooked());
    terminal.type_text("hi Bpb\u{7f}\u{7f}ob 日本");
    terminal.type_text(ENTER);
    bob.wait_text("hi Bob 日本");
    terminal.wait_text("Ann: hi Bob 日本");
    terminal.resize(40, 12);
    terminal.wait_rows("the narrow terminal", |rows| {
        let is_bar = rows[0].starts_with(" Ann at") && rows[0].ends_with("Online") && rows[0].len() < 50;
        is_bar
            && rows[9].ends_with("Ann: hi Bob 日本")
            && rows[11] == "> Write a message"
            && rows[12..].iter().all(String::is_empty)
    });
    terminal.type_text(CTRL_D);
    assert_restored(&mut terminal, 0);
    bob.wait_frame("user_left", "Ann");
}

#[test]
fn texts_of_others_are_no_commands_for_the_terminal() {
    let server = Server::start(&[]);
    let mut evil = server.join("Evil");
    let text = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{8}\u{202E}\r\n\u{1b}[Hfake";
    evil.send(&json!({"type": "chat_message", "msg": {"text": text}}).to_string());
    evil.wait_for("chat_message", &json!({"from_user": "Evil", "text": text}));
    let mut terminal = chat_as_ann(&server);
    terminal.wait_text("Evil: ␛]0;owned␇␛[2J�31m␈");
    terminal.wait_text("        ␛[Hfake");
    terminal.type_text(CTRL_C);
    assert_restored(&mut terminal, 0);
    let output = terminal.output();
    for sequence in ["\u{1b}]0;", "\u{7}", "\u{9b}", "\u{202E}", "\u{1b}[Hfake"] {
        assert!(!output.contains(sequence), "{sequence:?} in {output:?}");
    }
}

#[test]
fn the_terminal_is_restored_after_a_signal_and_after_the_end_of_the_session() {
    let server = Server::start(&[]);
    let mut terminal = chat_as_ann(&server);
    terminal.wait_text("1 user  Online");
    terminal.signal(Signal::TERM);
    assert_restored(&mut terminal, 0);

    let mut terminal = chat(&server, &[("ICH_TOKEN", "wrong")]);
    assert_restored(&mut terminal, 1);
    assert!(terminal.output().contains("ich: "), "the reason is on the screen of the shell");
}

#[test]
fn a_user_scrolls_back_and_sees_a_lost_connection() {
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    let texts: Vec<String> = (0..15).map(|number| format!("line number {number}")).collect();
    let mut command = command(server.dir(), &[("ICH_TOKEN", &token("Ann"))]);
    for (number, text) in texts.iter().enumerate() {
        bob.say(&number.to_string(), text);
    }
    bob.wait_text("line number 14");
    command.args(["chat", &format!("http://{}", server.address), "--last", "3"]);
    let terminal = Terminal::start(&command, 80, 12);
    terminal.wait_text("Bob: line number 12");
    // The list of users is at the right.
    let ends = |row: &str, text: &str| row.split('│').next().is_some_and(|row| row.trim_end().ends_with(text));
    let is_shown = |text: &str| terminal.rows().iter().any(|row| ends(row, text));
    assert!(is_shown("line number 12"));
    assert!(!is_shown("line number 11"));
    terminal.type_text(PAGE_UP);
    terminal.wait_text("line number 11");
    wait_until("the first message", || {
        terminal.type_text(PAGE_UP);
        is_shown("line number 0")
    });
    terminal.type_text(ESC);
    terminal.wait_text("line number 14");
    drop(server);
    terminal.wait_text("Offline");
    terminal.wait_text("Not connected: ");
}

#[test]
fn a_line_shows_where_messages_are_missing() {
    let folder = DataFolder::new();
    let other = Server::start_in(folder.path(), &[]);
    let server = Server::start_in(folder.path(), &[]);
    let port = server.address.port().to_string();
    let bob = Watcher::join(&other, "Bob");
    bob.say("before", "before");
    bob.wait_text("before");
    let terminal = chat_as_ann(&server);
    terminal.wait_text("Bob: before");
    drop(server);
    (0..9).for_each(|number| bob.say(&number.to_string(), &format!("message {number}")));
    bob.wait_text("message 8");
    // There is no archive, and the server keeps two messages.
    let _again = Server::start_in(folder.path(), &[("ICH_PORT", &port), ("ICH_HISTORY_MESSAGES", "2")]);
    terminal.wait_rows("the messages around the gap", |rows| {
        let at = |text: &str| rows.iter().position(|row| row.contains(text));
        let gap = at("Some messages are missing here.");
        gap > at("Bob: before") && at("message 7") == gap.map(|gap| gap + 1) && at("message 8") > at("message 7")
    });
}

#[test]
fn the_password_is_asked_for_and_not_shown() {
    let server = Server::start(&[]);
    let body = json!({"email": "ann@example.com", "username": "Ann", "password": "a secret password"}).to_string();
    assert_eq!(harness::http::post(server.address, "/createUser", &body).status, 200);
    let mut terminal = chat(&server, &[]);
    terminal.wait_text("email:");
    terminal.type_text("ann@example.com\n");
    terminal.wait_text("password:");
    wait_until("a hidden password", || !terminal.is_cooked());
    terminal.type_text("a secret password\n");
    terminal.wait_text("1 user  Online");
    terminal.type_text(CTRL_C);
    assert_restored(&mut terminal, 0);
    assert!(!terminal.output().contains("secret"));
}

#[test]
fn ctrl_c_at_the_password_leaves_the_terminal_as_it_was() {
    let server = Server::start(&[]);
    let mut terminal = chat(&server, &[]);
    terminal.wait_text("email:");
    terminal.type_text("ann@example.com\n");
    terminal.wait_text("password:");
    wait_until("a hidden password", || !terminal.is_cooked());
    terminal.type_text("half of it");
    terminal.type_text(CTRL_C);
    assert_eq!(terminal.wait().signal(), Some(Signal::INT.as_raw()));
    assert!(terminal.is_cooked());
}

#[test]
fn no_color_is_respected() {
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    bob.say("1", "hello");
    bob.wait_text("hello");
    let color = "\u{1b}[38;5;";
    let mut terminal = chat_as_ann(&server);
    terminal.wait_text("Bob: hello");
    assert!(terminal.output().contains(color));
    terminal.type_text(CTRL_C);
    terminal.wait();
    let terminal = chat(&server, &[("ICH_TOKEN", &token("Ann")), ("NO_COLOR", "1")]);
    terminal.wait_text("Bob: hello");
    assert!(!terminal.output().contains(color));
}
