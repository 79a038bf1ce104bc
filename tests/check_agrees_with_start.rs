//! `ich check` and the start refuse the same things, with the same text and exit code 2. The check changes nothing.

mod harness;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::certificates::{Authority, Certificate, encrypted};
use harness::folder::Folder;
use harness::http::get;
use harness::postgres::is_root;
use harness::server::{Server, command};
use rusqlite::Connection;

/// The program, without the rights of root, which may read and write every file and use every port.
fn unprivileged(folder: &Folder, argument: Option<&str>, settings: &[(&str, &str)]) -> Output {
    let program = command(&folder.0, settings);
    if !is_root() {
        return { program }.args(argument).output().expect("running the program");
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(program.get_program());
    wrapped.args(argument).current_dir(&folder.0).env_clear();
    wrapped.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Without PATH, the program itself would not find setpriv.
    wrapped.env("PATH", "/usr/bin:/bin");
    wrapped.output().expect("running setpriv")
}

/// Names, sizes and modes of everything in the folder.
fn contents(folder: &Path) -> Vec<(PathBuf, u64, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let metadata = entry.metadata().expect("metadata");
        found.push((entry.path(), metadata.len(), metadata.permissions().mode()));
        if metadata.is_dir() {
            found.extend(contents(&entry.path()));
        }
    }
    found.sort();
    found
}

/// Asserts that the check and the start exit with code 2 and the same text, which has all these parts, and that neither
/// changes anything.
fn assert_refused(folder: &Folder, settings: &[(&str, &str)], parts: &[&str]) {
    let before = contents(&folder.0);
    let check = unprivileged(folder, Some("check"), settings);
    let text = String::from_utf8(check.stderr).expect("text");
    // Before the start, which would not end by itself.
    assert_eq!(check.status.code(), Some(2), "check: {settings:?}: {text}");
    let start = unprivileged(folder, None, settings);
    assert_eq!((start.status.code(), String::from_utf8(start.stderr).expect("text")), (Some(2), text.clone()));
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in: {text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(contents(&folder.0), before, "something was changed");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

/// The data folder of a server that ran once.
fn used() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let mut server = Server::start_in(&folder.0, &[("ICH_JWT_SECRET", "")]);
    assert_eq!(server.stop().code(), Some(0));
    let data = folder.0.join("data");
    (folder, data)
}

#[test]
fn the_data_folder_is_a_file_or_cannot_be_written() {
    let folder = Folder::new();
    let data = folder.0.join("data");
    fs::write(&data, "a file").unwrap();
    assert_refused(&folder, &[], &["./data", "ICH_DATA_DIR", "directory"]);
    assert_refused(&folder, &[("ICH_DATA_DIR", "./data/below")], &["./data/below", "ICH_DATA_DIR"]);
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    set_mode(&data, 0o500);
    assert_refused(&folder, &[], &["./data", "ICH_DATA_DIR", "Permission denied"]);
    assert_refused(&folder, &[("ICH_DATA_DIR", "./data/below")], &["./data/below", "Permission denied"]);
    set_mode(&data, 0o700);
}

#[test]
fn a_sqlite_file_is_garbage_or_of_a_later_version() {
    let (folder, data) = used();
    for name in ["accounts.sqlite3", "events.sqlite3"] {
        let path = data.join(name);
        let valid = fs::read(&path).unwrap();
        fs::write(&path, "garbage ".repeat(1000)).unwrap();
        assert_refused(&folder, &[], &[name, "is not a database"]);
        fs::write(&path, valid).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        assert_refused(&folder, &[], &[name, "version 99 of the schema", "later version"]);
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
    }
}

#[test]
fn a_sqlite_file_cannot_be_written() {
    let (folder, data) = used();
    for name in ["accounts.sqlite3", "events.sqlite3"] {
        let path = data.join(name);
        for mode in [0o400, 0o000] {
            set_mode(&path, mode);
            assert_refused(&folder, &[], &[name, "Permission denied", "ICH_DATA_DIR"]);
        }
        set_mode(&path, 0o600);
        // Left behind by another user.
        let wal = data.join(format!("{name}-wal"));
        fs::write(&wal, "").unwrap();
        set_mode(&wal, 0o400);
        assert_refused(&folder, &[], &[&format!("{name}-wal"), "Permission denied"]);
        fs::remove_file(&wal).unwrap();
    }
}

#[test]
fn the_generated_secret_is_empty_or_cannot_be_read() {
    let (folder, data) = used();
    let secret = data.join("jwt-secret");
    let valid = fs::read(&secret).unwrap();
    set_mode(&secret, 0o000);
    assert_refused(&folder, &[("ICH_JWT_SECRET", "")], &["jwt-secret", "Permission denied"]);
    set_mode(&secret, 0o600);
    fs::write(&secret, "").unwrap();
    assert_refused(&folder, &[("ICH_JWT_SECRET", "")], &["jwt-secret", "0 bytes"]);
    fs::write(&secret, valid).unwrap();
    let check = unprivileged(&folder, Some("check"), &[("ICH_JWT_SECRET", "")]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn the_server_cannot_listen() {
    let folder = Folder::new();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = occupied.local_addr().expect("its address").port().to_string();
    assert_refused(&folder, &[("ICH_PORT", &port)], &[&format!("127.0.0.1:{port}"), "in use", "ICH_PORT"]);
    let address = ("ICH_HOST", "192.0.2.1");
    assert_refused(&folder, &[address], &["192.0.2.1:0", "does not have the address", "ICH_HOST"]);
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim().parse().is_ok_and(|first: u16| first > 81) {
        assert_refused(&folder, &[("ICH_PORT", "81")], &["127.0.0.1:81", "CAP_NET_BIND_SERVICE", "ICH_PORT"]);
    }
}

#[test]
fn all_problems_of_the_machine_are_reported_together() {
    let (folder, data) = used();
    for name in ["accounts.sqlite3", "events.sqlite3"] {
        fs::write(data.join(name), "garbage ".repeat(1000)).unwrap();
    }
    fs::write(data.join("jwt-secret"), "").unwrap();
    let check = unprivileged(&folder, Some("check"), &[("ICH_JWT_SECRET", ""), ("ICH_HOST", "192.0.2.1")]);
    let text = String::from_utf8(check.stderr).expect("text");
    for part in ["accounts.sqlite3", "events.sqlite3", "jwt-secret", "192.0.2.1"] {
        assert!(text.contains(part), "{part} in: {text}");
    }
}

#[test]
fn the_check_beside_a_running_server_finds_its_port_in_use_and_disturbs_nothing() {
    let folder = Folder::new();
    let server = Server::start_in(&folder.0, &[]);
    let port = server.address.port().to_string();
    let check = |port: &str| unprivileged(&folder, Some("check"), &[("ICH_PORT", port)]).status.code();
    assert_eq!((check(&port), check("0")), (Some(2), Some(0)));
    assert_eq!(get(server.address, "/ready").status, 200);
    drop(server.join("Ann"));
}

#[test]
fn the_database_url_is_wrong() {
    let folder = Folder::new();
    for (url, named) in [
        ("postgres://u:hunter2@h:port/d", "port"),
        ("postgres://u:hunter2@h/d?pgbouncer=true", "pgbouncer is not known"),
        ("postgres://u:hunter2@h/d?sslmode=sometimes", "sslmode=sometimes is not one of disable, allow, prefer"),
        ("postgres://u:pass@hunter2@h/d", "@ as %40"),
        ("postgres://u:pass/hunter2@h/d", "/ as %2F"),
        ("postgres://u:pass?hunter2@h/d", "? as %3F"),
        ("mysql://u:hunter2@h/d", "postgres://"),
        ("postgres://u:hunter2@/d", "no host"),
        (
            "postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/no/ca.pem",
            "sslrootcert=/no/ca.pem cannot be read",
        ),
        ("postgres://u:hunter2@h/d?sslcert=/no/c.pem", "sslcert needs sslkey"),
    ] {
        assert_refused(&folder, &[("ICH_DATABASE_URL", url)], &["ICH_DATABASE_URL", named]);
    }
}

/// A folder with a certificate, its key, and files that cannot be used.
fn with_certificates() -> Folder {
    let folder = Folder::new();
    let Certificate { certificate, key } = Authority::new().issue("client", &[]);
    let other = Authority::new().issue("client", &[]);
    for (name, contents) in [
        ("c.pem", &certificate),
        ("unreadable.pem", &certificate),
        ("k.pem", &key),
        ("other-k.pem", &other.key),
        ("encrypted-k.pem", &encrypted(&key)),
        ("text.pem", &b"no certificate and no key".to_vec()),
    ] {
        fs::write(folder.0.join(name), contents).unwrap();
    }
    set_mode(&folder.0.join("unreadable.pem"), 0o000);
    folder
}

/// Pairs of files, the part of the pair that is wrong, and the text about it.
const WRONG_PAIRS: [(&str, &str, bool, &str); 6] = [
    ("no.pem", "k.pem", true, "cannot be read"),
    ("unreadable.pem", "k.pem", true, "Permission denied"),
    ("text.pem", "k.pem", true, "contains no certificate"),
    ("c.pem", "text.pem", false, "contains no private key"),
    ("c.pem", "other-k.pem", false, "is not the private key of the certificate"),
    ("c.pem", "encrypted-k.pem", false, "is encrypted"),
];

#[test]
fn a_certificate_or_key_for_postgresql_cannot_be_used() {
    let folder = with_certificates();
    for (certificate, key, is_certificate, text) in WRONG_PAIRS {
        let url = format!("postgres://u@h/d?sslcert={certificate}&sslkey={key}");
        let named = if is_certificate { format!("sslcert={certificate}") } else { format!("sslkey={key}") };
        assert_refused(&folder, &[("ICH_DATABASE_URL", &url)], &["ICH_DATABASE_URL", &named, text]);
    }
    for (file, text) in [("unreadable.pem", "Permission denied"), ("k.pem", "contains no certificate")] {
        let url = format!("postgres://u@h/d?sslmode=verify-ca&sslrootcert={file}");
        assert_refused(&folder, &[("ICH_DATABASE_URL", &url)], &[&format!("sslrootcert={file}"), text]);
    }
}

#[test]
fn a_certificate_or_key_for_kafka_cannot_be_used() {
    let folder = with_certificates();
    let tls = [("ICH_KAFKA_BROKERS", "127.0.0.1:9092"), ("ICH_KAFKA_SECURITY_PROTOCOL", "ssl")];
    for (certificate, key, is_certificate, text) in WRONG_PAIRS {
        let pair = [("ICH_KAFKA_CERT_FILE", certificate), ("ICH_KAFKA_KEY_FILE", key)];
        let (name, file) = if is_certificate { pair[0] } else { pair[1] };
        assert_refused(&folder, &[tls, pair].concat(), &[&format!("{name}={file}"), text]);
    }
    for (file, text) in [
        ("no.pem", "cannot be read"),
        ("unreadable.pem", "Permission denied"),
        ("text.pem", "contains no certificate"),
        ("k.pem", "contains no certificate"),
    ] {
        let setting = ("ICH_KAFKA_CA_FILE", file);
        assert_refused(&folder, &[&tls[..], &[setting]].concat(), &[&format!("ICH_KAFKA_CA_FILE={file}"), text]);
    }
    for name in ["ICH_KAFKA_CERT_FILE", "ICH_KAFKA_KEY_FILE"] {
        let file = if name == "ICH_KAFKA_CERT_FILE" { "c.pem" } else { "k.pem" };
        assert_refused(&folder, &[&tls[..], &[(name, file)]].concat(), &[name, "needs"]);
        let settings = [tls[0], ("ICH_KAFKA_CERT_FILE", "c.pem"), ("ICH_KAFKA_KEY_FILE", "k.pem")];
        let check = unprivileged(&folder, Some("check"), &settings);
        assert!(String::from_utf8_lossy(&check.stderr).contains(&format!("{name} is set")), "without TLS");
    }
}
