//! Pure: which state a `restore` puts back.

use serde_json::Value;

use crate::ecs::service::RecordedState;
use crate::ledger::record::is_shortened;

/// What a restore needs of a record of any version: its change, its kind, and the states before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreSource {
    /// The record's change.
    pub change_id: String,
    kind: String,
    before: Option<RecordedState>,
    after: Option<RecordedState>,
    /// Whether what it set was too long to record.
    is_shortened: bool,
    /// Whether it continued or stopped a deployment.
    is_action: bool,
}

impl RestoreSource {
    /// Reads a record; `None` if it is not a record (pointer items have no kind).
    #[must_use]
    pub fn read(record: &Value) -> Option<Self> {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let state = |name| text(name).and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            change_id: text("change_id")?.to_owned(),
            kind: text("kind")?.to_owned(),
            before: state("before"),
            after: state("after"),
            is_shortened: text("changes").is_some_and(is_shortened),
            is_action: text("action").is_some(),
        })
    }

    /// The images before and after, where the record says both.
    #[must_use]
    pub fn images(self) -> Option<(Vec<String>, Vec<String>)> {
        let of = |recorded: RecordedState| recorded.state.images.into_values().collect();
        Some((of(self.before?), of(self.after?)))
    }

    /// Whether the change left the service different from how it found it, as far as the record shows.
    #[must_use]
    pub fn changed_something(&self) -> bool {
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
    /// A sentence, if the record does not have it.
    pub fn into_before(self) -> Result<RecordedState, String> {
        if self.is_action {
            return Err(format!(
                "change {} continued or stopped the deployment of another change and set nothing, so there is nothing to put back",
                self.change_id
            ));
        }
        if self.is_shortened {
            return Err(format!(
                "what change {} set was too long to record, and only what is recorded is put back",
                self.change_id
            ));
        }
        if self.before.as_ref().is_some_and(RecordedState::is_shortened) {
            return Err(format!("the parameters before change {} were too long to record", self.change_id));
        }
        self.before.ok_or_else(|| {
            format!("the {} record of change {} does not say what was there before", self.kind, self.change_id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_without_before_cannot_be_restored() {
        let external = RestoreSource::read(&json!({"change_id": "1", "kind": "EXTERNAL"})).unwrap();
        assert!(!external.changed_something());
        assert!(external.into_before().unwrap_err().contains("EXTERNAL record of change 1"));
        assert_eq!(RestoreSource::read(&json!({"change_id": "1"})), None);
        let stopped = RestoreSource::read(&json!({"change_id": "1", "kind": "STARTED", "action": "stop"})).unwrap();
        assert!(stopped.into_before().unwrap_err().contains("there is nothing to put back"));
    }

    #[test]
    fn a_change_whose_changes_were_too_long_cannot_be_restored() {
        let before = json!({"clusterArn": "c", "serviceArn": "s", "images": {}, "tags": [], "service": {}}).to_string();
        let past = |changes: &str| {
            let record = json!({"change_id": "1", "kind": "STARTED", "before": before, "changes": changes});
            RestoreSource::read(&record).unwrap().into_before()
        };
        let refused = past(r#"{"shortened": "left out: they would be 70000 bytes"}"#).unwrap_err();
        assert!(refused.contains("what change 1 set was too long to record"), "{refused}");
        assert!(past("[]").is_ok());
    }
}
