//! Pure: which state a `restore` puts back.

use serde_json::Value;

use crate::snapshot::Recorded;

/// What a restore needs of a record of any version: its change, its kind, and the states before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The record's change.
    pub change_id: String,
    kind: String,
    before: Option<Recorded>,
    after: Option<Recorded>,
}

impl Past {
    /// Reads a record; `None` where it is none (pointer items have no kind).
    #[must_use]
    pub fn read(record: &Value) -> Option<Self> {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let state = |name| text(name).and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            change_id: text("change_id")?.to_owned(),
            kind: text("kind")?.to_owned(),
            before: state("before"),
            after: state("after"),
        })
    }

    /// Whether the change left the service other than it found it, as far as the record tells.
    fn changed_something(&self) -> bool {
        match self.kind.as_str() {
            "APPLIED" => true,
            "FAILED" | "ABANDONED" | "EXTERNAL" => match (&self.before, &self.after) {
                (Some(before), Some(after)) => {
                    before.state.task_definition_arn != after.state.task_definition_arn
                        || before.state.tags != after.state.tags
                        || before.service != after.service
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The state before the change.
    ///
    /// # Errors
    ///
    /// A sentence, where the record does not have it.
    pub fn into_before(self) -> Result<Recorded, String> {
        if self.before.as_ref().is_some_and(Recorded::is_shortened) {
            return Err(format!("the parameters before change {} were too long to record", self.change_id));
        }
        self.before.ok_or_else(|| {
            format!("the {} record of change {} does not say what was there before", self.kind, self.change_id)
        })
    }
}

/// The last change that changed something, among records from the newest on.
pub fn previous(newest_first: impl IntoIterator<Item = Past>) -> Option<Past> {
    newest_first.into_iter().find(Past::changed_something)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(change_id: &str, kind: &str, before: &str, after: &str) -> Past {
        let state = |arn: &str| {
            json!({"clusterArn": "c", "serviceArn": "s", "taskDefinitionName": "web", "taskDefinitionFamily": "web",
                "taskDefinitionArn": arn, "serviceImage": "i", "images": {}, "serviceMemory": null, "tags": [],
                "updatedOn": null, "deploymentId": null, "service": {}})
            .to_string()
        };
        let record = json!({"change_id": change_id, "kind": kind, "before": state(before), "after": state(after)});
        Past::read(&record).unwrap()
    }

    #[test]
    fn previous_is_the_last_change_that_changed_something() {
        let records = [
            record("7", "UNCHANGED", "c", "c"),
            record("6", "FAILED", "c", "c"),
            record("5", "STARTED", "c", "c"),
            record("4", "FAILED", "b", "c"),
            record("3", "APPLIED", "a", "b"),
        ];
        assert_eq!(previous(records.clone()).unwrap().change_id, "4");
        assert_eq!(previous(records[4..].to_vec()).unwrap().change_id, "3");
        assert_eq!(previous(records[..3].to_vec()), None);
    }

    #[test]
    fn a_record_without_before_cannot_be_restored() {
        let external = Past::read(&json!({"change_id": "1", "kind": "EXTERNAL"})).unwrap();
        assert!(!external.changed_something());
        assert!(external.into_before().unwrap_err().contains("EXTERNAL record of change 1"));
        assert_eq!(Past::read(&json!({"change_id": "1"})), None);
    }
}
