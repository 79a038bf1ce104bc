//! Runs the simulation on many seeds: `cargo run --release --example simulate -- 10000 [first_seed]`, or
//! `-- --seed N` to run one again. At the first violation it shows the last events, and exits with 1.

use std::process::ExitCode;

#[path = "../tests/simulator/mod.rs"]
mod simulator;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    match (arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), numbers.as_slice()) {
        (["--seed", _], [seed]) => run(*seed, 1),
        ([_], [count]) => run(0, *count),
        ([_, _], [count, first_seed]) => run(*first_seed, *count),
        _ => {
            eprintln!("usage: simulate COUNT [FIRST_SEED] | simulate --seed SEED");
            ExitCode::from(2)
        }
    }
}

fn run(first_seed: u64, count: u64) -> ExitCode {
    let (mut records, mut virtual_seconds) = (0, 0);
    for (done, seed) in (1..=count).zip(first_seed..) {
        match simulator::run(seed) {
            Ok(report) => {
                records += report.records;
                virtual_seconds += report.virtual_seconds;
            }
            Err(violation) => {
                println!("{}", simulator::explain(seed, &violation));
                return ExitCode::FAILURE;
            }
        }
        if done % 500 == 0 {
            eprintln!("{done} of {count} seeds");
        }
    }
    println!(
        "{count} seeds from {first_seed}: {records} records in {} virtual hours, no violation",
        virtual_seconds / 3600
    );
    ExitCode::SUCCESS
}
