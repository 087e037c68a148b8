//! `update`, `plan`, `restore` and `invoke`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::stub::{CHANGE, HOSTILE, Reply, Stub, change, page, state, updated};

const SERVICE: &str = "222222222222/eu-west-1/prod/web";

#[tokio::test]
async fn an_update_sends_the_event_and_shows_what_became_different() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    let ran = stub
        .run(&[
            "update",
            SERVICE,
            "--image",
            "registry.example:5000/edge/web:7",
            "--tag",
            "release=7",
            "--set",
            "desiredCount=3",
            "--expect",
            "web:6",
            "--reason",
            "release 7",
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.is_legible();
    for shown in [
        "APPLIED",
        SERVICE,
        "- registry.example:5000/edge/web:6",
        "+ registry.example:5000/edge/web:7",
        CHANGE,
        "web:7",
    ] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    // Where no recorder is deployed, nobody would ever say how it ended.
    assert!(!ran.out.contains("--follow"), "{}", ran.out);
    let (function, mut event) = stub.only();
    assert_eq!(function, "ecs-updater");
    let key = event.as_object_mut().unwrap().remove("idempotency_key").unwrap();
    assert!(key.as_str().unwrap().len() > 20, "{key}");
    assert!(is_now(&event.as_object_mut().unwrap().remove("sent_at").unwrap()));
    assert_eq!(
        event,
        json!({"account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
            "ecs_image_name": "registry.example:5000/edge/web:7", "ecs_tag": {"release": "7"}, "tag_mode": "merge",
            "service": {"desiredCount": 3}, "expected_task_definition": "web:6", "reason": "release 7", "requested_by": "ann"})
    );
}

/// The updater would refuse it. Who stops a rollout is told to nobody who refuses a name: nothing keeps that from being done.
#[tokio::test]
async fn a_name_that_only_the_api_door_can_vouch_for_is_not_sent() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    for name in ["arn:aws:iam::111111111111:user/ann", "Cognito:1:ann", "iam:ann", "alias:ann", "oidc:ann"] {
        for command in [
            &["update", SERVICE, "--image", "nginx"][..],
            &["plan", SERVICE, "--image", "nginx"],
            &["restore", SERVICE, "--previous"],
        ] {
            let ran = stub.run(&[command, &["--requested-by", name]].concat()).await;
            assert_eq!(ran.code, 2, "{command:?} {name}: {ran:?}");
            assert!(
                ran.err.contains("--requested-by (or ECS_UPDATER_REQUESTED_BY)")
                    && ran.err.contains("Nothing was sent"),
                "{ran:?}"
            );
        }
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn what_came_with_a_revision_is_shown_with_the_answer() {
    let changes = json!([
        {"what": "image", "path": "web", "from": "registry.example:5000/edge/web:6", "to": "registry.example:5000/edge/web:7"},
        {"what": "definition", "path": "taskRoleArn", "from": "arn:one", "to": "arn:other"},
        {"what": "parameter", "path": "desiredCount", "from": 2, "to": 3},
    ]);
    let stub = Stub::start(move |_, _| updated(&json!({"changes": changes}))).await;
    let ran = stub.run(&["restore", SERVICE, "--previous"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.is_legible();
    for shown in ["definition taskRoleArn", "- arn:one", "+ arn:other", "desiredCount", "+ 3", "+ web:7"] {
        assert!(ran.out.contains(shown), "{shown}: {}", ran.out);
    }
    assert_eq!(ran.out.matches("image web").count(), 1, "{}", ran.out);
}

#[tokio::test]
async fn each_update_has_a_key_of_its_own_unless_it_is_given() {
    let stub = Stub::start(|_, _| updated(&json!({"status": "UNCHANGED", "deployment_id": null}))).await;
    for key in [None, None, Some("release-7")] {
        let mut arguments = vec!["update", SERVICE, "--force-new-deployment"];
        arguments.extend(key.iter().flat_map(|key| ["--idempotency-key", key]));
        assert_eq!(stub.run(&arguments).await.code, 0);
    }
    let keys: Vec<Value> = stub.seen().iter().map(|(_, event)| event["idempotency_key"].clone()).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2], "release-7");
}

/// Whether it is a time within the last minute.
fn is_now(time: &Value) -> bool {
    let time: DateTime<Utc> = time.as_str().unwrap().parse().unwrap();
    (0..60).contains(&(Utc::now() - time).num_seconds())
}

#[tokio::test]
async fn an_event_that_is_sent_again_keeps_the_time_of_its_first_sending() {
    let made = "cli-018bcfe5-687b-7a1a-9c1d-3f5b7d9e1234";
    let stub = Stub::start(|_, _| updated(&json!({"status": "UNCHANGED", "deployment_id": null}))).await;
    let (update, restore) = (["update", SERVICE, "--image", "nginx"], ["restore", SERVICE, "--previous"]);
    for (command, again, sent_at) in [
        // Who knows the key that this command made knows when.
        (&update[..], &["--idempotency-key", made][..], Some("2023-11-14T22:13:20.123Z")),
        (&restore, &["--idempotency-key", made], Some("2023-11-14T22:13:20.123Z")),
        (
            &update,
            &["--idempotency-key", "release-7", "--sent-at", "2026-11-22T09:30:00+01:00"],
            Some("2026-11-22T08:30:00.000Z"),
        ),
        (&update, &["--idempotency-key", "release-7"], None),
        (&update, &["--idempotency-key", "cli-release-7"], None),
        (&restore, &[], None),
    ] {
        let ran = stub.run(&[command, again].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let sent = stub.seen().last().unwrap().1["sent_at"].clone();
        assert!(sent_at.map_or_else(|| is_now(&sent), |sent_at| sent == sent_at), "{again:?}: {sent}");
    }
    let ran = stub.run(&[&update[..], &["--sent-at", "yesterday"]].concat()).await;
    assert!(ran.code == 2 && ran.err.contains("--sent-at"), "{ran:?}");
}

#[tokio::test]
async fn json_is_the_answer_and_nothing_else() {
    let stub = Stub::start(|_, _| updated(&json!({"unknown": {"later": HOSTILE}}))).await;
    let ran = stub.run(&["update", SERVICE, "--image", "nginx", "--output", "json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.json()["unknown"]["later"], HOSTILE);
    assert_eq!(ran.json()["status"], "APPLIED");
    ran.is_harmless();
}

#[tokio::test]
async fn a_deployment_that_ended_badly_is_no_success() {
    for (status, code) in
        [("COMPLETED", 0), ("UNCHANGED", 0), ("ROLLED_BACK", 1), ("DEPLOYMENT_FAILED", 1), ("TIMED_OUT", 5)]
    {
        let stub = Stub::start(move |_, _| updated(&json!({"status": status}))).await;
        assert_eq!(stub.run(&["update", SERVICE, "--image", "nginx"]).await.code, code, "{status}");
    }
}

fn planned(changes: &Value) -> Reply {
    updated(&json!({"status": "PLANNED", "change_id": null, "deployment_id": null, "changes": changes,
        "notes": ["ECS takes a new capacityProviderStrategy only with forceNewDeployment: a new deployment starts"]}))
}

#[tokio::test]
async fn a_plan_is_a_diff_and_touches_nothing() {
    let stub = Stub::start(|_, _| {
        planned(&json!([
            {"what": "image", "path": "web", "from": "busybox", "to": "nginx:1.27"},
            {"what": "tag", "path": "old", "from": "1", "to": null},
            {"what": "parameter", "path": "deploymentConfiguration",
             "from": {"maximumPercent": 200, "minimumHealthyPercent": 100}, "to": {"maximumPercent": 150}},
        ]))
    })
    .await;
    for arguments in
        [&["plan", SERVICE, "--image", "nginx:1.27"][..], &["update", SERVICE, "--image", "nginx:1.27", "--dry-run"]]
    {
        let ran = stub.run(arguments).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.is_legible();
        let diff = "  image web\n    - busybox\n    + nginx:1.27\n  tag old\n    - 1\n  \
                    deploymentConfiguration.maximumPercent\n    - 200\n    + 150\n";
        assert!(ran.out.contains(diff), "{}", ran.out);
        assert!(ran.out.contains("note") && ran.out.contains("Nothing was touched."), "{}", ran.out);
    }
    for (_, event) in stub.seen() {
        assert_eq!(event["dry_run"], true);
        assert!(event.get("idempotency_key").is_none() && event.get("sent_at").is_none(), "{event}");
    }
    assert_eq!(stub.run(&["plan", SERVICE, "--image", "nginx", "--exit-code"]).await.code, 6);
}

#[tokio::test]
async fn a_plan_without_differences_says_so() {
    let stub = Stub::start(|_, _| planned(&json!([]))).await;
    let ran = stub.run(&["plan", SERVICE, "--image", "nginx", "--exit-code"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Nothing differs"), "{}", ran.out);
}

#[tokio::test]
async fn a_restore_names_the_change_or_the_previous_one() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    assert_eq!(stub.run(&["restore", "prod/web", "--previous", "--dry-run"]).await.code, 0);
    assert_eq!(stub.run(&["restore", "prod/web", "--change", CHANGE]).await.code, 0);
    let seen = stub.seen();
    assert_eq!((&seen[0].1["restore"], &seen[0].1["dry_run"]), (&json!("previous"), &json!(true)));
    assert_eq!((&seen[1].1["restore"], seen[1].1.get("dry_run")), (&json!(CHANGE), None));
    assert_eq!(seen[1].1["ecs_service_name"], "web");
    assert!(seen[1].1.get("account_id").is_none());
}

/// What was to be undone is still there: who runs it in a pipeline has to notice.
#[tokio::test]
async fn a_restore_that_left_something_ends_with_one_and_names_it() {
    let left = json!([{"what": "parameter", "path": "platformVersion", "why": "UpdateService cannot unset it"}]);
    for status in ["APPLIED", "UNCHANGED", "PLANNED"] {
        let answer = json!({"status": status, "not_restored": left, "changes": []});
        let stub = Stub::start(move |_, _| updated(&answer)).await;
        let ran = stub.run(&["restore", SERVICE, "--change", CHANGE, "--exact"]).await;
        assert_eq!(ran.code, 1, "{status}: {ran:?}");
        assert!(ran.out.contains("platformVersion: UpdateService cannot unset it"), "{}", ran.out);
        assert_eq!(stub.only().1["restore_mode"], "exact");
    }
    for body in [json!({"not_restored": left}), json!({"summary": {"not_restored": 1}})] {
        let stub = Stub::start(move |_, _| Reply::Payload(json!({"statusCode": 200, "body": body}))).await;
        assert_eq!(stub.run_with_input(&["invoke", "-"], b"{}").await.code, 1);
    }
}

#[tokio::test]
async fn a_restore_by_change_alone_finds_its_service_in_the_history() {
    let stub = Stub::start(|function, _| match function {
        "ecs-updater-history" => page(&[change(&json!({}))], None),
        _ => updated(&json!({})),
    })
    .await;
    let ran = stub.run(&["restore", "--change", CHANGE]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let seen = stub.seen();
    assert_eq!(seen[0], ("ecs-updater-history".to_owned(), json!({"change_id": CHANGE})));
    assert_eq!(seen[1].0, "ecs-updater");
    for (name, value) in [
        ("account_id", "222222222222"),
        ("region", "eu-west-1"),
        ("ecs_cluster_name", "prod"),
        ("ecs_service_name", "web"),
        ("restore", CHANGE),
    ] {
        assert_eq!(seen[1].1[name], value);
    }
    let stub = Stub::start(|_, _| page(&[], None)).await;
    let ran = stub.run(&["restore", "--change", CHANGE]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("has no change"), "{}", ran.err);
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn continue_and_stop_name_the_change_and_find_its_service_in_the_history() {
    for verb in ["continue", "stop"] {
        let stub = Stub::start(move |function, _| match function {
            "ecs-updater-history" => page(&[change(&json!({}))], None),
            _ => updated(&json!({"status": "APPLIED", "of": CHANGE, "action": verb, "notes": ["arn:sd was seen to"]})),
        })
        .await;
        let ran = stub.run(&[verb, CHANGE, "--reason", "errors rise"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("arn:sd was seen to") && !ran.out.contains("To undo this"), "{}", ran.out);
        let event = &stub.seen()[1].1;
        assert_eq!((&event[verb], &event["reason"]), (&json!(CHANGE), &json!("errors rise")));
        assert_eq!(event["ecs_service_name"], "web");
        assert!(event["idempotency_key"].is_string() && event.get("wait_seconds").is_none(), "{event}");
        assert_eq!(stub.run(&[verb, "not-a-change"]).await.code, 2);
    }
}

#[tokio::test]
async fn a_wait_that_ends_at_a_pause_is_to_be_asked_again() {
    let waits = json!({"status": "AWAITING_ACTION", "notes": ["it waits at pause hook \"h\""]});
    let stub = Stub::start(move |_, _| updated(&waits)).await;
    let ran = stub.run(&["update", SERVICE, "--image", "nginx", "--wait", "1"]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.out.contains("AWAITING_ACTION") && ran.out.contains("waits at pause hook"), "{}", ran.out);
}

#[tokio::test]
async fn an_event_goes_out_as_it_is_and_the_answer_comes_back_so() {
    let stub = Stub::start(|_, event| Reply::Payload(json!({"statusCode": 200, "body": {"echo": event}}))).await;
    let event = r#"{"ecs_service_name": "web", "anything": [1.0, null]}"#;
    let ran = stub.run_with_input(&["invoke"], event.as_bytes()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["body"]["echo"], serde_json::from_str::<Value>(event).unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"limit": 1}"#).unwrap();
    assert_eq!(stub.run(&["invoke", file.path().to_str().unwrap(), "--function", "history"]).await.code, 0);
    assert_eq!(stub.seen()[1], ("ecs-updater-history".to_owned(), json!({"limit": 1})));
}

#[tokio::test]
async fn a_raw_event_that_is_no_json_is_not_sent_and_partial_failure_is_failure() {
    let stub = Stub::start(|_, _| Reply::Payload(json!({"statusCode": 207, "body": {"summary": {"failed": 1}}}))).await;
    let ran = stub.run_with_input(&["invoke", "-"], b"{\"a\": ").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("standard input is not JSON"), "{}", ran.err);
    assert_eq!(stub.run(&["invoke", "/nowhere.json"]).await.code, 2);
    assert!(stub.seen().is_empty());
    let ran = stub.run_with_input(&["invoke"], b"{}").await;
    assert_eq!((ran.code, ran.json()["statusCode"].clone()), (1, json!(207)));
}

#[tokio::test]
async fn functions_are_named_by_option_or_environment() {
    let stub = Stub::start(|_, _| updated(&json!({}))).await;
    stub.run(&["plan", SERVICE, "--image", "nginx", "--updater-function", "mine"]).await;
    stub.command(&["plan", SERVICE, "--image", "nginx"]).env("ECS_UPDATER_FUNCTION", "theirs").output().await.unwrap();
    stub.command(&["plan", SERVICE, "--image", "nginx", "--endpoint-url", stub.url()])
        .env("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
        .output()
        .await
        .unwrap();
    let names: Vec<String> = stub.seen().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["mine", "theirs", "ecs-updater"]);
}

#[tokio::test]
async fn hostile_text_reaches_no_terminal() {
    let hostile = state(HOSTILE, 8, 2);
    let stub = Stub::start(move |_, _| {
        updated(&json!({"AFTER": hostile, "notes": [HOSTILE], "deployment_id": HOSTILE, "change_id": HOSTILE}))
    })
    .await;
    let ran = stub.run(&["update", SERVICE, "--image", "nginx"]).await;
    assert_eq!(ran.code, 0);
    ran.is_legible();
    assert!(ran.out.contains("<script>alert(1)</script>�[2J�31m��gpj"), "{}", ran.out);
}
