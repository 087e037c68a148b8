//! The results of many runs, for people.

use std::fmt::Write as _;

use crate::counts::Counts;
use crate::fault::{CALLS, Fault};

/// The report: speed, calls, faults, and which fault happened to which call.
#[must_use]
pub fn report(counts: &Counts, seconds: f64) -> String {
    let mut text = String::new();
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    let (runs, calls) = (counts.runs as f64, counts.all_calls() as f64);
    #[allow(clippy::cast_precision_loss)]
    let (faults, environments, services) =
        (counts.all_faults() as f64, counts.environments as f64, counts.services as f64);
    let _ = writeln!(
        text,
        "{} runs in {seconds:.1} s: {:.1} runs/s, {:.0} simulated calls/s\n\
         a run has on average {:.0} calls, {:.1} services, {:.1} environments, {:.1} faults, {} virtual seconds",
        counts.runs,
        runs / seconds,
        calls / seconds,
        calls / runs,
        services / runs,
        environments / runs,
        faults / runs,
        counts.seconds / counts.runs.max(1),
    );
    for (title, map) in [("calls", &counts.calls), ("answers", &counts.answers), ("troubles", &counts.troubles)] {
        let listed: Vec<String> = map.iter().map(|(name, number)| format!("{name} {number}")).collect();
        let _ = writeln!(text, "{title}: {}", listed.join(", "));
    }
    text.push_str("faults, by call:\n");
    let (mut impossible, mut not_met) = (Vec::new(), Vec::new());
    for call in CALLS {
        let mut met = Vec::new();
        for fault in Fault::ALL {
            let number = counts.faults.get(&format!("{call} {}", fault.name())).copied().unwrap_or_default();
            match (number, fault.impossible(call)) {
                (0, Some(why)) => impossible.push((why, call, fault.name())),
                (0, None) => not_met.push(format!("{call} {}", fault.name())),
                _ => met.push(format!("{} {number}", fault.name())),
            }
        }
        let _ = writeln!(text, "  {call:<27} {}", met.join(", "));
    }
    impossible.sort_unstable();
    for group in impossible.chunk_by(|one, next| one.0 == next.0) {
        let pairs: Vec<String> = group.iter().map(|(_, call, fault)| format!("{call} {fault}")).collect();
        let _ = writeln!(text, "impossible, since {}: {}", group[0].0, pairs.join(", "));
    }
    let _ = writeln!(text, "not met: {}", if not_met.is_empty() { "none".to_owned() } else { not_met.join(", ") });
    text
}
