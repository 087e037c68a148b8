//! Pure: folds the records of one change into what became of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::VariantArray;

use super::hidden::in_words;
use super::kind::Kind;
use super::record::RawRecord;
use crate::ids::Identity;

/// Every status that a change can have: the kinds of records, with `UNRESOLVED` after `STARTED`.
#[must_use]
pub fn statuses() -> Vec<&'static str> {
    let mut statuses: Vec<_> = Kind::VARIANTS.iter().map(|kind| kind.as_str()).collect();
    statuses.insert(1, UNRESOLVED);
    statuses
}

/// The status of a deployment that no change started.
pub const EXTERNAL: &str = Kind::External.as_str();

const AWAITING_ACTION: &str = Kind::AwaitingAction.as_str();
const STARTED: &str = Kind::Started.as_str();
const APPLIED: &str = Kind::Applied.as_str();
const UNCHANGED: &str = Kind::Unchanged.as_str();
const FAILED: &str = Kind::Failed.as_str();
const ABANDONED: &str = Kind::Abandoned.as_str();
const COMPLETED: &str = Kind::Completed.as_str();
/// The kinds that give the result of the change's own calls.
const RESULTS: [&str; 4] = [APPLIED, UNCHANGED, FAILED, ABANDONED];
/// A `STARTED` whose lease ended without a result.
const UNRESOLVED: &str = "UNRESOLVED";

/// One change: its records folded into one. Members without a value are null, except `outcome`, `of` and `action`, which are omitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its id.
    pub change_id: String,
    /// The kind of the last record of its ledger that is not a `STARTED`; before there is one, `STARTED`, or `UNRESOLVED` once the lease
    /// has ended. It is one of [`statuses`], or a status that only a later version knows.
    pub status: String,
    /// Target account.
    pub account_id: String,
    /// Target region.
    pub region: String,
    /// Cluster name.
    pub ecs_cluster_name: String,
    /// Service name.
    pub ecs_service_name: String,
    /// When it began.
    pub started_at: Option<String>,
    /// When AWS accepted it.
    pub applied_at: Option<String>,
    /// When it ended: the time of the record that gives the status.
    pub ended_at: Option<String>,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// The reason given for it.
    pub reason: Option<String>,
    /// `verified` if the API door vouches for `requested_by`, otherwise `claimed`. A value that only a later version knows counts as
    /// claimed.
    #[serde(default = "claimed")]
    pub identity: String,
    /// The deployment it started.
    pub deployment_id: Option<String>,
    /// What failed: `code`, `message`, `retryable`.
    pub error: Option<Value>,
    /// What is known about the end of its deployment besides the status; for `EXTERNAL`, what its event said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Value>,
    /// What it was meant to set, according to its first `STARTED`: each difference, but of a hidden value only that it changes. Empty for
    /// `UNCHANGED`, null if it is not known, and `shortened` if it was too long to record.
    #[serde(default)]
    pub changes: Option<Value>,
    /// The state before the change.
    pub before: Option<Value>,
    /// The state after the change.
    pub after: Option<Value>,
    /// `RoleSessionName` in the target's `CloudTrail`.
    pub session: Option<String>,
    /// Lambda request id.
    pub request_id: Option<String>,
    /// The change that it put back, if it is a restore.
    pub restores: Option<String>,
    /// The change whose deployment this one continues or stops, or, if this is a pause, whose deployment waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What it does to the deployment of that change: `continue` or `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The images asked for, each with the digest it was pinned to.
    #[serde(default)]
    pub resolved_images: Option<Value>,
    /// What a restore left as it is; only if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_restored: Option<Value>,
}

/// The identity of a requester for whom nobody vouches.
fn claimed() -> String {
    Identity::Claimed.as_str().to_owned()
}

/// Folds the records of one change of one service, given in any order; returns `None` if there is no record. The
/// records are taken as they are: a tampered record is shown as it stands, and verification detects it.
#[must_use]
pub fn fold(mut records: Vec<&RawRecord>, now: DateTime<Utc>) -> Option<Change> {
    records.sort_by_key(|record| record.get("seq").and_then(Value::as_u64));
    let first = records.first()?;
    let started = records.iter().find(|record| kind(record) == STARTED);
    let newest = records.iter().rfind(|record| kind(record) == STARTED).copied();
    let last = last(&records, newest);
    let earliest = |name: &str| records.iter().find_map(|record| text(record, name));
    let latest = |name: &str| records.iter().rev().find_map(|record| text(record, name));
    let status = last.map_or_else(|| unended(newest, now).to_owned(), |record| kind(record).to_owned());
    let named = |name: &str, part: usize| earliest(name).unwrap_or_else(|| part_of_key(first, part));
    Some(Change {
        change_id: earliest("change_id").unwrap_or_default(),
        changes: if status == UNCHANGED { Some(json!([])) } else { started.and_then(|record| changes(record)) },
        status,
        account_id: named("account_id", 0),
        region: named("region", 1),
        ecs_cluster_name: named("cluster", 2),
        ecs_service_name: named("service_name", 3),
        started_at: started.and_then(|record| text(record, "at")),
        applied_at: records.iter().find(|record| kind(record) == APPLIED).and_then(|record| text(record, "at")),
        ended_at: last.and_then(|record| text(record, "at")),
        requested_by: earliest("requested_by"),
        reason: earliest("reason"),
        identity: earliest("identity").unwrap_or_else(claimed),
        deployment_id: latest("deployment_id"),
        error: error(&records),
        // A rollback says what was rolled back to, and the failure before it says why: both are included.
        outcome: merged(records.iter().filter_map(|record| text(record, "outcome").map(json))),
        before: earliest("before").map(json),
        after: latest("after").map(json),
        session: earliest("session"),
        request_id: earliest("request_id"),
        restores: earliest("restores"),
        of: earliest("of"),
        action: earliest("action"),
        resolved_images: earliest("resolved_images").map(json),
        not_restored: earliest("not_restored").map(json),
    })
}

/// The record that gives the state of the change: the result of its newest attempt, or the outcome of the deployment that this attempt
/// started or found. A change that failed and is being retried has no such record until the retry ends. A completed deployment does not
/// make up for a failed call of the change, or for a function that ended before the change did.
fn last<'a>(records: &[&'a RawRecord], newest: Option<&'a RawRecord>) -> Option<&'a RawRecord> {
    let is_result = |record: &&&RawRecord| RESULTS.contains(&kind(record));
    let attempt = |record: &RawRecord| text(record, "attempt");
    let of_newest = |record: &&&RawRecord| newest.is_none_or(|newest| attempt(record) == attempt(newest));
    let result = records.iter().rev().filter(is_result).find(of_newest).copied();
    let seq = |record: &RawRecord| record.get("seq").and_then(Value::as_u64);
    let deployment = result.and_then(|result| text(result, "deployment_id"));
    let is_outcome = |record: &&&RawRecord| {
        let is_later = result.is_some() || newest.is_none_or(|newest| seq(record) > seq(newest));
        let other = text(record, "deployment_id").zip(deployment.as_ref()).is_some_and(|(one, other)| one != *other);
        kind(record) != STARTED && !is_result(record) && is_later && !other
    };
    let outcome = records.iter().rev().find(is_outcome).copied();
    match (result, outcome) {
        (Some(result), Some(outcome)) if kind(outcome) == COMPLETED && [FAILED, ABANDONED].contains(&kind(result)) => {
            Some(result)
        }
        (result, outcome) => outcome.or(result),
    }
}

/// Merges objects: members of later ones replace those of earlier ones.
fn merged(values: impl Iterator<Item = Value>) -> Option<Value> {
    values.reduce(|earlier, later| match (earlier, later) {
        (Value::Object(mut members), Value::Object(later)) => {
            members.extend(later);
            members.into()
        }
        (_, later) => later,
    })
}

/// Whether an index may hold only a part of a change: a pointer stands for a record elsewhere, and `ABANDONED` may be
/// listed under another image than the `STARTED` that it closes.
#[must_use]
pub fn may_be_partial(items: &[&RawRecord]) -> bool {
    let has_result = items.iter().any(|item| !matches!(kind(item), "" | STARTED));
    let has_start = items.iter().any(|item| matches!(kind(item), STARTED | UNCHANGED | EXTERNAL | AWAITING_ACTION));
    items.iter().any(|item| kind(item).is_empty()) || !has_result || !has_start
}

fn unended(started: Option<&RawRecord>, now: DateTime<Utc>) -> &'static str {
    let lease_until =
        started.and_then(|record| DateTime::parse_from_rfc3339(record.get("lease_until")?.as_str()?).ok());
    if lease_until.is_some_and(|until| until > now) { STARTED } else { UNRESOLVED }
}

/// The last error, unless the change succeeded after all: a result may be recorded after its change was closed as
/// abandoned.
fn error(records: &[&RawRecord]) -> Option<Value> {
    records.iter().fold(None, |error, record| match (text(record, "error"), kind(record)) {
        (Some(error), _) => Some(json(error)),
        (None, APPLIED | UNCHANGED) => None,
        (None, _) => error,
    })
}

/// What a change sets according to its `STARTED`, in words for people: records contain hidden values as keyed hashes, which mean nothing
/// to a reader.
fn changes(started: &RawRecord) -> Option<Value> {
    let mut changes =
        Some(json(text(started, "changes")?)).filter(|changes| changes.is_array() || changes.is_object())?;
    for change in changes.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let side = |name: &str| change.get(name).cloned().unwrap_or_default();
        let (from, to) = in_words(&side("from"), &side("to"));
        change.extend([("from".to_owned(), from), ("to".to_owned(), to)]);
    }
    Some(changes)
}

fn kind(record: &RawRecord) -> &str {
    record.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn text(record: &RawRecord, name: &str) -> Option<String> {
    record.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The JSON in a record's string, or the string itself if it is not JSON.
fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn part_of_key(record: &RawRecord, part: usize) -> String {
    text(record, "service").and_then(|key| key.split('/').nth(part).map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn record(seq: u64, kind: &str, more: &Value) -> RawRecord {
        let mut record = json!({
            "service": "222222222222/eu-west-1/prod/edge", "seq": seq, "kind": kind, "change_id": "c",
            "at": format!("2026-11-22T09:00:0{seq}.000Z"), "account_id": "222222222222", "region": "eu-west-1",
            "cluster": "prod", "service_name": "edge", "identity": "claimed", "session": format!("ecsu-{seq}"),
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record.as_object().unwrap().clone()
    }

    fn folded(records: &[RawRecord]) -> Change {
        let forwards = fold(records.iter().collect(), now()).unwrap();
        assert_eq!(fold(records.iter().rev().collect(), now()).unwrap(), forwards, "the order must not matter");
        forwards
    }

    #[test]
    fn a_change_that_went_well() {
        let change = folded(&[
            record(1, "STARTED", &json!({"before": "{\"a\":1}", "requested_by": "ann", "reason": "why"})),
            record(2, "APPLIED", &json!({"before": "{\"a\":1}", "after": "{\"a\":2}", "deployment_id": "ecs-svc/1"})),
        ]);
        assert_eq!(
            serde_json::to_value(change).unwrap(),
            json!({
                "change_id": "c", "status": "APPLIED", "account_id": "222222222222", "region": "eu-west-1",
                "ecs_cluster_name": "prod", "ecs_service_name": "edge", "started_at": "2026-11-22T09:00:01.000Z",
                "applied_at": "2026-11-22T09:00:02.000Z", "ended_at": "2026-11-22T09:00:02.000Z",
                "requested_by": "ann", "reason": "why", "identity": "claimed", "deployment_id": "ecs-svc/1",
                "error": null, "changes": null, "before": {"a": 1}, "after": {"a": 2}, "session": "ecsu-1", "request_id": null,
                "restores": null, "resolved_images": null,
            })
        );
    }

    #[test]
    fn a_start_without_a_result_is_unresolved_once_its_lease_ends() {
        for (until, status) in [("2026-11-22T10:00:00.001Z", "STARTED"), ("2026-11-22T10:00:00.000Z", "UNRESOLVED")] {
            let change = folded(&[record(1, "STARTED", &json!({"lease_until": until}))]);
            assert_eq!((change.status.as_str(), change.ended_at), (status, None), "{until}");
        }
        assert_eq!(folded(&[record(1, "STARTED", &json!({}))]).status, "UNRESOLVED");
    }

    #[test]
    fn a_pause_says_what_is_waited_for_and_when_that_is_over() {
        let pause = |ended: &str| json!({"of": "x", "outcome": format!("{{\"pause\":{{\"hook_id\":\"h\"{ended}}}}}")});
        let mut records = vec![record(1, "AWAITING_ACTION", &pause(""))];
        let change = folded(&records);
        assert_eq!((change.status.as_str(), change.of.as_deref()), ("AWAITING_ACTION", Some("x")));
        records.push(record(4, "PAUSE_ENDED", &pause(",\"ended\":\"HOOK_SUCCEEDED\"")));
        let change = folded(&records);
        assert_eq!(change.outcome, Some(json!({"pause": {"hook_id": "h", "ended": "HOOK_SUCCEEDED"}})));
        assert_eq!(change.status, "PAUSE_ENDED");
    }

    #[test]
    fn a_late_result_takes_the_place_of_abandoned() {
        let started = record(1, "STARTED", &json!({}));
        let abandoned = record(2, "ABANDONED", &json!({"error": "{\"code\":\"X\"}", "after": "{}"}));
        let change = folded(&[started.clone(), abandoned.clone()]);
        assert_eq!((change.status.as_str(), change.error), ("ABANDONED", Some(json!({"code": "X"}))));
        let change = folded(&[started, abandoned, record(4, "APPLIED", &json!({"after": "{\"a\":2}"}))]);
        assert_eq!((change.status.as_str(), change.error, change.after), ("APPLIED", None, Some(json!({"a": 2}))));
        assert_eq!(change.applied_at, change.ended_at);
    }

    #[test]
    fn outcomes_end_a_change_and_keep_why_it_failed() {
        let mut records = vec![record(1, "STARTED", &json!({})), record(2, "APPLIED", &json!({}))];
        records.push(record(5, "DEPLOYMENT_FAILED", &json!({"error": "{\"code\":\"X\"}"})));
        records.push(record(6, "ROLLED_BACK", &json!({})));
        let change = folded(&records);
        assert_eq!((change.status.as_str(), change.error), ("ROLLED_BACK", Some(json!({"code": "X"}))));
        assert_eq!(change.applied_at.as_deref(), Some("2026-11-22T09:00:02.000Z"));
        assert_eq!(change.ended_at.as_deref(), Some("2026-11-22T09:00:06.000Z"));
        for kind in statuses().into_iter().filter(|status| ![STARTED, UNRESOLVED].contains(status)) {
            assert_eq!(folded(&[record(1, kind, &json!({}))]).status, kind);
        }
    }

    #[test]
    fn a_failed_change_whose_deployment_completed_has_failed() {
        let failed = record(2, "FAILED", &json!({"error": "{\"code\":\"X\"}", "deployment_id": "ecs-svc/1"}));
        let mut records = vec![record(1, "STARTED", &json!({})), failed, record(3, "COMPLETED", &json!({}))];
        let change = folded(&records);
        assert_eq!((change.status.as_str(), change.error), ("FAILED", Some(json!({"code": "X"}))));
        records[2] = record(3, "ROLLED_BACK", &json!({}));
        assert_eq!(folded(&records).status, "ROLLED_BACK");
        // A change that succeeded after all.
        records.insert(2, record(3, "APPLIED", &json!({})));
        records[3] = record(4, "COMPLETED", &json!({}));
        let change = folded(&records);
        assert_eq!((change.status.as_str(), change.error), ("COMPLETED", None));
    }

    #[test]
    fn a_change_stands_as_its_newest_attempt_does() {
        let attempt = json!({"attempt": "2", "lease_until": "2026-11-22T09:30:00.000Z"});
        let failed = json!({"deployment_id": "ecs-svc/1", "error": "{\"code\":\"X\"}"});
        let mut records =
            vec![record(1, "STARTED", &json!({})), record(2, "FAILED", &failed), record(3, "STARTED", &attempt)];
        assert_eq!(folded(&records).status, "UNRESOLVED");
        // The outcome that its deployment had in the meantime counts once the change has ended.
        records.insert(2, record(3, "COMPLETED", &json!({"deployment_id": "ecs-svc/1"})));
        records[3] = record(4, "STARTED", &attempt);
        assert_eq!(folded(&records).status, "UNRESOLVED");
        records.push(record(5, "APPLIED", &json!({"attempt": "2", "deployment_id": "ecs-svc/1"})));
        let change = folded(&records);
        assert_eq!((change.status.as_str(), change.error), ("COMPLETED", None));
        assert_eq!(change.started_at.as_deref(), Some("2026-11-22T09:00:01.000Z"));
        // A late result of the first attempt says nothing about the second.
        records.truncate(4);
        records.push(record(5, "APPLIED", &json!({})));
        assert_eq!(folded(&records).status, "UNRESOLVED");
    }

    #[test]
    fn what_is_known_of_the_end_is_told_together() {
        let change = folded(&[
            record(1, "APPLIED", &json!({})),
            record(2, "DEPLOYMENT_FAILED", &json!({"outcome": "{\"reason\":\"tasks failed\",\"happened_at\":\"a\"}"})),
            record(3, "ROLLED_BACK", &json!({"outcome": "{\"rolled_back_to\":{},\"happened_at\":\"b\"}"})),
        ]);
        let expected = json!({"reason": "tasks failed", "rolled_back_to": {}, "happened_at": "b"});
        assert_eq!((change.status.as_str(), change.outcome), ("ROLLED_BACK", Some(expected)));
        assert_eq!(folded(&[record(1, "APPLIED", &json!({}))]).outcome, None);
    }

    #[test]
    fn what_a_change_set_is_told_without_its_hashes() {
        let hash = |digit: &str| format!("h1:{}", digit.repeat(32));
        let connect =
            |token: &str| json!({"logConfiguration": {"options": {"splunk-token": token, "same": hash("0")}}});
        let of = |what: &str, path: &str, from: Value, to: Value| json!({"what": what, "path": path, "from": from, "to": to});
        let changes = json!([
            of("image", "web", json!("busybox"), json!("nginx")),
            of("definition", "containers.web.environment.TOKEN", json!("removed"), Value::Null),
            of("parameter", "serviceConnectConfiguration", connect(&hash("1")), connect(&hash("2"))),
            {"what": "of a later version", "more": 1},
        ]);
        let started = |changes: &str| record(1, "STARTED", &json!({"changes": changes}));
        let told = folded(&[started(&changes.to_string()), record(2, "APPLIED", &json!({}))]).changes.unwrap();
        let mut expected = changes.clone();
        let connect = |token: &str| json!({"logConfiguration": {"options": {"splunk-token": token, "same": "hidden"}}});
        (expected[2]["from"], expected[2]["to"]) = (connect("hidden"), connect("changed"));
        (expected[3]["from"], expected[3]["to"]) = (Value::Null, Value::Null);
        assert_eq!(told, expected);
        // The differences of the first attempt are shown, since later ones record only what is new. The result of the
        // change does not matter for this.
        let later = record(3, "STARTED", &json!({"attempt": "2"}));
        let failed = record(2, "FAILED", &json!({}));
        assert_eq!(folded(&[started(&changes.to_string()), failed, later]).changes, Some(expected));
        assert_eq!(
            folded(&[started(&changes.to_string()), record(2, "UNCHANGED", &json!({}))]).changes,
            Some(json!([]))
        );
        assert_eq!(folded(&[record(1, "UNCHANGED", &json!({}))]).changes, Some(json!([])));
        let short = json!({"shortened": "left out"});
        assert_eq!(folded(&[started(&short.to_string())]).changes, Some(short));
        for unknown in [record(1, "EXTERNAL", &json!({})), started("no JSON"), record(1, "STARTED", &json!({}))] {
            assert_eq!(folded(&[unknown]).changes, None);
        }
    }

    #[test]
    fn what_only_later_versions_know_is_shown_too() {
        let change = folded(&[record(1, "POSTPONED", &json!({"restores": "r", "before": "no JSON", "new": {"x": 1}}))]);
        assert_eq!((change.status.as_str(), change.restores.as_deref()), ("POSTPONED", Some("r")));
        assert_eq!(change.before, Some(json!("no JSON")));
        let bare = json!({"service": "1/2/3/4"}).as_object().unwrap().clone();
        assert_eq!(folded(&[bare]).ecs_service_name, "4");
        assert_eq!(fold(Vec::new(), now()), None);
    }

    #[test]
    fn what_stands_under_an_image_may_be_a_part() {
        let partial = |kinds: &[&str]| {
            let items: Vec<_> = kinds.iter().map(|kind| record(1, kind, &json!({}))).collect();
            may_be_partial(&items.iter().collect::<Vec<_>>())
        };
        assert!(partial(&["STARTED"]) && partial(&["ABANDONED"]) && partial(&["STARTED", ""]) && partial(&[""]));
        assert!(!partial(&["STARTED", "FAILED"]) && !partial(&["UNCHANGED"]) && !partial(&["EXTERNAL", "COMPLETED"]));
    }
}
