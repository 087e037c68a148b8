//! The two tables in dynoxide: how they are created and called, and the one place that knows the names of what the
//! product stores in them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use dynoxide::Database;
use serde_json::{Value, json};

/// Name of the history table.
pub const HISTORY: &str = "ecs-updater-history";
/// Name of the state table.
pub const STATE: &str = "ecs-updater-state";

/// The right to change a service, as the service's head records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The change that holds it.
    pub change_id: String,
    /// Everything that distinguishes one lease from another: change, attempt, end.
    pub identity: String,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
}

/// A record of the history.
#[derive(Debug, Clone)]
pub struct Record(BTreeMap<String, String>);

impl Record {
    /// An attribute; empty if it is missing.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Its place in the chain.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.text("seq").parse().unwrap_or_default()
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// The change that it is about.
    #[must_use]
    pub fn change_id(&self) -> &str {
        self.text("change_id")
    }

    /// Its place among the records of its change.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey::parse(self.text("record"))
    }

    /// `before`, `after` or another part that is JSON; null if it is missing.
    #[must_use]
    pub fn part(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }
}

/// The sort key of a record: `{change_id}#{place}` or `{change_id}#{place}-{attempt}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKey {
    /// The change.
    pub change_id: String,
    /// 0 for STARTED, 1 for a result, 2 to 9 for outcomes.
    pub place: u32,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
}

impl RecordKey {
    fn parse(text: &str) -> Self {
        let (change_id, place) = text.split_once('#').unwrap_or((text, ""));
        let (place, attempt) = place.split_once('-').unwrap_or((place, "1"));
        Self {
            change_id: change_id.to_owned(),
            place: place.parse().unwrap_or(u32::MAX),
            attempt: attempt.parse().unwrap_or(1),
        }
    }
}

/// The tables of one run.
pub struct Tables {
    database: Database,
}

impl Tables {
    /// Empty tables, as the templates create them.
    ///
    /// # Panics
    ///
    /// If dynoxide does not accept them: then nothing can be simulated.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn new() -> Self {
        let tables = Self { database: Database::memory().expect("a database in memory") };
        let string = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let index = |name: &str, hash: &str, range: &str| {
            json!({"IndexName": name, "KeySchema": [key(hash, "HASH"), key(range, "RANGE")],
                   "Projection": {"ProjectionType": "ALL"}})
        };
        let create = |request: Value| {
            let request = serde_json::from_value(request).expect("a CreateTable request");
            tables.database.create_table(request).expect("the table is created");
        };
        create(json!({
            "TableName": HISTORY,
            "AttributeDefinitions": (["service", "record", "account_id", "day", "image"].map(string)),
            "KeySchema": [key("service", "HASH"), key("record", "RANGE")],
            "GlobalSecondaryIndexes": [index("by-account", "account_id", "record"), index("by-day", "day", "record"),
                                       index("by-image", "image", "record")],
            "BillingMode": "PAY_PER_REQUEST",
        }));
        create(json!({
            "TableName": STATE,
            "AttributeDefinitions": (["id", "check_shard", "check_at"].map(string)),
            "KeySchema": [key("id", "HASH")],
            "GlobalSecondaryIndexes": [index("by-check", "check_shard", "check_at")],
            "BillingMode": "PAY_PER_REQUEST",
        }));
        tables
    }

    /// Answers a call with status and body.
    #[must_use]
    pub fn act(&self, action: &str, body: &str) -> (u16, String) {
        let answer = match action {
            "BatchGetItem" => go(body, |request| self.database.batch_get_item(request)),
            "GetItem" => go(body, |request| self.database.get_item(request)),
            "Query" => go(body, |request| self.database.query(request)),
            "ExecuteTransaction" => go(body, |request| self.database.execute_transaction(request)),
            other => {
                let body = json!({"__type": "AccessDeniedException", "message": format!("no role may call {other}")});
                return (400, body.to_string());
            }
        };
        match answer {
            Ok(text) => (200, text),
            Err(error) => (error.status_code(), error.to_json()),
        }
    }

    fn get(&self, table: &str, key: &Value) -> Option<Value> {
        let request = serde_json::from_value(json!({"TableName": table, "Key": key, "ConsistentRead": true})).ok()?;
        let answer = serde_json::to_value(self.database.get_item(request).ok()?).ok()?;
        answer.get("Item").filter(|item| !item.is_null()).cloned()
    }

    /// The lease on a service, if there is one.
    #[must_use]
    pub fn lease(&self, service: &str) -> Option<Lease> {
        let head = plain(&self.get(STATE, &json!({"id": {"S": format!("service#{service}")}}))?);
        let change_id = head.text("lease_change").to_owned();
        let until = DateTime::parse_from_rfc3339(head.text("lease_until")).ok()?.with_timezone(&Utc);
        let identity = format!("{change_id}/{}/{}", head.text("lease_attempt"), head.text("lease_until"));
        (!change_id.is_empty()).then_some(Lease { change_id, identity, until })
    }

    /// Whether the ledger knows a service.
    #[must_use]
    pub fn has_head(&self, service: &str) -> bool {
        self.get(STATE, &json!({"id": {"S": format!("service#{service}")}})).is_some()
    }

    /// Whether an answer is stored under the key of a change.
    #[must_use]
    pub fn is_answered(&self, change_id: &str) -> bool {
        let keys = self.keys();
        keys.iter().map(plain).any(|key| key.text("change_id") == change_id && !key.text("answer").is_empty())
    }

    /// The items of all idempotency keys.
    fn keys(&self) -> Vec<Value> {
        let scan = serde_json::from_value(json!({"TableName": STATE})).ok();
        let answer =
            scan.and_then(|scan| self.database.scan(scan).ok()).and_then(|answer| serde_json::to_value(answer).ok());
        let items = answer.and_then(|answer| answer["Items"].as_array().cloned()).unwrap_or_default();
        items.into_iter().filter(|item| item["id"]["S"].as_str().is_some_and(|id| id.starts_with("key#"))).collect()
    }

    /// Rewrites the stored answers of every second key, if its change was `APPLIED`, as a later version of the product could have written them:
    /// with a status and a member that nobody knows yet.
    pub fn a_later_version_writes(&self) {
        for mut key in self.keys().into_iter().step_by(2) {
            let answer = key["answer"]["S"].as_str().unwrap_or_default();
            let Ok(mut answer) = serde_json::from_str::<Value>(answer) else { continue };
            let Some(body) = answer.pointer_mut("/response/body").filter(|body| body["status"] == "APPLIED") else {
                continue;
            };
            (body["status"], body["mended"]) = ("APPLIED_AND_MENDED".into(), json!({"by": "a later version"}));
            key["answer"] = json!({"S": answer.to_string()});
            let put = serde_json::from_value(json!({"TableName": STATE, "Item": key}));
            drop(put.map(|put| self.database.put_item(put)));
        }
    }

    /// The records of a service, in the order of their chain.
    #[must_use]
    pub fn records(&self, service: &str) -> Vec<Record> {
        let mut records = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = json!({"TableName": HISTORY, "KeyConditionExpression": "service = :service",
                "ExpressionAttributeValues": {":service": {"S": service}}, "ConsistentRead": true});
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let (_, answer) = self.act("Query", &request.to_string());
            let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
            let items = answer["Items"].as_array().into_iter().flatten();
            records.extend(items.map(plain).filter(|record| !record.text("seq").is_empty()));
            start = answer["LastEvaluatedKey"].clone();
            if start.is_null() {
                break;
            }
        }
        records.sort_by_key(Record::seq);
        records
    }

    /// The newest record of a change that is at this place.
    #[must_use]
    pub fn newest(&self, service: &str, change_id: &str, place: u32) -> Option<Record> {
        let request = json!({"TableName": HISTORY, "KeyConditionExpression": "service = :s AND begins_with(#r, :r)",
            "ExpressionAttributeNames": {"#r": "record"}, "ConsistentRead": true, "ScanIndexForward": false, "Limit": 1,
            "ExpressionAttributeValues": {":s": {"S": service}, ":r": {"S": format!("{change_id}#{place}")}}});
        let (_, answer) = self.act("Query", &request.to_string());
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["Items"].get(0).map(plain)
    }

    /// Everything in both tables, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let scan = |table: &str| {
            let request = serde_json::from_value(json!({"TableName": table})).ok()?;
            serde_json::to_string(&self.database.scan(request).ok()?).ok()
        };
        [HISTORY, STATE].iter().filter_map(|table| scan(table)).collect()
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

fn go<Q, A>(body: &str, act: impl FnOnce(Q) -> dynoxide::Result<A>) -> dynoxide::Result<String>
where
    Q: serde::de::DeserializeOwned,
    A: serde::Serialize,
{
    let wrong = |error: serde_json::Error| dynoxide::DynoxideError::ValidationException(error.to_string());
    let answer = act(serde_json::from_str(body).map_err(wrong)?)?;
    serde_json::to_string(&answer).map_err(wrong)
}

/// An item of strings and numbers.
fn plain(item: &Value) -> Record {
    let members = item.as_object().into_iter().flatten();
    let text = |value: &Value| value["S"].as_str().or(value["N"].as_str()).unwrap_or_default().to_owned();
    Record(members.map(|(name, value)| (name.clone(), text(value))).collect())
}

/// The items that a transaction concerns: the service keys of the heads, and the ids of the keys and deployments in it,
/// by their prefixes in the state table.
#[must_use]
pub fn items_of(body: &Value, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parameters = body["TransactStatements"].as_array().into_iter().flatten();
    for value in parameters.flat_map(|statement| statement["Parameters"].as_array().into_iter().flatten()) {
        if let Some(id) = value["S"].as_str().and_then(|text| text.strip_prefix(prefix))
            && !found.contains(&id.to_owned())
        {
            found.push(id.to_owned());
        }
    }
    found
}

/// The kinds of the records that a transaction inserts, and what else it writes, in a few words.
#[must_use]
pub fn kinds_of(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for statement in body["TransactStatements"].as_array().into_iter().flatten() {
        let text = statement["Statement"].as_str().unwrap_or_default();
        let values =
            || statement["Parameters"].as_array().into_iter().flatten().filter_map(|parameter| parameter["S"].as_str());
        if text.contains(HISTORY) {
            let is_kind = |text: &&str| text.len() > 4 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            found.extend(values().find(is_kind).map(str::to_owned));
        } else {
            let of = ["service#", "key#", "deployment#", "turn#"]
                .iter()
                .find(|prefix| values().any(|value| value.starts_with(**prefix)));
            found.extend(of.map(|prefix| prefix.trim_end_matches('#').replace("service", "head")));
        }
    }
    found
}
