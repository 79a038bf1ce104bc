//! What operators build on: every metric that the dashboard and the alert rules name exists, the metrics follow the rules
//! of Prometheus, `/ready` names its dependencies, and fail2ban finds failed logins in the log.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::http::{get, post, raw};
use harness::postgres::silent_listener;
use harness::server::Server;
use harness::{skip, wait_for, wait_until};
use regex::Regex;
use serde_json::{Value, json};

fn text_of(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics in the format of Prometheus 0.0.4.
fn classic(server: &Server) -> String {
    raw(server.address, b"GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: text/plain\r\n\r\n").body
}

/// The value of the sample with this name and these labels.
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().expect("a number")
}

/// A server with some traffic: a message, a login, a failed login.
fn used_server() -> Server {
    let server = Server::start(&[]);
    let account =
        |password: &str| json!({"email": "a@example.com", "username": "Ann", "password": password}).to_string();
    assert_eq!(post(server.address, "/createUser", &account("a good password")).status, 200);
    assert_eq!(post(server.address, "/login", &account("a good password")).status, 200);
    assert_eq!(post(server.address, "/login", &account("a bad password")).status, 401);
    let mut client = server.join("Bob");
    client.say("hello");
    client.texts_until("hello");
    client.send("{");
    while client.event().0 != "error" {}
    server
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let server = used_server();
    let metrics = classic(&server);
    let samples: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let name = Regex::new(r"\b(?:ich|process)_[a-z_]+").expect("an expression");
    let dashboard: Value = serde_json::from_str(&text_of("doc/grafana.json")).expect("JSON");
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    expressions.push(dashboard["templating"].to_string());
    let rules = text_of("doc/alerts.yml");
    expressions.extend(rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)));
    let named: Vec<&str> =
        expressions.iter().flat_map(|text| name.find_iter(text)).map(|found| found.as_str()).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(samples.contains(name), "{name} is not in {samples:?}");
    }
}

/// Each alert has its line on the page.
#[test]
fn each_alert_is_documented() {
    let page = text_of("doc/monitoring.md");
    let rules = text_of("doc/alerts.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(page.contains(&format!("`{alert}`")), "{alert}");
    }
}

/// Runs `promtool` with these arguments and this input. False if it is not installed.
fn promtool(arguments: &[&str], input: &str) -> bool {
    let spawned = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        skip("promtool (Debian: prometheus)");
        return false;
    };
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("writing");
    let output = child.wait_with_output().expect("its output");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    true
}

#[test]
fn promtool_accepts_the_metrics() {
    let server = used_server();
    promtool(&["check", "metrics"], &classic(&server));
}

#[test]
fn promtool_accepts_the_alert_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/alerts.yml");
    promtool(&["check", "rules", path.to_str().expect("text")], "");
}

#[test]
fn what_happens_is_counted() {
    let server = used_server();
    let metrics = get(server.address, "/metrics").body;
    for (sample, expected) in [
        ("ich_http_errors_total{code=\"wrong_credentials\"}", 1.0),
        ("ich_http_errors_total{code=\"full\"}", 0.0),
        ("ich_error_frames_total{code=\"bad_json\"}", 1.0),
        ("ich_error_frames_total{code=\"duplicate\"}", 0.0),
        ("ich_login_duration_seconds_count", 2.0),
        ("ich_delivery_duration_seconds_count", 1.0),
        ("ich_ready", 1.0),
        ("ich_dependency_available{dependency=\"event_log\"}", 1.0),
        ("ich_dependency_available{dependency=\"accounts\"}", 1.0),
        ("process_threads", value(&metrics, "process_threads").max(5.0)),
    ] {
        assert_eq!(value(&metrics, sample), expected, "{sample}");
    }
    assert!(value(&metrics, "ich_round_size_bytes_sum") > 100.0, "{metrics}");
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6, "{metrics}");
    // The records of the instance come back, and none is left in flight.
    wait_until("an empty queue", || {
        let metrics = get(server.address, "/metrics").body;
        ["ich_event_log_queue_records", "ich_records_in_flight", "ich_event_log_lag_seconds"]
            .iter()
            .all(|sample| value(&metrics, sample) == 0.0)
    });
}

/// The queued bytes of a client that does not read are in the metrics, and are gone when the client is.
#[test]
fn the_bytes_that_wait_for_clients_are_measured() {
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0"), ("ICH_OUTBOX_BYTES", "100000000")]);
    let queued = || value(&get(server.address, "/metrics").body, "ich_outbox_bytes");
    let sleeper = server.join("Sleeper");
    let mut speaker = server.join("Speaker");
    let text = "x".repeat(4000);
    wait_until("queued bytes", || {
        (0..200).for_each(|_| speaker.say(&text));
        speaker.say("end");
        speaker.texts_until("end");
        queued() > 0.0
    });
    sleeper.vanish();
    wait_until("no queued bytes", || queued() == 0.0);
    speaker.leave();
}

#[test]
fn readiness_names_each_dependency() {
    let server = Server::start(&[]);
    let ready = get(server.address, "/ready").json();
    assert_eq!(ready, json!({"status": "ready", "dependencies": {"event_log": "available", "accounts": "available"}}));
    let (_silent, port) = silent_listener();
    let url = format!("postgres://ich@127.0.0.1:{port}/ich");
    let server = Server::launch(&[("ICH_DATABASE_URL", &url)]);
    let waiting = wait_for("the event log", || {
        let answer = get(server.address, "/ready").json();
        (answer["dependencies"]["event_log"] == "available").then_some(answer)
    });
    assert_eq!(waiting["dependencies"]["accounts"], "unavailable");
    assert_eq!(waiting["error"], "not_ready");
    assert_eq!(waiting["message"], "the database of accounts does not answer");
    let metrics = get(server.address, "/metrics").body;
    assert_eq!(value(&metrics, "ich_ready"), 0.0);
    assert_eq!(value(&metrics, "ich_dependency_available{dependency=\"accounts\"}"), 0.0);
}

/// The filter of the docs, with the parts that fail2ban replaces: the prefix that a syslog would add, and the address.
#[test]
fn the_filter_for_fail2ban_finds_failed_logins_and_nothing_else() {
    let page = text_of("doc/monitoring.md");
    let filter = page.lines().find_map(|line| line.strip_prefix("failregex = ")).expect("the filter");
    let expression = filter.replace("%(__prefix_line)s", "").replace("<ADDR>", "(?P<address>[0-9a-f.:]+)");
    let expression = Regex::new(&expression).expect("an expression");
    let server = used_server();
    // Its text ends like a failed login.
    let origin = "x WARN  ich::failed_login: failed login from 192.0.2.1";
    let head = format!("GET /join HTTP/1.1\r\nHost: test\r\nOrigin: {origin}\r\nAuthorization: Bearer x\r\n\r\n");
    assert_eq!(raw(server.address, head.as_bytes()).status, 403);
    let log = wait_for("the line", || Some(server.log()).filter(|log| log.contains("failed login from 127.0.0.1")));
    let found: Vec<&str> =
        log.lines().filter_map(|line| Some(expression.captures(line)?.name("address")?.as_str())).collect();
    assert_eq!(found, ["127.0.0.1"], "{log}");
}
