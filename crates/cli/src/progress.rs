//! The progress of a rollout, wave by wave, according to what Step Functions reports of its execution. Values only.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::text::clean;

/// States of `infrastructure/step-functions/waves.asl.json`, by what a wave does in them. Other states say nothing about waves.
const CHANGING: [&str; 2] = ["ChangeTargets", "ChangeObject"];
const BAKING: &str = "Bake";
const JUDGING: &str = "Judge";
/// The label of the Map Runs that judge. They do not count as waves.
const JUDGING_LABEL: &str = "Judge";
/// The variable that holds how a wave ended.
const WAVE_VARIABLE: &str = "wave";
/// How long a wave bakes, in seconds, if the input does not say. A test compares it with the schema.
const USUAL_BAKE: i64 = 300;

/// Something that an execution did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RolloutStep {
    /// It entered a state.
    Entered {
        /// The state's name.
        name: String,
        /// When.
        at: Option<DateTime<Utc>>,
    },
    /// It left a state, and set a variable there that describes a wave.
    Judged(Value),
}

impl RolloutStep {
    /// What leaving a state says, according to the variables that it set: pairs of a name and JSON text.
    pub(crate) fn left<'a>(mut assigned: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (_, text) = assigned.find(|(name, _)| *name == WAVE_VARIABLE)?;
        serde_json::from_str(text).ok().filter(Value::is_object).map(Self::Judged)
    }
}

/// How many items of a Map Run are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// All items.
    pub total: u64,
    /// Items that the updater has answered, whether well or not.
    pub succeeded: u64,
    /// Items whose batch broke.
    pub failed: u64,
}

/// One Map Run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MapRun {
    /// Its ARN: `arn:…:mapRun:STATE_MACHINE/LABEL:ID`.
    pub arn: String,
    /// Whether it has ended.
    pub ended: bool,
}

impl MapRun {
    /// Whether it changes a wave's services, rather than judging them.
    pub(crate) fn is_wave(&self) -> bool {
        let label = self.arn.split(':').nth(6).and_then(|name| name.split('/').nth(1));
        label != Some(JUDGING_LABEL)
    }
}

/// The phase of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// Its services are being changed.
    Changing,
    /// Its services are given time, until then.
    Baking(Option<DateTime<Utc>>),
    /// The history is queried about the results.
    Judging,
    /// It has ended: `PASSED`, `STOPPED`, … and a sentence with counts. Both are empty if nothing is known yet.
    Ended(String, String),
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wave {
    /// How many services are in it, if that is known.
    pub total: Option<u64>,
    /// How many services have been through the updater.
    pub done: u64,
    /// Its phase.
    pub phase: Phase,
}

/// All waves of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The waves, in their order.
    pub waves: Vec<Wave>,
    bake_seconds: i64,
}

impl Progress {
    /// The progress of an execution with this input before anything has begun.
    pub(crate) fn new(input: Option<&Value>) -> Self {
        let member = |name: &str| input.and_then(|input| input.get(name));
        let waves = member("waves").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let wave = |wave: &Value| Wave { total: wave.as_array().map(|wave| wave.len() as u64), ..Wave::default() };
        let bake_seconds = member("bake_seconds").and_then(Value::as_i64).unwrap_or(USUAL_BAKE);
        Self { waves: waves.iter().map(wave).collect(), bake_seconds }
    }

    /// Applies what the execution did next.
    pub(crate) fn step(&mut self, step: &RolloutStep) {
        match step {
            RolloutStep::Judged(wave) => self.judged(wave),
            RolloutStep::Entered { name, .. } if CHANGING.contains(&name.as_str()) => {
                // The previous wave has ended, whether or not its result was reported.
                if let Some(before) = self.current().filter(|wave| wave.phase != Phase::Changing) {
                    before.phase = Phase::Ended(String::new(), String::new());
                }
                if let Some(next) = self.waves.iter_mut().find(|wave| wave.phase == Phase::Waiting) {
                    next.phase = Phase::Changing;
                }
            }
            RolloutStep::Entered { name, at } if name == BAKING => {
                let until = at.and_then(|at| at.checked_add_signed(TimeDelta::try_seconds(self.bake_seconds)?));
                self.enter(Phase::Baking(until));
            }
            RolloutStep::Entered { name, .. } if name == JUDGING => self.enter(Phase::Judging),
            RolloutStep::Entered { .. } => {}
        }
    }

    /// The wave that is being processed.
    fn current(&mut self) -> Option<&mut Wave> {
        self.waves.iter_mut().find(|wave| !matches!(wave.phase, Phase::Waiting | Phase::Ended(..)))
    }

    fn enter(&mut self, phase: Phase) {
        if let Some(wave) = self.current() {
            // By then all its services have been through the updater.
            wave.done = wave.total.unwrap_or(wave.done);
            wave.phase = phase;
        }
    }

    /// Applies the result of a wave: an element of `waves` in the summary.
    pub(crate) fn judged(&mut self, told: &Value) {
        let number = told.get("wave").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
        let Some(wave) = number.and_then(|number| self.waves.get_mut(number.checked_sub(1)?)) else { return };
        let status = told.get("status").and_then(Value::as_str).unwrap_or_default();
        if status == "NOT_STARTED" {
            wave.phase = Phase::Waiting;
            return;
        }
        wave.total = told.get("targets").and_then(Value::as_u64).or(wave.total);
        if told.get("targets").is_some() {
            wave.done = wave.total.unwrap_or(wave.done);
        }
        wave.phase = Phase::Ended(clean(status), counts(told));
    }

    /// Applies the counts of the wave's Map Run. `index` counts the Map Runs that change services, from 0.
    pub(crate) fn counted(&mut self, index: usize, counts: Counts) {
        if let Some(wave) = self.waves.get_mut(index) {
            wave.total = wave.total.or(Some(counts.total).filter(|total| *total > 0));
            let done = wave.done.max(counts.succeeded + counts.failed);
            wave.done = done.min(wave.total.unwrap_or(done));
        }
    }

    /// The lines in which a log reports what is new since `before`: one for each piece of news, without a time.
    pub(crate) fn news(&self, before: &Self) -> Vec<String> {
        let all = self.waves.len();
        let mut lines = Vec::new();
        for (index, wave) in self.waves.iter().enumerate() {
            let old = before.waves.get(index).cloned().unwrap_or_default();
            let number = index + 1;
            let mut say = |text: String| lines.push(format!("wave {number} of {all}: {text}"));
            let begun = wave.phase != Phase::Waiting;
            if begun && old.phase == Phase::Waiting {
                say(match wave.total {
                    Some(total) => format!("begins, {}", services(total)),
                    None => "begins".to_owned(),
                });
            }
            if wave.tenths() != old.tenths() && wave.done > old.done {
                say(format!("{} of {} updated", wave.done, wave.total.unwrap_or(wave.done)));
            }
            if wave.phase != old.phase && !matches!(wave.phase, Phase::Waiting | Phase::Changing) {
                say(wave.phase.words());
            }
        }
        lines
    }
}

impl Wave {
    /// How many tenths are done.
    fn tenths(&self) -> u64 {
        match self.total {
            Some(total) if total > 0 => 10 * self.done / total,
            _ => 0,
        }
    }
}

impl Phase {
    /// The phase, in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Waiting => "waits".to_owned(),
            Self::Changing => "changing".to_owned(),
            Self::Baking(Some(until)) => format!("baking until {} UTC", until.format("%H:%M:%S")),
            Self::Baking(None) => "baking".to_owned(),
            Self::Judging => "checking results".to_owned(),
            Self::Ended(status, _) if status.is_empty() => "ended".to_owned(),
            Self::Ended(status, counts) if counts.is_empty() => status.clone(),
            Self::Ended(status, counts) => format!("{status}, {counts}"),
        }
    }
}

/// `1 service`, `7 services`.
pub(crate) fn services(count: u64) -> String {
    format!("{count} service{}", if count == 1 { "" } else { "s" })
}

/// How a wave ended, in numbers, as far as it says.
pub(crate) fn counts(wave: &Value) -> String {
    let member = |name: &str| wave.get(name).and_then(Value::as_u64);
    let usual = ["changed", "unchanged", "failed"].map(|name| member(name).map(|count| format!("{count} {name}")));
    let rare = [
        ("overtaken", "left alone, since others changed them"),
        ("not_restored", "not restored in everything"),
        ("unfinished", "still deploying"),
    ];
    let rare = rare.map(|(name, what)| member(name).filter(|count| *count > 0).map(|count| format!("{count} {what}")));
    usual.into_iter().chain(rare).flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entered(name: &str) -> RolloutStep {
        RolloutStep::Entered { name: name.to_owned(), at: DateTime::from_timestamp(1_795_000_000, 0) }
    }

    fn begun() -> Progress {
        let input = json!({"waves": [[1], [1, 2, 3, 4], {"key": "inputs/3"}], "bake_seconds": 60});
        Progress::new(Some(&input))
    }

    #[test]
    fn a_rollout_is_told_wave_by_wave() {
        let mut progress = begun();
        let mut before = progress.clone();
        let mut told = |progress: &Progress| {
            let news = progress.news(&before);
            before = progress.clone();
            news
        };
        assert_eq!(told(&progress), Vec::<String>::new());
        progress.step(&entered("Check"));
        progress.step(&entered("ChangeTargets"));
        assert_eq!(told(&progress), ["wave 1 of 3: begins, 1 service"]);
        progress.counted(0, Counts { total: 1, succeeded: 1, failed: 0 });
        assert_eq!(told(&progress), ["wave 1 of 3: 1 of 1 updated"]);
        progress.step(&entered("FindChanges"));
        progress.step(&entered("Bake"));
        assert_eq!(told(&progress), ["wave 1 of 3: baking until 11:07:40 UTC"]);
        assert_eq!(told(&progress), Vec::<String>::new());
        progress.step(&entered("Judge"));
        let wave = json!({"wave": 1, "status": "PASSED", "targets": 1, "changed": 1, "unchanged": 0, "failed": 0, "unfinished": 1});
        let text = wave.to_string();
        progress.step(&RolloutStep::left([("restoreKeys", "[]"), ("wave", text.as_str())].into_iter()).unwrap());
        assert_eq!(told(&progress), ["wave 1 of 3: PASSED, 1 changed, 0 unchanged, 0 failed, 1 still deploying"]);
        progress.step(&entered("ChangeTargets"));
        progress.counted(1, Counts { total: 4, succeeded: 2, failed: 1 });
        assert_eq!(told(&progress), ["wave 2 of 3: begins, 4 services", "wave 2 of 3: 3 of 4 updated"]);
        progress.step(&entered("Bake"));
        progress.step(&entered("Judge"));
        assert_eq!(told(&progress), ["wave 2 of 3: 4 of 4 updated", "wave 2 of 3: checking results"]);
        // The result was not reported.
        progress.step(&entered("ChangeObject"));
        progress.counted(2, Counts { total: 700, succeeded: 69, failed: 0 });
        assert_eq!(told(&progress), ["wave 2 of 3: ended", "wave 3 of 3: begins, 700 services"]);
        progress.counted(2, Counts { total: 700, succeeded: 70, failed: 0 });
        assert_eq!(told(&progress), ["wave 3 of 3: 70 of 700 updated"]);
        progress.counted(2, Counts { total: 700, succeeded: 71, failed: 0 });
        assert_eq!(told(&progress), Vec::<String>::new());
        progress.judged(&json!({"wave": 3, "status": "INTERRUPTED"}));
        assert_eq!(told(&progress), ["wave 3 of 3: INTERRUPTED"]);
    }

    #[test]
    fn what_is_rare_is_told_where_it_is_there() {
        let wave = json!({"changed": 1, "unchanged": 0, "failed": 0, "overtaken": 2, "unfinished": 0,
            "not_restored": 1});
        let told =
            "1 changed, 0 unchanged, 0 failed, 2 left alone, since others changed them, 1 not restored in everything";
        assert_eq!(counts(&wave), told);
    }

    #[test]
    fn who_comes_late_is_told_where_it_stands() {
        let mut progress = begun();
        for name in ["Begin", "ChangeTargets", "Bake", "Judge", "EndWave", "ChangeTargets", "Bake"] {
            progress.step(&entered(name));
        }
        let news = progress.news(&begun());
        assert_eq!(news.first().unwrap(), "wave 1 of 3: begins, 1 service");
        assert_eq!(news.last().unwrap(), "wave 2 of 3: baking until 11:07:40 UTC");
        assert_eq!(progress.waves[2].phase, Phase::Waiting);
    }

    #[test]
    fn what_nobody_expects_says_nothing() {
        let mut progress = begun();
        for step in [entered("Bake"), entered("Judge"), entered("?")] {
            progress.step(&step);
        }
        progress.counted(9, Counts { total: 1, succeeded: 1, failed: 0 });
        for wave in [json!({}), json!({"wave": 0}), json!({"wave": 4}), json!({"wave": -1}), json!(3)] {
            progress.judged(&wave);
        }
        progress.judged(&json!({"wave": 3, "status": "NOT_STARTED"}));
        assert_eq!(progress, begun());
        assert_eq!(RolloutStep::left([("x", "1")].into_iter()), None);
        assert_eq!(RolloutStep::left([("wave", "{")].into_iter()), None);
        assert!(Progress::new(None).waves.is_empty());
        assert!(Progress::new(Some(&json!({"waves": 1}))).waves.is_empty());
    }

    #[test]
    fn map_runs_that_judge_are_no_waves() {
        let run = |label: &str| MapRun { arn: format!("arn:aws:states:r:a:mapRun:waves/{label}:id"), ended: false };
        assert!(run("Targets").is_wave() && run("Object").is_wave() && !run("Judge").is_wave());
        assert!(MapRun::default().is_wave());
    }

    #[test]
    fn the_usual_bake_is_that_of_the_schema() {
        let schema: Value = serde_json::from_str(include_str!("../../../schema/waves-input.schema.json")).unwrap();
        assert_eq!(schema["properties"]["bake_seconds"]["default"], USUAL_BAKE);
    }
}
