//! What the caller gets, and what the records keep.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::dynamodb::STATE_TABLE;
use crate::harness::ecs::tag_list;
use crate::harness::journal::Fault;
use crate::harness::ledger::{self, is_utc_milliseconds, part, uuid_v7_time};
use crate::harness::{Site, TARGET, World, web_definition};

fn seconds_between(from: &Value, to: &Value) -> i64 {
    let time = |v: &Value| chrono::DateTime::parse_from_rfc3339(v.as_str().unwrap()).unwrap();
    (time(to) - time(from)).num_seconds()
}

fn assert_kept_for(expires_at: &Value, days: i64) {
    let seconds = expires_at.as_i64().unwrap() - chrono::Utc::now().timestamp();
    assert!((days * 86_400 - 60..=days * 86_400 + 1).contains(&seconds), "kept for {seconds} s, not {days} days");
}

#[tokio::test]
async fn before_and_after_have_the_keys_of_the_first_version_and_the_images_beside_them() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| {
        service["tags"] = tag_list([("z", "1"), ("a", "2")]);
        service["deployments"][0]["updatedAt"] = json!(1_763_700_000.123);
    });
    let outcome = world.update(json!({"ecs_image_name": "nginx:1.27", "ecs_tag": {"m": "3", "a": "2"}})).await;
    let body = outcome.status("APPLIED");

    let arn = |number: usize| format!("arn:aws:ecs:eu-west-1:{TARGET}:task-definition/web:{number}");
    assert_eq!(
        body["BEFORE"],
        json!({
            "clusterArn": format!("arn:aws:ecs:eu-west-1:{TARGET}:cluster/ECSCluster"),
            "serviceArn": site.service_arn(),
            "taskDefinitionName": "web", "taskDefinitionFamily": "web", "taskDefinitionArn": arn(1),
            "serviceImage": "busybox", "images": {"web": "busybox"}, "serviceMemory": 64,
            "tags": [{"key": "a", "value": "2"}, {"key": "z", "value": "1"}],
            "updatedOn": "2025-11-21T04:40:00.123Z",
        })
    );
    let after = &body["AFTER"];
    assert_eq!(after["taskDefinitionArn"], arn(2));
    assert_eq!(after["serviceImage"], "nginx:1.27");
    assert_eq!(after["images"], json!({"web": "nginx:1.27"}));
    assert_eq!(after["tags"], json!([{"key": "a", "value": "2"}, {"key": "m", "value": "3"}]));
    let names = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(after), names(&body["BEFORE"]));
    assert_ne!(after["updatedOn"], body["BEFORE"]["updatedOn"]);

    assert!(uuid_v7_time(body["change_id"].as_str().unwrap()).is_some(), "{body}");
    assert!(is_utc_milliseconds(body["timestamp"].as_str().unwrap()), "{body}");
    assert_eq!(body["deployment_id"], world.cloud().deployment(&site));
    assert_eq!(
        (&body["account_id"], &body["region"], &body["replayed"]),
        (&json!(TARGET), &json!("eu-west-1"), &json!(false))
    );
}

#[tokio::test]
async fn a_change_that_starts_no_deployment_names_none() {
    let world = World::new().await;
    let outcome = world.update(json!({"ecs_tag": {"a": "1"}, "service": {"desiredCount": 3}})).await;
    assert_eq!(outcome.status("APPLIED")["deployment_id"], json!(null));
    assert!(ledger::deployments(world.tables()).is_empty());
    assert!(world.records(&Site::target())[1].get("deployment_id").is_none_or(|id| id == ""));
}

#[tokio::test]
async fn a_change_that_starts_a_deployment_notes_whose_it_is() {
    let world = World::new().await;
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let body = outcome.status("APPLIED");
    let site = Site::target();
    let items = ledger::deployments(world.tables());
    assert_eq!(items.len(), 1);
    let id = world.cloud().deployment(&site);
    assert_eq!(items[0]["id"], format!("deployment#{TARGET}/eu-west-1/{id}"));
    let text = Value::from(items[0].clone()).to_string();
    assert!(text.contains(&site.key()) && text.contains(body["change_id"].as_str().unwrap()), "{text}");
    assert_kept_for(&items[0]["expires_at"], 30);
}

#[tokio::test]
async fn records_say_who_why_what_was_there_and_what_is_there() {
    let world = World::new().await;
    let site = Site::target();
    let request = world.invocation().request_id("7d1c3f7e-6a53-4d4f-9b53-93e8c74d63a1");
    let event = site.event(json!({"ecs_image_name": "registry.example:5000/edge/web:7", "ecs_tag": {"team": "edge"},
        "requested_by": "ann@example.com", "reason": "release 7 – für alle"}));
    let outcome = world.invoke_with(&event, request).await;
    let body = outcome.status("APPLIED");
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "APPLIED"]);
    for record in &records {
        assert_eq!(record["change_id"], body["change_id"]);
        assert_eq!(record["requested_by"], "ann@example.com");
        assert_eq!(record["reason"], "release 7 – für alle");
        assert_eq!(record["identity"], "claimed", "the caller's own word");
        assert_eq!(record["request_id"], "7d1c3f7e-6a53-4d4f-9b53-93e8c74d63a1");
        assert!(record["session"].as_str().unwrap().contains("ecsu-7d1c3f7e-6a53-4d4f-9b53-93e8c74d63a1"));
        let before = part(record, "before").to_string();
        assert!(
            before.contains("busybox") && before.contains("web:1") && before.contains("old-custom-tag-name"),
            "{before}"
        );
        let day = record["day"].as_str().unwrap().rsplit_once('#').unwrap().1;
        assert_eq!(
            record["image"],
            format!("registry.example:5000/edge/web#{day}"),
            "the repository AFTER, with the day's suffix"
        );
    }
    assert_eq!(records[1]["deployment_id"], body["deployment_id"]);
    let after = part(&records[1], "after").to_string();
    assert!(
        after.contains("registry.example:5000/edge/web:7") && after.contains("web:2") && after.contains("team"),
        "{after}"
    );
    // Everything `service` can set, so that it can be put back.
    for name in [
        "desiredCount",
        "deploymentConfiguration",
        "healthCheckGracePeriodSeconds",
        "enableExecuteCommand",
        "platformVersion",
        "propagateTags",
        "enableECSManagedTags",
        "availabilityZoneRebalancing",
        "networkConfiguration",
        "loadBalancers",
        "serviceRegistries",
        "deploymentController",
        "placementConstraints",
        "placementStrategy",
    ] {
        assert!(after.contains(&format!("\"{name}\"")), "{name} is not in {after}");
    }
}

#[tokio::test]
async fn a_change_of_tags_is_found_under_the_first_containers_repository() {
    let world = World::new().await;
    world.update(json!({"ecs_tag": {"a": "1"}})).await.status("APPLIED");
    let records = world.records(&Site::target());
    assert!(records[1]["image"].as_str().unwrap().starts_with("busybox#"), "{}", records[1]);
}

#[tokio::test]
async fn a_change_of_several_images_is_found_under_each() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    let mut definition = web_definition("team/web:1");
    let mut log = definition["containerDefinitions"][0].clone();
    (log["name"], log["image"]) = (json!("log"), json!("team/log:1"));
    definition["containerDefinitions"].as_array_mut().unwrap().push(log);
    world.seed_definition(&site, &definition.to_string(), json!([]), |_| {});
    let outcome = world.update(json!({"images": {"web": "team/web:2", "log": "team/log:2"}})).await;
    let change = outcome.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    let records = world.records(&site);
    let pointers = ledger::pointers(world.tables(), &site.key());
    for (number, record) in records.iter().enumerate() {
        let start = format!("{change}#{number}");
        let mut images = vec![record["image"].as_str().unwrap()];
        for pointer in pointers.iter().filter(|p| p["record"].as_str().unwrap().starts_with(&format!("{start}#"))) {
            images.push(pointer["image"].as_str().unwrap());
            for name in ["seq", "kind", "day", "account_id"] {
                assert!(pointer.get(name).is_none(), "a pointer has no {name}: {pointer}");
            }
        }
        let mut repositories: Vec<&str> = images.iter().map(|i| i.rsplit_once('#').unwrap().0).collect();
        repositories.sort_unstable();
        assert_eq!(repositories, ["team/log", "team/web"], "record {start}");
    }
}

#[tokio::test]
async fn the_lease_ends_five_seconds_after_the_earlier_of_deadline_and_two_minutes() {
    let world = World::new().await;
    let site = Site::target();
    for (number, (deadline, lasts)) in [(30, 35), (600, 125)].into_iter().enumerate() {
        let event = site.event(json!({"ecs_image_name": format!("nginx:{deadline}")}));
        let invocation = world.invocation().deadline_in(Duration::from_secs(deadline));
        world.invoke_with(&event, invocation).await.status("APPLIED");
        let started = &world.records(&site)[number * 2];
        let seconds = seconds_between(&started["at"], &started["lease_until"]);
        assert!((lasts - 2..=lasts).contains(&seconds), "a deadline in {deadline} s leases {seconds} s");
    }
}

#[tokio::test]
async fn change_ids_of_a_service_grow_even_past_a_clock_that_was_ahead() {
    let world = World::new().await;
    let site = Site::target();
    world.update(json!({"ecs_tag": {"n": "1"}})).await.status("APPLIED");
    // A writer whose clock was two hours ahead.
    let ahead = chrono::Utc::now() + chrono::Duration::hours(2);
    let ahead = chrono::DateTime::from_timestamp_millis(ahead.timestamp_millis()).unwrap();
    ledger::append_external_at(world.tables(), &site, ahead);
    let outcome = world.update(json!({"ecs_tag": {"n": "2"}})).await;
    let change = outcome.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    let time = uuid_v7_time(&change).unwrap();
    assert_eq!((time - ahead).num_milliseconds(), 1, "a millisecond after the head's last change");
    let changes: Vec<String> =
        world.records(&site).iter().map(|r| r["change_id"].as_str().unwrap().to_owned()).collect();
    assert!(changes.is_sorted(), "{changes:?}");
}

#[tokio::test]
async fn an_answer_is_kept_for_fifteen_days() {
    let world = World::new().await;
    world.update(json!({"ecs_image_name": "nginx", "idempotency_key": "release-7"})).await.status("APPLIED");
    let keys = ledger::keys(world.tables());
    assert_eq!(keys.len(), 1);
    let digits = keys[0]["id"].as_str().unwrap().strip_prefix("key#").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "a SHA-256: {digits}");
    assert_kept_for(&keys[0]["expires_at"], 15);
    assert!(keys[0]["answer"].as_str().unwrap().contains("APPLIED"));
}

/// The recorder may have heard of the deployment before its change was recorded.
#[tokio::test]
async fn a_deployment_that_somebody_else_noted_keeps_no_result_from_being_recorded() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(300)));
    let other = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        let id = format!("deployment#{TARGET}/eu-west-1/{}", world.cloud().deployment(&site));
        let note = json!({"id": {"S": id}, "service": {"S": site.key()}, "expires_at": {"N": "1800000000"}});
        world.tables().put(STATE_TABLE, &note);
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), other);
    outcome.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    ledger::assert_free(world.tables(), &site.key());
}

/// An item of DynamoDB holds 400 KB.
#[tokio::test]
async fn what_would_not_fit_an_item_is_shortened_and_says_so() {
    let world = World::new().await;
    let site = Site::target();
    let hooks: Vec<Value> = (0..5000).map(|n| json!({"hookTargetArn": format!("arn:aws:lambda:{n:0100}")})).collect();
    let event = site.event(json!({"service": {"deploymentConfiguration": {"lifecycleHooks": hooks}}}));
    world.invoke(&event).await.status("APPLIED");
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "APPLIED"]);
    let after = records[1]["after"].as_str().unwrap();
    assert!(after.len() < 200_000 && after.contains("web:1"), "{} bytes", after.len());
    assert!(after.contains("shortened") || after.contains("left out"), "{after}");
    // And from there on.
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
}
