//! What seeds found, as plans: a seed dies with the next change of the harness, a plan does not.

#![allow(clippy::unwrap_used)]

use ecs_updater_simulation::plan::Plan;
use ecs_updater_simulation::run::run;
use ecs_updater_simulation::trace::Keep;

fn scenarios() -> Vec<(String, Plan)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap())
    };
    files.iter().map(read).collect()
}

#[test]
fn every_scenario_is_a_plan_that_says_everything() {
    for (name, plan) in scenarios() {
        assert!(plan.rates.is_none(), "{name} leaves something to chance");
    }
}

#[test]
fn no_scenario_breaks_anything() {
    for (name, plan) in scenarios() {
        let report = run(&plan, Keep::Lines);
        assert!(report.violations.is_empty(), "{name}: {:#?}\n{}", report.violations, report.text);
    }
}
