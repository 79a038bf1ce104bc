//! Administrators kick, mute and ban users over HTTP: who may do it, and what happens to the user on all instances, also
//! after a restart without the event log.

mod harness;

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::client::Client;
use harness::cluster::metric;
use harness::folder::Folder;
use harness::http::{Answer, get, post, raw};
use harness::issuer::{Issuer, claims};
use harness::postgres::database;
use harness::server::{Server, command, token};
use harness::sqlite::DataFolder;
use harness::watcher::Watcher;
use harness::{wait_for, wait_until};
use ich::accounts::{AccountStore, sqlite as account_store};
use ich::moderation::{Sanction, SanctionKind};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;

const PASSWORD: &str = "a long password";
const BAN: SanctionKind = SanctionKind::Ban;

fn send(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(address, head.as_bytes())
}

fn act(server: &Server, admin: &str, action: &str, body: Value) -> Answer {
    send(server.address, "POST", &format!("/admin/{action}"), admin, &body.to_string())
}

/// As [`act`]; the action must succeed.
fn done(server: &Server, admin: &str, action: &str, body: Value) -> Value {
    let answer = act(server, admin, action, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn register(server: &Server, name: &str) {
    let body = json!({"email": format!("{name}@example.com"), "username": name, "password": PASSWORD});
    assert_eq!(post(server.address, "/createUser", &body.to_string()).status, 200);
}

fn log_in(server: &Server, name: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
    post(server.address, "/login", &body.to_string())
}

/// Registers Ann, makes her an administrator, and returns her token.
fn admin(server: &Server, settings: &[(&str, &str)]) -> String {
    register(server, "Ann");
    run(server, settings, &["user", "promote", "ann@example.com"]);
    log_in(server, "Ann").json()["token"].as_str().unwrap().to_owned()
}

fn run(server: &Server, settings: &[(&str, &str)], arguments: &[&str]) {
    let output = command(server.dir(), settings).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The answer to a join that is refused.
fn refused_join(server: &Server, name: &str) -> Answer {
    send(server.address, "GET", "/join", &token(name), "")
}

/// Says `text` until the answer is of this kind, and returns its `msg`.
fn say_until(client: &mut Client, text: &str, kind: &str) -> Value {
    wait_for(kind, || {
        client.say(text);
        loop {
            let (received, msg) = client.event();
            if received == kind {
                return Some(msg);
            }
            if matches!(received.as_str(), "chat_message" | "error") {
                return None;
            }
        }
    })
}

fn assert_closed(client: &mut Client, text: &str) {
    let close = loop {
        if let Err(close) = client.next_or_close() {
            break close.expect("a close frame");
        }
    };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Policy, text));
}

#[test]
fn a_kicked_user_leaves_once_on_all_instances_and_may_join_again() {
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &[]), Server::start_in(folder.path(), &[])];
    let ann = admin(&servers[0], &[]);
    let eve = Watcher::join(&servers[1], "Eve");
    let mut bobs = [servers[0].join("Bob"), servers[0].join("Bob"), servers[1].join("Bob")];
    eve.wait_frame("user_joined", "Bob");
    wait_until("all sessions of Bob", || {
        metric(&servers[0], "ich_sessions") + metric(&servers[1], "ich_sessions") == 4
    });

    let answer = done(&servers[0], &ann, "kick", json!({"username": "BOB", "reason": "spam"}));
    assert_eq!(answer, json!({"action": "kick", "username": "BOB"}));
    for bob in &mut bobs {
        assert_closed(bob, "kicked by an administrator: spam");
    }
    eve.wait_frame("user_left", "Bob");
    let mut again = servers[0].join("Bob");
    wait_until("Bob joins again", || eve.count("user_joined", "Bob") == 2);
    assert_eq!(eve.count("user_left", "Bob"), 1);
    again.say("I am back");
    eve.wait_text("I am back");
    let ended = "ich_sessions_ended_total{reason=\"kicked\"}";
    wait_until("the end of the connections", || metric(&servers[0], ended) == 2 && metric(&servers[1], ended) == 1);
    assert_eq!(metric(&servers[1], "ich_moderations_total{action=\"kick\"}"), 1);
}

#[test]
fn the_messages_of_a_muted_user_are_refused_on_all_instances_until_the_mute_ends() {
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &[]), Server::start_in(folder.path(), &[])];
    let ann = admin(&servers[0], &[]);
    let mut bob = servers[1].join("Bob");
    let eve = Watcher::join(&servers[0], "Eve");
    say_until(&mut bob, "before", "chat_message");
    let answer = done(&servers[0], &ann, "mute", json!({"username": "Bob", "minutes": 90, "reason": "too loud"}));
    assert!(answer["until"].as_str().is_some_and(|until| until.ends_with('Z')), "{answer}");
    // The other instance reads the record a moment later.
    let error = say_until(&mut bob, "during", "error");
    assert_eq!(error["code"], "muted");
    let text = error["text"].as_str().unwrap();
    assert!(text.contains(answer["until"].as_str().unwrap()) && text.ends_with("too loud"), "{text}");
    bob.say_with_id("refused", "refused");
    let refused = bob.next();
    assert_eq!((&refused["msg"]["code"], &refused["id"]), (&json!("muted"), &json!("refused")));
    done(&servers[1], &ann, "unban", json!({"username": "bob"}));
    say_until(&mut bob, "after", "chat_message");
    eve.wait_text("after");
    assert!(!eve.frames().iter().any(|frame| frame.text == "refused"));
    assert_eq!(eve.count("user_left", "Bob"), 0);
}

#[test]
fn a_banned_user_is_disconnected_and_can_neither_join_nor_log_in() {
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &[]), Server::start_in(folder.path(), &[])];
    let ann = admin(&servers[0], &[]);
    register(&servers[0], "Bob");
    let mut bob = servers[1].join("Bob");
    let answer = done(&servers[0], &ann, "ban", json!({"username": "Bob", "minutes": 5, "reason": "threats"}));
    assert_closed(&mut bob, "banned by an administrator: threats");
    for server in &servers {
        wait_until("the ban", || refused_join(server, "Bob").code() == "banned");
        let (join, login) = (refused_join(server, "Bob"), log_in(server, "Bob"));
        for refused in [join, login] {
            assert_eq!((refused.status, refused.code().as_str()), (403, "banned"));
            let message = refused.json()["message"].as_str().unwrap().to_owned();
            let until = answer["until"].as_str().unwrap();
            assert!(message.contains(until) && message.ends_with("threats"), "{message}");
        }
        let bans = send(server.address, "GET", "/admin/bans", &ann, "").json();
        let ban = &bans["bans"][0];
        assert_eq!((&ban["kind"], &ban["username"], &ban["by"]), (&json!("ban"), &json!("Bob"), &json!("Ann")));
        assert_eq!((&ban["reason"], &ban["until"]), (&json!("threats"), &answer["until"]));
    }
    let wrong = json!({"email": "Bob@example.com", "password": "another password"}).to_string();
    assert_eq!(post(servers[0].address, "/login", &wrong).code(), "wrong_credentials", "a ban is no hint");
    done(&servers[1], &ann, "unban", json!({"username": "Bob"}));
    wait_until("the end of the ban", || log_in(&servers[0], "Bob").status == 200);
    Client::join(servers[1].address, &token("Bob"));
    assert_eq!(send(servers[1].address, "GET", "/admin/bans", &ann, "").json(), json!({"bans": []}));
}

/// Several of these actions get the same time at first. Only one of those applies; the server repeats the others.
#[test]
fn simultaneous_actions_on_a_user_leave_all_instances_in_the_same_state() {
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &[]), Server::start_in(folder.path(), &[])];
    let ann = admin(&servers[0], &[]);
    for round in 0..5 {
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for (number, server) in servers.iter().cycle().take(4).enumerate() {
                let (barrier, ann) = (&barrier, &ann);
                let reason = format!("{round}, {number}");
                scope.spawn(move || {
                    barrier.wait();
                    done(server, ann, "ban", json!({"username": "Bob", "reason": reason}));
                });
            }
        });
        done(&servers[0], &ann, "mute", json!({"username": "Bob", "reason": format!("round {round}")}));
        let bans = |server: &Server| send(server.address, "GET", "/admin/bans", &ann, "").json();
        wait_until("the same state", || bans(&servers[0]) == bans(&servers[1]));
        assert_eq!(bans(&servers[0])["bans"].as_array().unwrap().len(), 2);
    }
}

/// Bans and mutes are in the database: a server with an empty event log knows them from its first join on.
fn bans_survive_without_the_event_log(settings: &[(&str, &str)]) {
    let folder = Folder::new();
    let settings = [&[("ICH_EVENT_LOG", "memory")], settings].concat();
    let mut server = Server::start_in(&folder.0, &settings);
    let ann = admin(&server, &settings);
    done(&server, &ann, "ban", json!({"username": "Bob"}));
    done(&server, &ann, "ban", json!({"username": "Dan", "minutes": 60}));
    done(&server, &ann, "unban", json!({"username": "Dan"}));
    done(&server, &ann, "mute", json!({"username": "Eve", "reason": "noise"}));
    assert!(server.stop().success());
    let server = Server::start_in(&folder.0, &settings);
    wait_until("the ban", || refused_join(&server, "Bob").code() == "banned");
    assert_eq!(say_until(&mut server.join("Eve"), "hello", "error")["code"], "muted");
    say_until(&mut server.join("Dan"), "hello", "chat_message");
}

/// A sanction for the database, as an instance stores it.
fn stored(kind: SanctionKind, username: &str, at_ms: u64, until_ms: Option<u64>) -> Sanction {
    Sanction { kind, username: username.into(), by: "Ann".into(), reason: "".into(), at_ms, until_ms }
}

/// An instance whose clock is an hour ahead has banned Bob, muted Eve and ended the ban of Dan.
#[test]
fn actions_apply_at_once_where_the_clock_is_behind_that_of_another_instance() {
    let folder = Folder::new();
    let settings = [("ICH_EVENT_LOG", "memory")];
    let mut server = Server::start_in(&folder.0, &settings);
    let ann = admin(&server, &settings);
    assert!(server.stop().success());
    let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + 3_600_000;
    let (bob, eve) = (stored(BAN, "Bob", ahead, None), stored(SanctionKind::Mute, "Eve", ahead, None));
    let store = account_store::open(&folder.0.join("data")).unwrap();
    store.put_sanctions(&[bob, eve, stored(BAN, "Dan", ahead, Some(ahead))]).unwrap();
    drop(store);

    let server = Server::start_in(&folder.0, &settings);
    wait_until("the ban", || refused_join(&server, "Bob").code() == "banned");
    server.join("Dan");
    done(&server, &ann, "unban", json!({"username": "Bob"}));
    server.join("Bob");
    let answer = done(&server, &ann, "mute", json!({"username": "Eve", "minutes": 5}));
    let error = say_until(&mut server.join("Eve"), "hello", "error");
    assert_eq!(error["code"], "muted");
    assert!(error["text"].as_str().unwrap().contains(answer["until"].as_str().unwrap()), "{error}");
    done(&server, &ann, "unban", json!({"username": "Eve"}));
    say_until(&mut server.join("Eve"), "hello", "chat_message");
}

/// While this instance could not read the log, another one banned Bob and unbanned Dan, and retention deleted the
/// records. The log is removed here, so that this instance reads it anew.
#[test]
fn actions_whose_records_were_deleted_before_they_were_read_apply() {
    let folder = DataFolder::new();
    let server = Server::start_in(folder.path(), &[]);
    let ann = admin(&server, &[]);
    done(&server, &ann, "ban", json!({"username": "Dan"}));
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + 1;
    let (bob_banned, dan_unbanned) = (stored(BAN, "Bob", at_ms, None), stored(BAN, "Dan", at_ms, Some(at_ms)));
    account_store::open(&folder.path().join("data")).unwrap().put_sanctions(&[bob_banned, dan_unbanned]).unwrap();
    folder.remove_log();
    wait_until("the ban", || refused_join(&server, "Bob").code() == "banned");
    wait_until("the unban", || Client::try_join(server.address, &token("Dan")).is_ok());
}

#[test]
fn bans_survive_in_sqlite() {
    bans_survive_without_the_event_log(&[]);
}

#[test]
fn bans_survive_in_postgres() {
    if let Some(database) = database() {
        bans_survive_without_the_event_log(&[("ICH_DATABASE_URL", &database.url)]);
    }
}

#[test]
fn only_administrators_that_are_not_banned_may_act() {
    let server = Server::start(&[]);
    let ann = admin(&server, &[]);
    register(&server, "Bob");
    let bob = log_in(&server, "Bob").json()["token"].as_str().unwrap().to_owned();
    let code = |answer: Answer| (answer.status, answer.code());
    let kick = json!({"username": "Bob"});
    assert_eq!(code(act(&server, &bob, "kick", kick.clone())), (403, "not_admin".into()));
    assert_eq!(code(send(server.address, "GET", "/admin/bans", &bob, "")), (403, "not_admin".into()));
    // A token with the id of an administrator, but another name, is for another account.
    let other = harness::server::token_for("1", "Bob", std::time::Duration::from_secs(60));
    assert_eq!(code(act(&server, &other, "kick", kick.clone())), (403, "not_admin".into()));
    assert_eq!(code(act(&server, "no token", "kick", kick.clone())), (401, "unauthorized".into()));
    assert_eq!(post(server.address, "/admin/ban", "{}").status, 401);
    assert_eq!(get(server.address, "/admin/bans").status, 401);
    assert_eq!(get(server.address, "/admin/kick").header("Allow"), Some("POST"));
    assert_eq!(post(server.address, "/admin/bans", "").header("Allow"), Some("GET, HEAD"));
    for bad in [
        json!({}),
        json!({"username": ""}),
        json!({"username": "Bob", "minutes": -1}),
        json!({"username": "Bob", "minutes": "5"}),
        json!({"username": "Bob", "minutes": 1e12}),
        json!({"username": "Bob", "reason": 5}),
        json!({"username": "Bob", "reason": "x".repeat(201)}),
        json!({"username": "Bob", "reason": "a\nb"}),
    ] {
        assert_eq!(code(act(&server, &ann, "ban", bad.clone())), (400, "bad_field".into()), "{bad}");
    }
    run(&server, &[], &["user", "promote", "Bob"]);
    done(&server, &bob, "ban", json!({"username": "Ann"}));
    assert_eq!(code(act(&server, &ann, "unban", json!({"username": "Ann"}))), (403, "banned".into()));
    run(&server, &[], &["user", "demote", "bob"]);
    assert_eq!(code(act(&server, &bob, "kick", kick)), (403, "not_admin".into()), "a demotion applies at once");
}

#[test]
fn a_claim_makes_the_user_of_an_outside_issuer_an_administrator() {
    let (folder, issuer) = (Folder::new(), Issuer::new());
    std::fs::write(folder.0.join("issuer"), json!({"keys": [issuer.jwk("a")]}).to_string()).unwrap();
    let settings =
        [("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", "issuer"), ("ICH_JWT_ADMIN_CLAIM", "groups=chat-admins")];
    let server = Server::start_in(&folder.0, &settings);
    let token = |name: &str, groups: Value| {
        issuer.token("a", &claims(&json!({"id": name, "username": name, "groups": groups})))
    };
    let body = json!({"username": "Bob"});
    for not_admin in [json!(null), json!(true), json!("chat"), json!(["chat-admin"]), json!({"chat-admins": true})] {
        let answer = act(&server, &token("Ann", not_admin.clone()), "ban", body.clone());
        assert_eq!((answer.status, answer.code().as_str()), (403, "not_admin"), "{not_admin}");
    }
    for admin in [json!("chat-admins"), json!(["staff", "chat-admins"])] {
        done(&server, &token("Ann", admin), "ban", body.clone());
    }
    assert_eq!(send(server.address, "GET", "/join", &token("Bob", json!([])), "").code(), "banned");
}
