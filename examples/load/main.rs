//! Puts a chat server under load and measures it: `cargo run --release --example load -- --help`.
//!
//! [`options`] says what is wanted, [`target`] starts what is measured (or [`baseline`], the yardstick), [`scenario`]
//! has the people of [`engine`] come, chat and go, [`ledger`] checks what each of them saw, [`report`] prints it.

mod bare_kafka;
mod baseline;
mod client;
mod clock;
mod engine;
mod events;
mod figures;
mod histogram;
mod history;
mod ledger;
mod logins;
mod options;
mod pacer;
mod process;
mod progress;
mod report;
mod scenario;
mod target;
mod window;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use figures::Run;
use options::Options;
use scenario::Scenario;
use target::Target;

/// With more people than that, the bare loop would take minutes to tell everybody of each.
const BARE_PRESENCE_PEOPLE_MAX: usize = 2000;
/// Files that are open beside the clients' sockets.
const OTHER_FILES: usize = 64;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("load: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == process::CHILD_ARGUMENT).is_some() {
        return process::run_as_child(arguments).map(|never| match never {});
    }
    if arguments.next_if(|first| first == baseline::BASELINE_ARGUMENT).is_some() {
        let tells_presence = arguments.next().is_none_or(|second| second != baseline::SILENT_ARGUMENT);
        return baseline::serve(tells_presence).map(|never| match never {}).map_err(|error| error.to_string());
    }
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let Some(options) = Options::parse(arguments)? else {
        println!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let runs = measure(&options)?;
    report::print(&options, &runs);
    if let Some(path) = &options.json {
        report::write_json(path, &options, &runs)?;
    }
    // The bare loop is a yardstick: what it loses is said, and is no failure.
    let sound = runs.iter().filter(|run| run.name == "ich").all(|run| run.faults.is_empty());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(options: &Options) -> Result<Vec<Run>, String> {
    let files = process::raise_file_limit();
    if ((options.people() + OTHER_FILES) as u64) > files {
        return Err(format!("{} people need more than the {files} open files that are allowed", options.people()));
    }
    if cfg!(debug_assertions) {
        eprintln!("this is a build for debugging: its figures say little; use --release");
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| format!("cannot watch for signals: {error}"))?;
    }
    let mut runs = Vec::new();
    if options.baseline {
        if options.slow > 0 {
            eprintln!("the bare loop stops at the first one who never reads: it is measured without them");
        }
        let tells_presence = options.people() <= BARE_PRESENCE_PEOPLE_MAX;
        if !tells_presence {
            eprintln!("the bare loop tells nobody who comes and goes: it would take minutes");
        }
        let without_slow = Options { slow: 0, ..options.clone() };
        let target = Target::bare_loop(tells_presence)?;
        runs.push(Scenario::new(&without_slow, target, Arc::clone(&interrupted))?.run()?);
    }
    if let (true, Some(brokers)) = (options.bare_kafka, &options.kafka) {
        runs.push(bare_kafka::run(brokers, options.rate, options.bytes, options.seconds)?);
    }
    if options.server_too {
        runs.push(Scenario::new(options, Target::from_options(options)?, interrupted)?.run()?);
    }
    Ok(runs)
}
