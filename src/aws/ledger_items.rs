//! Conversion of the items of the two tables to attributes and back: heads, keys, deployments, counts and records.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use domain::ids::{AccountId, ChangeId, ServiceKey};
use domain::ledger::budget::{Beyond, ExternalBudget, Last};
use domain::ledger::deployment::{DeploymentItem, Undoes};
use domain::ledger::head::{Beginner, Head, Lease};
use domain::ledger::idempotency::{KeyItem, Progress, Stage};
use domain::ledger::key::{Attempt, RecordKey};
use domain::ledger::kind::Kind;
use domain::ledger::queue::{Queue, Waiting};
use domain::ledger::rate::Rate;
use domain::ledger::record::{RawRecord, hash, number, shard};
use domain::ledger::write::LedgerError;
use domain::text::rfc3339;
use serde::Serialize;
use serde_json::{Value, json};

use crate::aws::statements::Attributes;

pub(super) type Item = HashMap<String, AttributeValue>;

/// The part of the index for the counts of deployments that no change started, which have to be reported.
pub(super) const COUNTS: &str = "external";

/// The attribute of a key that says until when somebody follows its change's deployment. Keys whose deployment nobody followed do not have
/// it.
pub(super) const WAITER: &str = "waiter_until";

/// The attribute of a deployment that names its rollback. Only deployments for which a rollback event was received have it, and nothing
/// removes it.
pub(super) const UNDONE_BY: &str = "undone_by";
/// The attribute of a deployment's pauses, which exists once it has reached a pause hook.
pub(super) const PAUSES: &str = "pauses";

/// The attribute that contains the callers that wait for a service.
pub(super) const WAITING: &str = "waiting";

/// An item of strings and one integer, like all items of the history table.
pub(super) fn attributes(item: &impl Serialize) -> Vec<(String, AttributeValue)> {
    let Ok(Value::Object(members)) = serde_json::to_value(item) else { return Vec::new() };
    members
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => AttributeValue::S(text),
                other => AttributeValue::N(other.to_string()),
            };
            (name, value)
        })
        .collect()
}

/// The JSON that an item of strings and integers stands for. An attribute of another type becomes a value that no record contains.
pub(super) fn json(item: &Item) -> RawRecord {
    let members = item.iter().map(|(name, value)| {
        let value = match value {
            AttributeValue::S(text) => Value::from(text.as_str()),
            AttributeValue::N(text) => number(text),
            other => json!({"attribute": format!("{other:?}")}),
        };
        (name.clone(), value)
    });
    members.collect()
}

/// A record that matches its hash.
pub(super) fn intact(item: &Item) -> Result<RawRecord, LedgerError> {
    let record = Value::Object(json(item));
    let claimed = record.get("hash").and_then(Value::as_str);
    let fits = hash(&record).ok().as_deref() == claimed;
    match record {
        Value::Object(record) if fits => Ok(record),
        record => {
            let part = |name| record.get(name).and_then(Value::as_str).unwrap_or_default();
            let what =
                format_args!("record {} of {} does not fit its hash: it", part("record"), part("service")).to_string();
            Err(LedgerError::broken(what))
        }
    }
}

/// A text that may be missing: it is written as an empty string.
pub(super) fn optional(text: Option<impl ToString>) -> AttributeValue {
    AttributeValue::S(text.map(|text| text.to_string()).unwrap_or_default())
}

/// A missing lease is written as empty strings, so that taking and releasing a lease use the same statement.
pub(super) fn lease_attributes(head: &Head) -> Attributes {
    let lease = head.lease.as_ref();
    vec![
        ("lease_change", optional(lease.map(|lease| &lease.change_id))),
        ("lease_attempt", optional(lease.map(|lease| lease.attempt))),
        ("lease_until", optional(lease.map(|lease| rfc3339(lease.until)))),
        ("lease_key", optional(lease.map(|lease| &lease.key))),
    ]
}

pub(super) fn head_attributes(head: &Head) -> Attributes {
    let mut attributes = vec![
        ("seq", AttributeValue::N(head.seq.to_string())),
        ("hash", AttributeValue::S(head.hash.clone())),
        ("record", AttributeValue::S(head.record.to_string())),
        ("highest", AttributeValue::S(head.highest.to_string())),
        ("begun", optional(head.begun.as_ref())),
        ("begun_by", optional(begun_by(head))),
        ("running", optional(head.running.as_ref())),
        ("failed", optional(head.failed.then_some("true"))),
    ];
    attributes.extend(lease_attributes(head));
    attributes
}

/// The text includes the change that it refers to, because the previous version updates a head and leaves this attribute as it was.
fn begun_by(head: &Head) -> Option<Value> {
    let Beginner { caller, key, behind } = head.begun_by.as_deref()?;
    let behind = behind.as_ref().map(ToString::to_string);
    Some(json!({"change_id": head.begun.as_ref()?.to_string(), "caller": caller, "key": key, "behind": behind}))
}

/// Who began the change `begun`, if the text says so.
fn beginner(text: &str, begun: Option<&ChangeId>) -> Option<Beginner> {
    let text: Value = serde_json::from_str(text).ok()?;
    let part = |name| text.get(name).and_then(Value::as_str);
    if part("change_id") != Some(begun?.to_string().as_str()) {
        return None;
    }
    let behind = part("behind").map(ChangeId::parse).transpose().ok()?;
    Some(Beginner { caller: part("caller")?.to_owned(), key: part("key")?.to_owned(), behind })
}

pub(super) fn queue_attributes(queue: &Queue) -> Attributes {
    let waiting = queue.waiting.iter().map(|waiting| {
        let Waiting { caller, key, after, until } = waiting;
        json!({"caller": caller, "key": key, "after": after.to_string(), "until": rfc3339(*until)})
    });
    vec![
        (WAITING, AttributeValue::S(Value::from(waiting.collect::<Vec<_>>()).to_string())),
        ("expires_at", AttributeValue::N(queue.expires_at().to_string())),
    ]
}

pub(super) fn rate_attributes(rate: &Rate) -> Attributes {
    vec![
        ("minute", AttributeValue::S(rfc3339(rate.minute))),
        ("count", AttributeValue::N(rate.count.to_string())),
        ("expires_at", AttributeValue::N(rate.expires_at().to_string())),
    ]
}

pub(super) fn rate(item: &Item) -> Result<Rate, &'static str> {
    Ok(Rate {
        id: text(item, "id")?,
        minute: time(&text(item, "minute")?).ok_or("minute")?,
        count: parsed(item, "count")?,
    })
}

/// The waiting callers, as far as the item can be read: what cannot be read keeps nobody out.
pub(super) fn queue(item: &Item) -> Queue {
    let stored = text(item, WAITING).ok();
    let known: Vec<Value> = stored.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let waiting = known.iter().filter_map(|known| {
        let part = |name| known.get(name).and_then(Value::as_str);
        Some(Waiting {
            caller: part("caller")?.to_owned(),
            key: part("key")?.to_owned(),
            after: ChangeId::parse(part("after")?).ok()?,
            until: time(part("until")?)?,
        })
    });
    Queue { waiting: waiting.collect(), stored }
}

pub(super) fn key_attributes(key: &KeyItem) -> Attributes {
    let (progress, mark, first) = match &key.stage {
        Stage::Begun(progress) => (Some(progress), None, None),
        Stage::Seen { mark, first } => (None, mark.as_ref(), first.as_ref()),
    };
    let mut attributes = vec![
        ("event_hash", AttributeValue::S(key.event_hash.clone())),
        ("mark", optional(mark)),
        ("first", optional(first)),
        ("change_id", optional(progress.map(|progress| &progress.change_id))),
        ("attempt", optional(progress.map(|progress| progress.attempt))),
        ("acted", optional(progress.map(|progress| progress.acted))),
        ("answer", optional(progress.and_then(|progress| progress.answer.as_ref()))),
        ("expires_at", AttributeValue::N(key.expires_at.to_string())),
    ];
    let waiter = progress.and_then(|progress| progress.waiter_until);
    attributes.extend(waiter.map(|until| (WAITER, AttributeValue::S(rfc3339(until)))));
    attributes
}

/// Lists are JSON in strings; what is missing is an empty string.
pub(super) fn deployment_attributes(item: &DeploymentItem) -> Attributes {
    let undoes = item
        .undoes
        .as_ref()
        .map(|undoes| json!({"deployment_id": undoes.deployment_id, "since": rfc3339(undoes.since)}));
    let mut attributes = vec![
        ("service", AttributeValue::S(item.service.to_string())),
        ("service_arn", AttributeValue::S(item.service_arn.clone())),
        ("change_id", AttributeValue::S(item.change_id.to_string())),
        ("repositories", AttributeValue::S(Value::from(item.repositories.clone()).to_string())),
        ("before", optional(item.before.as_ref())),
        ("started_at", AttributeValue::S(rfc3339(item.started_at))),
        ("service_deployment", optional(item.service_deployment.as_ref())),
        ("by_events", AttributeValue::S(item.by_events.to_string())),
        ("undoes", optional(undoes)),
        ("outcomes", AttributeValue::S(outcomes_text(item))),
        ("expires_at", AttributeValue::N(item.expires_at.to_string())),
    ];
    attributes.extend(item.undone_by.as_ref().map(|by| (UNDONE_BY, AttributeValue::S(by.clone()))));
    attributes.extend(pauses_text(item).map(|pauses| (PAUSES, AttributeValue::S(pauses))));
    attributes
}

/// The attributes that put a deployment into the index of open deployments.
pub(super) fn check_attributes(item: &DeploymentItem) -> Attributes {
    let Some(check_at) = item.check_at else { return Vec::new() };
    let shard = shard(&item.service).to_string();
    vec![("check_shard", AttributeValue::S(shard)), ("check_at", AttributeValue::S(rfc3339(check_at)))]
}

pub(super) fn budget_attributes(budget: &ExternalBudget) -> Attributes {
    let last = budget.beyond.as_ref().map(|beyond| &beyond.last);
    let count = budget.beyond.as_ref().map_or(0, |beyond| beyond.count);
    vec![
        ("account", AttributeValue::S(budget.account.to_string())),
        ("day", AttributeValue::S(budget.day.to_string())),
        ("recorded", AttributeValue::N(budget.recorded.to_string())),
        ("beyond", AttributeValue::N(count.to_string())),
        ("service", optional(last.map(|last| &last.service))),
        ("service_arn", optional(last.map(|last| &last.service_arn))),
        ("deployment", optional(last.map(|last| &last.deployment_id))),
        ("heard_at", optional(last.map(|last| rfc3339(last.at)))),
        ("expires_at", AttributeValue::N(budget.expires_at().to_string())),
    ]
}

/// The attributes that put a budget into the index, if it has a count to report.
pub(super) fn budget_check_attributes(budget: &ExternalBudget) -> Attributes {
    let Some(tell_at) = budget.tell_at() else { return Vec::new() };
    vec![("check_shard", AttributeValue::S(COUNTS.to_owned())), ("check_at", AttributeValue::S(rfc3339(tell_at)))]
}

/// The budget that an item contains, or the name of an attribute that is not what this project writes.
pub(super) fn budget(item: &Item) -> Result<ExternalBudget, &'static str> {
    let count: u32 = parsed(item, "beyond")?;
    let last = || -> Result<Last, &'static str> {
        Ok(Last {
            service: ServiceKey::parse(&text(item, "service")?).map_err(|_| "service")?,
            service_arn: text(item, "service_arn")?,
            deployment_id: text(item, "deployment")?,
            at: time(&text(item, "heard_at")?).ok_or("heard_at")?,
        })
    };
    Ok(ExternalBudget {
        account: AccountId::parse(&text(item, "account")?).map_err(|_| "account")?,
        day: text(item, "day")?.parse().map_err(|_| "day")?,
        recorded: parsed(item, "recorded")?,
        beyond: if count == 0 { None } else { Some(Beyond { count, last: last()? }) },
    })
}

pub(super) fn outcomes_text(item: &DeploymentItem) -> String {
    let known = item.outcomes.iter().map(|kind| kind.as_str());
    known.chain(item.unread.as_deref()).collect::<Vec<_>>().join(",")
}

/// The pauses of a deployment as JSON; none if it has none.
fn pauses_text(item: &DeploymentItem) -> Option<String> {
    if item.pauses.is_empty() { None } else { serde_json::to_string(&item.pauses).ok() }
}

/// The outcomes that this version knows, and the text after them.
fn outcomes(text: &str) -> (Vec<Kind>, Option<String>) {
    let mut known = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (first, behind) = rest.split_once(',').unwrap_or((rest, ""));
        let Ok(kind) = serde_json::from_value(first.into()) else { return (known, Some(rest.to_owned())) };
        known.push(kind);
        rest = behind;
    }
    (known, None)
}

/// The deployment that an item contains, or the name of an attribute that is not what this project writes.
pub(super) fn deployment(item: &Item) -> Result<DeploymentItem, &'static str> {
    let (outcomes, unread) = outcomes(&text(item, "outcomes")?);
    let undoes = filled(item, "undoes").map(|undoes| {
        let undoes: Value = serde_json::from_str(&undoes).ok()?;
        let deployment_id = undoes.get("deployment_id")?.as_str().map(str::to_owned);
        Some(Undoes { deployment_id, since: time(undoes.get("since")?.as_str()?)? })
    });
    Ok(DeploymentItem {
        id: text(item, "id")?,
        service: ServiceKey::parse(&text(item, "service")?).map_err(|_| "service")?,
        service_arn: text(item, "service_arn")?,
        change_id: ChangeId::parse(&text(item, "change_id")?).map_err(|_| "change_id")?,
        repositories: serde_json::from_str(&text(item, "repositories")?).map_err(|_| "repositories")?,
        before: filled(item, "before"),
        started_at: time(&text(item, "started_at")?).ok_or("started_at")?,
        service_deployment: filled(item, "service_deployment"),
        by_events: text(item, "by_events")? != "false",
        undoes: undoes.map(|undoes| undoes.ok_or("undoes")).transpose()?,
        undone_by: filled(item, UNDONE_BY),
        pauses: filled(item, PAUSES).map_or(Ok(Vec::new()), |text| serde_json::from_str(&text).map_err(|_| PAUSES))?,
        outcomes,
        unread,
        check_at: filled(item, "check_at").map(|at| time(&at).ok_or("check_at")).transpose()?,
        expires_at: parsed(item, "expires_at")?,
    })
}

pub(super) fn text(item: &Item, name: &'static str) -> Result<String, &'static str> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().ok_or(name)
}

/// A text that may be missing or empty.
fn filled(item: &Item, name: &'static str) -> Option<String> {
    text(item, name).ok().filter(|text| !text.is_empty())
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

fn parsed<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, &'static str> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|number| number.parse().ok()).ok_or(name)
}

fn change_id(item: &Item, name: &'static str) -> Result<Option<ChangeId>, &'static str> {
    filled(item, name).map(|id| ChangeId::parse(&id).map_err(|_| name)).transpose()
}

/// The attempt that an item names; the first attempt if it names none, as in items from before attempts were counted.
fn attempt(item: &Item, name: &'static str) -> Result<Attempt, &'static str> {
    let number = filled(item, name).map_or(Ok(1), |number| number.parse().map_err(|_| name))?;
    Attempt::new(number).ok_or(name)
}

/// The head that an item contains, or the name of an attribute that is not what this project writes. Before the first release, a head had
/// one `change_id`: that of the last change, whatever it was.
pub(super) fn head(item: &Item) -> Result<Head, &'static str> {
    let lease = match change_id(item, "lease_change")? {
        None => None,
        Some(change_id) => Some(Lease {
            change_id,
            attempt: attempt(item, "lease_attempt")?,
            until: time(&text(item, "lease_until")?).ok_or("lease_until")?,
            key: text(item, "lease_key")?,
        }),
    };
    let last = change_id(item, "change_id")?;
    let begun = if item.contains_key("begun") { change_id(item, "begun")? } else { last.clone() };
    Ok(Head {
        seq: parsed(item, "seq")?,
        hash: text(item, "hash")?,
        record: RecordKey::parse(&text(item, "record")?).map_err(|_| "record")?,
        highest: change_id(item, "highest")?.or(last).ok_or("highest")?,
        begun_by: filled(item, "begun_by").and_then(|text| beginner(&text, begun.as_ref())).map(Box::new),
        begun,
        running: filled(item, "running"),
        failed: filled(item, "failed").is_some(),
        lease,
    })
}

/// The change that began under an idempotency key, if one did; or the name of an attribute that is not what this project writes.
pub(super) fn begun_under(item: &Item) -> Result<Option<ChangeId>, &'static str> {
    change_id(item, "change_id")
}

pub(super) fn key(item: &Item) -> Result<KeyItem, &'static str> {
    let stage = match begun_under(item)? {
        None => Stage::Seen { mark: change_id(item, "mark")?, first: filled(item, "first") },
        Some(change_id) => Stage::Begun(Progress {
            change_id,
            attempt: attempt(item, "attempt")?,
            acted: filled(item, "acted").as_deref() != Some("false"),
            answer: filled(item, "answer"),
            waiter_until: filled(item, WAITER).and_then(|until| time(&until)),
        }),
    };
    let (id, event_hash) = (text(item, "id")?, text(item, "event_hash")?);
    Ok(KeyItem { id, event_hash, stage, expires_at: parsed(item, "expires_at")? })
}

#[cfg(test)]
mod tests {
    use domain::ecs::deployment::pause::Pause;
    use domain::ledger::deployment::NotedPause;

    use super::*;
    use crate::aws::statements::with_id;

    fn change() -> ChangeId {
        ChangeId::new(at(0), [7; 10])
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_000_000_123 + second * 1000).unwrap()
    }

    fn item(attributes: Attributes) -> Item {
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn heads_are_read_as_they_were_written() {
        let attempt = Attempt::new(3).unwrap();
        let lease = Lease { change_id: change(), attempt, until: at(9), key: "key#1".to_owned() };
        for (lease, begun) in [(None, None), (Some(lease), Some(change()))] {
            let record = RecordKey::new(change(), domain::ledger::key::RecordPlace::Started(attempt));
            let running = begun.as_ref().map(|_| "arn:td".to_owned());
            let by = |behind| Box::new(Beginner { caller: "by#1".to_owned(), key: "key#1".to_owned(), behind });
            for begun_by in [None, Some(by(None)), Some(by(Some(ChangeId::new(at(-5), [6; 10]))))] {
                let (record, begun, running, lease) = (record.clone(), begun.clone(), running.clone(), lease.clone());
                let begun_by = begun_by.filter(|_| begun.is_some());
                let (hash, failed) = ("h".to_owned(), begun_by.is_some());
                let written = Head { seq: 7, hash, record, highest: change(), begun, begun_by, running, failed, lease };
                assert_eq!(head(&item(head_attributes(&written))), Ok(written));
            }
        }
        assert_eq!(head(&Item::new()), Err("seq"));
    }

    #[test]
    fn who_began_another_change_is_not_who_began_this_one() {
        let behind = Some(ChangeId::new(at(-5), [6; 10]));
        let by = Beginner { caller: "by#1".to_owned(), key: "key#1".to_owned(), behind };
        let written = Head {
            seq: 7,
            hash: "h".to_owned(),
            record: RecordKey::new(change(), domain::ledger::key::RecordPlace::STARTED),
            highest: change(),
            begun: Some(change()),
            begun_by: Some(Box::new(by)),
            running: None,
            failed: false,
            lease: None,
        };
        let mut moved = item(head_attributes(&written));
        // The previous version updates a head like this.
        moved.insert("begun".to_owned(), AttributeValue::S(ChangeId::new(at(1), [7; 10]).to_string()));
        assert_eq!(head(&moved).unwrap().begun_by, None);
        for unread in ["", "{}", "no JSON", "[1]"] {
            moved.insert("begun_by".to_owned(), AttributeValue::S(unread.to_owned()));
            assert_eq!(head(&moved).unwrap().begun_by, None, "{unread}");
        }
    }

    #[test]
    fn who_waits_is_read_as_it_was_written_and_what_cannot_be_read_is_nobody() {
        let waiting = |caller: &str| Waiting {
            caller: caller.to_owned(),
            key: "key#1".to_owned(),
            after: change(),
            until: at(9),
        };
        let written = Queue { waiting: vec![waiting("by#1"), waiting("key#1")], stored: None };
        let stored = item(queue_attributes(&written));
        let read = queue(&stored);
        assert_eq!(read.waiting, written.waiting);
        assert_eq!(read.stored, text(&stored, WAITING).ok());
        for unread in ["", "no JSON", r#"[{"caller": "by#1"}, 7]"#] {
            let read = queue(&item(vec![(WAITING, AttributeValue::S(unread.to_owned()))]));
            assert_eq!((read.waiting, read.stored.as_deref()), (Vec::new(), Some(unread)));
        }
        assert_eq!(queue(&Item::new()), Queue::default());
    }

    #[test]
    fn a_head_of_the_time_before_attempts_is_read() {
        let id = change().to_string();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut old = item(vec![
            ("seq", AttributeValue::N("2".to_owned())),
            ("hash", text("h")),
            ("record", text(&format!("{id}#1"))),
            ("change_id", text(&id)),
            ("lease_change", text(&id)),
            ("lease_until", text("2026-11-28T10:00:00.123Z")),
            ("lease_key", text("key#1")),
        ]);
        let read = head(&old).unwrap();
        assert_eq!((read.highest, read.begun), (change(), Some(change())));
        assert!(read.lease.unwrap().is_of(&change(), Attempt::FIRST));
        for name in ["lease_change", "lease_until", "lease_key"] {
            old.insert(name.to_owned(), text(""));
        }
        assert_eq!(head(&old).unwrap().lease, None);
    }

    #[test]
    fn keys_and_deployments_are_read_as_they_were_written() {
        let begun = KeyItem::begun("key#1", "e", change(), Attempt::LAST, at(0));
        let waited_for = begun.clone().waited_for(Some(at(9)));
        for written in [
            begun.failed(false, at(1)),
            begun,
            waited_for,
            KeyItem::seen("key#1", "e", Some(change()), at(0)),
            KeyItem::seen("key#1", "e", Some(change()), at(0)).letting_go_first(Some("key#2")),
        ] {
            let attributes = with_id(&written.id, key_attributes(&written));
            assert_eq!(key(&item(attributes)), Ok(written));
        }
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let plain = DeploymentItem::new(&service, "arn:s", "ecs-svc/1", change(), at(0), at(1));
        let undoes = |deployment_id| Some(Undoes { deployment_id, since: at(5) });
        for undoes in [None, undoes(None), undoes(Some("ecs-svc/2".to_owned()))] {
            let outcomes = vec![Kind::DeploymentFailed, Kind::RolledBack];
            let undone_by = undoes.is_none().then(|| "ecs-svc/3".to_owned());
            let before = Some("ecs-svc/0".to_owned());
            let pause = Pause { hook_id: "h".to_owned(), since: Some(rfc3339(at(3))), ..Pause::default() };
            let pauses =
                undone_by.iter().map(|_| NotedPause { pause: pause.clone(), record: Some(change()) }).collect();
            let written = DeploymentItem { before, undoes, undone_by, pauses, outcomes, ..plain.clone() };
            let attributes =
                with_id(&written.id, [deployment_attributes(&written), check_attributes(&written)].concat());
            assert_eq!(deployment(&item(attributes)), Ok(written));
        }
    }

    #[test]
    fn an_outcome_that_only_a_later_version_knows_is_an_end_and_stays_as_it_was_written() {
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let plain = DeploymentItem::new(&service, "arn:s", "ecs-svc/1", change(), at(0), at(1));
        let mut attributes = item(with_id(&plain.id, deployment_attributes(&plain)));
        let text = "DEPLOYMENT_FAILED,PAUSED_FOR_GOOD,ROLLED_BACK";
        attributes.insert("outcomes".to_owned(), AttributeValue::S(text.to_owned()));
        let read = deployment(&attributes).unwrap();
        assert_eq!(read.outcomes, [Kind::DeploymentFailed]);
        assert!(!read.accepts(Kind::RolledBack) && !read.accepts(Kind::Completed));
        assert_eq!(outcomes_text(&read), text, "whoever writes the item again demands what stands there");
    }
}
