//! Benchmarks of the code that runs once per event, per delivery or per join.
//!
//!     cargo bench                       measures times; they depend on the machine and on what else it does
//!     benches/instructions              counts instructions; they depend on the compiler only
//!
//! [`cases`] has the operations. `benches/instructions` uses two options: `--list` prints the name of each operation and
//! how often to run it, and `--run NAME COUNT` runs one so often in [`measured_part`].

mod cases;
mod lobby;
mod sessions;

use std::process::ExitCode;

use cases::{CASES, Case, Operation};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list"] => CASES.iter().for_each(|case| println!("{case} {}", case.count)),
        ["--run", name, count] => {
            let case = CASES.iter().find(|case| case.name == *name);
            let (Some(case), Ok(count)) = (case, count.parse()) else {
                eprintln!("hot_paths: no operation {name}, or {count} is no number");
                return ExitCode::from(2);
            };
            let mut operation = (case.prepare)();
            // The first time, buffers grow.
            operation();
            measured_part(&mut operation, count);
        }
        _ => divan::main(),
    }
    ExitCode::SUCCESS
}

/// The part of a run that callgrind counts: it knows the function by its name.
#[inline(never)]
fn measured_part(operation: &mut Operation, count: u64) {
    for _ in 0..count {
        operation();
    }
}

#[divan::bench(args = CASES)]
fn hot_path(bencher: divan::Bencher<'_, '_>, case: &Case) {
    bencher.bench_local((case.prepare)());
}
