//! Accounts over HTTP: invalid fields, taken emails and usernames, concurrent registrations, login limits, and many
//! logins at once.

mod harness;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::http::{Answer, post, raw, read_answer};
use harness::server::Server;
use harness::wait_for;
use serde_json::json;
use socket2::{Domain, Socket, Type};

const NO_LOGIN_LIMIT: (&str, &str) = ("ICH_MAX_LOGINS_PER_MINUTE", "0");
const NO_REGISTRATION_LIMIT: (&str, &str) = ("ICH_MAX_REGISTRATIONS_PER_MINUTE", "0");

fn create(server: &Server, email: &str, username: &str, password: &str) -> Answer {
    let body = json!({"email": email, "username": username, "password": password}).to_string();
    post(server.address, "/createUser", &body)
}

fn credentials(email: &str, password: &str) -> String {
    json!({"email": email, "password": password}).to_string()
}

fn log_in(server: &Server, email: &str, password: &str) -> Answer {
    post(server.address, "/login", &credentials(email, password))
}

/// The bytes of a `POST` request.
fn request(path: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: test\r\n{content_type}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A login from another address of the loopback.
fn log_in_from(last: u8, server: SocketAddr, email: &str) -> Answer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.write_all(&request("/login", "", &credentials(email, "wrong password"))).unwrap();
    read_answer(&mut stream)
}

fn retry_after(answer: &Answer) -> u64 {
    let value = answer.header("Retry-After").unwrap_or_else(|| panic!("no Retry-After: {answer:?}"));
    value.parse().unwrap_or_else(|_| panic!("no seconds: {answer:?}"))
}

#[test]
fn an_invalid_field_is_reported_with_its_rule() {
    let server = Server::start(&[]);
    let long_email = format!("{}@b", "a".repeat(253));
    let cases = [
        ("email", json!({"email": "", "username": "Bob", "password": "12345678"}), "3 to 254"),
        ("email", json!({"email": "bob", "username": "Bob", "password": "12345678"}), "@"),
        ("email", json!({"email": "a@b@c", "username": "Bob", "password": "12345678"}), "@"),
        ("email", json!({"email": "b ob@b", "username": "Bob", "password": "12345678"}), "spaces"),
        ("email", json!({"email": long_email, "username": "Bob", "password": "12345678"}), "3 to 254"),
        ("email", json!({"email": 5, "username": "Bob", "password": "12345678"}), "string"),
        ("email", json!({"username": "Bob", "password": "12345678"}), "missing"),
        ("username", json!({"email": "a@b", "username": "", "password": "12345678"}), "1 to 64"),
        ("username", json!({"email": "a@b", "username": "x".repeat(65), "password": "12345678"}), "1 to 64"),
        ("username", json!({"email": "a@b", "username": "Bob\n", "password": "12345678"}), "control"),
        ("username", json!({"email": "a@b", "username": "Bob\u{202E}", "password": "12345678"}), "direction"),
        ("username", json!({"email": "a@b", "username": "B\u{200B}ob", "password": "12345678"}), "invisible"),
        ("username", json!({"email": "a@b", "username": " Bob", "password": "12345678"}), "space"),
        ("username", json!({"email": "a@b", "username": null, "password": "12345678"}), "string"),
        ("username", json!({"email": "a@b", "password": "12345678"}), "missing"),
        ("password", json!({"email": "a@b", "username": "Bob", "password": "1234567"}), "8 to 128"),
        ("password", json!({"email": "a@b", "username": "Bob", "password": "x".repeat(129)}), "8 to 128"),
        ("password", json!({"email": "a@b", "username": "Bob", "password": "1234567\u{0}"}), "NUL"),
        ("password", json!({"email": "a@b", "username": "Bob", "password": ["12345678"]}), "string"),
        ("password", json!({"email": "a@b", "username": "Bob"}), "missing"),
    ];
    for (field, body, rule) in cases {
        let answer = post(server.address, "/createUser", &body.to_string());
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_field"), "{body}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(field) && message.contains(rule), "{body}: {message}");
        assert_eq!(message.matches(field).count(), 1, "the field is named twice: {message}");
    }
    for (field, body) in [("email", json!({"password": "12345678"})), ("password", json!({"email": "a@b"}))] {
        let answer = post(server.address, "/login", &body.to_string());
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_field"));
        assert!(answer.json()["message"].as_str().unwrap().starts_with(field), "{answer:?}");
    }
}

#[test]
fn the_shortest_and_longest_fields_are_accepted() {
    let server = Server::start(&[]);
    let (shortest, longest) = ("12345678", "ü".repeat(128));
    let longest_email = format!("{}@b", "a".repeat(252));
    for (email, username, password) in
        [("a@b", "x", shortest), (longest_email.as_str(), "ü".repeat(64).as_str(), longest.as_str())]
    {
        let created = create(&server, email, username, password);
        assert_eq!(created.status, 200, "{created:?}");
        assert_eq!(log_in(&server, email, password).json()["username"], username);
    }
}

#[test]
fn a_password_of_ten_megabytes_is_rejected_before_it_is_read() {
    let server = Server::start(&[]);
    let body = json!({"email": "a@b", "username": "Bob", "password": "x".repeat(10_000_000)}).to_string();
    let before = server.proc_status("VmRSS");
    let answer = post(server.address, "/createUser", &body);
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert!(server.proc_status("VmHWM") < before + 4096, "the server buffered the body");
    // A body just below the limit is parsed, and the password is too long.
    let answer = create(&server, "a@b", "Bob", &"x".repeat(16_000));
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_field"));
}

#[test]
fn a_taken_email_or_username_is_taken_in_any_case() {
    let server = Server::start(&[]);
    assert_eq!(create(&server, "Igor@Example.com", "Igor", "12345678").status, 200);
    for (email, username, code) in [
        ("igor@example.com", "Other", "email_taken"),
        ("IGOR@EXAMPLE.COM", "Igor", "email_taken"),
        ("other@example.com", "iGOR", "username_taken"),
    ] {
        let answer = create(&server, email, username, "12345678");
        assert_eq!((answer.status, answer.code().as_str()), (409, code), "{email} {username}");
    }
    let login = log_in(&server, "iGoR@eXaMpLe.cOm", "12345678");
    assert_eq!(login.json()["username"], "Igor", "the name differs from the registration");
    assert_eq!(
        create(&server, "other@example.com", "Other", "12345678").status,
        200,
        "a rejected registration reserved the email or username"
    );
}

#[test]
fn one_of_several_concurrent_registrations_gets_the_username() {
    const AT_ONCE: usize = 8;
    let server = Server::start(&[NO_REGISTRATION_LIMIT]);
    for round in 0..4 {
        let barrier = Barrier::new(AT_ONCE);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let (server, barrier) = (&server, &barrier);
                    scope.spawn(move || {
                        let name = if number % 2 == 0 { format!("Bob {round}") } else { format!("bob {round}") };
                        barrier.wait();
                        create(server, &format!("{number}@{round}"), &name, "12345678")
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (accepted, rejected): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!(accepted.len(), 1, "{answers:?}");
        assert!(rejected.iter().all(|answer| (answer.status, answer.code().as_str()) == (409, "username_taken")));
    }
}

#[test]
fn json_is_accepted_with_any_content_type() {
    let server = Server::start(&[]);
    let types =
        ["", "Content-Type: application/json\r\n", "Content-Type: text/plain\r\n", "Content-Type: multipart/x\r\n"];
    for (number, content_type) in types.iter().enumerate() {
        let body = json!({"email": format!("{number}@b"), "username": number.to_string(), "password": "12345678"});
        let created = raw(server.address, &request("/createUser", content_type, &body.to_string()));
        assert_eq!(created.status, 200, "{content_type:?}: {created:?}");
        let login =
            raw(server.address, &request("/login", content_type, &credentials(&format!("{number}@b"), "12345678")));
        assert_eq!(login.status, 200, "{content_type:?}: {login:?}");
    }
}

#[test]
fn an_unknown_email_and_a_wrong_password_get_the_same_answer() {
    let server = Server::start(&[NO_LOGIN_LIMIT]);
    assert_eq!(create(&server, "bob@example.com", "Bob", "12345678").status, 200);
    let wrong = log_in(&server, "bob@example.com", "87654321");
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "wrong_credentials"));
    for (email, password) in [
        ("eve@example.com", "12345678"),
        ("not an email", "12345678"),
        ("bob@example.com", "short"),
        ("bob@example.com", ""),
        ("", "12345678"),
        ("bob@example.com' OR 1=1 --", "12345678"),
    ] {
        let answer = log_in(&server, email, password);
        assert_eq!((answer.status, &answer.body), (401, &wrong.body), "{email} {password}");
        let fields = |answer: &Answer| answer.head.lines().filter(|line| !line.starts_with("Date")).collect::<String>();
        assert_eq!(fields(&answer), fields(&wrong));
    }
}

#[test]
fn an_unknown_email_takes_as_long_as_a_wrong_password() {
    const SAMPLES: usize = 40;
    let server = Server::start(&[NO_LOGIN_LIMIT]);
    assert_eq!(create(&server, "bob@example.com", "Bob", "12345678").status, 200);
    let time = |email: &str| {
        // A machine that is too busy to hash in time answers 503; that sample does not count.
        wait_for("an answer to a wrong password", || {
            let started_at = Instant::now();
            let answer = log_in(&server, email, "87654321");
            (answer.status == 401).then(|| started_at.elapsed().as_secs_f64())
        })
    };
    // Measured in turns, so that other load affects both alike. The faster three quarters of each count.
    let (mut known, mut unknown): (Vec<_>, Vec<_>) =
        (0..SAMPLES).map(|_| (time("bob@example.com"), time("eve@example.com"))).unzip();
    let mean = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let counted = &times[..SAMPLES * 3 / 4];
        counted.iter().sum::<f64>() / counted.len() as f64
    };
    let (known, unknown) = (mean(&mut known), mean(&mut unknown));
    assert!((known / unknown - 1.0).abs() < 0.25, "known {known} s, unknown {unknown} s");
}

#[test]
fn many_logins_at_once_take_bounded_memory_and_do_not_delay_the_chat() {
    // More than the queue accepts; its size depends on the cores.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let logins = 64.max(32 * cores);
    let server = Server::start(&[NO_LOGIN_LIMIT]);
    assert_eq!(create(&server, "bob@example.com", "Bob", "12345678").status, 200);
    let mut ann = server.join("Ann");
    let before = server.proc_status("VmRSS");

    let (bytes, last) = {
        let mut bytes = request("/login", "", &credentials("bob@example.com", "12345678"));
        let last = bytes.pop().unwrap();
        (bytes, last)
    };
    let mut streams: Vec<TcpStream> = (0..logins)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
            stream.write_all(&bytes).unwrap();
            stream
        })
        .collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&[last]).unwrap());

    let answered = AtomicBool::new(false);
    let (answers, mut round_trips) = thread::scope(|scope| {
        let chat = scope.spawn(|| {
            let mut round_trips = Vec::new();
            while !answered.load(Ordering::Acquire) || round_trips.is_empty() {
                let started_at = Instant::now();
                ann.say("still here");
                ann.wait_for("chat_message", &json!({"from_user": "Ann", "text": "still here"}));
                round_trips.push(started_at.elapsed());
                // Stays below the message limit.
                thread::sleep(Duration::from_millis(100));
            }
            round_trips
        });
        let answers: Vec<Answer> = streams.iter_mut().map(read_answer).collect();
        answered.store(true, Ordering::Release);
        (answers, chat.join().unwrap())
    });

    let (accepted, rejected): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!accepted.is_empty() && !rejected.is_empty(), "{} of {logins} were accepted", accepted.len());
    for answer in rejected {
        assert_eq!((answer.status, answer.code().as_str()), (503, "busy"));
        assert!((1..=60).contains(&retry_after(answer)));
    }
    let hashing = 19 * 1024 * cores as u64;
    let grown = server.proc_status("VmHWM").saturating_sub(before);
    assert!(grown < 64 * 1024 + hashing, "memory grew by {grown} KiB");
    round_trips.sort();
    assert!(round_trips[round_trips.len() / 2] < Duration::from_millis(250), "{round_trips:?}");
    wait_for("a login after the burst", || {
        (log_in(&server, "bob@example.com", "12345678").status == 200).then_some(())
    });
}

#[test]
fn the_logins_of_an_address_are_limited() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "3")]);
    for number in 0..3 {
        assert_eq!(log_in_from(1, server.address, &format!("{number}@b")).status, 401);
    }
    let rejected = log_in_from(1, server.address, "another@b");
    assert_eq!((rejected.status, rejected.code().as_str()), (429, "too_many_logins"));
    assert!((1..=60).contains(&retry_after(&rejected)));
    assert_eq!(log_in_from(2, server.address, "another@b").status, 401, "another address is not limited");
}

#[test]
fn the_logins_of_an_account_are_limited_for_all_addresses() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "3")]);
    for (address, email) in [(1, "bob@b"), (2, "BOB@b"), (3, "Bob@B")] {
        assert_eq!(log_in_from(address, server.address, email).status, 401);
    }
    let rejected = log_in_from(4, server.address, "bob@b");
    assert_eq!((rejected.status, rejected.code().as_str()), (429, "too_many_logins"));
    assert!((1..=60).contains(&retry_after(&rejected)));
    assert_eq!(log_in_from(4, server.address, "eve@b").status, 401, "another account is not limited");
}

#[test]
fn after_retry_after_a_login_succeeds_again() {
    let server = Server::start(&[("ICH_MAX_LOGINS_PER_MINUTE", "20")]);
    assert_eq!(create(&server, "bob@b", "Bob", "12345678").status, 200);
    let rejected = loop {
        let answer = log_in(&server, "bob@b", "87654321");
        if answer.status != 401 {
            break answer;
        }
    };
    assert_eq!(rejected.status, 429);
    thread::sleep(Duration::from_secs(retry_after(&rejected)));
    assert_eq!(log_in(&server, "bob@b", "12345678").status, 200);
}
