//! Prints the figures of all runs as a table and writes them as JSON.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::figures::{Figure, Run};
use crate::options::Options;
use crate::process::machine;

pub const LABEL_WIDTH: usize = 44;
pub const WIDTH: usize = 14;

/// Prints one table with a column per run and, with several runs, the ratio of the last to the first.
pub fn print(options: &Options, runs: &[Run]) {
    let (cores, kernel, memory_mib) = machine();
    println!("\n{cores} cores, {memory_mib:.0} MiB, Linux {kernel}; the clients ran on the same machine");
    println!(
        "{} clients, {} of them send {} messages per second of {} bytes",
        options.total_clients(),
        options.senders,
        options.rate,
        options.bytes
    );
    let Some(last) = runs.last() else { return };
    for (number, phase) in last.phases.iter().enumerate() {
        print!("\n{:<LABEL_WIDTH$}", phase.name);
        if number == 0 {
            runs.iter().for_each(|run| print!("{:>WIDTH$}", run.name));
            if runs.len() > 1 {
                print!("{:>WIDTH$}", "ratio");
            }
        }
        println!();
        for figure in &phase.figures {
            print!("  {:<width$}", figure.label, width = LABEL_WIDTH - 2);
            let values: Vec<Option<f64>> = runs.iter().map(|run| find(run, phase.name, figure)).collect();
            for value in &values {
                let text = value.map_or("-".to_owned(), |value| grouped(value, figure.decimals));
                print!("{text:>WIDTH$}");
            }
            match values.as_slice() {
                [Some(first), .., Some(last)] if figure.comparable && *first > 0.0 => {
                    print!("{:>WIDTH$.2}", last / first)
                }
                _ => {}
            }
            println!();
        }
    }
    println!();
    for run in runs {
        run.remarks.iter().for_each(|remark| println!("{}: {remark}", run.name));
        run.failures.iter().for_each(|failure| println!("{}: FAILURE: {failure}", run.name));
        if run.failures.is_empty() {
            println!("{}: nothing lost, duplicated or out of order; no client that reads was disconnected", run.name);
        }
    }
}

fn find(run: &Run, phase: &str, wanted: &Figure) -> Option<f64> {
    let phase = run.phases.iter().find(|other| other.name == phase)?;
    let value = phase.figures.iter().find(|figure| figure.key == wanted.key)?.value;
    value.is_finite().then_some(value)
}

/// Formats a number with spaces between groups of three digits.
pub fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = whole.trim_start_matches('-');
    let mut out = String::from(if whole.starts_with('-') { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out + rest
}

/// The options, the figures and the machine as JSON.
pub fn document(options: &Options, runs: &[Run]) -> Value {
    let (cores, kernel, memory_mib) = machine();
    let default_log = if options.kafka.is_some() { "kafka" } else { "sqlite" };
    let run = |run: &Run| {
        let mut phases = Map::new();
        for phase in &run.phases {
            let figures = phase.figures.iter().map(|figure| (figure.key.to_owned(), json!(figure.value)));
            phases.insert(phase.name.to_owned(), Value::Object(figures.collect()));
        }
        json!({ "name": run.name, "phases": phases, "failures": run.failures, "remarks": run.remarks })
    };
    json!({
        "scenario": {
            "clients": options.clients, "senders": options.senders, "messages_per_second": options.rate,
            "text_bytes": options.bytes, "chat_seconds": options.seconds, "storm": options.storm,
            "drop_and_return": options.drop_and_return, "slow_clients": options.slow,
            "joins_and_leaves_per_second": options.trickle, "restart_every_seconds": options.restart_every, "idle_seconds": options.idle, "logins": options.logins,
            "outstanding_joins": options.outstanding, "processes": options.process_count(), "instances": options.instances,
            "event_log": options.event_log.as_deref().unwrap_or(default_log), "postgresql": options.database.is_some(),
            "records_before_the_start": options.history,
        },
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
        "machine": { "cores": cores, "kernel": kernel, "memory_mib": memory_mib.round() },
    })
}

/// Writes `document` to `path`.
pub fn write_json(path: &Path, document: &Value) -> Result<(), String> {
    let text = format!("{document:#}\n");
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_thousands() {
        assert_eq!(grouped(1_234_567.891, 1), "1 234 567.9");
        assert_eq!(grouped(-1234.0, 0), "-1 234");
        assert_eq!(grouped(999.0, 0), "999");
    }
}
