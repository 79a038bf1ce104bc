//! Runs the simulation of `tests/simulator` with many seeds: `cargo run --release --example simulate -- 10000
//! [first_seed]`, or with one seed: `-- --seed N`. At the first violation it prints the last events and exits with 1.

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
    let mut records = 0;
    for (done, seed) in (1..=count).zip(first_seed..) {
        let (seen, result) = simulator::run(seed);
        records += seen.records;
        if let Err(violation) = result {
            println!("{}", simulator::explain(seed, &violation));
            return ExitCode::FAILURE;
        }
        if done % 500 == 0 {
            eprintln!("{done} of {count} seeds");
        }
    }
    println!("{count} seeds from {first_seed}: {records} records, no violation");
    ExitCode::SUCCESS
}
