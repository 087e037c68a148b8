use chrono::{DateTime, Duration, Utc};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde_json::{Value, json};

use super::chain::{CHANGED, Chain, ChainEnd, ChainFault, DIFFERS, Verification};
use super::export::verify_export;
use super::link::text;
use crate::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
use crate::ledger::head::Head;
use crate::ledger::key::{Attempt, RecordKey, RecordPlace};
use crate::ledger::kind::Kind;
use crate::ledger::record::{ChangeContext, Pointer as PointerItem, RawRecord, Record, RecordFields, hash, number};

fn time(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_000_000_123).unwrap() + Duration::seconds(second)
}

fn facts(second: i64) -> ChangeContext {
    ChangeContext {
        service: ServiceKey::new(
            AccountId::parse("222222222222").unwrap(),
            Region::parse("eu-west-1").unwrap(),
            EcsName::parse("prod").unwrap(),
            EcsName::parse("edge").unwrap(),
        ),
        change_id: ChangeId::new(time(second), [7; 10]),
        repositories: vec!["nginx".to_owned(), "fluent".to_owned()],
        requested_by: Some("ann".to_owned()),
        reason: None,
        identity: crate::ids::Identity::Claimed,
        caller: None,
        attempt: Attempt::FIRST,
        session: "ecsu-1".to_owned(),
        request_id: "1".to_owned(),
        sent_at: None,
        restores: None,
        of: None,
        action: None,
        pins: crate::image::ResolvedImages::default(),
    }
}

/// The ledger of some changes as the function writes it, including late outcomes; the records are ordered by `seq`.
fn ledger() -> (Vec<RawRecord>, Vec<RawRecord>, Head) {
    let (mut records, mut pointers, mut head): (Vec<Record>, Vec<PointerItem>, Option<Head>) = Default::default();
    let mut write = |second, n, kind| {
        let said = RecordFields::default();
        let at = time(second + i64::from(n));
        let place = match n {
            0 => RecordPlace::STARTED,
            1 => RecordPlace::RESULT,
            n => RecordPlace::Later(n),
        };
        let (record, beside) = facts(second).record(kind, place, at, &said, head.as_ref()).unwrap();
        head = Some(Head::behind(&record, head.as_ref(), None));
        records.push(record);
        pointers.extend(beside);
    };
    for change in [0, 10, 20] {
        write(change, 0, Kind::Started);
        write(change, 1, Kind::Applied);
    }
    write(30, 1, Kind::Unchanged);
    write(40, 0, Kind::Started);
    write(50, 0, Kind::Started);
    // The outcome of an earlier change.
    write(0, 2, Kind::Applied);
    write(50, 1, Kind::Failed);
    (raw(&records), raw(&pointers), head.unwrap())
}

fn raw(items: &[impl Serialize]) -> Vec<RawRecord> {
    items.iter().map(|item| serde_json::to_value(item).unwrap().as_object().unwrap().clone()).collect()
}

fn judged(items: impl IntoIterator<Item = RawRecord>, end: ChainEnd<'_>) -> Verification {
    let mut chain = Chain::default();
    items.into_iter().for_each(|item| chain.add(item));
    chain.verify(end)
}

fn key(record: &RawRecord) -> String {
    text(record, "record").unwrap().to_owned()
}

fn rehash(record: &mut RawRecord) {
    let hash = hash(&Value::Object(record.clone())).unwrap();
    record.insert("hash".to_owned(), hash.into());
}

/// Another text, number or type, but never the same.
fn spoil(value: &Value, at: usize) -> Value {
    let Some(text) = value.as_str() else { return json!(value.as_u64().unwrap() + 1 + at as u64 % 20) };
    match at % 4 {
        0 if !text.is_empty() => {
            let mut bytes = text.as_bytes().to_vec();
            let byte = at / 4 % bytes.len();
            bytes[byte] = if bytes[byte] == b'x' { b'y' } else { b'x' };
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        1 if !text.is_empty() => text[1..].into(),
        2 => number("7.0"),
        _ => format!("{text} ").into(),
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Change(Index, Index, usize),
    ChangeAndRehash(Index),
    Drop(Index),
    Insert(Index, bool),
    Swap(Index, Index, bool),
    Renumber(Index, u64, bool),
    Pointer(Index, bool, usize),
}

fn edits() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index(), 0_usize..4000).prop_map(|(at, name, how)| Edit::Change(at, name, how)),
        1 => index().prop_map(Edit::ChangeAndRehash),
        1 => index().prop_map(Edit::Drop),
        1 => (index(), any::<bool>()).prop_map(|(at, forged)| Edit::Insert(at, forged)),
        1 => (index(), index(), any::<bool>()).prop_map(|(one, other, keys)| Edit::Swap(one, other, keys)),
        1 => (index(), 0_u64..30, any::<bool>()).prop_map(|(at, to, forged)| Edit::Renumber(at, to, forged)),
        1 => (index(), any::<bool>(), 0_usize..4000).prop_map(|(at, name, how)| Edit::Pointer(at, name, how)),
    ]
}

/// Makes an edit. Returns the places at which the fault may be, and what it may begin with; `None` if nothing was
/// edited.
fn apply(
    edit: &Edit,
    records: &mut Vec<RawRecord>,
    pointers: &mut [RawRecord],
) -> Option<(Vec<String>, &'static [&'static str])> {
    let len = records.len();
    match edit {
        Edit::Change(at, name, how) => {
            let record = &mut records[at.index(len)];
            let names: Vec<_> = record.keys().cloned().collect();
            let name = &names[name.index(names.len())];
            record[name] = spoil(&record[name], *how);
            let place = text(record, "record").unwrap_or_default().to_owned();
            Some((vec![place], &["changed", "reordered", "renumbered", "added"]))
        }
        Edit::ChangeAndRehash(at) => {
            let record = &mut records[at.index(len)];
            record.insert("reason".to_owned(), "another".into());
            rehash(record);
            Some((vec![key(record)], &["changed", "head and tail disagree"]))
        }
        Edit::Drop(at) => {
            let at = at.index(len);
            let dropped = records.remove(at);
            Some((vec![key(records.get(at).unwrap_or(&dropped))], &["missing"]))
        }
        Edit::Insert(at, forged) => {
            let mut copy = records[at.index(len)].clone();
            let id = ChangeId::new(time(999), [1; 10]);
            copy["record"] = format!("{id}#0").into();
            if *forged {
                copy["change_id"] = id.as_str().into();
                rehash(&mut copy);
            }
            records.push(copy);
            Some((vec![format!("{id}#0")], &["added"]))
        }
        Edit::Swap(one, other, keys) => {
            let (one, other) = (one.index(len), other.index(len));
            let name = if *keys { "record" } else { "seq" };
            let places = vec![key(&records[one]), key(&records[other])];
            let value = records[one][name].clone();
            records[one][name] = records[other][name].clone();
            records[other][name] = value;
            let words: &[_] = if *keys { &["reordered"] } else { &["renumbered"] };
            (one != other).then_some((places, words))
        }
        Edit::Renumber(at, to, forged) => {
            let record = &mut records[at.index(len)];
            let is_same = record["seq"] == json!(to);
            record["seq"] = json!(to);
            if *forged {
                rehash(record);
            }
            let words: &[_] = if *forged { &["renumbered", "added", "changed"] } else { &["renumbered"] };
            (!is_same).then(|| (vec![key(record)], words))
        }
        Edit::Pointer(at, name, how) => {
            let pointer = &mut pointers[at.index(len).min(pointers.len() - 1)];
            let name = if *name { "at" } else { "change_id" };
            pointer[name] = spoil(&pointer[name], *how);
            Some((vec![key(pointer)], &["changed"]))
        }
    }
}

#[test]
fn ten_thousand_edits_are_found_at_their_place() {
    let (records, pointers, head) = ledger();
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(edit in edits(), backwards: bool)| {
        let (mut records, mut pointers) = (records.clone(), pointers.clone());
        let Some((places, words)) = apply(&edit, &mut records, &mut pointers) else { return Ok(()) };
        let mut items: Vec<_> = records.into_iter().chain(pointers).collect();
        if backwards {
            items.reverse();
        }
        let found = judged(items, ChainEnd::Head(Some(&head)));
        let Some(fault) = found.fault else { return Err(TestCaseError::fail("not found")) };
        prop_assert!(!found.ok && found.verified < 12, "{:?}", fault);
        prop_assert!(places.contains(&fault.record), "{:?} is not at {:?}", fault, places);
        prop_assert!(words.iter().any(|word| fault.what.starts_with(word)), "{:?}", fault);
    });
}

#[test]
fn a_ledger_as_it_was_written_is_right() {
    let (records, pointers, head) = ledger();
    let right = Verification { ok: true, verified: 11, fault: None };
    for end in [ChainEnd::Head(Some(&head)), ChainEnd::Unknown] {
        assert_eq!(judged(records.iter().chain(&pointers).cloned(), end), right);
        assert_eq!(judged(pointers.iter().chain(records.iter().rev()).cloned(), end), right);
    }
    assert_eq!(serde_json::to_value(right).unwrap(), json!({"ok": true, "verified": 11}));
}

#[test]
fn no_records_prove_nothing() {
    for end in [ChainEnd::Head(None), ChainEnd::Unknown] {
        let found = judged([], end);
        assert!(!found.ok && found.verified == 0 && found.fault.unwrap().what.starts_with("empty"));
    }
    assert!(verify_export(&b"\n"[..]).unwrap().is_empty());
}

#[test]
fn the_same_item_twice_is_one_item() {
    let (records, pointers, head) = ledger();
    let twice = || records.iter().chain(&pointers).chain(records[3..].iter().rev()).chain(&pointers);
    assert_eq!(judged(twice().cloned(), ChainEnd::Head(Some(&head))).verified, 11);
    assert!(judged(twice().cloned(), ChainEnd::Head(Some(&head))).ok);
    // A record that does not fit its hash is reported once, as ever.
    let mut edited = records.clone();
    edited[4]["session"] = "another".into();
    let found = judged(edited.iter().chain(&edited).cloned(), ChainEnd::Head(Some(&head)));
    assert_eq!((found.verified, found.fault), (4, Some(ChainFault::new(key(&records[4]), CHANGED))));
}

#[test]
fn two_items_of_one_key_that_differ_are_a_fault() {
    let (records, pointers, head) = ledger();
    let whole = || records.iter().chain(&pointers).cloned();
    for (at, name, is_rehashed) in
        [(4, "reason", false), (4, "reason", true), (4, "seq", true), (10, "reason", true), (0, "hash", false)]
    {
        let mut other = records[at].clone();
        other.insert(name.to_owned(), if name == "seq" { 9.into() } else { "another".into() });
        if is_rehashed {
            rehash(&mut other);
        }
        for items in [whole().chain([other.clone()]).collect::<Vec<_>>(), [other].into_iter().chain(whole()).collect()]
        {
            for end in [ChainEnd::Head(Some(&head)), ChainEnd::Unknown] {
                let found = judged(items.clone(), end);
                let right = u64::try_from(at).unwrap();
                let fault = Some(ChainFault::new(key(&records[at]), DIFFERS));
                assert_eq!((found.ok, found.verified, found.fault), (false, right, fault), "{at} {name}");
            }
        }
    }
    let mut other = pointers[1].clone();
    other["image"] = "another#1".into();
    let found = judged(whole().chain([other]), ChainEnd::Unknown);
    assert_eq!((found.verified, found.fault), (11, Some(ChainFault::new(key(&pointers[1]), DIFFERS))));
}

/// Writes the chain again with `edit` applied and with fitting hashes, as whoever has write access can.
fn rewritten(records: &[RawRecord], edit: impl Fn(usize, &mut RawRecord)) -> Vec<RawRecord> {
    let mut prev = String::new();
    let write = |(at, record): (usize, &RawRecord)| {
        let mut record = record.clone();
        edit(at, &mut record);
        record["prev_hash"] = std::mem::take(&mut prev).into();
        rehash(&mut record);
        text(&record, "hash").unwrap().clone_into(&mut prev);
        record
    };
    records.iter().enumerate().map(write).collect()
}

#[test]
fn a_back_dated_record_is_a_fault_however_well_its_hash_fits() {
    let (records, ..) = ledger();
    assert_eq!(rewritten(&records, |_, _| {}), records);
    let dated = |which: usize, second: i64| {
        let at = crate::text::rfc3339(time(second));
        judged(
            rewritten(&records, |at_, record| {
                if at_ == which {
                    record["at"] = at.clone().into();
                }
            }),
            ChainEnd::Unknown,
        )
    };
    for (which, second) in [(8, 40 - 8), (5, -86_400), (9, -86_400)] {
        let found = dated(which, second);
        let fault = found.fault.unwrap_or_else(|| panic!("{which} {second}"));
        assert_eq!((found.verified, fault.record), (u64::try_from(which).unwrap(), key(&records[which])));
        assert!(fault.what.starts_with("back-dated"), "{}", fault.what);
    }
    // Within the difference that is possible between clocks of writers that have not compared them.
    assert!(dated(9, 40 - 60).ok);
    // An earlier change that was put after the others.
    let earlier = ChangeId::new(time(35), [9; 10]);
    let found = judged(
        rewritten(&records, |at, record| {
            if at == 8 {
                record["change_id"] = earlier.as_str().into();
                record["record"] = format!("{earlier}#0").into();
            }
        }),
        ChainEnd::Unknown,
    );
    assert!(found.fault.unwrap().what.starts_with("back-dated: its change is not later"), "an id of before");
}

#[test]
fn what_an_older_export_had_has_to_stand_to_the_letter() {
    let (records, pointers, _) = ledger();
    let against = |newer: Vec<RawRecord>, older: Vec<RawRecord>| {
        let chain = |items: Vec<RawRecord>| {
            let mut chain = Chain::default();
            for item in items {
                chain.add(item);
            }
            chain
        };
        chain(newer).verify_against(&mut chain(older), ChainEnd::Unknown)
    };
    let all = || records.iter().chain(&pointers).cloned().collect::<Vec<_>>();
    let older = || records[..6].iter().chain(&pointers[..3]).cloned().collect::<Vec<_>>();
    assert_eq!(against(all(), older()), Verification { ok: true, verified: 11, fault: None });
    assert!(against(all(), all()).ok && against(all(), Vec::new()).ok);

    // Rewritten as a whole: the new chain is intact in itself.
    let forged = rewritten(&records, |at, record| {
        if at == 4 {
            record["requested_by"] = "bob".into();
        }
    });
    assert!(judged(forged.clone(), ChainEnd::Unknown).ok);
    let found = against(forged.iter().chain(&pointers).cloned().collect(), older());
    let fault = ChainFault::new(key(&records[4]), "changed: it is not what the older export has under its key");
    assert_eq!((found.verified, found.fault), (4, Some(fault)));

    // Cut off at its end: no export has a head.
    let cut: Vec<_> = records[..4].iter().chain(&pointers[..2]).cloned().collect();
    assert!(judged(cut.clone(), ChainEnd::Unknown).ok);
    let found = against(cut, older());
    let missing = |place| Some(ChainFault::new(place, "missing: it stands in the older export"));
    assert_eq!((found.verified, found.fault), (4, missing(key(&records[4]))));
    assert_eq!(against(Vec::new(), older()).fault, missing(key(&records[0])));

    // A pointer that is gone, or leads elsewhere.
    let found = against(records.iter().chain(&pointers[1..]).cloned().collect(), older());
    assert_eq!((found.verified, found.fault), (11, missing(key(&pointers[0]))));
    let mut led = all();
    led.iter_mut().find(|item| key(item) == key(&pointers[0])).unwrap()["image"] = "elsewhere#1".into();
    assert!(judged(led.clone(), ChainEnd::Unknown).ok, "its own chain does not tell");
    assert_eq!(against(led, older()).fault.unwrap().record, key(&pointers[0]));

    // A record that was wrong then and has been corrected since was edited twice.
    let mut wrong = older();
    wrong[2]["session"] = "another".into();
    assert_eq!(against(all(), wrong).fault.unwrap().record, key(&records[2]));
}

#[test]
fn the_first_fault_is_told_with_what_is_right_before_it() {
    let (mut records, pointers, head) = ledger();
    records[7]["session"] = "another".into();
    records.remove(3);
    let found = judged(records.iter().chain(&pointers).cloned(), ChainEnd::Head(Some(&head)));
    let fault = ChainFault::new(key(&records[3]), "missing: no record with seq 4 stands before it");
    assert_eq!(found, Verification { ok: false, verified: 3, fault: Some(fault) });
}

#[test]
fn head_and_tail() {
    fn fault(records: &[RawRecord], head: Option<&Head>) -> String {
        judged(records.to_vec(), ChainEnd::Head(head)).fault.unwrap().what
    }
    let (records, _, head) = ledger();
    assert!(fault(&records, None).starts_with("head and tail disagree"));
    assert!(fault(&[], Some(&head)).starts_with("missing"));
    assert!(fault(&records[..9], Some(&head)).starts_with("missing"));
    let earlier = Head { seq: 9, ..head.clone() };
    assert!(fault(&records, Some(&earlier)).starts_with("added"));
    for other in [
        Head { hash: "0".repeat(64), ..head.clone() },
        Head { record: RecordKey::parse(&key(&records[0])).unwrap(), ..head.clone() },
    ] {
        assert!(fault(&records, Some(&other)).starts_with("head and tail disagree"));
    }
}

#[test]
fn a_pointer_without_its_record() {
    let (records, mut pointers, head) = ledger();
    pointers[0]["record"] = format!("{}#9#1", ChangeId::new(time(0), [7; 10])).into();
    let found = judged(records.into_iter().chain(pointers.clone()), ChainEnd::Head(Some(&head)));
    assert_eq!(found.fault.map(|fault| fault.record), Some(key(&pointers[0])));
}

fn line(item: &RawRecord) -> String {
    let item: RawRecord = item
        .iter()
        .map(|(name, value)| {
            let tagged = value.as_str().map_or_else(|| json!({"N": value.to_string()}), |text| json!({"S": text}));
            (name.clone(), tagged)
        })
        .collect();
    json!({"Item": item}).to_string()
}

#[test]
fn an_export_of_several_services_in_any_order() {
    let (mut records, pointers, _) = ledger();
    let mut lines: Vec<_> = records.iter().chain(&pointers).rev().map(line).collect();
    for record in &mut records {
        record["service"] = "another".into();
    }
    lines.insert(3, line(&records[0]));
    let found = verify_export((lines.join("\n") + "\n\n").as_bytes()).unwrap();
    assert!(found["222222222222/eu-west-1/prod/edge"].ok);
    assert_eq!(found["another"].fault.as_ref().map(|fault| fault.what.as_str()), Some(CHANGED));
    for wrong in ["{", "[]", "{}", "{\"Item\": {}}", "{\"Item\": {\"service\": \"s\"}}", "\u{fffd}"] {
        let error = verify_export(format!("{}\n{wrong}\n", lines[0]).as_bytes()).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }
    // A text is not converted to a number, nor is a number accepted in another spelling.
    let number = lines[0].replace("\"N\":\"", "\"N\":\"0");
    assert!(!verify_export(number.as_bytes()).unwrap()["222222222222/eu-west-1/prod/edge"].ok);
}

proptest! {
    #[test]
    fn no_items_panic(items in prop::collection::vec(any::<(u8, u8, u64)>(), 0..20)) {
        let (records, pointers, head) = ledger();
        let all: Vec<_> = records.into_iter().chain(pointers).collect();
        let items = items.into_iter().map(|(which, how, seq)| {
            let mut item = all[usize::from(which) % all.len()].clone();
            match how % 4 {
                0 => _ = item.insert("seq".to_owned(), seq.into()),
                1 => _ = item.remove("record"),
                2 => _ = item.remove("seq"),
                _ => {}
            }
            if how > 128 {
                rehash(&mut item);
            }
            item
        });
        let _ = judged(items, ChainEnd::Head(Some(&head)));
    }
}
