//! No password, token or secret in the log, in an answer or in the metrics, with everything logged that can be.

mod harness;

use std::fs;
use std::path::PathBuf;

use harness::client::Client;
use harness::http::{Answer, get, post, raw};
use harness::server::{SECRET, Server, command, new_dir, token};
use harness::wait_for;
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
const WRONG_PASSWORD: &str = "incorrect mule socket";
const SHORT_PASSWORD: &str = "hunter2";

/// Where a hash begins, wherever one is.
const HASH: &str = "$argon2";

/// Goes away with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What must not be found, and what was said: answers as a whole.
#[derive(Default)]
struct Heard {
    secrets: Vec<String>,
    answers: Vec<String>,
}

impl Heard {
    fn answer(&mut self, answer: &Answer) {
        self.answers.push(format!("{}\n{}", answer.head, answer.body));
    }

    fn assert_nothing_in(&self, what: &str, text: &str) {
        for secret in self.secrets.iter().map(String::as_str).chain([HASH]) {
            if let Some(at) = text.find(secret) {
                let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let line = text[start..].lines().next().unwrap_or_default();
                panic!("{secret} is in {what}: {line}");
            }
        }
    }
}

/// Registrations, logins and joins, good and bad.
fn live(server: &Server) -> Heard {
    let mut heard = Heard::default();
    let fresh = token("Ann");
    heard.secrets.extend([PASSWORD, WRONG_PASSWORD, SHORT_PASSWORD, SECRET].map(str::to_owned));
    let tampered = format!("{}x", &fresh[..fresh.len() - 1]);
    let registration = json!({"email": "bob@example.com", "username": "Bob", "password": PASSWORD}).to_string();
    for body in [
        registration.clone(),
        registration.clone(),
        json!({"email": "eve@example.com", "username": "bob", "password": PASSWORD}).to_string(),
        json!({"email": "eve@example.com", "username": "Eve", "password": SHORT_PASSWORD}).to_string(),
        json!({"email": "eve@example.com", "username": "Eve", "password": [PASSWORD]}).to_string(),
        json!({"email": PASSWORD, "username": "Eve", "password": PASSWORD}).to_string(),
        registration.replace('}', ""),
        format!("{registration}{PASSWORD}"),
        format!("email=eve@example.com&username=Eve&password={PASSWORD}"),
    ] {
        heard.answer(&post(server.address, "/createUser", &body));
    }
    let login = |email: &str, password: &str| {
        post(server.address, "/login", &json!({"email": email, "password": password}).to_string())
    };
    for (email, password) in
        [("bob@example.com", WRONG_PASSWORD), ("eve@example.com", PASSWORD), ("bob@example.com", SHORT_PASSWORD)]
    {
        heard.answer(&login(email, password));
    }
    let good = login("bob@example.com", PASSWORD);
    assert_eq!(good.status, 200, "{good:?}");
    let issued = good.json()["token"].as_str().unwrap().to_owned();
    // The one answer that has a token has nothing else.
    assert!(!good.body.contains(PASSWORD) && !good.body.contains(SECRET));

    for token in [&issued, &fresh] {
        let mut client = Client::join(server.address, token);
        client.wait_for("users_online", &json!({"list": []}));
        client.send("this is no JSON");
        while client.event().0 != "error" {}
        client.leave();
        wait_for("an empty lobby", || get(server.address, "/metrics").body.contains("users_online 0").then_some(()));
    }
    for (scheme, token) in [("Bearer", &tampered), ("Basic", &fresh)] {
        let request = format!(
            "GET /join HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: {scheme} {token}\r\n\r\n"
        );
        heard.answer(&raw(server.address, request.as_bytes()));
        // In the wrong places too.
        for request in [
            format!("GET /join?token={token} HTTP/1.1\r\nHost: test\r\n\r\n"),
            format!("GET /{token} HTTP/1.1\r\nHost: test\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: {token}\r\nBroken\r\n\r\n"),
        ] {
            heard.answer(&raw(server.address, request.as_bytes()));
        }
    }
    heard.answer(&get(server.address, "/metrics"));
    heard.answer(&get(server.address, "/ready"));
    heard.answer(&get(server.address, "/nowhere"));
    heard.secrets.extend([issued, fresh, tampered]);
    heard
}

fn assert_all_stays_secret(settings: &[(&str, &str)], more_secrets: &[&str]) {
    let folder = Folder(new_dir());
    let mut server = Server::start_in(&folder.0, settings);
    let mut heard = live(&server);
    heard.secrets.extend(more_secrets.iter().map(|secret| (*secret).to_owned()));
    assert!(server.stop().success());
    let log = server.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "not everything is logged:\n{log}");
    heard.assert_nothing_in("the log", &log);
    for answer in &heard.answers {
        heard.assert_nothing_in("an answer", answer);
    }
}

#[test]
fn nothing_secret_is_logged_answered_or_counted() {
    assert_all_stays_secret(&[("ICH_LOG", "trace")], &[]);
}

#[test]
fn nor_in_a_log_for_programs() {
    assert_all_stays_secret(&[("ICH_LOG", "trace"), ("ICH_LOG_FORMAT", "json")], &[]);
}

#[test]
fn nor_with_the_accounts_in_postgresql() {
    let Some(database) = harness::postgres::database() else { return };
    // The server of the tests trusts everybody, so a password changes nothing but the URL.
    let has_password = database.url.split('@').next().is_some_and(|user| user.matches(':').count() > 1);
    let url = if has_password { database.url.clone() } else { database.url.replacen('@', ":db-pass-4711@", 1) };
    assert_all_stays_secret(&[("ICH_LOG", "trace"), ("ICH_DATABASE_URL", &url)], &["db-pass-4711", &url]);
}

#[test]
fn nor_the_drawn_secret() {
    let folder = Folder(new_dir());
    let mut server = Server::start_in(&folder.0, &[("ICH_LOG", "trace"), ("ICH_JWT_SECRET", "")]);
    let bytes = fs::read(folder.0.join("data/jwt-secret")).unwrap();
    assert!(server.stop().success());
    let log = server.log();
    // However it would be written: as a list of numbers, in base64, in hex.
    let list = format!("{:?}", &bytes[..16]);
    let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    for form in [list.trim_matches(['[', ']']), &openssl::base64::encode_block(&bytes[..15]), &hex] {
        assert!(!log.contains(form), "the secret is in the log");
    }
}

#[test]
fn nor_in_what_is_said_about_bad_settings() {
    let folder = Folder(new_dir());
    for (settings, secret) in [
        ([("ICH_JWT_SECRET", SHORT_PASSWORD), ("ICH_LOG", "trace")], SHORT_PASSWORD),
        ([("ICH_DATABASE_URL", "mysql://me:hunter2@here/db"), ("ICH_LOG", "trace")], "hunter2"),
        ([("ICH_DATABASE_URL", "postgres://me:hunter2@here:port/db"), ("ICH_LOG", "trace")], "hunter2"),
        ([("ICH_DATABASE_URL", "postgres://me:hun@ter2@here/db"), ("ICH_KAFKA_PASSWORD", "ter2")], "ter2"),
    ] {
        for arguments in [&["check"][..], &[]] {
            // Another fault beside it, so that none gets so far as to serve.
            let output = command(&folder.0, &settings).env("ICH_PORT", "70000").args(arguments).output().unwrap();
            assert!(!output.status.success());
            for said in [output.stdout, output.stderr] {
                let said = String::from_utf8(said).unwrap();
                assert!(!said.contains(secret), "{secret} is in {said}");
            }
        }
    }
}

#[test]
fn nor_when_the_database_cannot_be_used() {
    let folder = Folder(new_dir());
    for url in [
        "postgres://me:hunter2@here:port/db",
        "postgres://me:hunter2@127.0.0.1/db?sslmode=sometimes",
        "postgres://me:hunter2@127.0.0.1/db?pgbouncer=true",
        "postgres://me:pass@hunter2@127.0.0.1/db",
        "postgres://me:hunter2@127.0.0.1/db?sslmode=verify-full&sslrootcert=/no/such/file",
    ] {
        let settings = [("ICH_DATABASE_URL", url), ("ICH_LOG", "trace")];
        for arguments in [&["check"][..], &[]] {
            let output = command(&folder.0, &settings).args(arguments).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{url}: {said}");
            assert!(said.contains("ICH_DATABASE_URL") && !said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn nor_in_what_is_said_about_a_file_of_settings() {
    let folder = Folder(new_dir());
    fs::write(folder.0.join("secret"), format!("{SHORT_PASSWORD}\0\n")).unwrap();
    let settings = [("ICH_JWT_SECRET", ""), ("ICH_JWT_SECRET_FILE", "secret")];
    for line in [
        format!("ICH_KAFKA_PASSWORD={SHORT_PASSWORD} two"),
        format!("ICH_KAFKA_PASSWORD='{SHORT_PASSWORD}"),
        format!("ICH_KAFKA_PASSWORD=\"{SHORT_PASSWORD}"),
        format!("ICH_KAFKA_PASSWORD: {SHORT_PASSWORD}"),
        format!("ICH_DATABASE_URL=postgres://me:{SHORT_PASSWORD}@here/db?a=b c"),
        format!("ICH_KAFKA_BROKERS=me:{SHORT_PASSWORD}@here:9092"),
        format!("ICH_ALLOWED_ORIGINS=ftp://me:{SHORT_PASSWORD}@here"),
        SHORT_PASSWORD.to_owned(),
    ] {
        fs::write(folder.0.join(".env"), format!("{line}\n")).unwrap();
        for arguments in [&["check"][..], &[]] {
            let output = command(&folder.0, &settings).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("ICH_JWT_SECRET_FILE") && !said.contains(SHORT_PASSWORD), "{line}: {said}");
        }
    }
}
