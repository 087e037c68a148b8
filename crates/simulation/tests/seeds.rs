//! Some hundreds of seeds, one in fifty twice; `SIMULATION_SEEDS` and `SIMULATION_FROM` choose others.

#![allow(clippy::unwrap_used)]

use ecs_updater_simulation::plan::Plan;
use ecs_updater_simulation::run::{Report, run};
use ecs_updater_simulation::trace::Keep;

/// How many seeds each of the threads runs.
const SEEDS: u64 = 300;
/// One seed in so many is run twice.
const TWICE: u64 = 50;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs seeds, on two threads: what the SDK keeps for a process is kept by region, and each seed has its own.
fn each(seeds: impl Fn() -> std::ops::Range<u64> + Sync, keep: Keep, judge: impl Fn(u64, &Report) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (seeds, judge) = (&seeds, &judge);
            scope.spawn(move || {
                for seed in seeds().filter(|seed| seed % 2 == thread) {
                    judge(seed, &run(&Plan::of_seed(seed), keep));
                }
            });
        }
    });
}

#[test]
fn nothing_is_broken() {
    let (from, seeds) = (number("SIMULATION_FROM", 0), number("SIMULATION_SEEDS", SEEDS));
    each(
        || from..from + seeds,
        Keep::Nothing,
        |seed, report| {
            assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        },
    );
}

#[test]
fn the_same_seed_is_the_same_run_and_another_seed_another() {
    let seeds = number("SIMULATION_SEEDS", SEEDS);
    let digests = std::sync::Mutex::new(std::collections::BTreeSet::new());
    each(
        || 0..seeds.div_ceil(TWICE),
        Keep::Digest,
        |seed, first| {
            let again = run(&Plan::of_seed(seed), Keep::Digest);
            assert_eq!(again.digest, first.digest, "seed {seed}");
            assert!(digests.lock().unwrap().insert(again.digest), "seed {seed} is as another one");
        },
    );
}

#[test]
fn a_plan_is_replayed_from_its_json() {
    let first = run(&Plan::of_seed(4), Keep::Digest);
    let written = serde_json::to_string(&first.plan).unwrap();
    let plan: Plan = serde_json::from_str(&written).unwrap();
    assert_eq!(run(&plan, Keep::Digest).digest, first.digest);
}

#[test]
fn runs_are_large_enough() {
    let mut counts = ecs_updater_simulation::counts::Counts::default();
    for seed in 0..20 {
        counts.add(&run(&Plan::of_seed(seed), Keep::Nothing).counts);
    }
    let average = |number: u64| number / counts.runs;
    assert!(average(counts.all_calls()) >= 200, "{counts:?}");
    assert!(average(counts.services) >= 3, "{counts:?}");
    assert!(average(counts.environments) >= 8, "{counts:?}");
    assert!(average(counts.all_faults()) >= 10, "{counts:?}");
}
