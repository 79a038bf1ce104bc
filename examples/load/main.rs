//! Puts a chat server under load and measures it: `cargo run --release --example load -- --help`.
//!
//! [`options`] parses the command line, [`target`] starts the servers (or the bare loop of [`baseline`], for
//! comparison), [`scenario`] makes the clients of [`engines`] join, chat and leave, [`ledger`] checks what each client
//! received, [`report`] prints the figures, and [`compare`] compares them with those of an earlier run.

mod bare_kafka;
mod baseline;
mod client;
mod clock;
mod compare;
mod engine;
mod engines;
mod events;
mod figures;
mod histogram;
mod history;
#[path = "../../tests/harness/jwt.rs"]
mod jwt;
mod launch;
mod ledger;
mod logins;
mod options;
mod pacer;
mod probe;
mod process;
mod progress;
mod report;
mod restarts;
mod scenario;
mod target;
mod window;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use compare::Earlier;
use figures::Run;
use options::Options;
use scenario::Scenario;
use target::Target;

/// With more clients the bare loop sends no presence events: the joins alone would take minutes.
const BARE_PRESENCE_MAX_CLIENTS: usize = 2000;
/// Open files allowed for besides the sockets of the clients.
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
        let sends_presence = arguments.next().is_none_or(|second| second != baseline::NO_PRESENCE_ARGUMENT);
        return baseline::serve(sends_presence).map(|never| match never {}).map_err(|error| error.to_string());
    }
    if arguments.next_if(|first| first == engines::WORKER_ARGUMENT).is_some() {
        return engines::run_as_worker().map(|()| ExitCode::SUCCESS);
    }
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let Some(options) = Options::parse(arguments)? else {
        println!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let earlier = options.compare.as_deref().map(Earlier::read).transpose()?;
    let runs = measure(&options)?;
    report::print(&options, &runs);
    let document = report::document(&options, &runs);
    if let Some(path) = &options.json {
        report::write_json(path, &document)?;
    }
    if let Some(earlier) = &earlier {
        earlier.print(&document, &runs);
    }
    // Failures of the bare loop are printed but do not fail the run: it is there for comparison only.
    let passed = runs.iter().filter(|run| run.name == "ich").all(|run| run.failures.is_empty());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(options: &Options) -> Result<Vec<Run>, String> {
    let files = process::raise_file_limit();
    let clients = options.parts().iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    if ((clients + OTHER_FILES) as u64) > files {
        return Err(format!(
            "{clients} clients in one process exceed the limit of {files} open files: raise it with ulimit -n, or use \
             more --processes"
        ));
    }
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, its figures are not representative: use cargo run --release");
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| format!("cannot install a signal handler: {error}"))?;
    }
    let mut runs = Vec::new();
    if options.baseline {
        if options.slow > 0 {
            eprintln!("the bare loop blocks on a client that never reads: it is measured without --slow");
        }
        let sends_presence = options.total_clients() <= BARE_PRESENCE_MAX_CLIENTS;
        if !sends_presence {
            eprintln!(
                "the bare loop sends no presence events with more than {BARE_PRESENCE_MAX_CLIENTS} clients: they would \
                 take minutes"
            );
        }
        let without_slow = Options { slow: 0, ..options.clone() };
        let target = Target::bare_loop(sends_presence)?;
        runs.push(Scenario::new(&without_slow, target, Arc::clone(&interrupted))?.run()?);
    }
    if let (true, Some(brokers)) = (options.bare_kafka, &options.kafka) {
        runs.push(bare_kafka::run(brokers, options.rate, options.bytes, options.seconds)?);
    }
    if options.measure_server {
        runs.push(Scenario::new(options, Target::from_options(options)?, interrupted)?.run()?);
    }
    Ok(runs)
}
