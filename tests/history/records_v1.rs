//! Records as the first version wrote them, kept in `tests/fixtures/records-v1.jsonl` as an export to S3 holds them.
//! Every later version reads them; the file never changes.

use domain::ledger::record::RawRecord;
use domain::ledger::verify::chain::Verification;
use domain::ledger::verify::export::verify_export;
use serde_json::{Value, json};

use crate::made::{now, typed};
use crate::table::{HISTORY, World, tagged};

const EXPORT: &str = include_str!("../fixtures/records-v1.jsonl");

fn items() -> Vec<RawRecord> {
    let untagged = |value: &Value| match (value.get("S"), value.get("N").and_then(Value::as_str)) {
        (Some(text), None) => text.clone(),
        (None, Some(number)) => json!(number.parse::<u64>().unwrap()),
        _ => panic!("{value}"),
    };
    let item = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["Item"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), untagged(value))).collect()
    };
    EXPORT.lines().map(item).collect()
}

#[test]
fn they_verify() {
    let found = verify_export(EXPORT.as_bytes()).unwrap();
    let right = |verified| Verification { ok: true, verified, fault: None };
    let found: Vec<_> = found.iter().map(|(service, verification)| (service.as_str(), verification.clone())).collect();
    assert_eq!(
        found,
        [
            ("222222222222/eu-west-1/prod/edge", right(13)),
            ("333333333333/us-gov-east-1/ECSCluster/ecs-dummy-service", right(2)),
        ]
    );
}

#[test]
fn each_line_matters() {
    for gone in 0..EXPORT.lines().count() {
        let is_kept = |(index, line): (usize, &'static str)| (index != gone).then_some(line);
        let rest: Vec<_> = EXPORT.lines().enumerate().filter_map(is_kept).collect();
        let found = verify_export(rest.join("\n").as_bytes()).unwrap();
        let item = &items()[gone];
        let is_pointer = !item.contains_key("seq");
        let is_last = ["13", "2"].contains(&item.get("seq").unwrap_or(&Value::Null).to_string().as_str());
        let is_noticed = found.values().any(|verification| !verification.ok);
        assert!(is_noticed || is_pointer || is_last, "{item:?}");
    }
}

#[test]
fn today_s_types_still_hold_all_of_them() {
    for item in items().iter().filter(|item| item.contains_key("seq")) {
        let record = typed(item);
        assert_eq!(serde_json::to_value(&record).unwrap(), Value::Object(item.clone()));
        assert_eq!(record.before().is_some(), item.contains_key("before"));
    }
}

#[tokio::test]
async fn they_are_found_and_fold() {
    let world = World::new().await;
    assert_eq!(tagged(&items()[0]), serde_json::from_str::<Value>(EXPORT.lines().next().unwrap()).unwrap()["Item"]);
    world.put(HISTORY, &items());
    let (found, _) = world.page(&json!({"account_id": "222222222222", "order": "oldest_first"}), now()).await;
    let statuses: Vec<_> = found.changes.iter().map(|change| change.status.as_str()).collect();
    assert_eq!(statuses, ["APPLIED", "UNCHANGED", "FAILED", "ABANDONED", "APPLIED", "APPLIED", "UNRESOLVED"]);
    let first = serde_json::to_value(&found.changes[0]).unwrap();
    assert_eq!(first["before"]["serviceImage"], "busybox:1.36");
    assert_eq!(first["after"]["serviceImage"], "registry.example:5000/edge/web:7");
    assert_eq!(first["after"]["tags"], json!([{"key": "tier", "value": "ünï"}]));
    assert_eq!(first["after"]["service"]["desiredCount"], 3);
    assert_eq!(first["deployment_id"], "ecs-svc/1234567890123456789");
    assert_eq!((first["requested_by"].as_str(), first["reason"].as_str()), (Some("ann"), Some("release 7 <script>")));
    assert_eq!(found.changes[2].error.as_ref().unwrap()["code"], "ServiceUpdateFailed");
    for image in ["registry.example:5000/edge/web", "registry.example:5000/edge/proxy"] {
        let (found, _) = world.page(&json!({"image": image}), now()).await;
        let images: Vec<_> =
            found.changes.iter().map(|change| change.after.as_ref().map(|state| &state["images"])).collect();
        assert!(!images.is_empty(), "{image}");
        assert_eq!(found.changes.iter().filter(|change| change.requested_by.as_deref() == Some("several")).count(), 1);
    }
}
