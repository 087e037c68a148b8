//! Pure: what the newest records of a service say about its deployments: which attempts at changes may have started one that is not
//! noted, and which deployments the ledger names.

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

use super::head::Lease;
use super::record::RawRecord;
use crate::ecs::deployment::outcome::OutcomeDetail;
use crate::ecs::service::RecordedState;
use crate::ids::ChangeId;
use crate::ledger::attribution::may_deploy;
use crate::ledger::key::Attempt;
use crate::plan::difference::Difference;

/// How long an attempt may have lasted if its record does not say it: as long as an invocation can.
const MAX_ATTEMPT: Duration = Duration::minutes(15);

/// An attempt at a change that names no deployment: it may have started one all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedChange {
    /// The change.
    pub change_id: ChangeId,
    /// The attempt at the change.
    pub attempt: Attempt,
    /// When its `STARTED` was written: it changed nothing before.
    pub began: DateTime<Utc>,
    /// When its lease ended, according to its `STARTED`.
    pub until: DateTime<Utc>,
    /// The state before the change; `None` if the record cannot be read.
    pub before: Option<RecordedState>,
    /// What the change was meant to set; `None` if the record does not say it.
    pub changes: Option<Vec<Difference>>,
    /// Id of the deployment that was `PRIMARY` after it, where it has a result.
    pub left: Option<String>,
}

impl StartedChange {
    /// Id of the deployment that was `PRIMARY` before the change.
    #[must_use]
    pub fn before_deployment(&self) -> Option<&str> {
        self.before.as_ref()?.deployment_id.as_deref()
    }

    /// Whether what it was meant to set starts a deployment: tags and many parameters do not.
    #[must_use]
    pub fn may_deploy(&self) -> bool {
        self.changes.as_ref().is_none_or(|changes| changes.iter().any(may_deploy))
    }
}

/// A deployment that a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub deployment_id: String,
    /// The earliest time at which it can have been created, or when it was first reported.
    pub since: DateTime<Utc>,
}

/// What records say about deployments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewestRecords {
    /// Attempts that name no deployment.
    pub begun: Vec<StartedChange>,
    /// Deployments that a record names as started by a change, or by none.
    pub named: Vec<Named>,
    /// Attempts that have a complete result: it names the deployment, or says that nothing was to be done.
    pub ended: Vec<(ChangeId, Attempt)>,
}

impl NewestRecords {
    /// What these records say. A record that cannot be read says nothing.
    #[must_use]
    pub fn of(records: &[RawRecord]) -> Self {
        Self {
            begun: records.iter().filter_map(|record| begun(record, records)).collect(),
            named: records.iter().filter_map(named).collect(),
            ended: records.iter().filter(|record| says_all(record)).filter_map(of).collect(),
        }
    }

    /// Whether the holder of a lease has a complete result.
    #[must_use]
    pub fn has_result(&self, lease: &Lease) -> bool {
        self.ended.iter().any(|(change_id, attempt)| lease.is_of(change_id, *attempt))
    }
}

fn is_result(record: &RawRecord) -> bool {
    matches!(text(record, "kind"), Some("APPLIED" | "FAILED" | "UNCHANGED" | "ABANDONED"))
}

fn says_all(record: &RawRecord) -> bool {
    is_result(record) && (text(record, "kind") == Some("UNCHANGED") || text(record, "deployment_id").is_some())
}

fn of(record: &RawRecord) -> Option<(ChangeId, Attempt)> {
    Some((ChangeId::parse(text(record, "change_id")?).ok()?, attempt(record)?))
}

fn begun(started: &RawRecord, records: &[RawRecord]) -> Option<StartedChange> {
    if text(started, "kind") != Some("STARTED") {
        return None;
    }
    let change_id = ChangeId::parse(text(started, "change_id")?).ok()?;
    let attempt = attempt(started)?;
    let of_change = |record: &&RawRecord| text(record, "change_id") == Some(change_id.as_str());
    let result = records.iter().filter(of_change).filter(|record| self::attempt(record) == Some(attempt));
    let mut results = result.filter(|record| is_result(record));
    if results.clone().any(says_all) {
        return None;
    }
    // A later attempt's STARTED records only what is new.
    let is_first =
        |record: &&RawRecord| text(record, "kind") == Some("STARTED") && self::attempt(record) == Some(Attempt::FIRST);
    let first = records.iter().filter(of_change).find(is_first);
    let json = |name| serde_json::from_str::<Value>(text(first?, name)?).ok();
    let began = time(text(started, "at")?)?;
    let after = |record: &RawRecord| serde_json::from_str::<Value>(text(record, "after")?).ok();
    Some(StartedChange {
        attempt,
        began,
        until: text(started, "lease_until").and_then(time).unwrap_or(began + MAX_ATTEMPT),
        before: json("before").and_then(|before| serde_json::from_value(before).ok()),
        changes: json("changes").and_then(|changes| serde_json::from_value(changes).ok()),
        left: results.find_map(after).and_then(|after| Some(after.get("deploymentId")?.as_str()?.to_owned())),
        change_id,
    })
}

fn named(record: &RawRecord) -> Option<Named> {
    let deployment_id = text(record, "deployment_id")?.to_owned();
    let since = match text(record, "kind")? {
        "APPLIED" | "FAILED" | "ABANDONED" => ChangeId::parse(text(record, "change_id")?).ok()?.time(),
        "EXTERNAL" => {
            let detail: Option<OutcomeDetail> =
                text(record, "outcome").and_then(|detail| serde_json::from_str(detail).ok());
            detail.and_then(|detail| time(&detail.happened_at?)).or_else(|| time(text(record, "at")?))?
        }
        _ => return None,
    };
    Some(Named { deployment_id, since })
}

fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name)?.as_str()
}

fn attempt(record: &RawRecord) -> Option<Attempt> {
    text(record, "attempt").map_or(Some(Attempt::FIRST), |number| number.parse().ok().and_then(Attempt::new))
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(kind: &str, change: &ChangeId, more: &Value) -> RawRecord {
        let mut record = json!({"kind": kind, "change_id": change, "at": "2026-11-28T10:00:00.000Z"});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record.as_object().unwrap().clone()
    }

    #[test]
    fn attempts_that_name_no_deployment_may_have_started_one() {
        let change = ChangeId::new("2026-11-28T10:00:00Z".parse().unwrap(), [1; 10]);
        let changes = r#"[{"from":"a","path":"web","to":"b","what":"image"}]"#;
        let first = record("STARTED", &change, &json!({"lease_until": "2026-11-28T10:02:05.000Z", "changes": changes}));
        let second = record("STARTED", &change, &json!({"attempt": "2", "at": "2026-11-28T10:05:00.000Z"}));
        let written = NewestRecords::of(&[second.clone(), first.clone()]);
        assert_eq!(written.begun.len(), 2);
        for begun in &written.begun {
            assert!(begun.may_deploy() && begun.changes.as_ref().unwrap().len() == 1, "{begun:?}");
        }
        assert_eq!(written.begun[1].until, time("2026-11-28T10:02:05Z").unwrap());
        // An attempt that has its result, and one that changed nothing, cannot have started a deployment unrecorded;
        // one that failed can.
        let of = |result: RawRecord| NewestRecords::of(&[first.clone(), second.clone(), result]);
        let applied = of(record("APPLIED", &change, &json!({"attempt": "2", "deployment_id": "ecs-svc/2"})));
        assert_eq!(applied.begun.iter().map(|change| change.attempt).collect::<Vec<_>>(), [Attempt::FIRST]);
        assert_eq!(applied.named, [Named { deployment_id: "ecs-svc/2".to_owned(), since: change.time() }]);
        let failed = of(record("FAILED", &change, &json!({"after": r#"{"deploymentId":"ecs-svc/1"}"#})));
        assert_eq!((failed.begun.len(), failed.begun[0].left.as_deref()), (2, Some("ecs-svc/1")));
        assert_eq!(of(record("UNCHANGED", &change, &json!({}))).begun.len(), 1);
        let tags =
            record("STARTED", &change, &json!({"changes": r#"[{"from":null,"path":"a","to":"1","what":"tag"}]"#}));
        assert!(!NewestRecords::of(&[tags]).begun[0].may_deploy());
    }

    #[test]
    fn what_nobody_started_is_named_with_its_own_time() {
        let change = ChangeId::new("2026-11-28T10:00:00Z".parse().unwrap(), [1; 10]);
        let outcome = r#"{"happened_at":"2026-11-28T09:59:00.000Z"}"#;
        let external = record("EXTERNAL", &change, &json!({"deployment_id": "ecs-svc/5", "outcome": outcome}));
        let written =
            NewestRecords::of(&[external, record("COMPLETED", &change, &json!({"deployment_id": "ecs-svc/6"}))]);
        let since = time("2026-11-28T09:59:00Z").unwrap();
        assert_eq!(written.named, [Named { deployment_id: "ecs-svc/5".to_owned(), since }]);
    }
}
