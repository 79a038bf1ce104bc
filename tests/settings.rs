//! Settings and the command line: valid settings, errors, exit codes, `.env` and files.

mod harness;

use std::fs;
use std::process::Output;

use harness::client::Client;
use harness::folder::Folder;
use harness::http::post;
use harness::server::{Server, command};
use harness::wait_until;
use ich::config::SETTINGS;
use serde_json::json;

/// Runs the program in this folder until it exits.
fn run(folder: &Folder, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    command(&folder.0, settings).args(arguments).output().expect("running the program")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn all_errors_are_reported_together_with_exit_code_2() {
    let folder = Folder::new();
    let invalid = [
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
        let output = run(&folder, arguments, &invalid);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let printed = text(&output.stderr);
        for (name, _) in invalid {
            assert!(printed.contains(name), "{name} is missing in: {printed}");
        }
        assert!(printed.lines().count() <= invalid.len() + 1, "{printed}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    assert!(!folder.0.join("data").exists(), "an invalid start created the data folder");
}

#[test]
fn an_unknown_ich_name_is_an_error_and_names_of_other_programs_are_not() {
    let folder = Folder::new();
    let output = run(&folder, &["check"], &[("ICH_MAX_CONECTIONS", "5")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("ICH_MAX_CONECTIONS is not a setting"), "{}", text(&output.stderr));
    let output = run(&folder, &["check"], &[("PORT", "x"), ("MICHAEL", "1"), ("ICHABOD", "1"), ("ICH_TEST_X", "1")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_check_of_valid_settings_reports_so_and_changes_nothing() {
    let folder = Folder::new();
    let output = run(&folder, &["check"], &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).contains("are valid"), "{}", text(&output.stdout));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn kafka_without_a_secret_is_an_error() {
    let folder = Folder::new();
    let output = run(&folder, &["check"], &[("ICH_JWT_SECRET", ""), ("ICH_KAFKA_BROKERS", "127.0.0.1:9092")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("ICH_JWT_SECRET"), "{}", text(&output.stderr));
}

#[test]
fn help_lists_every_setting() {
    let folder = Folder::new();
    // Help works with invalid settings, too.
    for argument in ["--help", "-h", "help"] {
        let output = run(&folder, &[argument], &[("ICH_PORT", "x")]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{argument}");
        let help = text(&output.stdout);
        assert!(help.contains("\n  check ") && help.contains("exit codes"), "{help}");
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
    for argument in ["--version", "-V"] {
        let output = run(&folder, &[argument], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), format!("ich {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn an_unknown_argument_is_an_error() {
    let folder = Folder::new();
    for arguments in [&["--port=80"][..], &["check", "it"], &["chekc"]] {
        let output = run(&folder, arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"));
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
    assert_eq!(refused.err(), Some(401), "the server expects another issuer");
}

#[test]
fn the_environment_overrides_the_file() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_DATA_DIR=from-the-file\nICH_DRAIN_SECONDS=nonsense\n").unwrap();
    let server = Server::start_in(&folder.0, &[("ICH_DATA_DIR", "from-outside"), ("ICH_DRAIN_SECONDS", "5")]);
    assert!(folder.0.join("from-outside/accounts.sqlite3").exists());
    assert!(!folder.0.join("from-the-file").exists());
    drop(server);
}

#[test]
fn errors_in_the_file_are_reported_like_others() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_PING_INTERVAL_SECONDS=0\nICH_NONSENSE=1\n").unwrap();
    let output = run(&folder, &["check"], &[("ICH_LOG_FORMAT", "xml")]);
    assert_eq!(output.status.code(), Some(2));
    for name in ["ICH_PING_INTERVAL_SECONDS", "ICH_NONSENSE", "ICH_LOG_FORMAT"] {
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    fs::write(folder.0.join(".env"), "this line is malformed\n").unwrap();
    let output = run(&folder, &["check"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(".env"), "{}", text(&output.stderr));
}

#[test]
fn a_file_in_the_parent_folder_is_not_read() {
    let folder = Folder::new();
    fs::write(folder.0.join(".env"), "ICH_NONSENSE=1\n").unwrap();
    let below = folder.0.join("below");
    fs::create_dir(&below).unwrap();
    let output = command(&below, &[]).arg("check").output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn two_servers_in_one_folder_share_the_accounts_and_with_logs_in_memory_not_the_lobby() {
    let folder = Folder::new();
    let settings = [("ICH_JWT_SECRET", ""), ("ICH_EVENT_LOG", "memory")];
    let (one, two) = (Server::start_in(&folder.0, &settings), Server::start_in(&folder.0, &settings));
    assert_ne!(one.address, two.address);
    let registration = r#"{"email":"bob@example.com","username":"Bob","password":"12345678"}"#;
    assert_eq!(post(one.address, "/createUser", registration).status, 200);
    assert_eq!(post(two.address, "/createUser", registration).code(), "email_taken");
    let login = post(two.address, "/login", r#"{"email":"bob@example.com","password":"12345678"}"#);
    let token = login.json()["token"].as_str().unwrap().to_owned();
    for server in [&one, &two] {
        let mut bob = Client::join(server.address, &token);
        assert_eq!(bob.event(), ("users_online".into(), json!({"list": []})), "the servers share a lobby");
    }
}

/// The standard error of `ich check` with this `.env` and these settings. Asserts that the check and the start exit
/// with code 2 and the same output.
fn refused(folder: &Folder, file: &[u8], settings: &[(&str, &str)]) -> String {
    fs::write(folder.0.join(".env"), file).unwrap();
    let check = run(folder, &["check"], settings);
    let output = text(&check.stderr).to_owned();
    // Checked before the start, because a start with valid settings would not exit.
    assert_eq!(check.status.code(), Some(2), "{settings:?}: {output}");
    let start = run(folder, &[], settings);
    assert_eq!((start.status.code(), text(&start.stderr)), (Some(2), output.as_str()), "{settings:?}");
    output
}

#[test]
fn all_malformed_lines_are_reported_by_number_and_never_with_their_content() {
    let folder = Folder::new();
    let file = "ICH_PORT=0\nICH_KAFKA_PASSWORD=hunter two\n# fine\nICH_JWT_SECRET='hunter two\nhunter\n=hunter\n\
                ICH_DATABASE_URL=\"postgres://hunter\"two\nICH_LOG_FORMAT=xml\n";
    let output = refused(&folder, file.as_bytes(), &[]);
    for line in [2, 4, 5, 6, 7] {
        assert!(output.contains(&format!(".env, line {line}:")), "line {line}: {output}");
    }
    assert!(!output.contains("line 1:") && !output.contains("line 3:"), "{output}");
    assert!(output.contains("ICH_LOG_FORMAT"), "{output}");
    assert!(!output.contains("hunter"), "{output}");
}

#[test]
fn values_of_the_file_are_literal() {
    let folder = Folder::new();
    let file = "\u{feff}export ICH_DATA_DIR=data-$HOME-${PATH}-#1 # a comment\r\nICH_JWT_ISSUER='$issuer # \\'\r\n";
    fs::write(folder.0.join(".env"), file).unwrap();
    let server = Server::start_in(&folder.0, &[]);
    assert!(folder.0.join("data-$HOME-${PATH}-#1/accounts.sqlite3").exists());
    let refused = Client::try_join(server.address, &harness::server::token("Bob"));
    assert_eq!(refused.err(), Some(401), "the server expects another issuer");
}

#[test]
fn trust_in_every_address_is_valid_with_a_warning() {
    let folder = Folder::new();
    let check = |trusted: &str| {
        let output = run(&folder, &["check"], &[("ICH_TRUSTED_PROXIES", trusted)]);
        assert_eq!(output.status.code(), Some(0), "{trusted}: {output:?}");
        text(&output.stderr).to_owned()
    };
    for (trusted, family) in [("10.0.0.0/8, 0.0.0.0/0", "IPv4"), ("::/0", "IPv6"), ("::ffff:0:0/96", "IPv4")] {
        let warning = check(trusted);
        for part in ["ICH_TRUSTED_PROXIES", &format!("every {family} address"), "the addresses of your proxies"] {
            assert!(warning.contains(part), "{trusted}: {warning}");
        }
        let server = Server::start(&[("ICH_TRUSTED_PROXIES", trusted)]);
        let line = format!("WARN  ich::cli::serve: {}", warning.trim().trim_start_matches("ich: "));
        wait_until("the warning in the log", || server.log().contains(&line));
    }
    for trusted in ["", "127.0.0.1", "10.0.0.0/8,fd00::/8"] {
        assert_eq!(check(trusted), "", "{trusted}");
    }
}

#[test]
fn variables_of_kubernetes_services_are_ignored_with_a_note() {
    let folder = Folder::new();
    let variables = [
        ("ICH_SERVICE_HOST", "10.0.0.7"),
        ("ICH_SERVICE_PORT", "8080"),
        ("ICH_SERVICE_PORT_HTTP", "8080"),
        ("ICH_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("ICH_PORT_8080_TCP_PROTO", "tcp"),
        ("ICH_PORT_8080_TCP_PORT", "8080"),
        ("ICH_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("ICH_KAFKA_SERVICE_HOST", "10.0.0.8"),
        ("ICH_KAFKA_PORT", "tcp://10.0.0.8:9092"),
        ("ICH_KAFKA_PORT_9092_TCP", "tcp://10.0.0.8:9092"),
    ];
    let output = run(&folder, &["check"], &variables);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let note = text(&output.stderr);
    assert!(note.contains("Kubernetes") && variables.iter().all(|(name, _)| note.contains(name)), "{note}");
    let output = refused(&folder, b"", &[("ICH_PORT", "tcp://10.0.0.7:8080")]);
    assert!(output.contains("ICH_PORT=tcp://10.0.0.7:8080") && output.contains("Kubernetes"), "{output}");
}

#[test]
fn secrets_are_read_from_files() {
    let folder = Folder::new();
    let secret = folder.0.join("jwt");
    fs::write(&secret, format!("{}\n", harness::server::SECRET)).unwrap();
    let path = secret.to_str().unwrap();
    let server = Server::start_in(&folder.0, &[("ICH_JWT_SECRET", ""), ("ICH_JWT_SECRET_FILE", path)]);
    drop(server.join("Bob"));
    drop(server);
    let output = refused(&folder, b"", &[("ICH_JWT_SECRET_FILE", path)]);
    assert!(output.contains("ICH_JWT_SECRET and ICH_JWT_SECRET_FILE"), "{output}");
    for name in ["ICH_JWT_SECRET", "ICH_DATABASE_URL", "ICH_KAFKA_PASSWORD"] {
        let file = format!("{name}_FILE");
        let brokers = ("ICH_KAFKA_BROKERS", "127.0.0.1:9092");
        let output = refused(&folder, b"", &[(name, ""), (&file, "/no/such/file"), brokers]);
        assert!(output.contains(&format!("{file}=/no/such/file")), "{output}");
    }
}

#[test]
fn an_invalid_log_filter_is_an_error() {
    let folder = Folder::new();
    for filter in ["warning", "loud", "3", "ich=info=x", "ich=loud", "info,loud", "info/a/b", "ich =debug", ","] {
        let output = refused(&folder, b"", &[("ICH_LOG", filter)]);
        assert!(output.contains("ICH_LOG"), "{filter}: {output}");
        assert!(["error", "warn", "info", "debug", "trace", "off"].iter().all(|it| output.contains(it)), "{output}");
    }
    assert!(refused(&folder, b"", &[("ICH_LOG", "warning")]).contains("did you mean warn?"));
    for filter in ["INFO", "off", "ich", "ich::http", "warn,ich::http=debug,librdkafka=info", "ich=,info", "info/text"]
    {
        let output = run(&folder, &["check"], &[("ICH_LOG", filter)]);
        assert!(output.status.success(), "{filter}: {}", text(&output.stderr));
    }
}

#[test]
fn kafka_settings_without_brokers_are_an_error() {
    let folder = Folder::new();
    for (name, value) in [
        ("ICH_KAFKA_TOPIC", "ich-lobby"),
        ("ICH_KAFKA_REPLICATION_FACTOR", "3"),
        ("ICH_KAFKA_SECURITY_PROTOCOL", "ssl"),
        ("ICH_KAFKA_SASL_MECHANISM", "PLAIN"),
        ("ICH_KAFKA_USERNAME", "ich"),
        ("ICH_KAFKA_PASSWORD", "hunter two"),
        ("ICH_KAFKA_CA_FILE", "/ca.pem"),
    ] {
        let output = refused(&folder, b"", &[(name, value)]);
        assert!(output.contains(name) && output.contains("ICH_KAFKA_BROKERS"), "{output}");
        assert!(!output.contains("hunter"), "{output}");
    }
    let output = run(&folder, &["check"], &[("ICH_KAFKA_TOPIC", "")]);
    assert!(output.status.success(), "an empty value counts as not set: {}", text(&output.stderr));
}

#[test]
fn invalid_combinations_of_kafka_settings_are_errors() {
    let folder = Folder::new();
    let (user, password) = (("ICH_KAFKA_USERNAME", "ich"), ("ICH_KAFKA_PASSWORD", "hunter2"));
    let protocol = |name| ("ICH_KAFKA_SECURITY_PROTOCOL", name);
    let brokers = |list| ("ICH_KAFKA_BROKERS", list);
    let topic = |name| ("ICH_KAFKA_TOPIC", name);
    let valid = brokers("127.0.0.1:9092");
    for (settings, named) in [
        (vec![valid, user, password], "ICH_KAFKA_USERNAME"),
        (vec![valid, protocol("plaintext"), password], "ICH_KAFKA_PASSWORD"),
        (vec![valid, protocol("ssl"), user, password], "ICH_KAFKA_USERNAME"),
        (vec![valid, protocol("sasl_ssl"), ("ICH_KAFKA_SASL_MECHANISM", "PLAIN"), password], "ICH_KAFKA_USERNAME"),
        (vec![valid, ("ICH_KAFKA_SASL_MECHANISM", "PLAIN")], "ICH_KAFKA_SASL_MECHANISM"),
        (vec![valid, ("ICH_KAFKA_CA_FILE", "/ca.pem")], "ICH_KAFKA_CA_FILE"),
        (vec![valid, protocol("sasl_plaintext"), ("ICH_KAFKA_CA_FILE", "/ca.pem")], "ICH_KAFKA_CA_FILE"),
        (vec![brokers("SASL_SSL://h:1")], "ICH_KAFKA_SECURITY_PROTOCOL"),
        (vec![brokers("::1:9092")], "[::1]:9092"),
        (vec![brokers("a:9092,,b:9092")], "ICH_KAFKA_BROKERS"),
        (vec![brokers("a:0")], "ICH_KAFKA_BROKERS"),
        (vec![brokers("a")], "ICH_KAFKA_BROKERS"),
        (vec![brokers("ich:hunter2@a:9092")], "ICH_KAFKA_BROKERS"),
        (vec![valid, topic(".")], "ICH_KAFKA_TOPIC"),
        (vec![valid, topic("..")], "ICH_KAFKA_TOPIC"),
        (vec![valid, topic("my lobby")], "ICH_KAFKA_TOPIC"),
    ] {
        let output = refused(&folder, b"", &settings);
        assert!(output.contains(named) && !output.contains("hunter2"), "{settings:?}: {output}");
    }
    for list in ["a:9092, b:9092", "[::1]:9092", "[2001:db8::1]:9092,kafka-0.kafka.svc:9092"] {
        let output = run(&folder, &["check"], &[brokers(list), topic("..lobby")]);
        assert!(output.status.success(), "{list}: {}", text(&output.stderr));
    }
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let folder = Folder::new();
    fs::write(folder.0.join("text.pem"), "no key and no certificate").unwrap();
    let kafka = [("ICH_KAFKA_BROKERS", "127.0.0.1:9092"), ("ICH_KAFKA_SECURITY_PROTOCOL", "ssl")];
    for file in ["missing.pem", "text.pem"] {
        let output = refused(&folder, b"", &[kafka[0], kafka[1], ("ICH_KAFKA_CA_FILE", file)]);
        assert!(output.contains(&format!("ICH_KAFKA_CA_FILE={file}")), "{output}");
        let output = refused(&folder, b"", &[("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", file)]);
        assert!(output.contains(&format!("ICH_JWT_PUBLIC_KEY_FILE={file}")), "{output}");
    }
}
