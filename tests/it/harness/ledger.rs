//! The two tables as a reader sees them, and the chain verified without the code that wrote it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Site;
use super::dynamodb::{HISTORY_TABLE, STATE_TABLE, Tables};

/// An item in plain JSON. Panics on anything but strings and integers: records hold nothing else.
pub(crate) fn plain(item: &Value) -> Map<String, Value> {
    item.as_object()
        .expect("an item")
        .iter()
        .map(|(name, value)| {
            let value = if let Some(text) = value["S"].as_str() {
                Value::from(text)
            } else if let Some(number) = value["N"].as_str() {
                Value::from(number.parse::<i64>().unwrap_or_else(|_| panic!("{name} is no integer: {number}")))
            } else {
                panic!("{name} is neither a string nor an integer: {value}")
            };
            (name.clone(), value)
        })
        .collect()
}

/// The records of one service, in the order of their chain (pointer items for images are left out).
pub(crate) fn records(tables: &Tables, service: &str) -> Vec<Value> {
    let items = tables.of_service(service);
    let records = items.iter().filter(|item| item.get("seq").is_some());
    let mut records: Vec<Value> = records.map(|item| Value::Object(plain(item))).collect();
    records.sort_by_key(|record| record["seq"].as_i64());
    records
}

/// The items under which further images of a change are found.
pub(crate) fn pointers(tables: &Tables, service: &str) -> Vec<Value> {
    let items = tables.of_service(service);
    let pointers = items.iter().filter(|item| item.get("seq").is_none());
    pointers.map(|item| Value::Object(plain(item))).collect()
}

pub(crate) fn kinds(records: &[Value]) -> Vec<String> {
    records.iter().map(|r| r["kind"].as_str().unwrap_or("no kind").to_owned()).collect()
}

/// `before`, `after` or `error` of a record, parsed.
pub(crate) fn part(record: &Value, name: &str) -> Value {
    let text = record[name].as_str().unwrap_or_else(|| panic!("{name} is no string in {record}"));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{name} is no JSON ({e}): {text}"))
}

pub(crate) fn head(tables: &Tables, service: &str) -> Option<Map<String, Value>> {
    let key = json!({"id": {"S": format!("service#{service}")}});
    tables.get(STATE_TABLE, &key).as_ref().map(plain)
}

/// The change that holds a head's lease, and how keys of its attempt's records end.
pub(crate) fn attempt_of(head: &Map<String, Value>) -> Option<(String, String)> {
    let change = head["lease_change"].as_str().filter(|change| !change.is_empty())?;
    // Heads of the version before attempts have none.
    let attempt: u8 = head.get("lease_attempt").map_or(Some(1), |attempt| attempt.as_str()?.parse().ok())?;
    Some((change.to_owned(), if attempt == 1 { String::new() } else { format!("-{attempt:02}") }))
}

/// The items of idempotency keys.
pub(crate) fn keys(tables: &Tables) -> Vec<Map<String, Value>> {
    state_items(tables, "key#")
}

pub(crate) fn deployments(tables: &Tables) -> Vec<Map<String, Value>> {
    state_items(tables, "deployment#")
}

/// Lets a deployment be due to be asked about, as time would.
pub(crate) fn make_due(tables: &Tables, deployment_id: &str) {
    let items = tables.scan(STATE_TABLE);
    let is_it = |item: &&Value| item["id"]["S"].as_str().is_some_and(|id| id.ends_with(deployment_id));
    let mut item = items.iter().find(is_it).cloned().expect("a deployment");
    assert!(item["check_at"]["S"].is_string(), "it is not open: {item}");
    item["check_at"]["S"] = "2026-01-01T00:00:00.000Z".into();
    tables.put(STATE_TABLE, &item);
}

fn state_items(tables: &Tables, prefix: &str) -> Vec<Map<String, Value>> {
    let items = tables.scan(STATE_TABLE);
    items.iter().filter(|i| i["id"]["S"].as_str().is_some_and(|id| id.starts_with(prefix))).map(plain).collect()
}

/// Nobody holds the right to change `service`.
#[track_caller]
pub(crate) fn assert_free(tables: &Tables, service: &str) {
    if let Some(head) = head(tables, service) {
        assert_eq!((&head["lease_change"], &head["lease_until"]), (&json!(""), &json!("")), "still leased: {head:?}");
    }
}

/// Puts the end of the lease on `service` into the past, as time would.
pub(crate) fn expire_lease(tables: &Tables, service: &str) {
    expire_lease_at(tables, service, chrono::Utc::now() - chrono::Duration::seconds(30));
}

pub(crate) fn expire_lease_at(tables: &Tables, service: &str, at: chrono::DateTime<chrono::Utc>) {
    let id = format!("service#{service}");
    let items = tables.scan(STATE_TABLE);
    let mut head = items.iter().find(|item| item["id"]["S"] == id.as_str()).cloned().expect("a head");
    assert_ne!(head["lease_until"]["S"], "", "nothing is leased: {head}");
    head["lease_until"]["S"] = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into();
    tables.put(STATE_TABLE, &head);
}

/// Leaves a lease of a change of which nothing is recorded.
pub(crate) fn lease_to(tables: &Tables, service: &str, change: &str, until: chrono::DateTime<chrono::Utc>) {
    let id = format!("service#{service}");
    let items = tables.scan(STATE_TABLE);
    let mut head = items.iter().find(|item| item["id"]["S"] == id.as_str()).cloned().expect("a head");
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let key = ("lease_key", "key#of-nobody");
    for (name, value) in [("lease_change", change), ("lease_attempt", "1"), ("lease_until", until.as_str()), key] {
        head[name] = json!({"S": value});
    }
    tables.put(STATE_TABLE, &head);
}

/// What the recorder writes for a deployment that did not come through this door: one more record, and the head moved.
pub(crate) fn append_external(tables: &Tables, site: &Site) {
    append_external_at(tables, site, chrono::Utc::now());
}

pub(crate) fn append_external_at(tables: &Tables, site: &Site, time: chrono::DateTime<chrono::Utc>) {
    let service = site.key();
    let head = head(tables, &service);
    let text = |name: &str| head.as_ref().and_then(|h| h[name].as_str()).unwrap_or_default().to_owned();
    let seq = head.as_ref().and_then(|h| h["seq"].as_i64()).unwrap_or(0) + 1;
    let millis = time.timestamp_millis();
    let change = format!("{:08x}-{:04x}-7000-8000-{seq:012}", millis >> 16, millis & 0xffff);
    let mut record = json!({
        "service": service, "record": format!("{change}#1"), "seq": seq, "prev_hash": text("hash"),
        "kind": "EXTERNAL", "at": time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "account_id": site.account, "region": site.region, "cluster": site.cluster, "service_name": site.service,
        "day": format!("{}#0", time.format("%Y-%m-%d")), "change_id": change, "request_id": "recorder",
        "identity": "claimed", "session": "",
    });
    record["hash"] = sha256_hex(&serde_json_canonicalizer::to_vec(&record).expect("canonical JSON")).into();
    let dynamo = |value: &Value| if value.is_number() { json!({"N": value.to_string()}) } else { json!({"S": value}) };
    let item: Map<String, Value> =
        record.as_object().expect("a record").iter().map(|(n, v)| (n.clone(), dynamo(v))).collect();
    tables.put(HISTORY_TABLE, &Value::Object(item));
    let mut moved = head.clone().unwrap_or_default();
    for name in ["lease_change", "lease_attempt", "lease_until", "lease_key"] {
        moved.entry(name).or_insert_with(|| "".into());
    }
    for name in ["seq", "hash", "record"] {
        moved.insert(name.into(), record[name].clone());
    }
    moved.insert("highest".into(), record["change_id"].clone());
    moved.entry("begun").or_insert_with(|| "".into());
    moved.insert("id".into(), format!("service#{service}").into());
    let item: Map<String, Value> = moved.iter().map(|(n, v)| (n.clone(), dynamo(v))).collect();
    tables.put(STATE_TABLE, &Value::Object(item));
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What is wrong with the ledger of `service`, by what records and heads have to be; empty where nothing is.
pub(crate) fn faults(tables: &Tables, service: &str) -> Vec<String> {
    let records = records(tables, service);
    let mut faults = Vec::new();
    let mut last_hash = String::new();
    for (i, record) in records.iter().enumerate() {
        let name = format!("record {} {}", record["seq"], record["record"]);
        if record["seq"] != json!(i + 1) {
            faults.push(format!("{name}: seq should be {}", i + 1));
        }
        if record["prev_hash"] != json!(last_hash) {
            faults.push(format!("{name}: prev_hash is {}, the hash before is {last_hash:?}", record["prev_hash"]));
        }
        let mut bare = record.clone();
        bare.as_object_mut().expect("a record").remove("hash");
        let canonical = serde_json_canonicalizer::to_vec(&bare).expect("canonical JSON");
        last_hash = sha256_hex(&canonical);
        if record["hash"] != json!(last_hash) {
            faults.push(format!("{name}: hash is {}, computed {last_hash}", record["hash"]));
        }
        // A result that came after its change was closed stands behind the ABANDONED record.
        let closed = records[..i].iter().any(|r| r["kind"] == "ABANDONED" && r["change_id"] == record["change_id"]);
        faults.extend(record_faults(record, service, closed).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    let Some(head) = head(tables, service) else {
        if !records.is_empty() {
            faults.push("records without a head".into());
        }
        return faults;
    };
    if let Some(last) = records.last() {
        for name in ["seq", "hash", "record"] {
            if head[name] != last[name] {
                faults.push(format!("the head's {name} is {}, the last record's {}", head[name], last[name]));
            }
        }
        // Change ids of one service only grow; a late outcome or an ABANDONED may stand for an older change.
        let highest = head.get("highest").or_else(|| head.get("change_id"));
        if !records.iter().any(|r| Some(&r["change_id"]) == highest) {
            faults.push(format!("the head's highest change {highest:?} is no record's"));
        }
    } else {
        faults.push("a head without records".into());
    }
    faults
}

/// Kinds of how a deployment ended.
pub(crate) const OUTCOMES: [&str; 6] =
    ["COMPLETED", "DEPLOYMENT_FAILED", "ROLLED_BACK", "ROLLBACK_FAILED", "STOPPED", "SUPERSEDED"];

fn record_faults(record: &Value, service: &str, closed: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let text = |name: &str| record[name].as_str().unwrap_or("");
    for name in [
        "service",
        "record",
        "prev_hash",
        "hash",
        "kind",
        "at",
        "account_id",
        "region",
        "cluster",
        "service_name",
        "day",
        "change_id",
        "request_id",
    ] {
        if !record[name].is_string() {
            faults.push(format!("{name} is missing"));
        }
    }
    let numbers: Vec<&String> =
        record.as_object().into_iter().flatten().filter(|(_, v)| v.is_number()).map(|(n, _)| n).collect();
    if numbers != ["seq"] {
        faults.push(format!("integers are {numbers:?}, should be seq alone"));
    }
    let key = format!("{}/{}/{}/{}", text("account_id"), text("region"), text("cluster"), text("service_name"));
    if key != service {
        faults.push(format!("account, region, cluster and service name make {key}"));
    }
    let change = text("change_id");
    let attempt: u8 = text("attempt").parse().unwrap_or(1);
    let of_attempt = |n: &str| if attempt == 1 { n.to_owned() } else { format!("{n}-{attempt:02}") };
    let stands_at = text("record").split_once('#').map_or("", |(_, place)| place);
    let is_later = matches!(stands_at, "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9");
    let place = match text("kind") {
        "STARTED" => of_attempt("0"),
        "APPLIED" | "FAILED" | "UNCHANGED" if closed && is_later => stands_at.to_owned(),
        "APPLIED" | "UNCHANGED" | "FAILED" | "ABANDONED" | "EXTERNAL" | "AWAITING_ACTION" => of_attempt("1"),
        "PAUSE_ENDED" => "2".to_owned(),
        kind if OUTCOMES.contains(&kind) => {
            if !is_later {
                return vec![format!("{kind} stands at {}", text("record"))];
            }
            stands_at.to_owned()
        }
        other => return vec![format!("nobody writes the kind {other:?} here")],
    };
    if text("record") != format!("{change}#{place}") {
        faults.push(format!("the sort key of {} of change {change} is {}", text("kind"), text("record")));
    }
    match uuid_v7_time(change) {
        None => faults.push(format!("change_id {change} is no UUIDv7")),
        Some(time) => {
            let date = time.format("%Y-%m-%d").to_string();
            let shard = text("day").strip_prefix(&format!("{date}#"));
            if !shard.is_some_and(|s| s.len() == 1 && ("0".."8").contains(&s)) {
                faults.push(format!("day is {}, the change id's day is {date}", text("day")));
            }
        }
    }
    if !is_utc_milliseconds(text("at")) {
        faults.push(format!("at is {:?}, not RFC 3339 in UTC with milliseconds", text("at")));
    }
    for name in ["before", "after", "changes", "error", "outcome"] {
        let Some(written) = record[name].as_str().filter(|t| !t.is_empty()) else { continue };
        match serde_json::from_str::<Value>(written) {
            Err(e) => faults.push(format!("{name} is no JSON: {e}")),
            Ok(value) => {
                let canonical = serde_json_canonicalizer::to_string(&value).expect("canonical JSON");
                if canonical != written {
                    faults.push(format!("{name} is not in canonical form: {written}"));
                }
            }
        }
    }
    if text("kind") == "STARTED" && !is_utc_milliseconds(text("lease_until")) {
        faults.push(format!("STARTED says lease_until {}", record["lease_until"]));
    }
    if record["image"].as_str().is_some_and(str::is_empty) {
        faults.push("an empty index key: AWS refuses it".into());
    }
    faults
}

/// `2026-11-22T09:30:00.123Z`
pub(crate) fn is_utc_milliseconds(text: &str) -> bool {
    text.len() == 24
        && text.ends_with('Z')
        && text.as_bytes()[19] == b'.'
        && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

/// The time in a UUIDv7.
pub(crate) fn uuid_v7_time(text: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let shape = [8, 13, 18, 23].iter().all(|i| text.as_bytes().get(*i) == Some(&b'-'));
    let version = digits.as_bytes().get(12) == Some(&b'7');
    let variant = digits.as_bytes().get(16).is_some_and(|c| b"89ab".contains(c));
    if text.len() != 36 || digits.len() != 32 || !shape || !version || !variant || text != text.to_ascii_lowercase() {
        return None;
    }
    let millis = i64::from_str_radix(&digits[..12], 16).ok()?;
    chrono::DateTime::from_timestamp_millis(millis)
}
