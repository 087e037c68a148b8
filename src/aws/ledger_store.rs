//! The two tables: history is written by `INSERT` in transactions only, so that IAM can keep it append-only.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::execute_transaction::ExecuteTransactionError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, KeysAndAttributes, ParameterizedStatement};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::{CallError, Effect};
use crate::config::Tables;
use crate::ledger::record::{Kind, RawRecord, Record, hash, number, shard_of};
use crate::ledger::state::{DeploymentItem, Head, KeyItem, Lease, Position, Write};
use crate::names::{ChangeId, ServiceKey};
use crate::restore::{Past, previous};
use crate::snapshot::rfc3339;

/// Why a transaction did not go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Something is no longer as it was read.
    Conflict(String),
    /// DynamoDB refused, could not be reached, or has another transaction on the same items.
    Call(CallError),
}

/// History and state tables.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    client: Client,
    history: String,
    state: String,
}

pub(super) type Item = HashMap<String, AttributeValue>;

const BATCH_GET_ITEM: &str = "dynamodb:BatchGetItem";
const QUERY: &str = "dynamodb:Query";

/// The index of the state table that holds only deployments whose end is not known yet.
const BY_OPEN: &str = "by-open";
/// Behind every time that is written.
const LAST_TIME: &str = "9999-12-31T23:59:59.999Z";

/// Which open deployments are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Open<'a> {
    /// Those of one service.
    Of(&'a ServiceKey),
    /// Those that are to be asked about.
    Due {
        /// The part of the index, from 0 to [`crate::ledger::record::SHARDS`].
        shard: u8,
        /// By when.
        by: DateTime<Utc>,
        /// About how many.
        limit: usize,
    },
}

/// How many records are read at a time to find the last change: nearly always the first few have it.
const PREVIOUS_PAGE: i32 = 10;

fn position(items: &HashMap<String, Item>, service: &ServiceKey, key_id: &str) -> Result<Position, CallError> {
    let unreadable = |name| CallError::broken(BATCH_GET_ITEM, format!("attribute {name} of an item of {service}"));
    Ok(Position {
        head: items.get(&Head::id(service)).map(head).transpose().map_err(unreadable)?,
        key: items.get(key_id).map(key).transpose().map_err(unreadable)?,
    })
}

impl LedgerStore {
    /// The tables that the configuration names.
    #[must_use]
    pub fn new(shared: &SdkConfig, tables: &Tables) -> Self {
        Self { client: Client::new(shared), history: tables.history.clone(), state: tables.state.clone() }
    }

    /// Reads a service's head and a key together, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read(&self, service: &ServiceKey, key_id: &str) -> Result<Position, CallError> {
        self.read_many(&[(service, key_id)]).await.pop().unwrap_or_else(|| Ok(Position::default()))
    }

    /// Reads the heads of at most 50 services, each with a key: in the same order, each on its own.
    pub async fn read_many(&self, wanted: &[(&ServiceKey, &str)]) -> Vec<Result<Position, CallError>> {
        let ids = wanted.iter().flat_map(|(service, key_id)| [Head::id(service), (*key_id).to_owned()]);
        match self.items(ids).await {
            Ok(items) => wanted.iter().map(|(service, key_id)| position(&items, service, key_id)).collect(),
            Err(error) => wanted.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Reads a service's head, one of its deployments and a key together, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn read_deployment(
        &self,
        service: &ServiceKey,
        deployment_id: &str,
        key_id: &str,
    ) -> Result<(Position, Option<DeploymentItem>), CallError> {
        let id = DeploymentItem::id(service, deployment_id);
        let items = self.items([Head::id(service), id.clone(), key_id.to_owned()].into_iter()).await?;
        let found = items.get(&id).map(deployment).transpose();
        let found = found.map_err(|name| {
            CallError::broken(BATCH_GET_ITEM, format!("attribute {name} of an item of deployment {deployment_id}"))
        })?;
        Ok((position(&items, service, key_id)?, found))
    }

    /// The open deployments of one part of their index, those that are to be asked about first: of one service, or all
    /// that are due by then. The index is a little behind.
    ///
    /// # Errors
    ///
    /// Where the call failed, or an item is not what this project writes.
    pub async fn open_deployments(&self, wanted: Open<'_>) -> Result<Vec<DeploymentItem>, CallError> {
        let (shard, due, service, limit) = match wanted {
            Open::Of(service) => (shard_of(&service.to_string()), LAST_TIME.to_owned(), Some(service), usize::MAX),
            Open::Due { shard, by, limit } => (shard, rfc3339(by), None, limit),
        };
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let request = self
                .client
                .query()
                .table_name(&self.state)
                .index_name(BY_OPEN)
                .key_condition_expression("#open = :shard AND look_at <= :due")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":shard", AttributeValue::S(shard.to_string()))
                .expression_attribute_values(":due", AttributeValue::S(due.clone()))
                .set_exclusive_start_key(from);
            let answer = request.send().await.map_err(|error| CallError::new(QUERY, &error))?;
            for item in answer.items.unwrap_or_default() {
                let item = deployment(&item).map_err(|name| {
                    CallError::broken(QUERY, format!("attribute {name} of an item of an open deployment"))
                })?;
                if service.is_none_or(|service| item.service == service.to_string()) {
                    found.push(item);
                }
            }
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Items of the state table by their ids.
    async fn items(&self, ids: impl Iterator<Item = String>) -> Result<HashMap<String, Item>, CallError> {
        let keys = ids.map(|id| Item::from([("id".to_owned(), AttributeValue::S(id))])).collect();
        let mut wanted = KeysAndAttributes::builder().consistent_read(true).set_keys(Some(keys)).build().ok();
        let mut items = HashMap::new();
        // DynamoDB may answer a part and name the rest.
        for _ in 0..3 {
            let Some(request) = wanted.take() else { break };
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.state, request)
                .send()
                .await
                .map_err(|error| CallError::new(BATCH_GET_ITEM, &error))?;
            for item in answer.responses.unwrap_or_default().remove(&self.state).unwrap_or_default() {
                let id = text(&item, "id")
                    .map_err(|_| CallError::broken(BATCH_GET_ITEM, "attribute id of an item of the state table"))?;
                items.insert(id, item);
            }
            wanted = answer.unprocessed_keys.unwrap_or_default().remove(&self.state);
        }
        if wanted.is_some() {
            return Err(CallError::unreadable(BATCH_GET_ITEM, "keys stay unprocessed"));
        }
        Ok(items)
    }

    /// Reads one record, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or the item is no record of this project's.
    pub async fn record(&self, service: &ServiceKey, record: &str) -> Result<Option<Record>, CallError> {
        let json = self.record_json(service, record).await?;
        json.map(serde_json::from_value).transpose().map_err(|error| CallError::unreadable("dynamodb:GetItem", error))
    }

    /// Reads one record of whatever version as the JSON that its hash is over, strongly consistent.
    ///
    /// # Errors
    ///
    /// Where the call failed, or the record does not fit its hash.
    pub async fn record_json(&self, service: &ServiceKey, record: &str) -> Result<Option<Value>, CallError> {
        const OPERATION: &str = "dynamodb:GetItem";
        let answer = self
            .client
            .get_item()
            .table_name(&self.history)
            .key("service", AttributeValue::S(service.to_string()))
            .key("record", AttributeValue::S(record.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| CallError::new(OPERATION, &error))?;
        answer.item.map(|item| intact(&item, OPERATION)).transpose()
    }

    /// The last change of a service that changed something: reads its records from the newest on until it is found.
    ///
    /// # Errors
    ///
    /// Where the call failed, or a record does not fit its hash.
    pub async fn previous(&self, service: &ServiceKey) -> Result<Option<Past>, CallError> {
        const OPERATION: &str = "dynamodb:Query";
        let mut from = None;
        loop {
            let answer = self
                .client
                .query()
                .table_name(&self.history)
                .key_condition_expression("service = :service")
                .expression_attribute_values(":service", AttributeValue::S(service.to_string()))
                .scan_index_forward(false)
                .consistent_read(true)
                .limit(PREVIOUS_PAGE)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| CallError::new(OPERATION, &error))?;
            let mut page = Vec::new();
            // Pointer items stand beside the chain, without a hash.
            for item in answer.items.unwrap_or_default().iter().filter(|item| item.contains_key("seq")) {
                page.extend(Past::read(&intact(item, OPERATION)?));
            }
            from = answer.last_evaluated_key;
            let found = previous(page);
            if found.is_some() || from.is_none() {
                return Ok(found);
            }
        }
    }

    /// Does all writes or none.
    ///
    /// # Errors
    ///
    /// A conflict where something is no longer as it was read; after any other error the writes may have been done.
    pub async fn write(&self, writes: &[Write]) -> Result<(), WriteError> {
        const OPERATION: &str = "dynamodb:ExecuteTransaction";
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            let (text, parameters) = self.statement(write);
            let statement = ParameterizedStatement::builder().statement(text).set_parameters(Some(parameters)).build();
            statements.push(statement.map_err(|error| WriteError::Call(CallError::unreadable(OPERATION, error)))?);
        }
        let sent = self.client.execute_transaction().set_transact_statements(Some(statements)).send().await;
        let Err(error) = sent else { return Ok(()) };
        if let Some(ExecuteTransactionError::TransactionCanceledException(cancelled)) = error.as_service_error() {
            let reasons = cancelled.cancellation_reasons();
            let failed: Vec<String> = reasons.iter().filter_map(reason).collect();
            let conflict = reasons.iter().any(|reason| reason.code().is_some_and(is_conflict));
            // A local DynamoDB names its reasons in the message only.
            let conflict = conflict || (reasons.is_empty() && cancelled.message().is_some_and(is_conflict));
            if conflict {
                return Err(WriteError::Conflict(failed.join(", ")));
            }
            let mut call = CallError::new(OPERATION, &error);
            call.message = format!("{} ({})", call.message, failed.join(", "));
            if reasons.iter().any(|reason| reason.code().is_some_and(is_throttled)) {
                call.effect = Effect::Throttled;
            }
            return Err(WriteError::Call(call));
        }
        let mut call = CallError::new(OPERATION, &error);
        // The same transaction, sent before: it may still go through.
        if call.has_code(&["TransactionInProgressException"]) {
            call.effect = Effect::Unknown;
        }
        if call.has_code(&["TransactionConflictException", "DuplicateItemException", "ConditionalCheckFailedException"])
        {
            return Err(WriteError::Conflict(call.to_string()));
        }
        Err(WriteError::Call(call))
    }

    fn statement(&self, write: &Write) -> (String, Vec<AttributeValue>) {
        match write {
            Write::Record(record) => insert(&self.history, attributes(record)),
            Write::Pointer(pointer) => insert(&self.history, attributes(pointer)),
            Write::Head { id, from: None, to } => insert(&self.state, with_id(id, head_attributes(to))),
            Write::Head { id, from: Some(from), to } => {
                let (change, until) = lease_texts(from);
                let unless_moved = vec![
                    ("seq", AttributeValue::N(from.seq.to_string())),
                    ("lease_change", AttributeValue::S(change)),
                    ("lease_until", AttributeValue::S(until)),
                ];
                update(&self.state, id, head_attributes(to), unless_moved)
            }
            Write::Key { from: None, to } => insert(&self.state, with_id(&to.id, key_attributes(to))),
            Write::Key { from: Some(from), to } => {
                let unless_moved = vec![
                    ("change_id", AttributeValue::S(from.change_id.clone())),
                    ("expires_at", AttributeValue::N(from.expires_at.to_string())),
                ];
                update(&self.state, &to.id, key_attributes(to), unless_moved)
            }
            Write::Deployment { from: None, to } => {
                insert(&self.state, with_id(&to.id, [deployment_attributes(to), open_attributes(to)].concat()))
            }
            Write::Deployment { from: Some(from), to } => {
                let unless_moved = vec![("outcomes", AttributeValue::S(outcomes_text(&from.outcomes)))];
                let open = open_attributes(to);
                // An index key is there or not: it cannot be empty.
                let gone: &[&str] = if open.is_empty() { &["open", "look_at"] } else { &[] };
                let changed = [deployment_attributes(to), open].concat();
                let changed = changed.into_iter().filter(|(name, _)| CHANGING.contains(name)).collect();
                update_and_remove(&self.state, &to.id, changed, gone, unless_moved)
            }
        }
    }
}

/// The attributes of a deployment that ever change.
const CHANGING: [&str; 4] = ["outcomes", "undoes", "open", "look_at"];

type Attributes = Vec<(&'static str, AttributeValue)>;

fn insert(
    table: &str,
    attributes: impl IntoIterator<Item = (impl AsRef<str>, AttributeValue)>,
) -> (String, Vec<AttributeValue>) {
    let (names, values): (Vec<String>, Vec<AttributeValue>) =
        attributes.into_iter().map(|(name, value)| (format!("'{}': ?", name.as_ref()), value)).unzip();
    (format!("INSERT INTO \"{table}\" VALUE {{{}}}", names.join(", ")), values)
}

fn update(table: &str, id: &str, set: Attributes, conditions: Attributes) -> (String, Vec<AttributeValue>) {
    update_and_remove(table, id, set, &[], conditions)
}

/// Names are quoted: `hash` and others are reserved words.
fn update_and_remove(
    table: &str,
    id: &str,
    set: Attributes,
    remove: &[&str],
    conditions: Attributes,
) -> (String, Vec<AttributeValue>) {
    let mut text = format!("UPDATE \"{table}\"");
    let mut values = Vec::with_capacity(set.len() + conditions.len() + 1);
    for (name, value) in set {
        let _ = write!(text, " SET \"{name}\" = ?");
        values.push(value);
    }
    for name in remove {
        let _ = write!(text, " REMOVE \"{name}\"");
    }
    text.push_str(" WHERE \"id\" = ?");
    values.push(AttributeValue::S(id.to_owned()));
    for (name, value) in conditions {
        let _ = write!(text, " AND \"{name}\" = ?");
        values.push(value);
    }
    (text, values)
}

fn with_id(id: &str, mut attributes: Attributes) -> Attributes {
    attributes.insert(0, ("id", AttributeValue::S(id.to_owned())));
    attributes
}

/// An item of strings and one integer, as all of the history table are.
fn attributes(item: &impl Serialize) -> Vec<(String, AttributeValue)> {
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

/// The JSON that an item of strings and integers stands for. An attribute of another type becomes what no record holds.
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

/// The JSON of a record that fits its hash.
fn intact(item: &Item, operation: &'static str) -> Result<Value, CallError> {
    let json = Value::Object(json(item));
    if hash(&json).ok().as_deref() == json.get("hash").and_then(Value::as_str) {
        return Ok(json);
    }
    let part = |name| json.get(name).and_then(Value::as_str).unwrap_or_default();
    let what = format!("record {} of {} does not fit its hash: it", part("record"), part("service"));
    Err(CallError::broken(operation, what))
}

fn lease_texts(head: &Head) -> (String, String) {
    head.lease.as_ref().map(|lease| (lease.change_id.clone(), rfc3339(lease.until))).unwrap_or_default()
}

/// No lease is written as empty strings, so that taking and giving it back are the same statement.
fn head_attributes(head: &Head) -> Attributes {
    let (change, until) = lease_texts(head);
    vec![
        ("seq", AttributeValue::N(head.seq.to_string())),
        ("hash", AttributeValue::S(head.hash.clone())),
        ("record", AttributeValue::S(head.record.clone())),
        ("change_id", AttributeValue::S(head.change_id.clone())),
        ("lease_change", AttributeValue::S(change)),
        ("lease_until", AttributeValue::S(until)),
        ("lease_key", AttributeValue::S(head.lease.as_ref().map(|lease| lease.key.clone()).unwrap_or_default())),
    ]
}

fn key_attributes(key: &KeyItem) -> Attributes {
    vec![
        ("change_id", AttributeValue::S(key.change_id.clone())),
        ("event_hash", AttributeValue::S(key.event_hash.clone())),
        ("answer", AttributeValue::S(key.answer.clone().unwrap_or_default())),
        ("expires_at", AttributeValue::N(key.expires_at.to_string())),
    ]
}

/// Lists are JSON in strings; what is not there is an empty string.
fn deployment_attributes(item: &DeploymentItem) -> Attributes {
    let optional = |text: &Option<String>| AttributeValue::S(text.clone().unwrap_or_default());
    // `undoes` tells an empty id from none.
    let undoes = item.undoes.as_ref().map(|id| format!("={id}")).unwrap_or_default();
    vec![
        ("service", AttributeValue::S(item.service.clone())),
        ("service_arn", AttributeValue::S(item.service_arn.clone())),
        ("change_id", AttributeValue::S(item.change_id.clone())),
        ("repositories", AttributeValue::S(Value::from(item.repositories.clone()).to_string())),
        ("before", optional(&item.before)),
        ("started_at", AttributeValue::S(rfc3339(item.started_at))),
        ("by_events", AttributeValue::S(item.by_events.to_string())),
        ("undoes", AttributeValue::S(undoes)),
        ("outcomes", AttributeValue::S(outcomes_text(&item.outcomes))),
        ("expires_at", AttributeValue::N(item.expires_at.to_string())),
    ]
}

/// What puts a deployment into the index of open ones.
fn open_attributes(item: &DeploymentItem) -> Attributes {
    let Some(look_at) = item.look_at else { return Vec::new() };
    let shard = shard_of(&item.service);
    vec![("open", AttributeValue::S(shard.to_string())), ("look_at", AttributeValue::S(rfc3339(look_at)))]
}

fn outcomes_text(outcomes: &[Kind]) -> String {
    outcomes.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")
}

/// The deployment that an item is, or the attribute that is not what this project writes. Version 1 wrote fewer.
fn deployment(item: &Item) -> Result<DeploymentItem, &'static str> {
    let optional = |name| text(item, name).ok().filter(|text| !text.is_empty());
    let time = |text: String| DateTime::parse_from_rfc3339(&text).ok().map(|at| at.with_timezone(&Utc));
    let outcomes = text(item, "outcomes")?;
    let outcomes = outcomes.split(',').filter(|kind| !kind.is_empty());
    let change_id = text(item, "change_id")?;
    let began = ChangeId::parse(&change_id).map_or(DateTime::UNIX_EPOCH, |id| id.time());
    Ok(DeploymentItem {
        id: text(item, "id")?,
        service: text(item, "service")?,
        service_arn: text(item, "service_arn")?,
        change_id,
        repositories: optional("repositories").and_then(|list| serde_json::from_str(&list).ok()).unwrap_or_default(),
        before: optional("before"),
        started_at: optional("started_at").and_then(time).unwrap_or(began),
        by_events: optional("by_events").as_deref() != Some("false"),
        undoes: optional("undoes").and_then(|id| id.strip_prefix('=').map(str::to_owned)),
        outcomes: outcomes
            .map(|kind| serde_json::from_value(kind.into()))
            .collect::<serde_json::Result<_>>()
            .map_err(|_| "outcomes")?,
        look_at: optional("look_at").and_then(time),
        expires_at: parsed(item, "expires_at")?,
    })
}

fn text(item: &Item, name: &'static str) -> Result<String, &'static str> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().ok_or(name)
}

fn parsed<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, &'static str> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|number| number.parse().ok()).ok_or(name)
}

/// The head that an item is, or the attribute that is not what this project writes.
pub(super) fn head(item: &Item) -> Result<Head, &'static str> {
    let lease_change = text(item, "lease_change")?;
    let lease = if lease_change.is_empty() {
        None
    } else {
        let until = DateTime::parse_from_rfc3339(&text(item, "lease_until")?).map_err(|_| "lease_until")?;
        Some(Lease { change_id: lease_change, until: until.with_timezone(&Utc), key: text(item, "lease_key")? })
    };
    Ok(Head {
        seq: parsed(item, "seq")?,
        hash: text(item, "hash")?,
        record: text(item, "record")?,
        change_id: text(item, "change_id")?,
        lease,
    })
}

fn key(item: &Item) -> Result<KeyItem, &'static str> {
    Ok(KeyItem {
        id: text(item, "id")?,
        change_id: text(item, "change_id")?,
        event_hash: text(item, "event_hash")?,
        answer: Some(text(item, "answer")?).filter(|answer| !answer.is_empty()),
        expires_at: parsed(item, "expires_at")?,
    })
}

/// AWS's documentation writes these codes without `Exception`, and local ones with it: both are taken.
fn is_conflict(code: &str) -> bool {
    ["ConditionalCheckFailed", "DuplicateItem", "TransactionConflict"].iter().any(|known| code.contains(known))
}

/// A cancellation that says nothing of the items: there was no room.
fn is_throttled(code: &str) -> bool {
    ["ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"]
        .iter()
        .any(|known| code.contains(known))
}

fn reason(reason: &CancellationReason) -> Option<String> {
    let code = reason.code().filter(|code| *code != "None")?;
    Some(reason.message().map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_their_attributes_and_hold_no_values() {
        let (text, values) = insert("state", vec![("id", AttributeValue::S("'; DROP".to_owned()))]);
        assert_eq!(text, r#"INSERT INTO "state" VALUE {'id': ?}"#);
        assert_eq!(values.len(), 1);
        let set = vec![("seq", AttributeValue::N("2".to_owned()))];
        let (text, values) = update("state", "i", set, vec![("hash", AttributeValue::S("h".to_owned()))]);
        assert_eq!(text, r#"UPDATE "state" SET "seq" = ? WHERE "id" = ? AND "hash" = ?"#);
        assert_eq!(values.len(), 3);
    }

    #[test]
    fn items_are_read_as_they_were_written() {
        let lease = Lease {
            change_id: "c".to_owned(),
            until: DateTime::from_timestamp_millis(1_795_000_000_123).unwrap(),
            key: "key#1".to_owned(),
        };
        for lease in [None, Some(lease)] {
            let written =
                Head { seq: 7, hash: "h".to_owned(), record: "r".to_owned(), change_id: "c".to_owned(), lease };
            let item = head_attributes(&written).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(head(&item), Ok(written));
        }
        assert_eq!(head(&Item::new()), Err("lease_change"));
    }

    #[test]
    fn conflicts_are_known_with_and_without_exception() {
        for code in ["ConditionalCheckFailed", "ConditionalCheckFailedException", "DuplicateItemException"] {
            assert!(is_conflict(code));
        }
        assert!(!is_conflict("ThrottlingError"));
    }
}
