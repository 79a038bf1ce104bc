//! The documents and the files for containers agree with the program: settings, errors, close codes, metrics and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ich::config::{Config, SETTINGS};
use ich::http::ApiError;
use ich::metrics::Metrics;
use ich::session::client_error::ErrorCode;
use ich::session::end::End;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of all table rows of a page, without backticks.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let inside = line.trim().trim_start_matches('|').trim_end_matches('|').to_owned();
        inside.split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    text_of(page).lines().filter(|line| line.starts_with("| ")).map(cells).collect()
}

#[test]
fn the_table_of_settings_lists_the_settings_of_the_program() {
    let rows = rows("doc/operations.md");
    let written: Vec<_> = rows.iter().filter(|row| row[0].starts_with("ICH_")).collect();
    let settings: Vec<_> = SETTINGS.iter().map(|it| vec![it.name, it.default, it.meaning]).collect();
    assert_eq!(written.len(), settings.len());
    for (written, setting) in written.iter().zip(settings) {
        assert_eq!(**written, setting);
    }
}

#[test]
fn the_file_of_settings_lists_the_settings_of_the_program() {
    let file = text_of(".env");
    let lines: Vec<&str> = file.lines().collect();
    assert!(lines.iter().all(|line| line.is_empty() || line.starts_with('#')), "the committed file sets nothing");
    let mut named = Vec::new();
    for pair in lines.windows(2) {
        let Some((name, value)) = pair[1].strip_prefix("#ICH_").and_then(|rest| rest.split_once('=')) else { continue };
        let name = format!("ICH_{name}");
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.unwrap_or_else(|| panic!("{name} is not a setting"));
        assert_eq!(pair[0], format!("# {}", setting.meaning));
        // A setting without a default has an example.
        assert!(setting.default == value || (setting.default.is_empty() && !value.is_empty()), "{name}={value}");
        named.push(name);
    }
    assert_eq!(named, SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>());
}

/// The values of these settings in the comments of `.env`.
fn examples(names: &[&str]) -> BTreeMap<String, String> {
    let file = text_of(".env");
    let lines = file.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    lines.filter(|(name, _)| names.contains(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_examples_for_several_instances_are_valid_and_equal_those_of_docker_compose() {
    let names = ["ICH_DATABASE_URL", "ICH_KAFKA_BROKERS", "ICH_JWT_SECRET"];
    let values = examples(&names);
    assert_eq!(values.len(), names.len());
    Config::from_values(&values, Vec::new()).expect("valid settings");
    assert!(
        text_of("docker-compose.yml").contains(&values["ICH_JWT_SECRET"]),
        "docker-compose.yml has another secret than .env"
    );
}

#[test]
fn the_table_of_http_errors_lists_the_errors_of_the_program() {
    let is_error_status = |status: &str| status.len() == 3 && matches!(status.as_bytes()[0], b'4' | b'5');
    let written: Vec<_> = rows("doc/api.md")
        .into_iter()
        .filter(|row| is_error_status(&row[0]))
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let errors = ApiError::ALL.map(|error| (error.row().status.to_string(), error.row().code.to_owned()));
    let sorted = |rows: &[(String, String)]| rows.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&written), sorted(&errors));
    assert_eq!(written.len(), errors.len(), "the table has a row twice");
}

#[test]
fn the_table_of_error_frames_lists_the_codes_of_the_program() {
    let page = text_of("doc/api.md");
    let (_, after) = page.split_once("### error").expect("the section about error frames");
    let (section, _) = after.split_once("\n## ").expect("a section after it");
    let listed: Vec<_> =
        section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)).collect();
    assert_eq!(listed, ErrorCode::ALL.map(|error| error.row().code));
}

#[test]
fn the_table_of_close_codes_lists_the_reasons_of_the_program() {
    let is_close_code = |cell: &str| cell.len() == 4 && cell.parse::<u16>().is_ok();
    let listed: BTreeSet<_> = rows("doc/api.md")
        .into_iter()
        .filter(|row| is_close_code(&row[0]))
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let reasons = End::ALL.map(|end| (end.row().code.to_string(), end.row().label.to_owned()));
    assert_eq!(listed, BTreeSet::from(reasons));
}

#[test]
fn each_metric_is_documented() {
    let page = text_of("doc/monitoring.md");
    let end_reasons = End::ALL.map(|end| end.row().label);
    for line in Metrics::new(Arc::default(), &end_reasons).encode().lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{")), "{name}");
    }
}

/// Without `-E`, websocat waits for input after the server has closed the connection.
#[test]
fn each_websocat_command_ends_when_the_server_closes_the_connection() {
    for page in ["README.md", "doc/api.md"] {
        let text = text_of(page);
        let commands: Vec<_> =
            text.lines().filter(|line| line.contains("websocat ") && line.contains("ws://")).collect();
        assert!(!commands.is_empty(), "{page}");
        assert!(commands.iter().all(|command| command.contains("websocat -E ")), "{page}: {commands:?}");
    }
}

#[test]
fn links_between_pages_lead_to_existing_files() {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for folder in ["doc", "doc/proxies"] {
        pages.extend(fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path()));
    }
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).expect("text");
        for target in text.split("](").skip(1).filter_map(|after| after.split_once(')').map(|(target, _)| target)) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") {
                let folder = page.parent().expect("a folder");
                assert!(folder.join(path).exists(), "{}: {target}", page.display());
            }
        }
    }
}

/// Cargo refuses a manifest that names an example or a benchmark whose file is missing.
#[test]
fn the_build_context_of_the_container_has_the_targets_of_the_manifest() {
    let (manifest, context) = (text_of("Cargo.toml"), text_of(".dockerignore"));
    for (section, folder) in [("[[example]]", "examples"), ("[[bench]]", "benches"), ("[[test]]", "tests")] {
        let is_needed = manifest.lines().any(|line| line == section);
        let is_copied = context.lines().any(|line| line == format!("!{folder}"));
        assert!(is_copied || !is_needed, ".dockerignore leaves out {folder}, which {section} in Cargo.toml needs");
    }
}
