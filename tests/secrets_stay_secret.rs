//! The log, the answers and the metrics contain no password, token or secret, at any log level.

mod harness;

use std::fs;

use harness::client::Client;
use harness::folder::Folder;
use harness::http::{Answer, get, post, raw};
use harness::server::{SECRET, Server, command, token};
use harness::wait_for;
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
const WRONG_PASSWORD: &str = "incorrect mule socket";
const SHORT_PASSWORD: &str = "hunter2";

/// The beginning of every hash.
const HASH: &str = "$argon2";

/// The secrets that were sent, and the answers of the server.
#[derive(Default)]
struct Observed {
    secrets: Vec<String>,
    answers: Vec<String>,
}

impl Observed {
    fn answer(&mut self, answer: &Answer) {
        self.answers.push(format!("{}\n{}", answer.head, answer.body));
    }

    fn assert_no_secret_in(&self, what: &str, text: &str) {
        for secret in self.secrets.iter().map(String::as_str).chain([HASH]) {
            if let Some(at) = text.find(secret) {
                let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let line = text[start..].lines().next().unwrap_or_default();
                panic!("{secret} is in {what}: {line}");
            }
        }
    }
}

/// Sends valid and invalid registrations, logins and joins.
fn use_server(server: &Server) -> Observed {
    let mut observed = Observed::default();
    let fresh = token("Ann");
    observed.secrets.extend([PASSWORD, WRONG_PASSWORD, SHORT_PASSWORD, SECRET].map(str::to_owned));
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
        observed.answer(&post(server.address, "/createUser", &body));
    }
    let login = |email: &str, password: &str| {
        post(server.address, "/login", &json!({"email": email, "password": password}).to_string())
    };
    for (email, password) in
        [("bob@example.com", WRONG_PASSWORD), ("eve@example.com", PASSWORD), ("bob@example.com", SHORT_PASSWORD)]
    {
        observed.answer(&login(email, password));
    }
    let success = login("bob@example.com", PASSWORD);
    assert_eq!(success.status, 200, "{success:?}");
    let issued = success.json()["token"].as_str().unwrap().to_owned();
    // Only this answer contains a token. It contains no other secret.
    assert!(!success.body.contains(PASSWORD) && !success.body.contains(SECRET));

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
        observed.answer(&raw(server.address, request.as_bytes()));
        // Also tokens in wrong places.
        for request in [
            format!("GET /join?token={token} HTTP/1.1\r\nHost: test\r\n\r\n"),
            format!("GET /{token} HTTP/1.1\r\nHost: test\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: {token}\r\nBroken\r\n\r\n"),
        ] {
            observed.answer(&raw(server.address, request.as_bytes()));
        }
    }
    observed.answer(&get(server.address, "/metrics"));
    observed.answer(&get(server.address, "/ready"));
    observed.answer(&get(server.address, "/nowhere"));
    observed.secrets.extend([issued, fresh, tampered]);
    observed
}

fn assert_secrets_stay_secret(settings: &[(&str, &str)], more_secrets: &[&str]) {
    let folder = Folder::new();
    let mut server = Server::start_in(&folder.0, settings);
    let mut observed = use_server(&server);
    observed.secrets.extend(more_secrets.iter().map(|secret| (*secret).to_owned()));
    assert!(server.stop().success());
    let log = server.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "debug lines are missing:\n{log}");
    observed.assert_no_secret_in("the log", &log);
    for answer in &observed.answers {
        observed.assert_no_secret_in("an answer", answer);
    }
}

#[test]
fn secrets_stay_secret_in_a_text_log() {
    assert_secrets_stay_secret(&[("ICH_LOG", "trace")], &[]);
}

#[test]
fn secrets_stay_secret_in_a_json_log() {
    assert_secrets_stay_secret(&[("ICH_LOG", "trace"), ("ICH_LOG_FORMAT", "json")], &[]);
}

#[test]
fn secrets_stay_secret_with_accounts_in_postgresql() {
    let Some(database) = harness::postgres::database() else { return };
    // PostgreSQL ignores passwords in the tests, so the URL may contain any.
    let has_password = database.url.split('@').next().is_some_and(|user| user.matches(':').count() > 1);
    let url = if has_password { database.url.clone() } else { database.url.replacen('@', ":db-pass-4711@", 1) };
    assert_secrets_stay_secret(&[("ICH_LOG", "trace"), ("ICH_DATABASE_URL", &url)], &["db-pass-4711", &url]);
}

/// Some libraries log what they receive and store. A filter that names a module of such a library does not change that.
#[test]
fn no_filter_makes_a_library_log_messages_and_tokens() {
    let database = harness::postgres::database();
    let mut settings = vec![("ICH_LOG", "debug,tungstenite::protocol=trace,tokio_postgres::query=trace")];
    settings.extend(database.as_ref().map(|database| ("ICH_DATABASE_URL", database.url.as_str())));
    let folder = Folder::new();
    let mut server = Server::start_in(&folder.0, &settings);
    let name = "Bob-4711";
    let body = json!({"email": "bob-4711@example.com", "username": name, "password": PASSWORD}).to_string();
    assert_eq!(post(server.address, "/createUser", &body).status, 200);
    let renewed = token(name);
    let mut client = Client::join(server.address, &renewed);
    client.say("a private text");
    client.send(&json!({"type": "token", "msg": {"token": renewed}}).to_string());
    while client.event().0 != "token" {}
    client.leave();
    assert!(server.stop().success());
    let log = server.log();
    for secret in ["a private text", &renewed, "bob-4711@example.com"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}

#[test]
fn the_generated_secret_is_not_logged() {
    let folder = Folder::new();
    let mut server = Server::start_in(&folder.0, &[("ICH_LOG", "trace"), ("ICH_JWT_SECRET", "")]);
    let bytes = fs::read(folder.0.join("data/jwt-secret")).unwrap();
    assert!(server.stop().success());
    let log = server.log();
    // In any notation: as a list of numbers, in base64, in hexadecimal.
    let list = format!("{:?}", &bytes[..16]);
    let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    for form in [list.trim_matches(['[', ']']), &openssl::base64::encode_block(&bytes[..15]), &hex] {
        assert!(!log.contains(form), "the secret is in the log");
    }
}

#[test]
fn errors_in_the_settings_contain_no_secret() {
    let folder = Folder::new();
    for (settings, secret) in [
        ([("ICH_JWT_SECRET", SHORT_PASSWORD), ("ICH_LOG", "trace")], SHORT_PASSWORD),
        ([("ICH_DATABASE_URL", "mysql://me:hunter2@here/db"), ("ICH_LOG", "trace")], "hunter2"),
        ([("ICH_DATABASE_URL", "postgres://me:hunter2@here:port/db"), ("ICH_LOG", "trace")], "hunter2"),
        ([("ICH_DATABASE_URL", "postgres://me:hun@ter2@here/db"), ("ICH_KAFKA_PASSWORD", "ter2")], "ter2"),
    ] {
        for arguments in [&["check"][..], &[]] {
            // The port is an error in all cases, so that no server starts.
            let output = command(&folder.0, &settings).env("ICH_PORT", "70000").args(arguments).output().unwrap();
            assert!(!output.status.success());
            for printed in [output.stdout, output.stderr] {
                let printed = String::from_utf8(printed).unwrap();
                assert!(!printed.contains(secret), "{secret} is in {printed}");
            }
        }
    }
}

#[test]
fn errors_in_the_database_url_contain_no_secret() {
    let folder = Folder::new();
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
            let printed = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{url}: {printed}");
            assert!(printed.contains("ICH_DATABASE_URL") && !printed.contains("hunter2"), "{printed}");
        }
    }
}

#[test]
fn errors_in_files_contain_no_secret() {
    let folder = Folder::new();
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
            let printed =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(printed.contains("ICH_JWT_SECRET_FILE") && !printed.contains(SHORT_PASSWORD), "{line}: {printed}");
        }
    }
}
