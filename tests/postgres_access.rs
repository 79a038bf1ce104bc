//! How PostgreSQL accepts connections: `pg_hba.conf`, TLS, certificates, Unix sockets. The parameters of the URL mean what
//! they mean in libpq, and the log says what is wrong and what to change.

mod harness;

use std::fs;
use std::sync::OnceLock;

use harness::certificates::{Authority, EXPIRED};
use harness::http::get;
use harness::postgres::{Database, Server as Postgres, or_skip, silent_listener};
use harness::server::Server;
use harness::wait_for;

/// A server with TLS that treats each user differently.
struct Access {
    postgres: Postgres,
    database: Database,
}

const HBA: &str = "hostssl all only_tls 127.0.0.1/32 trust\n\
                   hostnossl all no_tls 127.0.0.1/32 trust\n\
                   hostssl all certified 127.0.0.1/32 cert\n\
                   host all secret 127.0.0.1/32 scram-sha-256\n\
                   local all no_tls trust";

/// One server for all tests of this file.
fn access() -> Option<&'static Access> {
    static ACCESS: OnceLock<Option<Access>> = OnceLock::new();
    let start = || {
        let postgres = Postgres::start()?;
        let (authority, other) = (Authority::new(), Authority::new());
        let server = authority.issue("database", &["localhost"]);
        for (name, contents) in [("ca.pem", authority.pem()), ("other-ca.pem", other.pem())] {
            fs::write(postgres.file(name), contents).unwrap();
        }
        for (name, certificate) in [
            ("client", authority.issue("certified", &[])),
            ("stranger", other.issue("certified", &[])),
            ("another", authority.issue("somebody", &[])),
        ] {
            fs::write(postgres.file(&format!("{name}.pem")), certificate.certificate).unwrap();
            fs::write(postgres.file(&format!("{name}-key.pem")), certificate.key).unwrap();
        }
        postgres.stop();
        postgres.use_tls(&server.certificate, &server.key);
        postgres.trust_clients_of(&authority.pem());
        postgres.use_hba(HBA);
        postgres.launch();
        let database = postgres.database();
        for user in ["only_tls", "no_tls", "certified", "secret"] {
            // With all rights, because they share the tables.
            database.execute(&format!("CREATE USER {user} SUPERUSER PASSWORD 'hunter2'"));
        }
        Some(Access { postgres, database })
    };
    or_skip(ACCESS.get_or_init(start).as_ref())
}

impl Access {
    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        format!("postgres://{user}@{host}:{}/{}?{parameters}", self.postgres.port(), self.database.name())
    }

    /// `sslcert` and `sslkey` of this client.
    fn certificate(&self, name: &str) -> String {
        let file = |name: String| self.postgres.file(&name).display().to_string();
        format!("sslcert={}&sslkey={}", file(format!("{name}.pem")), file(format!("{name}-key.pem")))
    }

    fn file(&self, name: &str) -> String {
        self.postgres.file(name).display().to_string()
    }
}

fn assert_connects(url: &str) {
    let server = Server::start(&[("ICH_DATABASE_URL", url)]);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

/// Asserts that one line of the log has all these parts, and that the server waits.
fn assert_reported(url: &str, parts: &[&str]) {
    let server = Server::launch(&[("ICH_DATABASE_URL", url)]);
    let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
    let lines = || server.log().lines().filter(|line| has_all(line)).map(str::to_owned).collect::<Vec<_>>();
    let line = wait_for(&format!("{parts:?} in the log"), || lines().into_iter().next());
    assert!(line.contains(" WARN ") || line.contains(" ERROR "), "{line}");
    assert!(line.contains("ICH_DATABASE_URL") && !server.log().contains("hunter2"), "{}", server.log());
    assert_eq!(get(server.address, "/ready").status, 503);
    // Long enough for several attempts.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(lines().len(), 1, "{}", server.log());
    assert!(server.cpu_time() < std::time::Duration::from_secs(2), "{:?} of CPU time", server.cpu_time());
}

#[test]
fn pg_hba_wants_tls() {
    let Some(access) = access() else { return };
    let url = |parameters| access.url("only_tls", "127.0.0.1", parameters);
    let address = format!("127.0.0.1:{}", access.postgres.port());
    assert_reported(&url("sslmode=disable"), &["pg_hba.conf", &address, "only with TLS", "sslmode=require"]);
    for mode in ["sslmode=require", "sslmode=prefer", "sslmode=allow", ""] {
        assert_connects(&url(mode));
    }
}

#[test]
fn pg_hba_forbids_tls() {
    let Some(access) = access() else { return };
    let url = |parameters| access.url("no_tls", "127.0.0.1", parameters);
    assert_reported(&url("sslmode=require"), &["pg_hba.conf", "only without TLS", "sslmode=disable"]);
    for mode in ["sslmode=disable", "sslmode=prefer", "sslmode=allow", ""] {
        assert_connects(&url(mode));
    }
}

#[test]
fn pg_hba_has_no_line_for_the_user() {
    let Some(access) = access() else { return };
    assert_reported(&access.url("nobody", "127.0.0.1", ""), &["pg_hba.conf", "\"nobody\"", "add a line"]);
}

#[test]
fn a_wrong_password_is_reported_in_every_mode() {
    let Some(access) = access() else { return };
    for mode in ["", "sslmode=require"] {
        let url = access.url("secret:hunter22", "127.0.0.1", mode);
        assert_reported(&url, &["password authentication failed", "check user and password in ICH_DATABASE_URL"]);
    }
    assert_connects(&access.url("secret:hunter2", "127.0.0.1", ""));
    assert_reported(&access.url("secret", "127.0.0.1", ""), &["password missing", "set the password"]);
}

#[test]
fn a_server_without_tls() {
    let Some(database) = harness::postgres::database() else { return };
    for mode in ["", "&sslmode=prefer", "&sslmode=allow"] {
        assert_connects(&format!("{}{mode}", database.url));
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let parts = ["server does not support TLS", "turn on ssl", "sslmode=disable"];
        assert_reported(&format!("{}&sslmode={mode}", database.url), &parts);
    }
}

#[test]
fn client_certificates() {
    let Some(access) = access() else { return };
    let url = |parameters: &str| access.url("certified", "127.0.0.1", &format!("sslmode=require&{parameters}"));
    assert_connects(&url(&access.certificate("client")));
    assert_reported(&url(""), &["requires a certificate of this user", "set sslcert and sslkey"]);
    assert_reported(&url(&access.certificate("another")), &["certificate authentication failed", "sslcert"]);
    assert_reported(&url(&access.certificate("stranger")), &["refuses the certificate of this client", "sslcert"]);
}

#[test]
fn a_certificate_of_the_server_that_is_not_accepted() {
    let Some(access) = access() else { return };
    let (trusted, other) = (access.file("ca.pem"), access.file("other-ca.pem"));
    let full = |host, ca| access.url("only_tls", host, &format!("sslmode=verify-full&sslrootcert={ca}"));
    assert_connects(&full("localhost", &trusted));
    assert_reported(&full("127.0.0.1", &trusted), &["IP address mismatch", "use the host of the certificate"]);
    assert_reported(&full("localhost", &other), &["is not accepted: self-signed certificate", "set sslrootcert"]);
}

#[test]
fn an_expired_certificate_of_the_server() {
    let Some(postgres) = Postgres::start() else { return };
    let authority = Authority::new();
    let expired = authority.issue_for("database", &["localhost"], EXPIRED);
    let path = postgres.file("ca.pem");
    fs::write(&path, authority.pem()).unwrap();
    postgres.stop();
    postgres.use_tls(&expired.certificate, &expired.key);
    postgres.launch();
    let url = format!(
        "postgres://ich@localhost:{}/postgres?sslmode=verify-ca&sslrootcert={}",
        postgres.port(),
        path.display()
    );
    assert_reported(&url, &["certificate has expired", "renew", "clock"]);
}

#[test]
fn tls_parameters_are_ignored_on_a_unix_socket() {
    let Some(access) = access() else { return };
    let folder = access.postgres.folder().display().to_string();
    let (port, database) = (access.postgres.port(), access.database.name());
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_connects(&format!("postgres://no_tls@/{database}?host={folder}&port={port}&sslmode={mode}"));
    }
    let encoded = folder.replace('/', "%2F");
    assert_connects(&format!("postgres://no_tls@{encoded}:{port}/{database}?sslmode=verify-full"));
}

#[test]
fn the_second_of_two_hosts_is_used_when_the_first_refuses() {
    let Some(access) = access() else { return };
    let (port, database) = (access.postgres.port(), access.database.name());
    for mode in ["sslmode=prefer", "sslmode=require"] {
        assert_connects(&format!("postgres://only_tls@127.0.0.1:1,127.0.0.1:{port}/{database}?{mode}"));
    }
}

#[test]
fn a_server_that_accepts_and_never_answers() {
    let (_silent, port) = silent_listener();
    let url = format!("postgres://ich:hunter2@127.0.0.1:{port}/lobby");
    let address = format!("127.0.0.1:{port}, database lobby");
    assert_reported(&url, &["no answer for 7 seconds", &address, "pooler"]);
}

#[test]
fn a_server_that_cannot_be_reached() {
    let parts = ["127.0.0.1:1, database lobby", "refused", "check that PostgreSQL runs there"];
    assert_reported("postgres://ich:hunter2@127.0.0.1:1/lobby", &parts);
}
