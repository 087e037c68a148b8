//! `verify --export`: offline, with nobody to trust.

use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration};
use domain::ids::Identity;
use domain::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
use domain::ledger::head::Head;
use domain::ledger::key::Attempt;
use domain::ledger::key::RecordPlace;
use domain::ledger::kind::Kind;
use domain::ledger::record::ChangeContext;
use domain::ledger::record::Record;
use domain::ledger::record::RecordFields;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use crate::stub::{Stub, page};

/// The records of two changes of one service, as lines of an export.
fn ledger(service: &str) -> Vec<String> {
    let mut head: Option<Head> = None;
    let mut lines = Vec::new();
    for (second, place, kind) in [
        (0, RecordPlace::STARTED, Kind::Started),
        (0, RecordPlace::RESULT, Kind::Applied),
        (9, RecordPlace::RESULT, Kind::Unchanged),
    ] {
        let at = DateTime::from_timestamp_millis(1_795_000_000_123).unwrap() + Duration::seconds(second);
        let facts = ChangeContext {
            service: ServiceKey::new(
                AccountId::parse("222222222222").unwrap(),
                Region::parse("eu-west-1").unwrap(),
                EcsName::parse("prod").unwrap(),
                EcsName::parse(service).unwrap(),
            ),
            change_id: ChangeId::new(at, [7; 10]),
            repositories: vec!["nginx".to_owned()],
            requested_by: Some("ann".to_owned()),
            reason: None,
            identity: Identity::Claimed,
            caller: None,
            attempt: Attempt::FIRST,
            session: "ecsu-1".to_owned(),
            request_id: "1".to_owned(),
            restores: None,
            of: None,
            action: None,
            pins: domain::image::ResolvedImages::default(),
            sent_at: None,
        };
        let (record, _) = facts.record(kind, place, at, &RecordFields::default(), head.as_ref()).unwrap();
        head = Some(Head::behind(&record, head.as_ref(), None));
        lines.push(exported(&record));
    }
    lines
}

fn exported(record: &Record) -> String {
    let Value::Object(members) = serde_json::to_value(record).unwrap() else { panic!("an object") };
    let item: Map<String, Value> = members
        .into_iter()
        .map(|(name, value)| match value {
            Value::Number(number) => (name, json!({"N": number.to_string()})),
            text => (name, json!({"S": text})),
        })
        .collect();
    json!({"Item": item}).to_string()
}

fn file(folder: &Path, name: &str, lines: &[String]) -> PathBuf {
    let path = folder.join(name);
    // The last line has no end.
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn gzipped(folder: &Path, name: &str, lines: &[String]) -> PathBuf {
    let path = folder.join(name);
    let mut gzip = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
    gzip.write_all(lines.join("\n").as_bytes()).unwrap();
    gzip.finish().unwrap();
    path
}

#[tokio::test]
async fn files_of_an_export_are_checked_together_and_nobody_is_asked() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let folder = tempfile::tempdir().unwrap();
    let web = ledger("web");
    let one = gzipped(folder.path(), "1.json.gz", &web[1..]);
    let two = file(folder.path(), "2.json", &[&web[..1], &ledger("edge")].concat());
    let paths = [one.to_str().unwrap(), two.to_str().unwrap()];
    let ran = stub.run(&["verify", "--export", paths[0], paths[1]]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.is_legible();
    for service in ["edge", "web"] {
        assert!(
            ran.out.contains(&format!("INTACT  222222222222/eu-west-1/prod/{service}\n  verified  3 records\n")),
            "{}",
            ran.out
        );
    }
    assert!(ran.out.contains("no heads"), "what an export cannot show is said: {}", ran.out);
    let ran = stub.run(&["verify", "--output", "json", "--export", paths[0], paths[1]]).await;
    assert_eq!((ran.code, &ran.json()["ok"], ran.json()["services"].as_array().unwrap().len()), (0, &json!(true), 2));
    // Half of the files is half of a ledger.
    assert_eq!(stub.run(&["verify", "--export", paths[0]]).await.code, 4);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn an_edited_record_is_found_at_its_place() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let mut lines = [ledger("web"), ledger("edge")].concat();
    lines[1] = lines[1].replace(r#"{"S":"ann"}"#, r#"{"S":"bob"}"#);
    let ran = stub.run_with_input(&["verify", "--export", "-"], lines.join("\n").as_bytes()).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    ran.is_legible();
    let record = serde_json::from_str::<Value>(&lines[1]).unwrap()["Item"]["record"]["S"].as_str().unwrap().to_owned();
    for shown in
        ["BROKEN  222222222222/eu-west-1/prod/web", "INTACT  222222222222/eu-west-1/prod/edge", &record, "changed"]
    {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
}

/// The folder of OPERATIONS after two days, and files that were copied twice.
#[tokio::test]
async fn exports_of_several_days_in_one_folder_are_no_fault() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let folder = tempfile::tempdir().unwrap();
    let web = ledger("web");
    let old = gzipped(folder.path(), "monday.json.gz", &web[..2]);
    let new = gzipped(folder.path(), "tuesday.json.gz", &[web.clone(), ledger("edge")].concat());
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    for files in [vec![old, new], vec![new, old, new]] {
        let ran = stub.run(&[vec!["verify", "--export"], files].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.trim_end().ends_with("All 2 ledgers are whole."), "{}", ran.out);
    }
    // One of them holds another record under the same key.
    let other = file(folder.path(), "other.json", &[web[1].replace(r#"{"S":"ann"}"#, r#"{"S":"bob"}"#)]);
    let ran = stub.run(&["verify", "--export", new, other.to_str().unwrap()]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.out.contains("another item has the same key, and differs"), "{}", ran.out);
}

#[tokio::test]
async fn what_an_older_export_had_has_to_stand_in_the_newer() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let folder = tempfile::tempdir().unwrap();
    let (web, edge) = (ledger("web"), ledger("edge"));
    let whole = file(folder.path(), "whole.json", &[web.clone(), edge.clone()].concat());
    let earlier = gzipped(folder.path(), "earlier.json.gz", &[&web[..2], &edge[..1]].concat());
    // A ledger that was cut off at its end, and one that is gone: their own export cannot tell.
    let cut = file(folder.path(), "cut.json", &web[..1]);
    let [whole, earlier, cut] = [&whole, &earlier, &cut].map(|path| path.to_str().unwrap());
    assert_eq!(stub.run(&["verify", "--export", cut]).await.code, 0);

    let ran = stub.run(&["verify", "--export", whole, "--against", earlier]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = stub.run(&["verify", "--export", cut, "--against", earlier]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    ran.is_legible();
    let flat = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(flat.matches("missing: it stands in the older export").count(), 2, "{flat}");
    assert!(flat.contains("BROKEN: 2 of 2 ledgers"), "{flat}");
    let ran = stub.run(&["verify", "--export", cut, "--against", earlier, "-o", "json"]).await;
    assert_eq!((ran.code, &ran.json()["ok"]), (4, &json!(false)));

    assert_eq!(stub.run(&["verify", "--against", earlier]).await.code, 2, "against what?");
    assert_eq!(stub.run(&["verify", "--export", "-", "--against", "-"]).await.code, 2);
    let nothing = file(folder.path(), "nothing.json", &[]);
    let ran = stub.run(&["verify", "--export", whole, "--against", nothing.to_str().unwrap()]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("--against"), "{}", ran.err);
}

#[tokio::test]
async fn broken_ledgers_come_first_and_the_verdict_last() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let mut lines = [ledger("a"), ledger("web"), ledger("z")].concat();
    lines[4] = lines[4].replace(r#"{"S":"ann"}"#, r#"{"S":"bob"}"#);
    let input = lines.join("\n");
    let ran = stub.run_with_input(&["verify", "--export", "-"], input.as_bytes()).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    ran.is_legible();
    assert!(ran.out.trim_start().starts_with("BROKEN  222222222222/eu-west-1/prod/web"), "{}", ran.out);
    let last = ran.out.trim_end().lines().last().unwrap();
    assert_eq!(last, "BROKEN: 1 of 3 ledgers, 222222222222/eu-west-1/prod/web");
    let ran = stub.run_with_input(&["verify", "--export", "-", "-o", "json"], input.as_bytes()).await;
    let services =
        ran.json()["services"].as_array().unwrap().iter().map(|service| service["ok"].clone()).collect::<Vec<_>>();
    assert_eq!(services, [json!(false), json!(true), json!(true)]);
}

#[tokio::test]
async fn what_is_no_export_proves_nothing() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    for (input, said) in [(&b""[..], "no record"), (b"{\"a\": 1}\n", "line 1"), (b"\x1f\x8bnonsense", "line 1")] {
        let ran = stub.run_with_input(&["verify", "--export", "-"], input).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}
