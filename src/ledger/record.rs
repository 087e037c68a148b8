//! Records of the history table. What stands here is read by every later version: it is final.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::state::Head;
use crate::canonical;
use crate::error::Failure;
use crate::names::{ChangeId, ServiceKey};
use crate::outcome::Detail;
use crate::registry::Pins;
use crate::snapshot::{Recorded, rfc3339};

/// How many parts a day and an image are spread over, so that none of them is one partition.
pub const SHARDS: u8 = 8;
/// Longest text of an error in a record, in bytes: an item holds 400 KB in all.
const LONGEST_ERROR: usize = 16 * 1024;
/// Longest `before` or `after` in a record, in bytes: two of them and an error fit an item.
const LONGEST_STATE: usize = 180 * 1024;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A change was about to begin: nothing was touched before this stood in the table.
    Started,
    /// AWS took the change.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// A call of the change failed.
    Failed,
    /// The function ended before the change did.
    Abandoned,
    /// The service is steady with the deployment that the change started.
    Completed,
    /// The circuit breaker or an alarm gave it up. A rollback may follow.
    DeploymentFailed,
    /// ECS went back to what ran before.
    RolledBack,
    /// ECS tried to go back, and could not.
    RollbackFailed,
    /// Somebody stopped it.
    Stopped,
    /// Another deployment took over before it had ended.
    Superseded,
    /// A deployment that no change started.
    External,
}

impl Kind {
    /// The kind as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Applied => "APPLIED",
            Self::Unchanged => "UNCHANGED",
            Self::Failed => "FAILED",
            Self::Abandoned => "ABANDONED",
            Self::Completed => "COMPLETED",
            Self::DeploymentFailed => "DEPLOYMENT_FAILED",
            Self::RolledBack => "ROLLED_BACK",
            Self::RollbackFailed => "ROLLBACK_FAILED",
            Self::Stopped => "STOPPED",
            Self::Superseded => "SUPERSEDED",
            Self::External => "EXTERNAL",
        }
    }
}

/// One immutable item of the history table. Absent members are not in the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Partition key: the service key.
    pub service: String,
    /// Sort key: `{change_id}#{n}`.
    pub record: String,
    /// Position in the service's chain, from 1.
    pub seq: u64,
    /// Hash of the record before; empty for the first.
    pub prev_hash: String,
    /// Lowercase hex SHA-256 over the canonical JSON (RFC 8785) of this record without `hash`.
    #[serde(default)]
    pub hash: String,
    /// What it says.
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
    pub change_id: String,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `verified` where the API door vouches for `requested_by`, else `claimed`.
    pub identity: String,
    /// What was there before, as canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What was there after, as canonical JSON.
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
    /// The change whose before this change puts back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    /// In `STARTED`: when the lease ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<String>,
    /// In outcomes and `EXTERNAL`: what else is known of the deployment's end, as canonical JSON of [`Detail`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The images asked for, each with the digest it was pinned to, as canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_images: Option<String>,
}

/// An item beside a record of a change of several images, outside the chain: `by-image` finds the change under each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pointer {
    /// The record's service key.
    pub service: String,
    /// `{change_id}#{n}#{i}`.
    pub record: String,
    /// `{repository}#{shard}`.
    pub image: String,
    /// The record's change.
    pub change_id: String,
    /// The record's time.
    pub at: String,
}

/// An item of the history table with every member, also those that only a later version knows.
pub type RawRecord = Map<String, Value>;

/// A sort key of the history table: `{change_id}#{n}` of a record, `{change_id}#{n}#{i}` of a pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    /// The change.
    pub change_id: ChangeId,
    /// 0 for `STARTED`, 1 for the result, 2 to 9 for what came after.
    pub n: u8,
    /// Which pointer of the record it is; none for the record itself.
    pub pointer: Option<u16>,
}

impl RecordKey {
    /// Reads a sort key as it is written, and in no other form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('#');
        let change_id = ChangeId::parse(parts.next()?).ok()?;
        let n = parts.next()?.parse().ok()?;
        let pointer = parts.next().map(str::parse).transpose().ok()?;
        let key = Self { change_id, n, pointer };
        (n <= 9 && key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.change_id, self.n)?;
        self.pointer.map_or(Ok(()), |pointer| write!(f, "#{pointer}"))
    }
}

/// The JSON that a DynamoDB number stands for. Records hold integers only; anything else becomes what no record
/// holds, so that it can stand for nothing else.
#[must_use]
pub fn number(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => json!({"N": text}),
    }
}

/// What all records of one change have in common.
#[derive(Debug, Clone)]
pub struct ChangeFacts {
    /// The service.
    pub service: ServiceKey,
    /// The change.
    pub change_id: ChangeId,
    /// Repositories of the images that change; of the first container where none does.
    pub repositories: Vec<String>,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// `verified` or `claimed`.
    pub identity: String,
    /// `RoleSessionName`.
    pub session: String,
    /// Lambda request id.
    pub request_id: String,
    /// The change whose before this change puts back.
    pub restores: Option<String>,
    /// The images asked for, each with the digest it was pinned to.
    pub pins: Pins,
}

/// What one record says beyond [`ChangeFacts`].
#[derive(Debug, Clone, Default)]
pub struct Said<'a> {
    /// The state before.
    pub before: Option<&'a Recorded>,
    /// The state after.
    pub after: Option<&'a Recorded>,
    /// The deployment started.
    pub deployment_id: Option<&'a str>,
    /// What failed.
    pub error: Option<&'a Failure>,
    /// When the lease ends.
    pub lease_until: Option<chrono::DateTime<chrono::Utc>>,
    /// How the deployment ended.
    pub outcome: Option<&'a Detail>,
}

impl ChangeFacts {
    /// The `n`-th record of the change, as the next of the chain that ends in `head`, and the pointers beside it.
    ///
    /// # Errors
    ///
    /// Where a value has no canonical JSON.
    pub fn record(
        &self,
        kind: Kind,
        n: u8,
        at: chrono::DateTime<chrono::Utc>,
        said: &Said<'_>,
        head: Option<&Head>,
    ) -> serde_json::Result<(Record, Vec<Pointer>)> {
        let shard = shard(&self.service);
        let mut images = self.repositories.iter().map(|repository| format!("{repository}#{shard}"));
        let record = Record {
            service: self.service.to_string(),
            record: format!("{}#{n}", self.change_id),
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
            change_id: self.change_id.to_string(),
            requested_by: self.requested_by.clone(),
            reason: self.reason.clone(),
            identity: self.identity.clone(),
            before: said.before.map(state_text).transpose()?,
            after: said.after.map(state_text).transpose()?,
            deployment_id: said.deployment_id.map(str::to_owned),
            error: said.error.map(error_text).transpose()?,
            session: self.session.clone(),
            request_id: self.request_id.clone(),
            restores: self.restores.clone(),
            lease_until: said.lease_until.map(rfc3339),
            outcome: said.outcome.map(outcome_text).transpose()?,
            resolved_images: self.pins.some().map(canonical::to_string).transpose()?,
        };
        let pointers = images
            .enumerate()
            .map(|(index, image)| Pointer {
                service: record.service.clone(),
                record: format!("{}#{}", record.record, index + 1),
                image,
                change_id: record.change_id.clone(),
                at: record.at.clone(),
            })
            .collect();
        Ok((record.linked(head)?, pointers))
    }
}

impl Record {
    /// Puts the record behind `head`.
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
    pub fn before(&self) -> Option<Recorded> {
        serde_json::from_str(self.before.as_deref()?).ok()
    }

    /// The images asked for, each with the digest it was pinned to.
    #[must_use]
    pub fn pins(&self) -> Pins {
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
        Value::Object(members) => canonical::object(members.iter().filter(|(name, _)| *name != "hash")),
        other => canonical::to_string(other),
    };
    Ok(hex(&Sha256::digest(canonical?)))
}

/// Lowercase hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The part of a day's, or an image's, records that a service's stand in.
#[must_use]
pub fn shard(service: &ServiceKey) -> u8 {
    shard_of(&service.to_string())
}

/// The same of a service key as text.
#[must_use]
pub fn shard_of(service: &str) -> u8 {
    Sha256::digest(service).first().map_or(0, |byte| byte % SHARDS)
}

fn state_text(state: &Recorded) -> serde_json::Result<String> {
    let text = canonical::to_string(state)?;
    if text.len() <= LONGEST_STATE {
        return Ok(text);
    }
    let mut shortened = state.clone();
    let left_out = format!("left out: with them this would be {} bytes, and an item holds 400 KB", text.len());
    shortened.shorten(left_out);
    canonical::to_string(&shortened)
}

fn error_text(error: &Failure) -> serde_json::Result<String> {
    let mut error = error.clone();
    shorten(&mut error.message);
    canonical::to_string(&error)
}

fn outcome_text(outcome: &Detail) -> serde_json::Result<String> {
    let mut outcome = outcome.clone();
    if let Some(reason) = &mut outcome.reason {
        shorten(reason);
    }
    canonical::to_string(&outcome)
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_ERROR {
        text.truncate(text.floor_char_boundary(LONGEST_ERROR));
        text.push_str(" … (shortened)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::names::{AccountId, EcsName, Region};
    use chrono::DateTime;
    use serde_json::json;

    fn service_key() -> ServiceKey {
        ServiceKey::new(
            AccountId::parse("222222222222").unwrap(),
            Region::parse("eu-west-1").unwrap(),
            EcsName::parse("ECSCluster").unwrap(),
            EcsName::parse("ecs-dummy-service").unwrap(),
        )
    }

    fn facts(repositories: &[&str]) -> ChangeFacts {
        ChangeFacts {
            service: service_key(),
            change_id: ChangeId::new(DateTime::from_timestamp_millis(1_795_000_000_123).unwrap(), [7; 10]),
            repositories: repositories.iter().map(|it| (*it).to_owned()).collect(),
            requested_by: Some("ann".to_owned()),
            reason: None,
            identity: "claimed".to_owned(),
            session: "ecsu-1".to_owned(),
            request_id: "1".to_owned(),
            restores: None,
            pins: Pins::default(),
        }
    }

    #[test]
    fn records_are_chained() {
        let facts = facts(&["nginx"]);
        let at = facts.change_id.time();
        let (first, pointers) = facts.record(Kind::Started, 0, at, &Said::default(), None).unwrap();
        assert_eq!((first.seq, first.prev_hash.as_str()), (1, ""));
        assert!(pointers.is_empty());
        let head = Head::after(&first, None);
        let (second, _) = facts.record(Kind::Applied, 1, at, &Said::default(), Some(&head)).unwrap();
        assert_eq!((second.seq, second.prev_hash.as_str()), (2, first.hash.as_str()));
        assert_ne!(first.hash, second.hash);
    }

    #[test]
    fn the_hash_is_over_the_canonical_json_of_all_but_the_hash() {
        // Computed with `printf '%s' '{"a":"ü","seq":1}' | sha256sum`.
        let expected = "e14540b8c8e8f88d077fa5764d0dcbe32b48b60e956c24d291eaa5c3afec5187";
        assert_eq!(hash(&json!({"seq": 1, "hash": "whatever", "a": "ü"})).unwrap(), expected);
        let (record, _) = facts(&[]).record(Kind::Applied, 1, DateTime::UNIX_EPOCH, &Said::default(), None).unwrap();
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
        let (record, pointers) =
            facts(&["nginx", "fluent"]).record(Kind::Applied, 1, DateTime::UNIX_EPOCH, &Said::default(), None).unwrap();
        let shard = shard(&service_key());
        assert_eq!(record.image, Some(format!("nginx#{shard}")));
        assert_eq!(pointers.len(), 1);
        assert_eq!(pointers[0].image, format!("fluent#{shard}"));
        assert_eq!(pointers[0].record, format!("{}#1", record.record));
        assert_eq!(record.day, format!("2026-11-18#{shard}"));
    }

    #[test]
    fn sort_keys_are_read_in_one_form_only() {
        let id = facts(&[]).change_id;
        for (text, n, pointer) in [(format!("{id}#0"), 0, None), (format!("{id}#9#12"), 9, Some(12))] {
            let key = RecordKey::parse(&text).unwrap();
            assert_eq!((key.change_id.clone(), key.n, key.pointer, key.to_string()), (id.clone(), n, pointer, text));
        }
        let upper = format!("{}#0", id.as_str().to_uppercase());
        for wrong in ["", "x#0", id.as_str(), &format!("{id}#"), &format!("{id}#10"), &format!("{id}#+1"), &upper] {
            assert_eq!(RecordKey::parse(wrong), None, "{wrong}");
        }
        for wrong in ["#01", "#0#", "#0#01", "#0#1#1"] {
            assert_eq!(RecordKey::parse(&format!("{id}{wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_integers_as_dynamodb_writes_them() {
        assert_eq!(number("7"), json!(7));
        for other in ["07", "+7", "7.0", "", "x", "7e2", "99999999999999999999"] {
            assert_eq!(number(other), json!({"N": other}));
        }
    }

    #[test]
    fn texts_that_would_not_fit_an_item_are_shortened_and_say_so() {
        let error = Failure::new(Code::ServiceUpdateFailed, "ü".repeat(LONGEST_ERROR));
        let said = Said { error: Some(&error), ..Said::default() };
        let (record, _) = facts(&[]).record(Kind::Failed, 1, DateTime::UNIX_EPOCH, &said, None).unwrap();
        let text = record.error.unwrap();
        assert!(text.len() < LONGEST_ERROR + 200 && text.contains("(shortened)"));
    }
}
