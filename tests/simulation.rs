//! Some hundred seeded runs of several instances over one virtual log. `examples/simulate.rs` runs thousands.

mod simulator;

const SEEDS_PER_TEST: u64 = 75;

fn run(first_seed: u64) {
    for seed in first_seed..first_seed + SEEDS_PER_TEST {
        if let Err(violation) = simulator::run(seed) {
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
