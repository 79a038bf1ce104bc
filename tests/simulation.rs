//! 160 seeded runs of several instances on one virtual log. `examples/simulate.rs` runs as many as you want.

use std::thread;

mod simulator;

use simulator::Seen;

const THREADS: u64 = 4;
const SEEDS_PER_THREAD: u64 = 40;

fn run(first_seed: u64) -> Result<Vec<Seen>, String> {
    let seeds = first_seed..first_seed + SEEDS_PER_THREAD;
    seeds
        .map(|seed| match simulator::run(seed) {
            (seen, Ok(())) => Ok(seen),
            (_, Err(violation)) => Err(simulator::explain(seed, &violation)),
        })
        .collect()
}

#[test]
fn all_rules_hold_and_the_runs_contain_the_hard_cases() {
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || run(number * SEEDS_PER_THREAD))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of the simulation")).collect()
    });
    let mut runs = Vec::new();
    for result in results {
        runs.extend(result.unwrap_or_else(|text| panic!("{text}")));
    }
    eprintln!(
        "FIRST {:?} {:?}",
        runs.iter().map(|s: &Seen| s.archive.first_gaps).sum::<usize>(),
        runs.iter().map(|s: &Seen| s.archive.gaps).sum::<usize>()
    );
    let sum = |count: fn(&Seen) -> usize| runs.iter().map(count).sum::<usize>();
    // At most a third of what 160 seeds contain on average, so that a change of the rules or of the random numbers does
    // not fail this test, and a fault that is no longer injected does.
    assert!(sum(|seen| seen.records) > 40_000);
    assert!(sum(|seen| seen.duplicates) > 1_400);
    assert!(sum(|seen| seen.parts_of_rosters) > 4_500);
    assert!(sum(|seen| seen.actions) > 500);
    assert!(sum(|seen| seen.ignored_messages) > 25);
    assert!(sum(|seen| seen.expired_instances) > 300);
    assert!(sum(|seen| seen.last_byes) > 30);
    assert!(sum(|seen| seen.idle_instances) > 15);
    assert!(sum(|seen| seen.repeated_messages) > 1_900);
    assert!(sum(|seen| seen.reused_ids) > 300);
    assert!(sum(|seen| seen.complete_returns) > 2_500);
    assert!(sum(|seen| seen.incomplete_returns) > 2_200);
    assert!(sum(|seen| seen.unknown_repetitions) > 150);
    assert!(sum(|seen| seen.archive.archived) > 5_500);
    assert!(sum(|seen| seen.archive.takeovers) > 270);
    assert!(sum(|seen| seen.archive.lost_answers) > 40);
    assert!(sum(|seen| seen.archive.conflicts) > 40);
    assert!(sum(|seen| seen.archive.gaps) > 10);
    assert!(sum(|seen| seen.archive.first_gaps) > 2);
    assert!(sum(|seen| seen.archive.widened) > 100);
}

#[test]
fn a_seed_always_gives_the_same_run() {
    assert_eq!(simulator::last_events(7), simulator::last_events(7));
}
