//! Some hundred seeded runs of several instances over one virtual log. `examples/simulate.rs` runs thousands.

mod simulator;

const SEEDS_PER_TEST: u64 = 40;

fn run(first_seed: u64) {
    for seed in first_seed..first_seed + SEEDS_PER_TEST {
        if let (_, Err(violation)) = simulator::run(seed) {
            panic!("{}", simulator::explain(seed, &violation));
        }
    }
}

// In several tests, so that they run side by side.

#[test]
fn what_must_hold_holds_in_the_first_seeds() {
    run(0);
}

#[test]
fn what_must_hold_holds_in_the_second_seeds() {
    run(SEEDS_PER_TEST);
}

#[test]
fn what_must_hold_holds_in_the_third_seeds() {
    run(2 * SEEDS_PER_TEST);
}

#[test]
fn what_must_hold_holds_in_the_fourth_seeds() {
    run(3 * SEEDS_PER_TEST);
}

#[test]
fn the_runs_contain_what_is_hard() {
    let all: Vec<_> = (0..SEEDS_PER_TEST).map(|seed| simulator::run(seed).0).collect();
    let sum = |count: fn(&simulator::Seen) -> usize| all.iter().map(count).sum::<usize>();
    assert!(sum(|seen| seen.records) > 3_000);
    assert!(sum(|seen| seen.duplicates) > 50);
    assert!(sum(|seen| seen.parts_of_rosters) > 100);
    assert!(sum(|seen| seen.ignored_messages) > 0);
    assert!(sum(|seen| seen.lost_instances) > 10);
    assert!(sum(|seen| seen.last_byes) > 0);
    assert!(sum(|seen| seen.repeated_messages) > 100);
    assert!(sum(|seen| seen.reused_ids) > 20);
    assert!(sum(|seen| seen.complete_returns) > 200);
    assert!(sum(|seen| seen.incomplete_returns) > 50);
    assert!(sum(|seen| seen.unknown_repetitions) > 0);
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    assert_eq!(simulator::last_events(7), simulator::last_events(7));
}
