//! Records of the ledger: no edit goes unnoticed, and nothing that an export holds stops who reads it.
//!
//! Bytes that begin with `{` are an export's lines. All others say how a ledger that is right is edited.

use std::sync::OnceLock;

use chrono::{DateTime, Duration, Utc};
use domain::ids::Identity;
use domain::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
use domain::image::ResolvedImages;
use domain::ledger::change::{fold, may_be_partial};
use domain::ledger::head::Head;
use domain::ledger::key::Attempt;
use domain::ledger::key::RecordKey;
use domain::ledger::key::RecordPlace;
use domain::ledger::kind::Kind;
use domain::ledger::record::ChangeContext;
use domain::ledger::record::RawRecord;
use domain::ledger::record::Record;
use domain::ledger::record::RecordFields;
use domain::ledger::record::hash;
use domain::ledger::verify::chain::{Chain, ChainEnd, Verification};
use domain::ledger::verify::export::verify_export;
use serde_json::{Map, Value, json};

pub(crate) fn check(data: &[u8]) {
    if data.first() == Some(&b'{') { export(data) } else { edited(data) }
}

fn export(data: &[u8]) {
    match verify_export(data) {
        Err(error) => super::check_message(&error.to_string(), 1, 2_000),
        Ok(found) => {
            for (service, verification) in &found {
                assert_eq!(verification.ok, verification.fault.is_none(), "{service}: {verification:?}");
            }
            // What follows on the chain is nobody else's business: the order of lines says nothing.
            let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
            if lines.len() <= 100 {
                let backwards: Vec<&[u8]> = lines.iter().rev().copied().collect();
                let again = verify_export(backwards.join(&b'\n').as_slice()).unwrap();
                let oks = |found: &std::collections::BTreeMap<String, Verification>| -> Vec<(String, bool)> {
                    found.iter().map(|(service, verification)| (service.clone(), verification.ok)).collect()
                };
                assert_eq!(oks(&again), oks(&found));
            }
        }
    }
    for line in data.split(|byte| *byte == b'\n').take(20) {
        let Ok(Value::Object(record)) = serde_json::from_slice::<Value>(line) else { continue };
        raw(&record);
        if let Some(Value::Object(item)) = record.get("Item") {
            raw(&item.iter().map(|(name, value)| (name.clone(), untagged(value))).collect());
        }
    }
}

fn untagged(value: &Value) -> Value {
    let number = |text: &Value| text.as_str().and_then(|text| text.parse::<i64>().ok()).map(Value::from);
    value.get("S").cloned().or_else(|| number(value.get("N")?)).unwrap_or_else(|| value.clone())
}

/// One item, whatever is in it.
fn raw(item: &RawRecord) {
    let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    let folded = fold(vec![item, item], now).unwrap();
    assert_eq!(fold(vec![item], now), Some(folded.clone()), "a record counts twice");
    serde_json::to_string(&folded).unwrap();
    let _ = may_be_partial(&[item]);
    if let Some(key) = item.get("record").and_then(Value::as_str).and_then(|text| RecordKey::parse(text).ok()) {
        assert_eq!(Some(key.to_string().as_str()), item.get("record").and_then(Value::as_str));
    }
    let value = Value::Object(item.clone());
    let written: Value = serde_json::from_str(&value.to_string()).unwrap();
    assert_eq!(hash(&value).unwrap(), hash(&written).unwrap(), "its JSON written anew has another hash");
    if let Ok(record) = serde_json::from_value::<Record>(value) {
        let _ = (record.before(), record.after(), record.changes(), record.pins());
        let linked = record.linked(None).unwrap();
        let item = serde_json::to_value(&linked).unwrap();
        assert_eq!(hash(&item).unwrap(), linked.hash);
        let Value::Object(item) = item else { panic!("an object") };
        // Of what stands first its time alone can be wrong: none, or another than its id's.
        let made = linked.change_id.time();
        let is_timed = DateTime::parse_from_rfc3339(&linked.at).is_ok_and(|at| {
            let at = at.timestamp_millis();
            made.timestamp_millis() <= at.saturating_add(1)
                && (linked.record.place != RecordPlace::STARTED || made.timestamp_millis() >= at)
        });
        let is_sound = linked.record.pointer.is_none() && linked.record.change_id == linked.change_id && is_timed;
        let head = Head::behind(&linked, None, None);
        assert_eq!(judged([item], &head).ok, is_sound, "{linked:?}");
    }
}

fn judged(items: impl IntoIterator<Item = RawRecord>, head: &Head) -> Verification {
    let mut chain = Chain::default();
    items.into_iter().for_each(|item| chain.add(item));
    chain.verify(ChainEnd::Head(Some(head)))
}

/// A ledger of four changes, one with an outcome that came late.
fn ledger() -> &'static (Vec<RawRecord>, Head) {
    static LEDGER: OnceLock<(Vec<RawRecord>, Head)> = OnceLock::new();
    LEDGER.get_or_init(|| {
        let mut head: Option<Head> = None;
        let mut items = Vec::new();
        for (second, place, kind) in [
            (0, RecordPlace::STARTED, Kind::Started),
            (0, RecordPlace::RESULT, Kind::Applied),
            (10, RecordPlace::RESULT, Kind::Unchanged),
            (20, RecordPlace::STARTED, Kind::Started),
            (0, RecordPlace::Later(2), Kind::Completed),
            (20, RecordPlace::RESULT, Kind::Failed),
        ] {
            let at = at(second);
            let (record, pointers) =
                facts(at).record(kind, place, at, &RecordFields::default(), head.as_ref()).unwrap();
            head = Some(Head::behind(&record, head.as_ref(), None));
            items.push(item(&record));
            items.extend(pointers.iter().map(item));
        }
        (items, head.unwrap())
    })
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_000_000_123).unwrap() + Duration::seconds(second)
}

fn facts(at: DateTime<Utc>) -> ChangeContext {
    let name = |text| EcsName::parse(text).unwrap();
    ChangeContext {
        service: ServiceKey::new(
            AccountId::parse("222222222222").unwrap(),
            Region::parse("eu-west-1").unwrap(),
            name("prod"),
            name("edge"),
        ),
        change_id: ChangeId::new(at, [7; 10]),
        repositories: vec!["nginx".to_owned(), "fluent".to_owned()],
        requested_by: Some("ann".to_owned()),
        reason: Some("why".to_owned()),
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

fn item(item: &impl serde::Serialize) -> RawRecord {
    serde_json::to_value(item).unwrap().as_object().unwrap().clone()
}

/// The bytes are taken one edit after the other.
struct Edits<'a>(&'a [u8]);

impl<'a> Edits<'a> {
    fn byte(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(*first))
    }

    fn text(&mut self) -> &'a [u8] {
        let length = self.byte().unwrap_or_default().min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        text
    }
}

fn edited(data: &[u8]) {
    let (original, head) = ledger();
    assert!(judged(original.clone(), head).ok);
    let mut items = original.clone();
    let mut edits = Edits(data);
    while let Some(how) = edits.byte() {
        let Some(at) = edits.byte().and_then(|byte| byte.checked_rem(items.len())) else { break };
        let other = edits.byte().and_then(|byte| byte.checked_rem(items.len())).unwrap_or_default();
        match how % 7 {
            0 => _ = items.remove(at),
            1 => items.push(items[at].clone()),
            2 => items.swap(at, other),
            3 => {
                let item = items[other].clone();
                items[at] = item;
            }
            4 => {
                let name = member(&items[at], other);
                items[at].remove(&name);
            }
            5 => {
                let (name, value) = (member(&items[at], other), value(edits.text()));
                items[at].insert(name, value);
            }
            // Rewritten with a hash that fits.
            _ => {
                let (name, value) = (member(&items[at], other), value(edits.text()));
                items[at].insert(name, value);
                let hash = hash(&Value::Object(items[at].clone())).unwrap();
                items[at].insert("hash".to_owned(), hash.into());
            }
        }
    }
    let found = judged(items.clone(), head);
    assert_eq!(found.ok, found.fault.is_none());
    let sorted = |items: &[RawRecord]| {
        let mut items: Vec<String> = items.iter().map(|item| json!(item).to_string()).collect();
        items.sort_unstable();
        // What is there twice, to the letter, is one item.
        items.dedup();
        items
    };
    let is_pointer = |item: &&RawRecord| !item.contains_key("seq");
    let records =
        |items: &[RawRecord]| sorted(&items.iter().filter(|record| !is_pointer(record)).cloned().collect::<Vec<_>>());
    // Pointers stand beside the chain: one that is gone, or there twice, is no record's loss.
    assert!(!found.ok || records(&items) == records(original), "an edit went unnoticed: {items:?}");
    assert!(found.ok || sorted(&items) != sorted(original), "{found:?}");
}

fn member(item: &Map<String, Value>, which: usize) -> String {
    item.keys().nth(which.checked_rem(item.len()).unwrap_or_default()).cloned().unwrap_or_else(|| "added".to_owned())
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|_| String::from_utf8_lossy(text).into())
}
