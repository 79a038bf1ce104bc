//! `GET /history`: earlier messages, page by page, from the memory of the instance and from the archive.

mod harness;

use std::net::SocketAddr;

use harness::archive::{Archive, connect};
use harness::folder::Folder;
use harness::http::{Answer, get, percent_encoded, raw};
use harness::postgres::{Server as Postgres, database};
use harness::returning::Returning;
use harness::server::{Server, token};
use harness::wait_until;

fn history(address: SocketAddr, query: &str) -> Answer {
    request(address, "GET", query)
}

fn request(address: SocketAddr, method: &str, query: &str) -> Answer {
    let token = token("Reader");
    let head = format!("{method} /history?{query} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n");
    raw(address, head.as_bytes())
}

/// The texts of an answer, and whether there are more messages.
fn page(answer: &Answer) -> (Vec<String>, bool) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let messages = json["messages"].as_array().expect("messages");
    let texts = messages.iter().map(|message| message["text"].as_str().expect("a text").to_owned()).collect();
    (texts, json["more"].as_bool().expect("a truth value"))
}

/// All texts, the newest first, read in pages of this size.
fn scroll_back(address: SocketAddr, limit: usize) -> Vec<String> {
    let (mut texts, mut before) = (Vec::new(), String::new());
    loop {
        let answer = history(address, &format!("limit={limit}{before}"));
        let (page, more) = page(&answer);
        assert!(page.len() <= limit && (page.len() == limit || !more), "{answer:?}");
        texts.extend(page);
        if !more {
            return texts;
        }
        let last = answer.json()["messages"][limit - 1]["event_id"].as_str().expect("an id").to_owned();
        before = format!("&before={last}");
    }
}

/// `from` to `to`, excluding `to`, the last first.
fn numbers_back(from: usize, to: usize) -> Vec<String> {
    (from..to).rev().map(|number| number.to_string()).collect()
}

fn say_numbers(server: &Server, from: usize, to: usize) -> Returning {
    let mut ann = Returning::join(server, "Ann");
    (from..to).for_each(|number| ann.say(&number.to_string()));
    ann
}

const UNLIMITED: (&str, &str) = ("ICH_MAX_MESSAGES_PER_SECOND", "0");
const ON: (&str, &str) = ("ICH_ARCHIVE", "on");

#[test]
fn without_an_archive_the_messages_come_from_memory() {
    let server = Server::start(&[UNLIMITED, ("ICH_HISTORY_MESSAGES", "20")]);
    assert_eq!(page(&history(server.address, "")), (Vec::new(), false));
    let ann = say_numbers(&server, 0, 30);
    for limit in [1, 3, 20, 100] {
        assert_eq!(scroll_back(server.address, limit), numbers_back(10, 30), "limit {limit}");
    }
    let newest = history(server.address, "limit=1").json()["messages"][0].clone();
    assert_eq!((&newest["from_user"], &newest["text"]), (&"Ann".into(), &"29".into()));
    assert_eq!(newest["event_id"].as_str(), ann.last_id.as_deref());
    assert_eq!(newest["sent_at"].as_str().map(str::len), Some(35));
    assert_eq!(newest.as_object().expect("an object").len(), 4);
}

#[test]
fn a_query_may_be_percent_encoded() {
    let server = Server::start(&[]);
    let ann = say_numbers(&server, 0, 3);
    let id = percent_encoded(ann.last_id.as_deref().expect("an id"));
    assert_eq!(page(&history(server.address, &format!("before={id}&limit=%31"))), (vec!["1".to_owned()], true));
}

#[test]
fn the_archive_continues_where_the_memory_ends() {
    for history_messages in ["0", "7", "1000"] {
        let folder = Folder::new();
        let settings = [UNLIMITED, ON, ("ICH_HISTORY_MESSAGES", history_messages)];
        let mut server = Server::start_in(&folder.0, &settings);
        drop(say_numbers(&server, 0, 30));
        assert!(server.stop().success());
        let server = Server::start_in(&folder.0, &settings);
        drop(say_numbers(&server, 30, 45));
        wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 45);
        for limit in [1, 7, 8, 44, 45, 100] {
            let texts = scroll_back(server.address, limit);
            assert_eq!(texts, numbers_back(0, 45), "limit {limit}, {history_messages} in memory");
        }
    }
}

#[test]
fn with_a_stopped_database_the_messages_in_memory_are_served() {
    let Some(postgres) = Postgres::start() else { return };
    let database = postgres.database();
    let settings = [UNLIMITED, ON, ("ICH_HISTORY_MESSAGES", "7"), ("ICH_DATABASE_URL", &database.url)];
    let server = Server::start(&settings);
    drop(say_numbers(&server, 0, 20));
    wait_until("the archive", || Archive::Postgres(&database).texts().len() == 20);
    assert_eq!(scroll_back(server.address, 6), numbers_back(0, 20));
    postgres.stop();
    assert_eq!(page(&history(server.address, "limit=5")), (numbers_back(15, 20), true));
    let answer = history(server.address, "limit=50");
    assert_eq!(page(&answer), (numbers_back(13, 20), true), "those in memory");
    let oldest = answer.json()["messages"][6]["event_id"].as_str().expect("an id").to_owned();
    let answer = history(server.address, &format!("before={oldest}"));
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    postgres.launch();
    wait_until("the archive", || history(server.address, &format!("before={oldest}")).status == 200);
    assert_eq!(scroll_back(server.address, 6), numbers_back(0, 20));
}

/// Deletes archived messages behind `server`, which has the newest 7 of 30 in memory, and checks what is left.
fn check_deletions(server: &Server, delete: impl Fn(&str)) {
    let oldest =
        history(server.address, "limit=7").json()["messages"][6]["event_id"].as_str().expect("an id").to_owned();
    let before_oldest = format!("before={oldest}");
    // The numbers in memory are 23 to 29.
    let steps = [
        ("the oldest message in memory", "text = '23'", numbers_back(0, 23)),
        ("as in a gap", "text IN ('20', '21', '22', '24', '25')", numbers_back(0, 20)),
        ("all messages in memory", "text IN ('26', '27', '28', '29')", numbers_back(0, 20)),
        ("the oldest ones", "text IN ('0', '1', '2', '3')", numbers_back(4, 20)),
        ("all messages", "true", Vec::new()),
    ];
    for (what, condition, older) in steps {
        delete(&format!("DELETE FROM messages WHERE {condition}"));
        let all = [numbers_back(23, 30), older.clone()].concat();
        for limit in [1, 6, 7, 8, 100] {
            assert_eq!(scroll_back(server.address, limit), all, "without {what}, {limit} in a page");
        }
        assert_eq!(page(&history(server.address, &before_oldest)), (older, false), "without {what}");
    }
}

#[test]
fn where_archived_messages_are_missing_the_ones_before_them_follow() {
    let folder = Folder::new();
    let settings = [UNLIMITED, ON, ("ICH_HISTORY_MESSAGES", "7"), ("ICH_MAX_HISTORY_REQUESTS_PER_MINUTE", "0")];
    let server = Server::start_in(&folder.0, &settings);
    drop(say_numbers(&server, 0, 30));
    wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 30);
    check_deletions(&server, |sql| connect(&folder.0).execute_batch(sql).expect("deleting"));

    let Some(database) = database() else { return };
    let server = Server::start(&[&settings[..], &[("ICH_DATABASE_URL", &database.url)]].concat());
    drop(say_numbers(&server, 0, 30));
    wait_until("the archive", || Archive::Postgres(&database).texts().len() == 30);
    check_deletions(&server, |sql| database.execute(sql));
}

#[test]
fn messages_that_are_not_archived_yet_are_not_skipped() {
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, &[UNLIMITED, ON, ("ICH_HISTORY_MESSAGES", "7")]);
    drop(say_numbers(&server, 0, 5));
    wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 5);
    let locked = connect(&folder.0);
    locked.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    drop(say_numbers(&server, 5, 30));
    let answer = history(server.address, "limit=100");
    assert_eq!(page(&answer), (numbers_back(23, 30), true));
    let oldest = answer.json()["messages"][6]["event_id"].as_str().expect("an id").to_owned();
    let answer = history(server.address, &format!("before={oldest}"));
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    locked.execute_batch("COMMIT").expect("releasing the lock");
    wait_until("the archive", || history(server.address, &format!("before={oldest}")).status == 200);
    assert_eq!(scroll_back(server.address, 7), numbers_back(0, 30));
}

#[test]
fn wrong_requests_get_a_clear_answer() {
    for archive in ["off", "on"] {
        let server = Server::start(&[("ICH_ARCHIVE", archive)]);
        drop(say_numbers(&server, 0, 2));
        let code = |query: &str| {
            let answer = history(server.address, query);
            (answer.status, answer.code())
        };
        for bad in ["limit=0", "limit=101", "limit=x", "limit=1&limit=1", "before=", "before=%20"] {
            assert_eq!(code(bad), (400, "bad_query".to_owned()), "{bad}");
        }
        for unknown in ["before=000000000000002a-7", "before=1", "before=ffffffffffffffff-18446744073709551615"] {
            assert_eq!(code(unknown), (404, "unknown_message".to_owned()), "{unknown}");
        }
        let answer = get(server.address, "/history");
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
        let head = "GET /history HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer nonsense\r\n\r\n";
        assert_eq!(raw(server.address, head.as_bytes()).status, 401);
        let answer = request(server.address, "POST", "");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD")));
        let answer = request(server.address, "HEAD", "limit=1");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert_eq!(page(&history(server.address, "limit=100&other=1")).0, ["1", "0"]);
    }
}

#[test]
fn an_address_that_asks_too_often_is_refused() {
    let server = Server::start(&[("ICH_MAX_HISTORY_REQUESTS_PER_MINUTE", "5")]);
    let answers: Vec<_> = (0..6).map(|_| history(server.address, "")).collect();
    assert!(answers[..5].iter().all(|answer| answer.status == 200));
    assert_eq!((answers[5].status, answers[5].code().as_str()), (429, "too_many_requests"));
    assert!(answers[5].header("Retry-After").is_some());
}

#[test]
fn long_messages_make_a_shorter_page() {
    let settings = [UNLIMITED, ON, ("ICH_MAX_TEXT_CHARS", "100000"), ("ICH_MAX_FRAME_BYTES", "524288")];
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, &[&settings[..], &[("ICH_HISTORY_MESSAGES", "5")]].concat());
    let mut ann = Returning::join(&server, "Ann");
    let text = "x".repeat(100_000);
    (0..30).for_each(|number| ann.say(&format!("{number} {}", &text[..99_000])));
    wait_until("the archive", || Archive::Sqlite(&folder.0).texts().len() == 30);
    let mut before = String::new();
    let mut seen = 0;
    loop {
        let answer = history(server.address, &format!("limit=100{before}"));
        let (texts, more) = page(&answer);
        assert!(!texts.is_empty() && answer.body.len() < 3 << 20, "{}", answer.body.len());
        seen += texts.len();
        if !more {
            break;
        }
        let last = answer.json()["messages"][texts.len() - 1]["event_id"].as_str().expect("an id").to_owned();
        before = format!("&before={last}");
    }
    assert_eq!(seen, 30);
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_answer() {
    let server = Server::start(&[("ICH_ALLOWED_ORIGINS", "https://app.example")]);
    let send = |head: String| raw(server.address, format!("{head}Host: test\r\n\r\n").as_bytes());
    for (origin, allowed) in [("https://app.example", Some("https://app.example")), ("https://evil.example", None)] {
        let token = token("Reader");
        let head = format!("GET /history HTTP/1.1\r\nAuthorization: Bearer {token}\r\nOrigin: {origin}\r\n");
        let answer = send(head);
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (200, allowed));
    }
    let preflight = send(
        "OPTIONS /history HTTP/1.1\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n".into(),
    );
    assert_eq!((preflight.status, preflight.header("Access-Control-Allow-Methods")), (204, Some("GET")));
}
