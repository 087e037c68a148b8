//! The same key again: the same answer, and nothing done twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::dynamodb::STATE_TABLE;
use crate::harness::journal::{Fault, Spoilt};
use crate::harness::lambda::Outcome;
use crate::harness::{FUNCTION_ARN, Site, TARGET, World, ledger};

fn event(image: &str) -> Value {
    Site::target().event(json!({"ecs_image_name": image, "ecs_tag": {"a": "1"}, "idempotency_key": "release-7"}))
}

/// `again` is `first` with `replayed: true`.
#[track_caller]
fn assert_replays(first: &Outcome, again: &Outcome) {
    let mut expected = first.response().clone();
    expected["body"]["replayed"] = json!(true);
    assert_eq!(again.response(), &expected);
}

#[tokio::test]
async fn the_same_key_twice_gives_the_same_answer_and_one_revision() {
    let world = World::new().await;
    let site = Site::target();
    let first = world.invoke(&event("nginx")).await;
    assert_eq!(first.status("APPLIED")["replayed"], false);
    world.journal.forget();
    let again = world.invoke(&event("nginx")).await;
    assert_replays(&first, &again);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"], "a replay is no change");

    // In another process, after the service has moved on.
    world.update(json!({"ecs_image_name": "httpd"})).await.status("APPLIED");
    world.restart().await;
    let again = world.invoke(&event("nginx")).await;
    assert_replays(&first, &again);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 3);
}

#[tokio::test]
async fn the_same_event_written_otherwise_is_the_same_event() {
    let world = World::with_environment(&[]).await;
    world.seed(&Site::hub());
    let first = r#"{"ecs_cluster_name":"ECSCluster","ecs_service_name":"ecs-dummy-service","ecs_image_name":"nginx",
        "ecs_tag":{"a":"1","b":"2"},"idempotency_key":"k"}"#;
    let first = world.invoke_bytes(first.into(), world.invocation()).await;
    for written in [
        r#" { "idempotency_key":"k","ecs_tag":{"b":"2","a":"1"},"ecs_image_name":"ngin\u0078",
            "ecs_service_name":"ecs-dummy-service","ecs_cluster_name":"ECSCluster" } "#,
        r#"{"account_id":"111111111111","region":"eu-west-1","ecs_cluster_name":"ECSCluster","ecs_service_name":"ecs-dummy-service",
            "ecs_image_name":"nginx","ecs_tag":{"a":"1","b":"2"},"idempotency_key":"k"}"#,
        r#"{"ecs_cluster_name":"ECSCluster","ecs_service_name":"ecs-dummy-service","ecs_image_name":"nginx","tag_mode":"replace",
            "dry_run":false,"force_new_deployment":false,"ecs_tag":{"a":"1","b":"2"},"idempotency_key":"k"}"#,
    ] {
        let again = world.invoke_bytes(written.into(), world.invocation()).await;
        assert_replays(&first, &again);
    }
}

#[tokio::test]
async fn the_same_key_with_another_event_is_refused() {
    let world = World::new().await;
    let site = Site::target();
    let first = world.invoke(&event("nginx")).await;
    let change = first.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    world.journal.forget();
    let mut others = vec![event("httpd")];
    for (name, value) in [
        ("ecs_tag", json!({"a": "2"})),
        ("tag_mode", json!("merge")),
        ("service", json!({"desiredCount": 1})),
        ("force_new_deployment", json!(true)),
        ("container_name", json!("web")),
        ("expected_task_definition", json!("web:2")),
    ] {
        let mut other = event("nginx");
        other[name] = value;
        others.push(other);
    }
    for other in others {
        let outcome = world.invoke(&other).await;
        let message = outcome.error("IdempotencyKeyReused");
        assert!(message.starts_with("[ERROR][idempotency] ") && message.contains(&change), "{message}");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn without_a_key_the_request_id_is_the_key() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx"}));
    let retried = || world.invocation().request_id("0b9d6b52-7cde-4ee8-b0b2-6fb3b1d0d1ad");
    let first = world.invoke_with(&event, retried()).await;
    let again = world.invoke_with(&event, retried()).await;
    assert_replays(&first, &again);
    let other = world.invoke(&event).await;
    assert_eq!(other.status("UNCHANGED")["replayed"], false, "another request is another change");
}

/// Nobody takes another caller's key, with a change that does nothing or with any other one.
#[tokio::test]
async fn keys_of_different_aliases_never_meet() {
    let world = World::new().await;
    let through = |alias: &str| {
        let mut invocation = world.invocation();
        invocation.function_arn = format!("{FUNCTION_ARN}{alias}");
        invocation
    };
    world.invoke_with(&event("busybox"), through(":squatter")).await.status("APPLIED");
    for (alias, status) in [(":team", "APPLIED"), (":live", "UNCHANGED"), ("", "UNCHANGED")] {
        let outcome = world.invoke_with(&event("nginx"), through(alias)).await;
        assert_eq!(outcome.status(status)["replayed"], false, "{alias}");
    }
    assert_eq!(ledger::keys(world.tables()).len(), 4);
    world.invoke_with(&event("nginx"), through(":squatter")).await.error("IdempotencyKeyReused");
    let outcome = world.invoke_with(&event("nginx"), through(":$LATEST")).await;
    assert_eq!(outcome.status("UNCHANGED")["replayed"], true, "that is how no alias is called");
}

#[tokio::test]
async fn one_key_serves_several_services() {
    let world = World::new().await;
    let neighbour = Site::new(TARGET, "eu-west-1", "ECSCluster", "neighbour");
    world.seed(&neighbour);
    world.invoke(&event("nginx")).await.status("APPLIED");
    let changes = json!({"ecs_image_name": "nginx", "idempotency_key": "release-7"});
    let outcome = world.invoke(&neighbour.event(changes)).await;
    assert_eq!(outcome.status("APPLIED")["replayed"], false);
}

#[tokio::test]
async fn an_unchanged_answer_is_replayed_too() {
    let world = World::new().await;
    let site = Site::target();
    let event = site.event(json!({"ecs_image_name": "busybox", "idempotency_key": "k"}));
    let first = world.invoke(&event).await;
    first.status("UNCHANGED");
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let again = world.invoke(&event).await;
    assert_replays(&first, &again);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
}

#[tokio::test]
async fn a_dry_run_takes_no_key() {
    let world = World::new().await;
    let mut dry = event("nginx");
    dry["dry_run"] = json!(true);
    world.invoke(&dry).await.status("PLANNED");
    assert_eq!(world.invoke(&event("nginx")).await.status("APPLIED")["replayed"], false);
    world.invoke(&dry).await.status("PLANNED");
}

#[tokio::test]
async fn a_failure_that_is_final_is_the_answer_of_its_key() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("RegisterTaskDefinition", 1, Fault::refuse(400, "ClientException", "Invalid setting."));
    let first = world.invoke(&event("nginx")).await;
    first.error("TaskDefinitionRejected");
    world.journal.forget();
    let again = world.invoke(&event("nginx")).await;
    assert_eq!(again, first);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED"]);
}

/// It is noted, so that what begins meanwhile is not undone; nobody else began, so it is done.
#[tokio::test]
async fn what_fails_before_started_is_noted_and_may_come_again() {
    let world = World::new().await;
    let mut missing = event("nginx");
    missing["ecs_service_name"] = json!("not-yet");
    world.invoke(&missing).await.error("ServiceNotFound");
    let keys = ledger::keys(world.tables());
    assert_eq!((keys.len(), &keys[0]["change_id"], &keys[0]["mark"]), (1, &json!(""), &json!("")));
    world.seed(&Site { service: "not-yet".into(), ..Site::target() });
    world.invoke(&missing).await.status("APPLIED");
}

/// Time to live removes items some time after they expired.
#[tokio::test]
async fn a_key_that_expired_is_as_if_it_were_not_there() {
    let world = World::new().await;
    let site = Site::target();
    world.invoke(&event("nginx")).await.status("APPLIED");
    let items = world.tables().scan(STATE_TABLE);
    let mut key = items.into_iter().find(|i| i["id"]["S"].as_str().unwrap().starts_with("key#")).unwrap();
    key["expires_at"]["N"] = (chrono::Utc::now().timestamp() - 1).to_string().into();
    world.tables().put(STATE_TABLE, &key);
    // Another event may use it now.
    let outcome = world.invoke(&event("httpd")).await;
    assert_eq!(outcome.status("APPLIED")["replayed"], false);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
    let keys = ledger::keys(world.tables());
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["change_id"], outcome.body()["change_id"]);
}

#[tokio::test]
async fn a_key_of_256_characters_of_any_script_is_a_key() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "idempotency_key": "ü".repeat(256)}));
    let first = world.invoke(&event).await;
    let again = world.invoke(&event).await;
    assert_replays(&first, &again);
}

/// One event that is delivered twice, to two environments: the second has read that nothing is under the key, and looks at the service when
/// the first has deployed. By `expected_task_definition` it would be refused for the work of its own change.
async fn delivered_twice(spoils: Option<Fault>) {
    let world = World::new().await;
    let expects = Site::target().event(json!({
        "ecs_image_name": "nginx", "expected_task_definition": "web:1", "idempotency_key": "k",
    }));
    let other = world.another_process().await;
    world.journal.on("DescribeServices", 1, Fault::Delay(Duration::from_secs(3)));
    // The first one writes STARTED and its result; then comes the note of the second.
    if let Some(fault) = &spoils {
        world.journal.on("ExecuteTransaction", 3, fault.clone());
    }
    let first = async {
        world.journal.reached("DescribeServices", 1).await;
        world.invoke(&expects).await
    };
    let second = world.invoke_on(&other, expects.to_string().into_bytes(), world.invocation());
    let (second, first) = tokio::join!(second, first);
    first.status("APPLIED");
    assert_replays(&first, &second);
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    assert_eq!(world.journal.of("ExecuteTransaction").len(), 3, "the note was tried: {}", world.journal.summary());
}

#[tokio::test]
async fn a_second_delivery_is_not_refused_for_what_the_first_one_deployed() {
    delivered_twice(None).await;
}

/// Nor where the answer that would have told of the first one cannot be read, or does not come.
#[tokio::test]
async fn a_second_delivery_that_is_not_told_of_the_first_one_asks() {
    delivered_twice(Some(Fault::Spoil(Spoilt::Half))).await;
    delivered_twice(Some(Fault::Answer { status: 400, body: "<html>".to_owned() })).await;
}
