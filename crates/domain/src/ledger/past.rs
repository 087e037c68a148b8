//! Pure: a change of the ledger as it matters to a restore: what it set, what it left, how it ended, and who asked for it.

use serde_json::{Map, Value};

use super::record::{RawRecord, is_shortened};
use crate::ecs::service::{RecordedState, Snapshot};
use crate::ids::ChangeId;
use crate::plan::difference::{Difference, DifferenceKind};
use crate::plan::parameters::is_untouched;
use crate::text::{one_line, shown_text};

/// The outcomes of a deployment that leave what was there before the change, as nothing of the change stays for good.
pub(super) const UNDONE_BY_ECS: [&str; 4] = ["DEPLOYMENT_FAILED", "ROLLED_BACK", "ROLLBACK_FAILED", "STOPPED"];

/// One change, from records of any version.
#[derive(Debug, Clone, PartialEq)]
pub struct PastChange {
    /// Its id.
    pub change_id: ChangeId,
    /// The change that it put back, if it is a restore.
    pub restores: Option<ChangeId>,
    /// Whether it has a `STARTED` record.
    pub has_started: bool,
    /// Whether it continued or stopped a deployment: then it set nothing.
    pub is_action: bool,
    /// The kind of its newest result; `None` if it has none. `EXTERNAL` counts as a result.
    pub result: Option<String>,
    /// The outcome with which ECS, or a person, ended its deployment, if that leaves nothing of it.
    pub undone_by_ecs: Option<String>,
    /// The state before it.
    pub before: Option<RecordedState>,
    /// The state after it, according to its newest result.
    pub after: Option<RecordedState>,
    /// What it was meant to set; `None` if its record does not say.
    changes: Option<Vec<Difference>>,
    /// Why that cannot be read, if it is recorded.
    unreadable: Option<&'static str>,
    /// Who asked for it, after the word that says whether somebody vouches for the name.
    requested_by: Option<String>,
    /// When its first record was written (RFC 3339).
    pub at: String,
}

impl PastChange {
    /// Reads the records of one change, in any order; `None` if there is none.
    #[must_use]
    pub fn read(records: &[RawRecord]) -> Option<Self> {
        let mut records: Vec<&RawRecord> = records.iter().filter(|record| kind(record).is_some()).collect();
        records.sort_by_key(|record| record.get("seq").and_then(Value::as_u64));
        let first = records.first()?;
        let started = records.iter().find(|record| kind(record) == Some("STARTED"));
        let of = |kinds: &[&str]| records.iter().rfind(|record| kind(record).is_some_and(|kind| kinds.contains(&kind)));
        let result = of(&["APPLIED", "UNCHANGED", "FAILED", "ABANDONED", "EXTERNAL"]);
        let state = |record: &RawRecord, name| serde_json::from_str(text(record, name)?).ok();
        let changes = started.and_then(|started| text(started, "changes"));
        let read: Option<Vec<Difference>> = changes.and_then(|changes| serde_json::from_str(changes).ok());
        let unreadable = match (changes, &read) {
            (Some(changes), None) if is_shortened(changes) => Some("was too long to record"),
            (Some(_), None) => Some("is recorded in a form that only a later version knows"),
            _ => None,
        };
        let identity = text(first, "identity").unwrap_or("claimed");
        let name = records.iter().find_map(|record| text(record, "requested_by"));
        Some(Self {
            change_id: ChangeId::parse(text(first, "change_id")?).ok()?,
            restores: records.iter().find_map(|record| ChangeId::parse(text(record, "restores")?).ok()),
            has_started: started.is_some(),
            is_action: records.iter().any(|record| text(record, "action").is_some()),
            result: result.and_then(|result| kind(result)).map(str::to_owned),
            undone_by_ecs: of(&UNDONE_BY_ECS).and_then(|record| kind(record)).map(str::to_owned),
            before: records.iter().find_map(|record| state(record, "before")),
            after: result.and_then(|result| state(result, "after")),
            changes: read,
            unreadable,
            requested_by: name.map(|name| format!("[{}] {}", one_line(identity), shown_text(name))),
            at: text(first, "at").unwrap_or_default().to_owned(),
        })
    }

    /// What it set; if its record does not say, in what the states before and after it differ.
    ///
    /// # Errors
    ///
    /// A sentence, if neither is recorded.
    pub fn sets(&self) -> Result<Vec<Difference>, String> {
        if self.is_action {
            return Ok(Vec::new());
        }
        if let Some(why) = self.unreadable {
            return Err(format!("what change {} set {why}, and only what can be read is put back", self.change_id));
        }
        if let Some(changes) = &self.changes {
            return Ok(changes.clone());
        }
        if self.result.as_deref() == Some("UNCHANGED") {
            return Ok(Vec::new());
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if before.is_shortened() || after.is_shortened() => {
                Err(format!("the parameters before and after change {} were too long to record", self.change_id))
            }
            (Some(before), Some(after)) => Ok(between(before, after)),
            _ => Err(format!(
                "the {} record of change {} does not say what was there before and after it",
                self.result.as_deref().unwrap_or("STARTED"),
                self.change_id
            )),
        }
    }

    /// Whether it left something, as far as its records show: AWS accepted it, or something that it was to set was no longer as before when
    /// it ended, or is now as it was to be (a call whose answer was lost may act later).
    #[must_use]
    pub fn left_something(&self, now: Option<&Snapshot>) -> bool {
        match self.result.as_deref() {
            Some("APPLIED") => true,
            Some("FAILED" | "ABANDONED") => self.sets().is_ok_and(|sets| {
                sets.iter().any(|change| {
                    let is_left = self.after.as_ref().is_some_and(|after| !self.is_as_before(change, after));
                    is_left || now.is_some_and(|now| is_as_set(change, now))
                })
            }),
            _ => false,
        }
    }

    /// Whether it is a change that went well, and whose deployment was not ended by ECS or a person.
    #[must_use]
    pub fn ended_well(&self) -> bool {
        self.result.as_deref() == Some("APPLIED") && self.undone_by_ecs.is_none()
    }

    /// The revision that it deployed, where its result says so.
    #[must_use]
    pub fn deployed(&self) -> Option<&str> {
        let after = self.after.as_ref().filter(|_| matches!(self.result.as_deref(), Some("APPLIED" | "EXTERNAL")))?;
        let before = self.before.as_ref().and_then(|before| before.state.task_definition_arn.as_deref());
        after.state.task_definition_arn.as_deref().filter(|arn| Some(*arn) != before)
    }

    /// The change for people: its id, who asked for it and when.
    #[must_use]
    pub fn told(&self) -> String {
        let who = self.requested_by.as_ref().map(|who| format!(", requested by {who},")).unwrap_or_default();
        let what = if self.result.as_deref() == Some("EXTERNAL") { "the deployment past the door" } else { "change" };
        format!("{what} {}{who} at {}", self.change_id, one_line(&self.at))
    }

    fn is_as_before(&self, change: &Difference, after: &RecordedState) -> bool {
        match change.what {
            DifferenceKind::Tag => tag(after, &change.path) == change.from,
            DifferenceKind::Parameter => {
                is_untouched(&change.path, after.service.get(&change.path), Some(&change.from), &change.to)
            }
            DifferenceKind::Image => {
                after.state.images.get(&change.path).map(String::as_str).unwrap_or_default()
                    == change.from.as_str().unwrap_or_default()
            }
            DifferenceKind::Revision | DifferenceKind::Definition => {
                let before = self.before.as_ref().map(|before| &before.state.task_definition_arn);
                before == Some(&after.state.task_definition_arn)
            }
            DifferenceKind::Deployment | DifferenceKind::Rollout | DifferenceKind::Hook => true,
        }
    }
}

/// Whether a tag or an image is now as a change set it, and not as before.
fn is_as_set(change: &Difference, now: &Snapshot) -> bool {
    let has = match change.what {
        DifferenceKind::Tag => now.service.tags.get(&change.path).map_or(Value::Null, |value| value.as_str().into()),
        DifferenceKind::Image => {
            let images = now.task_definition.as_deref().map(crate::ecs::task_definition::TaskDefinition::images);
            images.and_then(|images| images.get(&change.path).cloned()).map_or(Value::Null, Value::from)
        }
        _ => return false,
    };
    has == change.to && has != change.from
}

fn tag(state: &RecordedState, key: &str) -> Value {
    state.state.tags.iter().find(|tag| tag.key == key).map_or(Value::Null, |tag| tag.value.as_str().into())
}

/// In what two recorded states differ. The desired count is left out: it cannot be told from an autoscaler's.
fn between(before: &RecordedState, after: &RecordedState) -> Vec<Difference> {
    let difference = |what, path: &str, from, to| Difference { what, path: path.to_owned(), from, to };
    let text = |value: Option<&String>| value.map_or(Value::Null, |text| text.as_str().into());
    let mut differences = Vec::new();
    let (was, is) = (&before.state.images, &after.state.images);
    for container in was.keys().chain(is.keys().filter(|name| !was.contains_key(*name))) {
        let (from, to) = (was.get(container), is.get(container));
        if from != to {
            differences.push(difference(DifferenceKind::Image, container, text(from), text(to)));
        }
    }
    let (was, is) = (before.state.task_definition_arn.as_ref(), after.state.task_definition_arn.as_ref());
    if was != is {
        differences.push(difference(DifferenceKind::Revision, "taskDefinition", text(was), text(is)));
    }
    let tags = |state: &RecordedState| -> Map<String, Value> {
        state.state.tags.iter().map(|tag| (tag.key.clone(), tag.value.as_str().into())).collect()
    };
    let mut members = |what, was: &Map<String, Value>, is: &Map<String, Value>| {
        for name in was.keys().chain(is.keys().filter(|name| !was.contains_key(*name))) {
            let (from, to) = (was.get(name).cloned().unwrap_or_default(), is.get(name).cloned().unwrap_or_default());
            if from != to && (what == DifferenceKind::Tag || name != "desiredCount") {
                differences.push(difference(what, name, from, to));
            }
        }
    };
    members(DifferenceKind::Tag, &tags(before), &tags(after));
    members(DifferenceKind::Parameter, &before.service, &after.service);
    differences
}

/// A text of a record.
pub(super) fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

fn kind(record: &RawRecord) -> Option<&str> {
    text(record, "kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(more: &Value) -> RecordedState {
        let mut state = json!({"clusterArn": "c", "serviceArn": "s", "taskDefinitionName": "web", "taskDefinitionFamily": "web",
            "taskDefinitionArn": "web:6", "serviceImage": "i", "images": {"web": "nginx:1"}, "serviceMemory": null, "tags": [],
            "updatedOn": null, "deploymentId": null, "service": {}});
        state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(state).unwrap()
    }

    const ID: &str = "01935321-1234-7abc-89ef-0123456789ab";

    fn past(kinds: &[(&str, Value)]) -> PastChange {
        let record = |(seq, (kind, more)): (usize, &(&str, Value))| {
            let mut record = json!({"change_id": ID, "seq": seq, "kind": kind, "at": "t"});
            for (name, value) in more.as_object().unwrap() {
                record[name] = value.to_string().into();
            }
            record.as_object().unwrap().clone()
        };
        PastChange::read(&kinds.iter().enumerate().map(record).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_a_change_left_is_judged_by_what_it_set() {
        let tagged = json!({"tags": [{"key": "by somebody else", "value": "1"}]});
        let of = |kind: &'static str, after: &Value| {
            let changes = json!([{"what": "tag", "path": "a", "from": null, "to": "1"},
                {"what": "image", "path": "web", "from": "nginx:1", "to": "nginx:2"}]);
            past(&[
                ("STARTED", json!({"before": state(&json!({})), "changes": changes})),
                (kind, json!({"before": state(&json!({})), "after": state(after)})),
            ])
        };
        assert!(of("APPLIED", &json!({})).left_something(None));
        // What others changed before it was closed is not its own.
        assert!(!of("ABANDONED", &tagged).left_something(None));
        assert!(of("ABANDONED", &json!({"tags": [{"key": "a", "value": "1"}]})).left_something(None));
        assert!(of("FAILED", &json!({"images": {"web": "nginx:2"}})).left_something(None));
        assert!(!of("FAILED", &json!({})).left_something(None));
        assert!(!of("UNCHANGED", &tagged).left_something(None));
    }

    #[test]
    fn what_is_not_recorded_is_taken_from_the_states_around_the_change() {
        let after = state(&json!({"taskDefinitionArn": "web:7", "images": {"web": "nginx:2"},
            "tags": [{"key": "a", "value": "1"}], "service": {"desiredCount": 9, "propagateTags": "SERVICE"}}));
        let sets = past(&[("EXTERNAL", json!({"before": state(&json!({})), "after": after}))]).sets().unwrap();
        let paths: Vec<_> = sets.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(paths, ["web", "taskDefinition", "a", "propagateTags"]);
        let refused = past(&[("EXTERNAL", json!({}))]).sets().unwrap_err();
        assert!(refused.contains("EXTERNAL record of change"), "{refused}");
    }

    #[test]
    fn a_change_whose_changes_were_too_long_cannot_be_restored() {
        let shortened = json!({"shortened": "left out: they would be 70000 bytes"});
        let refused = past(&[("STARTED", json!({"changes": shortened}))]).sets().unwrap_err();
        assert!(refused.contains("set was too long to record"), "{refused}");
        assert_eq!(past(&[("STARTED", json!({"changes": []}))]).sets(), Ok(Vec::new()));
        assert_eq!(past(&[("UNCHANGED", json!({}))]).sets(), Ok(Vec::new()));
    }
}
