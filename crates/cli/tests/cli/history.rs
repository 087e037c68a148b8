//! `history` and `verify`.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::ids::ChangeId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::stub::{CHANGE, HOSTILE, Stub, change, ok, page};

#[tokio::test]

async fn a_list_says_what_who_why_and_how_it_ended() {
    let stub = Stub::start(|_, _| {
        page(
            &[
                change(&json!({})),
                change(&json!({"status": "FAILED", "after": null, "error": {"code": "ServiceUpdateFailed", "message": "no room"}})),
                change(&json!({"status": "DEPLOYMENT_FAILED", "ecs_service_name": "payments", "restores": CHANGE})),
            ],
            Some("more"),
        )
    })
    .await;
    let ran = stub.run(&["history"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.is_legible();
    for shown in [
        "222222222222/eu-west-1/prod/web\n",
        "222222222222/eu-west-1/prod/payments\n",
        &format!("  2026-11-22 09:30  COMPLETED   {CHANGE}\n      [claimed] release pipeline: release 7\n"),
        "registry.example:5000/edge/web:6\n        → registry.example:5000/edge/web:7",
        "desiredCount: 2 → 4",
        "ServiceUpdateFailed: no room",
        "restores what was before",
        "There may be more",
    ] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    // The second change is of the service that stands above it already.
    assert_eq!(ran.out.matches("prod/web\n").count(), 1);
    assert_eq!(stub.only(), ("ecs-updater-history".to_owned(), json!({"limit": 20, "order": "newest_first"})));
}

#[tokio::test]
async fn what_came_with_a_revision_is_shown_short_in_a_list_and_in_full_for_one_change() {
    let of =
        |index: usize| json!({"what": "definition", "path": format!("member{index}"), "from": "one", "to": "other"});
    let changes: Vec<Value> = (0..7).map(of).collect();
    let told = change(&json!({"changes": changes}));
    let stub = Stub::start(move |_, _| page(std::slice::from_ref(&told), None)).await;
    let list = stub.run(&["history"]).await;
    assert!(list.out.contains("definition member3: one → other"), "{}", list.out);
    assert!(
        !list.out.contains("member4") && list.out.contains("and 3 more that came with the revision"),
        "{}",
        list.out
    );
    let one = stub.run(&["history", "--change", CHANGE]).await;
    assert!(one.out.contains("member6") && !one.out.contains("more that came"), "{}", one.out);
}

#[tokio::test]
async fn arguments_become_a_query() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let cases = [
        (
            &["222222222222/eu-west-1/prod/web", "--from", "2026-11-01", "--to", "2026-11-17T08:00:00+01:00"][..],
            json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
                "from": "2026-11-01", "to": "2026-11-17T08:00:00+01:00"}),
        ),
        (
            &["222222222222/prod/web", "--day", "2026-11-17"],
            json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
                "from": "2026-11-17", "to": "2026-11-17"}),
        ),
        (
            &["--account", "222222222222", "--status", "rolled_back", "--requested-by", "ann"],
            json!({"account_id": "222222222222", "status": "ROLLED_BACK", "requested_by": "ann"}),
        ),
        (
            &["--image", "registry.example:5000/edge:7", "--limit", "100", "--order", "oldest-first"],
            json!({"image": "registry.example:5000/edge", "limit": 100, "order": "oldest_first"}),
        ),
        (&["--next-token", "abc"], json!({"next_token": "abc"})),
        (&["--identity", "verified"], json!({"identity": "verified"})),
        (&["--day", "2026-11-17", "--external"], json!({"from": "2026-11-17", "to": "2026-11-17", "external": true})),
    ];
    for (arguments, expected) in &cases {
        let ran = stub.run(&[&["history"], *arguments].concat()).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, "No changes.\n"), "{ran:?}");
        let mut whole = json!({"limit": 20, "order": "newest_first"});
        whole.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        assert_eq!(stub.seen().last().unwrap().1, whole, "{arguments:?}");
    }
    for arguments in [
        &["--limit", "0"][..],
        &["--identity", "proved"],
        &["--limit", "101"],
        &["--status", "GREAT"],
        &["--account", "2"],
        &["--change", "7"],
        &["--day", "2026-11-17", "--from", "2026-11-16"],
        &["--account", "222222222222", "--image", "nginx"],
        &["--follow", "--to", "2026-11-17"],
        &["prod/web"],
    ] {
        let ran = stub.run(&[&["history"], arguments].concat()).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
    }
    assert_eq!(stub.seen().len(), cases.len());
}

/// No name and no reason can stand where the word does that says whether somebody vouches for it.
#[tokio::test]
async fn each_name_is_told_behind_whether_somebody_vouches_for_it() {
    let stub = Stub::start(|_, _| {
        let changes = [
            json!({"requested_by": "arn:aws:iam::1:user/ann", "reason": null, "identity": "verified"}),
            json!({"requested_by": "[verified] arn:aws:iam::1:user/ann", "reason": null}),
            json!({"requested_by": "eve", "reason": "r", "identity": null}),
            json!({"requested_by": null, "reason": "[verified] arn:aws:iam::1:user/ann"}),
        ];
        page(&changes.map(|members| change(&members)), None)
    })
    .await;
    let ran = stub.run(&["history"]).await;
    let told: Vec<_> = ran.out.lines().filter(|line| line.contains("] ")).map(str::trim).collect();
    assert_eq!(
        told,
        [
            "[verified] arn:aws:iam::1:user/ann",
            "[claimed] [verified] arn:aws:iam::1:user/ann",
            "[claimed] eve: r",
            "[claimed] nobody named: [verified] arn:aws:iam::1:user/ann",
        ]
    );
}

#[tokio::test]
async fn one_change_is_told_in_full_and_one_that_is_not_there_is_an_error() {
    let pins = json!({"registry.example:5000/edge/web:latest": "registry.example:5000/edge/web@sha256:0"});
    let told = change(&json!({"reason": HOSTILE, "resolved_images": pins}));
    let stub = Stub::start(move |_, _| page(std::slice::from_ref(&told), None)).await;
    let ran = stub.run(&["history", "--change", CHANGE]).await;
    assert_eq!(ran.code, 0);
    ran.is_legible();
    for shown in [
        "COMPLETED",
        "[claimed] release pipeline",
        "ecsu-1",
        "ended",
        "2026-11-22 09:33 UTC",
        "- web:6",
        "+ web:7",
        "web:latest",
    ] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    assert_eq!(stub.only().1, json!({"change_id": CHANGE}));
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let ran = stub.run(&["history", "--change", CHANGE]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no such change"), "{}", ran.err);
}

#[tokio::test]
async fn all_pages_are_read_even_over_an_empty_one() {
    let stub = Stub::start(|_, event| match event.get("next_token").and_then(Value::as_str) {
        None => page(&[change(&json!({"reason": "one"}))], Some("2")),
        Some("2") => page(&[], Some("3")),
        Some(_) => page(&[change(&json!({"reason": "three"}))], None),
    })
    .await;
    let ran = stub.run(&["history", "--all"]).await;
    assert!(
        ran.out.contains(": one") && ran.out.contains(": three") && !ran.out.contains("There may be more"),
        "{}",
        ran.out
    );
    let json = stub.run(&["history", "--all", "--output", "json"]).await.json();
    assert_eq!((json["changes"].as_array().unwrap().len(), &json["next_token"]), (2, &Value::Null));
    let json = stub.run(&["history", "--output", "json"]).await.json();
    assert_eq!((json["changes"].as_array().unwrap().len(), &json["next_token"]), (1, &json!("2")));
}

#[tokio::test]
async fn hostile_text_is_harmless_in_a_table_and_whole_in_json() {
    let stub = Stub::start(|_, _| {
        page(&[change(&json!({"reason": HOSTILE, "requested_by": HOSTILE, "ecs_service_name": HOSTILE, "status": HOSTILE,
            "started_at": HOSTILE, "change_id": HOSTILE, "restores": HOSTILE, "resolved_images": {HOSTILE: HOSTILE},
            "changes": [{"what": HOSTILE, "path": HOSTILE, "from": HOSTILE, "to": HOSTILE}, {"what": "definition", "path": HOSTILE, "from": HOSTILE}], "error": {"code": HOSTILE, "message": HOSTILE}}))], None)
    })
    .await;
    for arguments in [&["history"][..], &["history", "--change", CHANGE]] {
        let ran = stub.run(arguments).await;
        assert_eq!(ran.code, 0);
        ran.is_harmless();
    }
    let ran = stub.run(&["history", "--output", "json"]).await;
    assert_eq!(ran.json()["changes"][0]["reason"], HOSTILE);
    ran.is_harmless();
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_who_forces_them() {
    let stub = Stub::start(|_, _| page(&[change(&json!({}))], None)).await;
    for (variables, coloured) in
        [(&[][..], false), (&[("CLICOLOR_FORCE", "1")], true), (&[("NO_COLOR", "1"), ("TERM", "xterm")], false)]
    {
        let mut command = stub.command(&["history"]);
        let output = command.envs(variables.iter().copied()).output().await.unwrap();
        assert_eq!(output.stdout.contains(&0x1b), coloured, "{variables:?}");
    }
}

#[tokio::test]
async fn following_shows_each_change_once_per_status() {
    let began = chrono::Utc::now();
    let id = |seconds| ChangeId::new(began - chrono::Duration::seconds(seconds), [7; 10]).to_string();
    let (first, later) = (id(64), id(60));
    let ids = [first.clone(), first.clone(), later.clone()];
    let change = move |id: &str, status: &str| change(&json!({"change_id": id, "status": status}));
    let looks = AtomicUsize::new(0);
    let stub = Stub::start(move |_, _| match looks.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => page(&[change(&first, "APPLIED")], None),
        2 => crate::stub::Reply::Refused(429, "TooManyRequestsException", "Rate Exceeded."),
        _ => page(&[change(&first, "COMPLETED"), change(&later, "STARTED")], None),
    })
    .await;
    let mut child = stub
        .command(&["history", "--follow", "--interval", "1", "--output", "json"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    while shown.len() < 3 {
        let line = timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
        let change: Value = serde_json::from_str(&line).unwrap();
        shown.push((change["change_id"].as_str().unwrap().to_owned(), change["status"].as_str().unwrap().to_owned()));
    }
    let expected: Vec<_> = ids.into_iter().zip(["APPLIED", "COMPLETED", "STARTED"].map(str::to_owned)).collect();
    assert_eq!(shown, expected);
    assert!(
        timeout(Duration::from_secs(3), lines.next_line()).await.is_err(),
        "nothing new, and yet something was shown"
    );
    let seen = stub.seen();
    assert_eq!(seen[0].1["order"], "newest_first");
    assert_eq!((&seen[1].1["order"], seen[1].1["from"].is_string()), (&json!("oldest_first"), true));
    // From a minute before the oldest change that had not ended.
    let since = ChangeId::parse(&expected[0].0).unwrap().time() - chrono::Duration::seconds(60);
    assert_eq!(seen[1].1["from"], since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn following_one_change_ends_with_it() {
    for (end, code) in [("COMPLETED", 0), ("ROLLED_BACK", 1)] {
        let looks = AtomicUsize::new(0);
        let stub = Stub::start(move |_, _| {
            let status = ["STARTED", "APPLIED", end][looks.fetch_add(1, Ordering::SeqCst).min(2)];
            page(&[change(&json!({"status": status}))], None)
        })
        .await;
        let ran = stub.run(&["history", "--follow", "--change", CHANGE, "--interval", "1", "--output", "json"]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.out.lines().count(), 3);
    }
}

#[tokio::test]
async fn following_one_change_ends_in_time() {
    let follow = |timeout| ["history", "--follow", "--change", CHANGE, "--interval", "1", "--timeout", timeout];
    let stub = Stub::start(|_, _| page(&[change(&json!({"status": "APPLIED", "ended_at": null}))], None)).await;
    let ran = timeout(Duration::from_secs(20), stub.run(&follow("2"))).await.expect("it ends by itself");
    assert_eq!(ran.code, 5, "{ran:?}");
    ran.is_legible();
    let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("in 2 s: it stands at APPLIED") && flat.contains("or no recorder is deployed"), "{flat}");
    let stub = Stub::start(|_, _| page(&[change(&json!({"status": "UNRESOLVED", "deployment_id": null}))], None)).await;
    let ran = stub.run(&follow("5")).await;
    assert_eq!((ran.code, stub.seen().len()), (1, 1), "{ran:?}");
    ran.is_legible();
    let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("ended before it did") && flat.contains("the same event with the same key"), "{flat}");
}

#[tokio::test]
async fn a_status_filter_misses_no_change_that_comes_to_it() {
    let looks = AtomicUsize::new(0);
    let stub = Stub::start(move |_, event| {
        let status = ["STARTED", "STARTED", "FAILED"][looks.fetch_add(1, Ordering::SeqCst).min(2)];
        // As the history function does it.
        let keeps = event.get("status").is_none_or(|wanted| wanted == status);
        let changes = [change(&json!({"status": status}))];
        page(if keeps { &changes } else { &[] }, None)
    })
    .await;
    let mut child = stub
        .command(&["history", "--follow", "--status", "failed", "--interval", "1", "--output", "json"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["status"], "FAILED");
    child.kill().await.unwrap();
    let seen = stub.seen();
    assert!(seen.iter().all(|(_, event)| event.get("status").is_none()), "{seen:?}");
}

#[tokio::test]
async fn a_change_of_a_moment_ago_is_asked_for_twice() {
    let id = ChangeId::new(chrono::Utc::now(), [7; 10]).to_string();
    let looks = AtomicUsize::new(0);
    let stub = Stub::start(move |_, _| match looks.fetch_add(1, Ordering::SeqCst) {
        0 => page(&[], None),
        _ => page(&[change(&json!({}))], None),
    })
    .await;
    let ran = stub.run(&["history", "--change", &id, "--output", "json"]).await;
    assert_eq!((ran.code, ran.json()["changes"].as_array().unwrap().len()), (0, 1), "{ran:?}");
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn a_chain_without_a_record_proves_nothing() {
    // As an older function says it, and as it is said now.
    let empty = json!({"ok": false, "verified": 0, "fault": {"record": "", "what": "empty: there is no record"}});
    for answer in [json!({"ok": true, "verified": 0}), empty] {
        let stub = Stub::start(move |_, _| ok(&answer)).await;
        for format in ["table", "json"] {
            let ran = stub.run(&["verify", "222222222222/eu-west-1/prod/wbe", "--output", format]).await;
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
            let flat = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains("no records of this service: check the name"), "{flat}");
        }
    }
}

#[tokio::test]
async fn a_whole_chain_and_a_broken_one() {
    let service = "222222222222/eu-west-1/prod/web";
    let stub = Stub::start(|_, _| ok(&json!({"ok": true, "verified": 12}))).await;
    let ran = stub.run(&["verify", service]).await;
    assert_eq!(ran.code, 0);
    ran.is_legible();
    assert!(ran.out.contains("INTACT") && ran.out.contains("12 records"), "{}", ran.out);
    assert_eq!(
        stub.only().1,
        json!({"verify": true, "account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web"})
    );
    let fault = json!({"record": format!("{CHANGE}#1"), "what": format!("it was changed {HOSTILE}")});
    let stub = Stub::start(move |_, _| ok(&json!({"ok": false, "verified": 7, "fault": fault}))).await;
    let ran = stub.run(&["verify", service]).await;
    assert_eq!(ran.code, 4);
    ran.is_legible();
    assert!(
        ran.out.contains("BROKEN") && ran.out.contains(&format!("{CHANGE}#1")) && ran.out.contains("it was changed")
    );
    let ran = stub.run(&["verify", service, "--output", "json"]).await;
    assert_eq!((ran.code, &ran.json()["ok"]), (4, &json!(false)));
}

#[tokio::test]
async fn an_answer_that_says_nothing_about_the_chain_is_no_proof() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let ran = stub.run(&["verify", "222222222222/eu-west-1/prod/web"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("does not say"), "{}", ran.err);
}

#[tokio::test]
async fn an_export_that_is_not_there_is_named() {
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let ran = stub.run(&["verify", "--export", "/nowhere/data.json.gz"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("/nowhere/data.json.gz cannot be read"), "{}", ran.err);
    assert!(stub.seen().is_empty());
}
