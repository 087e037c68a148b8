//! Records of the history table. Every later version reads what is defined here: it is final.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::head::{Head, Lease};
use super::kind::Kind;
use crate::canonical_json;
use crate::ecs::deployment::outcome::OutcomeDetail;
use crate::ecs::deployment::verb::DeploymentVerb;
use crate::ecs::service::RecordedState;
use crate::error::Failure;
use crate::ids::{ChangeId, Identity, ServiceKey};
use crate::image::ResolvedImages;
use crate::ledger::key::{Attempt, RecordKey, RecordPlace};
use crate::plan::difference::{Difference, NotRestored};
use crate::text::{hex, rfc3339};

/// How many parts a day or an image is spread over, so that none of them is a single partition.
pub const SHARDS: u8 = 8;
/// Longest text of an error in a record, in bytes: an item holds 400 KB in all.
const MAX_ERROR: usize = 16 * 1024;
/// Longest `before` or `after` in a record, in bytes: two of them and the rest fit an item.
const MAX_STATE: usize = 150 * 1024;
/// Longest `changes` in a record, in bytes.
const MAX_CHANGES: usize = 64 * 1024;

/// One immutable item of the history table. Absent members are not in the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Partition key: the service key.
    pub service: ServiceKey,
    /// Sort key.
    pub record: RecordKey,
    /// Position in the service's chain, from 1.
    pub seq: u64,
    /// Hash of the record before; empty for the first.
    pub prev_hash: String,
    /// Lowercase hex SHA-256 over the canonical JSON (RFC 8785) of this record without `hash`.
    #[serde(default)]
    pub hash: String,
    /// The kind of the record: what it says.
    pub kind: Kind,
    /// When it was written (RFC 3339).
    pub at: String,
    /// Target account.
    pub account_id: String,
    /// Target region.
    pub region: String,
    /// Cluster name.
    pub cluster: String,
    /// Service name.
    pub service_name: String,
    /// `{day of the change id}#{shard}`.
    pub day: String,
    /// `{repository}#{shard}`, where the service has an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Id of the change.
    pub change_id: ChangeId,
    /// The number of the attempt, in the records of a second or later attempt at the change.
    #[serde(default, skip_serializing_if = "Attempt::is_first")]
    pub attempt: Attempt,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The reason given for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `verified` where the API door vouches for `requested_by`, else `claimed`.
    pub identity: Identity,
    /// Who invoked the function, as far as its alias shows: `alias:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// In the first `STARTED`: each member that the plan sets, as canonical JSON of a list of [`Difference`]. Values that may be secret
    /// are replaced by keyed hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// The state before the change, as canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The state after the change, as canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The deployment that the change started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// What failed, as canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `RoleSessionName` in the target's `CloudTrail`.
    pub session: String,
    /// Lambda request id.
    pub request_id: String,
    /// When the event was first sent, by its sender's clock (RFC 3339), where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// The change that this change undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<ChangeId>,
    /// The change whose deployment this one continues or stops, or whose deployment pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ChangeId>,
    /// What this change does to the deployment of the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<DeploymentVerb>,
    /// In `STARTED`: when the lease ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<String>,
    /// In outcomes and `EXTERNAL`: what else is known about the deployment's end, as canonical JSON of
    /// [`OutcomeDetail`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The images asked for, each with the digest it was pinned to, as canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_images: Option<String>,
    /// In the first `STARTED` and in `UNCHANGED`: what a restore leaves as it is, as canonical JSON of a list of [`NotRestored`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_restored: Option<String>,
}

/// An item that accompanies a record of a change of several images. It is outside the chain, and `by-image` finds the
/// change under each image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pointer {
    /// The record's service key.
    pub service: ServiceKey,
    /// The record's sort key, and which pointer it is.
    pub record: RecordKey,
    /// `{repository}#{shard}`.
    pub image: String,
    /// The record's change.
    pub change_id: ChangeId,
    /// The record's time.
    pub at: String,
}

/// An item of the history table with every member, also those that only a later version knows.
pub type RawRecord = Map<String, Value>;

/// The JSON value of a DynamoDB number. Records hold integers only; anything else becomes a value that no record holds,
/// so that it cannot be taken for another.
#[must_use]
pub fn number(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => json!({"N": text}),
    }
}

/// What all records of one change have in common.
#[derive(Debug, Clone)]
pub struct ChangeContext {
    /// The service.
    pub service: ServiceKey,
    /// The change.
    pub change_id: ChangeId,
    /// Repositories of the images that change; if none changes, that of the first container.
    pub repositories: Vec<String>,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// The reason given for it.
    pub reason: Option<String>,
    /// Whether somebody vouches for the requester.
    pub identity: Identity,
    /// Who invoked the function: `alias:NAME`.
    pub caller: Option<String>,
    /// The attempt at the change.
    pub attempt: Attempt,
    /// `RoleSessionName`.
    pub session: String,
    /// Lambda request id.
    pub request_id: String,
    /// When the event was first sent, where it says so.
    pub sent_at: Option<DateTime<Utc>>,
    /// The change that this change undoes.
    pub restores: Option<ChangeId>,
    /// The change whose deployment this one continues or stops, or whose deployment pauses.
    pub of: Option<ChangeId>,
    /// What this change does to the deployment of the other one.
    pub action: Option<DeploymentVerb>,
    /// The images asked for, each with the digest it was pinned to.
    pub pins: ResolvedImages,
}

/// What one record says in addition to [`ChangeContext`].
#[derive(Debug, Clone, Default)]
pub struct RecordFields<'a> {
    /// What the plan sets.
    pub changes: Option<&'a [Difference]>,
    /// The state before.
    pub before: Option<&'a RecordedState>,
    /// The state after.
    pub after: Option<&'a RecordedState>,
    /// The deployment started.
    pub deployment_id: Option<&'a str>,
    /// What failed.
    pub error: Option<&'a Failure>,
    /// When the lease ends.
    pub lease_until: Option<chrono::DateTime<chrono::Utc>>,
    /// How the deployment ended.
    pub outcome: Option<&'a OutcomeDetail>,
    /// What a restore leaves as it is.
    pub not_restored: &'a [NotRestored],
}

impl ChangeContext {
    /// The record of the change at `place`, as the next one in the chain that ends with `head`, and its pointers.
    ///
    /// # Errors
    ///
    /// Where a value has no canonical JSON.
    pub fn record(
        &self,
        kind: Kind,
        place: RecordPlace,
        at: chrono::DateTime<chrono::Utc>,
        said: &RecordFields<'_>,
        head: Option<&Head>,
    ) -> serde_json::Result<(Record, Vec<Pointer>)> {
        let shard = shard(&self.service);
        let mut images = self.repositories.iter().map(|repository| format!("{repository}#{shard}"));
        let record = Record {
            service: self.service.clone(),
            record: RecordKey::new(self.change_id.clone(), place),
            seq: 0,
            prev_hash: String::new(),
            hash: String::new(),
            kind,
            at: rfc3339(at),
            account_id: self.service.account_id().to_string(),
            region: self.service.region().to_string(),
            cluster: self.service.cluster().to_owned(),
            service_name: self.service.service().to_owned(),
            day: format!("{}#{shard}", self.change_id.time().format("%Y-%m-%d")),
            image: images.next(),
            change_id: self.change_id.clone(),
            attempt: self.attempt,
            requested_by: self.requested_by.clone(),
            reason: self.reason.clone(),
            identity: self.identity,
            caller: self.caller.clone(),
            changes: said.changes.map(changes_text).transpose()?,
            before: said.before.map(state_text).transpose()?,
            after: said.after.map(state_text).transpose()?,
            deployment_id: said.deployment_id.map(str::to_owned),
            error: said.error.map(error_text).transpose()?,
            session: self.session.clone(),
            request_id: self.request_id.clone(),
            sent_at: self.sent_at.map(rfc3339),
            restores: self.restores.clone(),
            of: self.of.clone(),
            action: self.action,
            lease_until: said.lease_until.map(rfc3339),
            outcome: said.outcome.map(outcome_text).transpose()?,
            resolved_images: self.pins.some().map(canonical_json::to_string).transpose()?,
            not_restored: match said.not_restored {
                [] => None,
                left => Some(canonical_json::to_string(&left)?),
            },
        };
        let pointers = images
            .enumerate()
            .map(|(index, image)| Pointer {
                service: record.service.clone(),
                record: RecordKey { pointer: u16::try_from(index + 1).ok(), ..record.record.clone() },
                image,
                change_id: record.change_id.clone(),
                at: record.at.clone(),
            })
            .collect();
        Ok((record.linked(head)?, pointers))
    }
}

impl Record {
    /// Adds the record to the chain after `head`.
    ///
    /// # Errors
    ///
    /// Where the record has no canonical JSON.
    pub fn linked(mut self, head: Option<&Head>) -> serde_json::Result<Self> {
        self.seq = head.map_or(1, |head| head.seq + 1);
        self.prev_hash = head.map(|head| head.hash.clone()).unwrap_or_default();
        self.hash = hash(&serde_json::to_value(&self)?)?;
        Ok(self)
    }

    /// The state before the change.
    #[must_use]
    pub fn before(&self) -> Option<RecordedState> {
        serde_json::from_str(self.before.as_deref()?).ok()
    }

    /// The state after the change.
    #[must_use]
    pub fn after(&self) -> Option<RecordedState> {
        serde_json::from_str(self.after.as_deref()?).ok()
    }

    /// What the plan set; `None` if the record does not say it, or says only that it was shortened.
    #[must_use]
    pub fn changes(&self) -> Option<Vec<Difference>> {
        serde_json::from_str(self.changes.as_deref()?).ok()
    }

    /// Whether what the plan set was too long to record.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        self.changes.as_deref().is_some_and(is_shortened)
    }

    /// When the event was first sent, where it said so.
    #[must_use]
    pub fn sent_at(&self) -> Option<DateTime<Utc>> {
        self.sent_at.as_deref()?.parse().ok()
    }

    /// Whether the change was sent no later than an event of the same sender. Both times are by the same clock, so they show which of the
    /// two is the earlier, however long each was delayed on its way.
    #[must_use]
    pub fn was_sent_before(&self, caller: &str, requested_by: Option<&str>, sent_at: DateTime<Utc>) -> bool {
        let is_its = self.caller.as_deref() == Some(caller) && self.requested_by.as_deref() == requested_by;
        is_its && requested_by.is_some() && self.sent_at().is_some_and(|own| own <= sent_at)
    }

    /// What a restore leaves as it is.
    #[must_use]
    pub fn not_restored(&self) -> Vec<NotRestored> {
        self.not_restored.as_deref().and_then(|left| serde_json::from_str(left).ok()).unwrap_or_default()
    }

    /// The images asked for, each with the digest it was pinned to.
    #[must_use]
    pub fn pins(&self) -> ResolvedImages {
        self.resolved_images.as_deref().and_then(|pins| serde_json::from_str(pins).ok()).unwrap_or_default()
    }
}

/// Lowercase hex SHA-256 over the canonical JSON (RFC 8785) of a record without its `hash`.
///
/// # Errors
///
/// Where the record has no canonical JSON.
pub fn hash(record: &Value) -> serde_json::Result<String> {
    let canonical = match record {
        Value::Object(members) => canonical_json::object(members.iter().filter(|(name, _)| *name != "hash")),
        other => canonical_json::to_string(other),
    };
    Ok(hex(&Sha256::digest(canonical?)))
}

/// The part of the records of a day, or of an image, that contains those of a service.
#[must_use]
pub fn shard(service: &ServiceKey) -> u8 {
    shard_of(&service.to_string())
}

/// The same for a service key given as text.
#[must_use]
pub fn shard_of(service: &str) -> u8 {
    Sha256::digest(service).first().map_or(0, |byte| byte % SHARDS)
}

fn state_text(state: &RecordedState) -> serde_json::Result<String> {
    let text = canonical_json::to_string(state)?;
    if text.len() <= MAX_STATE {
        return Ok(text);
    }
    let mut shortened = state.clone();
    let left_out = format!("left out: with them this would be {} bytes, and an item holds 400 KB", text.len());
    shortened.shorten(left_out);
    canonical_json::to_string(&shortened)
}

fn changes_text(changes: &[Difference]) -> serde_json::Result<String> {
    let text = canonical_json::to_string(&changes)?;
    if text.len() <= MAX_CHANGES {
        return Ok(text);
    }
    canonical_json::to_string(
        &json!({SHORTENED: format!("left out: they would be {} bytes, and an item holds 400 KB", text.len())}),
    )
}

/// Replaces what a plan set if that would not have fitted into an item.
const SHORTENED: &str = "shortened";

/// Whether `changes` of a record say only that they were too long.
#[must_use]
pub fn is_shortened(changes: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(changes).is_ok_and(|members| members.contains_key(SHORTENED))
}

fn error_text(error: &Failure) -> serde_json::Result<String> {
    let mut error = error.clone();
    shorten(&mut error.message);
    canonical_json::to_string(&error)
}

fn outcome_text(outcome: &OutcomeDetail) -> serde_json::Result<String> {
    let mut outcome = outcome.clone();
    if let Some(reason) = &mut outcome.reason {
        shorten(reason);
    }
    canonical_json::to_string(&outcome)
}

fn shorten(text: &mut String) {
    if text.len() > MAX_ERROR {
        text.truncate(text.floor_char_boundary(MAX_ERROR));
        text.push_str(" … (shortened)");
    }
}

impl Head {
    /// The head after `record`, with or without a lease. The last change that began and what runs stay as before, unless the record says
    /// otherwise.
    #[must_use]
    pub fn behind(record: &Record, before: Option<&Self>, lease: Option<Lease>) -> Self {
        let begins = matches!(record.kind, Kind::Started | Kind::Unchanged);
        let by = before.and_then(|head| head.begun_by.clone());
        let earlier = before.and_then(|head| head.begun.clone());
        let ran = before.and_then(|head| head.running.clone());
        let running = match record.kind {
            // A result that is recorded after a later change began describes the past.
            Kind::Applied | Kind::Failed | Kind::Abandoned if earlier.as_ref() > Some(&record.change_id) => ran,
            Kind::Applied | Kind::Failed | Kind::Abandoned => {
                record.after().and_then(|after| after.state.task_definition_arn)
            }
            // The record does not say what runs now.
            Kind::RolledBack | Kind::RollbackFailed | Kind::External => None,
            Kind::Started
            | Kind::Unchanged
            | Kind::Completed
            | Kind::DeploymentFailed
            | Kind::Stopped
            | Kind::Superseded
            | Kind::AwaitingAction
            | Kind::PauseEnded => ran,
        };
        let failed = match record.kind {
            Kind::Failed | Kind::Abandoned => true,
            Kind::Applied => false,
            _ => before.is_some_and(|head| head.failed),
        };
        let begun = if begins { earlier.clone().max(Some(record.change_id.clone())) } else { earlier.clone() };
        Self {
            seq: record.seq,
            hash: record.hash.clone(),
            record: record.record.clone(),
            highest: before.map_or(&record.change_id, |head| (&head.highest).max(&record.change_id)).clone(),
            begun_by: by.filter(|_| begun == earlier),
            begun,
            running,
            failed,
            lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::ids::{AccountId, EcsName, Region};
    use crate::plan::difference::DifferenceKind;
    use serde_json::json;

    fn service_key() -> ServiceKey {
        ServiceKey::new(
            AccountId::parse("222222222222").unwrap(),
            Region::parse("eu-west-1").unwrap(),
            EcsName::parse("ECSCluster").unwrap(),
            EcsName::parse("ecs-dummy-service").unwrap(),
        )
    }

    fn facts(repositories: &[&str]) -> ChangeContext {
        ChangeContext {
            service: service_key(),
            change_id: ChangeId::new(DateTime::from_timestamp_millis(1_795_000_000_123).unwrap(), [7; 10]),
            repositories: repositories.iter().map(|repository| (*repository).to_owned()).collect(),
            requested_by: Some("ann".to_owned()),
            reason: None,
            identity: Identity::Claimed,
            caller: None,
            attempt: Attempt::FIRST,
            session: "ecsu-1".to_owned(),
            request_id: "1".to_owned(),
            sent_at: None,
            restores: None,
            of: None,
            action: None,
            pins: ResolvedImages::default(),
        }
    }

    #[test]
    fn records_are_chained() {
        let facts = facts(&["nginx"]);
        let at = facts.change_id.time();
        let (first, pointers) =
            facts.record(Kind::Started, RecordPlace::STARTED, at, &RecordFields::default(), None).unwrap();
        assert_eq!((first.seq, first.prev_hash.as_str()), (1, ""));
        assert!(pointers.is_empty());
        let head = Head::behind(&first, None, None);
        let (second, _) =
            facts.record(Kind::Applied, RecordPlace::RESULT, at, &RecordFields::default(), Some(&head)).unwrap();
        assert_eq!((second.seq, second.prev_hash.as_str()), (2, first.hash.as_str()));
        assert_ne!(first.hash, second.hash);
    }

    #[test]
    fn the_hash_is_over_the_canonical_json_of_all_but_the_hash() {
        // Computed with `printf '%s' '{"a":"ü","seq":1}' | sha256sum`.
        let expected = "e14540b8c8e8f88d077fa5764d0dcbe32b48b60e956c24d291eaa5c3afec5187";
        assert_eq!(hash(&json!({"seq": 1, "hash": "whatever", "a": "ü"})).unwrap(), expected);
        let (record, _) = facts(&[])
            .record(Kind::Applied, RecordPlace::RESULT, DateTime::UNIX_EPOCH, &RecordFields::default(), None)
            .unwrap();
        let mut value = serde_json::to_value(&record).unwrap();
        for name in value.as_object().unwrap().keys().cloned().collect::<Vec<_>>() {
            let kept = value.get(&name).cloned().unwrap();
            value[&name] = json!("another");
            assert_eq!(hash(&value).unwrap() == record.hash, name == "hash", "{name}");
            value[&name] = kept;
        }
    }

    #[test]
    fn a_change_of_several_images_is_found_under_each() {
        let (record, pointers) = facts(&["nginx", "fluent"])
            .record(Kind::Applied, RecordPlace::RESULT, DateTime::UNIX_EPOCH, &RecordFields::default(), None)
            .unwrap();
        let shard = shard(&service_key());
        assert_eq!(record.image, Some(format!("nginx#{shard}")));
        assert_eq!(pointers.len(), 1);
        assert_eq!(pointers[0].image, format!("fluent#{shard}"));
        assert_eq!(pointers[0].record.to_string(), format!("{}#1", record.record));
        assert_eq!(record.day, format!("2026-11-18#{shard}"));
    }

    #[test]
    fn sort_keys_are_read_in_one_form_only() {
        let id = facts(&[]).change_id;
        let attempt = |number| Attempt::new(number).unwrap();
        for (text, place, pointer) in [
            ("#0", RecordPlace::STARTED, None),
            ("#0-02", RecordPlace::Started(attempt(2)), None),
            ("#1-20#3", RecordPlace::Result(attempt(20)), Some(3)),
            ("#9#12", RecordPlace::Later(9), Some(12)),
        ] {
            let text = format!("{id}{text}");
            let key = RecordKey::parse(&text).unwrap();
            assert_eq!((&key.change_id, key.place, key.pointer, key.to_string()), (&id, place, pointer, text));
        }
        let upper = format!("{}#0", id.as_str().to_uppercase());
        for wrong in ["", "x#0", id.as_str(), &format!("{id}#"), &format!("{id}#10"), &format!("{id}#+1"), &upper] {
            assert!(RecordKey::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["#01", "#0#", "#0#01", "#0#1#1", "#0-01", "#0-2", "#0-21", "#2-02", "#0-", "#0-002"] {
            assert!(RecordKey::parse(&format!("{id}{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_compare_as_their_bytes_do() {
        let ids = [1, 2].map(|n| ChangeId::new(DateTime::from_timestamp_millis(n).unwrap(), [7; 10]));
        let attempts = || (1..=20).filter_map(Attempt::new);
        let places =
            attempts().map(RecordPlace::Started).chain(attempts().map(RecordPlace::Result)).chain(RecordPlace::later());
        let mut keys: Vec<RecordKey> = Vec::new();
        for place in places {
            for pointer in [None, Some(1), Some(2), Some(9), Some(10), Some(11), Some(65535)] {
                keys.extend(ids.iter().map(|id| RecordKey { pointer, ..RecordKey::new(id.clone(), place) }));
            }
        }
        keys.sort();
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        // A change's first Place::STARTED, its further ones, its results, what came after.
        let first: Vec<&String> = texts.iter().filter(|text| text.matches('#').count() == 1).take(50).collect();
        assert!(first[0].ends_with("#0") && first[1].ends_with("#0-02") && first[20].ends_with("#1"));
        assert!(first[39].ends_with("#1-20") && first[40].ends_with("#2") && first[47].ends_with("#9"));
    }

    #[test]
    fn numbers_are_integers_as_dynamodb_writes_them() {
        assert_eq!(number("7"), json!(7));
        for other in ["07", "+7", "7.0", "", "x", "7e2", "99999999999999999999"] {
            assert_eq!(number(other), json!({"N": other}));
        }
    }

    #[test]
    fn times_of_one_sender_tell_which_event_came_first() {
        let at = |second: i64| DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap();
        let record = |sent_at, caller: &str, requested_by: Option<&str>| {
            let caller = Some(caller.to_owned());
            let facts = ChangeContext { sent_at, caller, requested_by: requested_by.map(str::to_owned), ..facts(&[]) };
            facts.record(Kind::Started, RecordPlace::STARTED, at(60), &RecordFields::default(), None).unwrap().0
        };
        let before = |record: &Record| record.was_sent_before("alias:live", Some("ann"), at(5));
        assert!(before(&record(Some(at(4)), "alias:live", Some("ann"))));
        assert!(before(&record(Some(at(5)), "alias:live", Some("ann"))));
        assert!(!before(&record(Some(at(6)), "alias:live", Some("ann"))));
        assert!(!before(&record(None, "alias:live", Some("ann"))));
        assert!(!before(&record(Some(at(4)), "alias:api", Some("ann"))), "perhaps by another clock");
        assert!(!before(&record(Some(at(4)), "alias:live", Some("ben"))));
        let nobody = record(Some(at(4)), "alias:live", None);
        assert!(!nobody.was_sent_before("alias:live", None, at(5)), "who does not say who it is may be anybody");
    }

    #[test]
    fn texts_that_would_not_fit_an_item_are_shortened_and_say_so() {
        let error = Failure::new(Code::ServiceUpdateFailed, "ü".repeat(MAX_ERROR));
        let said = RecordFields { error: Some(&error), ..RecordFields::default() };
        let (record, _) =
            facts(&[]).record(Kind::Failed, RecordPlace::RESULT, DateTime::UNIX_EPOCH, &said, None).unwrap();
        let text = record.error.unwrap();
        assert!(text.len() < MAX_ERROR + 200 && text.contains("(shortened)"));
    }

    #[test]
    fn changes_that_would_not_fit_an_item_are_left_out_and_say_so() {
        let record = |length: usize| {
            let (what, path, from) = (DifferenceKind::Parameter, "serviceConnectConfiguration".to_owned(), Value::Null);
            let changes = [Difference { what, path, from, to: "x".repeat(length).into() }];
            let said = RecordFields { changes: Some(&changes), ..RecordFields::default() };
            facts(&[]).record(Kind::Started, RecordPlace::STARTED, DateTime::UNIX_EPOCH, &said, None).unwrap().0
        };
        let whole = record(MAX_CHANGES - 200);
        assert!(!whole.is_shortened() && whole.changes().is_some_and(|changes| changes.len() == 1));
        let shortened = record(MAX_CHANGES);
        assert!(shortened.is_shortened() && shortened.changes().is_none());
        assert!(shortened.changes.unwrap().contains("left out"));
        // A record of a version that did not record changes yet.
        let (none, _) = facts(&[])
            .record(Kind::Started, RecordPlace::STARTED, DateTime::UNIX_EPOCH, &RecordFields::default(), None)
            .unwrap();
        assert!(!none.is_shortened() && none.changes().is_none());
    }
}
