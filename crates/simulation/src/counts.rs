//! How much happened in a run, or in many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How much happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// Simulated calls.
    pub calls: BTreeMap<String, u64>,
    /// Faults of calls, by call and fault, such as `UpdateService cut_after`.
    pub faults: BTreeMap<String, u64>,
    /// What else went wrong, by kind.
    pub troubles: BTreeMap<String, u64>,
    /// Execution environments.
    pub environments: u64,
    /// Services.
    pub services: u64,
    /// Answers of the updater, by status or code.
    pub answers: BTreeMap<String, u64>,
    /// Virtual seconds.
    pub seconds: u64,
}

impl Counts {
    /// Adds one to an entry of a map.
    pub fn one(map: &mut BTreeMap<String, u64>, name: &str) {
        match map.get_mut(name) {
            Some(number) => *number += 1,
            None => {
                map.insert(name.to_owned(), 1);
            }
        }
    }

    /// All calls.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Everything that went wrong.
    #[must_use]
    pub fn all_faults(&self) -> u64 {
        self.faults.values().chain(self.troubles.values()).sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        let add = |to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>| {
            for (name, number) in from {
                *to.entry(name.clone()).or_default() += number;
            }
        };
        add(&mut self.calls, &other.calls);
        add(&mut self.faults, &other.faults);
        add(&mut self.troubles, &other.troubles);
        add(&mut self.answers, &other.answers);
        self.runs += other.runs;
        self.environments += other.environments;
        self.services += other.services;
        self.seconds += other.seconds;
    }
}
