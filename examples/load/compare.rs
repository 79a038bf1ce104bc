//! Compares the figures of this run with those that an earlier run wrote with `--json` (`--compare`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::figures::Run;
use crate::report::{LABEL_WIDTH, WIDTH, grouped};

/// The document of the earlier run.
pub struct Earlier {
    path: PathBuf,
    document: Value,
}

impl Earlier {
    /// Reads the document at `path`. To be called before the measurement, which takes long.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("--compare: cannot read {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let document: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        if document["runs"].as_array().is_none_or(Vec::is_empty) {
            return Err(failed(&"it has no figures of this tool's --json"));
        }
        Ok(Self { path: path.to_owned(), document })
    }

    /// Prints what differs in the options, and each figure of both runs with the ratio of the later to the earlier.
    /// `document` is that of `runs`.
    pub fn print(&self, document: &Value, runs: &[Run]) {
        println!("\ncompared with {}:", self.path.display());
        for part in ["scenario", "machine"] {
            differences(&self.document[part], &document[part]).iter().for_each(|line| println!("DIFFERENT {line}"));
        }
        for run in runs {
            if !self.runs().any(|earlier| earlier["name"] == run.name) {
                println!("{}: not in the earlier run", run.name);
                continue;
            }
            println!("\n{:<LABEL_WIDTH$}{:>WIDTH$}{:>WIDTH$}{:>WIDTH$}", run.name, "before", "after", "ratio");
            for phase in &run.phases {
                println!("{}", phase.name);
                for figure in &phase.figures {
                    let (before, after) = (self.figure(run.name, phase.name, figure.key), Some(figure.value));
                    let text = |value: Option<f64>| {
                        let finite = value.filter(|value| value.is_finite());
                        finite.map_or("-".to_owned(), |value| grouped(value, figure.decimals))
                    };
                    let ratio = ratio(before, figure.value).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
                    let width = LABEL_WIDTH - 2;
                    let (label, before, after) = (figure.label, text(before), text(after));
                    println!("  {label:<width$}{before:>WIDTH$}{after:>WIDTH$}{ratio:>WIDTH$}");
                }
            }
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Value> {
        self.document["runs"].as_array().into_iter().flatten()
    }

    fn figure(&self, run: &str, phase: &str, key: &str) -> Option<f64> {
        self.runs().find(|earlier| earlier["name"] == run)?["phases"][phase][key].as_f64()
    }
}

/// The later value in units of the earlier one. `None`: one of them was not measured, or the earlier one is 0.
fn ratio(before: Option<f64>, after: f64) -> Option<f64> {
    let ratio = after / before?;
    ratio.is_finite().then_some(ratio)
}

/// The members of two objects that differ, with both values.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let nothing = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&nothing), after.as_object().unwrap_or(&nothing));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let text = |value: Option<&Value>| value.map_or("not recorded".to_owned(), Value::to_string);
    let differs = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differs.map(|name| format!("{name}: {} before, {} now", text(before.get(name)), text(after.get(name)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_of_the_earlier_run_are_found_by_their_names() {
        let document = json!({ "runs": [
            { "name": "bare loop", "phases": { "chat": { "p99_ms": 1.0 } } },
            { "name": "ich", "phases": { "chat": { "p99_ms": 4.0, "p999_ms": null }, "storm": { "p99_ms": 9.0 } } },
        ] });
        let earlier = Earlier { path: PathBuf::new(), document };
        assert_eq!(earlier.figure("ich", "chat", "p99_ms"), Some(4.0));
        assert_eq!(earlier.figure("ich", "storm", "p99_ms"), Some(9.0));
        for (run, phase, key) in [("ich", "chat", "p999_ms"), ("ich", "idle", "p99_ms"), ("other", "chat", "p99_ms")] {
            assert_eq!(earlier.figure(run, phase, key), None);
        }
    }

    #[test]
    fn a_ratio_needs_two_values() {
        assert_eq!(ratio(Some(4.0), 6.0), Some(1.5));
        assert_eq!(ratio(Some(4.0), 0.0), Some(0.0));
        assert_eq!((ratio(Some(0.0), 6.0), ratio(None, 6.0), ratio(Some(4.0), f64::NAN)), (None, None, None));
    }

    #[test]
    fn options_that_differ_are_named_with_both_values() {
        let before = json!({ "clients": 1000, "bytes": 100, "storm": false });
        let after = json!({ "clients": 2000, "bytes": 100, "processes": 2 });
        let expected = [
            "clients: 1000 before, 2000 now",
            "processes: not recorded before, 2 now",
            "storm: false before, not recorded now",
        ];
        assert_eq!(differences(&before, &after), expected);
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_file_without_figures_is_refused() {
        let path = std::env::temp_dir().join(format!("ich-load-compare-{}", std::process::id()));
        for (text, part) in [("{}", "no figures"), ("no JSON", "expected"), (r#"{"runs":[]}"#, "no figures")] {
            std::fs::write(&path, text).expect("a temporary file");
            assert!(Earlier::read(&path).err().is_some_and(|error| error.contains(part)), "{text}");
        }
        std::fs::remove_file(&path).expect("the temporary file");
        assert!(Earlier::read(&path).err().is_some_and(|error| error.contains("--compare: cannot read")));
    }
}
