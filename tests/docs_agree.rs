//! The docs agree with the program: settings, errors, close codes, metrics, and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ich::config::{Config, SETTINGS};
use ich::http::ApiError;
use ich::metrics::Metrics;
use ich::session::end::End;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of all tables of a page, as cells without backticks.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let inside = line.trim().trim_start_matches('|').trim_end_matches('|').to_owned();
        inside.split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    text_of(page).lines().filter(|line| line.starts_with("| ")).map(cells).collect()
}

#[test]
fn the_table_of_settings_agrees_with_the_program() {
    let rows = rows("doc/operations.md");
    let documented: Vec<_> = rows.iter().filter(|row| row[0].starts_with("ICH_")).collect();
    let settings: Vec<_> = SETTINGS.iter().map(|it| vec![it.name, it.default, it.meaning]).collect();
    assert_eq!(documented.len(), settings.len());
    for (documented, setting) in documented.iter().zip(settings) {
        assert_eq!(**documented, setting);
    }
}

#[test]
fn the_settings_in_env_agree_with_the_program() {
    let file = text_of(".env");
    let lines: Vec<&str> = file.lines().collect();
    assert!(lines.iter().all(|line| line.is_empty() || line.starts_with('#')), "the committed .env sets something");
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

/// The values of these settings in `.env`, which are commented out.
fn examples(names: &[&str]) -> BTreeMap<String, String> {
    let file = text_of(".env");
    let lines = file.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    lines.filter(|(name, _)| names.contains(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_settings_for_several_instances_agree_with_each_other_and_with_docker_compose() {
    let names = ["ICH_DATABASE_URL", "ICH_KAFKA_BROKERS", "ICH_JWT_SECRET"];
    let values = examples(&names);
    assert_eq!(values.len(), names.len());
    Config::from_values(&values, Vec::new()).expect("valid settings");
    assert!(text_of("docker-compose.yml").contains(&values["ICH_JWT_SECRET"]), "the instances have different secrets");
}

/// The text of each source file of the program, without its unit tests.
fn sources() -> Vec<String> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let program = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("text");
        text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
    };
    files.iter().map(program).collect()
}

/// The first string literal after each occurrence of `call`, and the text between them.
fn first_text_behind<'a>(source: &'a str, call: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    source.split(call).skip(1).filter_map(|behind| {
        let (between, quoted) = behind.split_once('"')?;
        // Skips calls whose first argument is not a literal.
        let is_literal = between.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || c == ',');
        is_literal.then(|| Some((between, quoted.split_once('"')?.0)))?
    })
}

#[test]
fn the_table_of_http_errors_agrees_with_the_program() {
    let is_error_status = |status: &str| status.len() == 3 && matches!(status.as_bytes()[0], b'4' | b'5');
    let documented: Vec<_> = rows("doc/api.md")
        .into_iter()
        .filter(|row| is_error_status(&row[0]))
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let errors = ApiError::ALL.map(|error| (error.row().status.to_string(), error.row().code.to_owned()));
    let sorted = |rows: &[(String, String)]| rows.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&documented), sorted(&errors));
    assert_eq!(documented.len(), errors.len(), "a row occurs twice");
}

#[test]
fn the_codes_of_error_frames_agree_with_the_program() {
    let mut used = BTreeSet::new();
    for source in sources() {
        for call in ["ClientError::new(", "fail("] {
            used.extend(first_text_behind(&source, call).map(|(_, code)| code.to_owned()));
        }
    }
    assert!(used.len() > 9, "{used:?}");
    let page = text_of("doc/api.md");
    let (_, behind) = page.split_once("### error").expect("the section about error frames");
    let (section, _) = behind.split_once("\n## ").expect("a section behind it");
    let codes = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(used, codes.map(|(code, _)| code.to_owned()).collect());
}

#[test]
fn every_end_of_a_session_is_documented() {
    let rows = rows("doc/api.md");
    for end in End::ALL {
        let end = end.row();
        let code = end.code.to_string();
        assert!(rows.iter().any(|row| row[0] == code && row[1] == end.label), "{code} {}", end.label);
    }
}

#[test]
fn every_metric_is_documented() {
    let page = text_of("doc/operations.md");
    let end_reasons = End::ALL.map(|end| end.row().label);
    for line in Metrics::new(Arc::default(), &end_reasons).encode().lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{")), "{name}");
    }
}

/// Without `-E`, websocat waits for input after the server has closed the connection.
#[test]
fn every_websocat_command_ends_when_the_server_closes() {
    for page in ["README.md", "doc/api.md"] {
        let text = text_of(page);
        let commands: Vec<_> =
            text.lines().filter(|line| line.contains("websocat ") && line.contains("ws://")).collect();
        assert!(!commands.is_empty(), "{page}");
        assert!(commands.iter().all(|command| command.contains("websocat -E ")), "{page}: {commands:?}");
    }
}

#[test]
fn links_between_pages_are_valid() {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    pages.extend(fs::read_dir(root().join("doc")).expect("doc").map(|entry| entry.expect("an entry").path()));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).expect("text");
        for target in text.split("](").skip(1).filter_map(|behind| behind.split_once(')').map(|(target, _)| target)) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") {
                let folder = page.parent().expect("a folder");
                assert!(folder.join(path).exists(), "{}: {target}", page.display());
            }
        }
    }
}
