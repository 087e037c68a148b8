//! The eight events of the first version, under their names, get what the first version promised.

use serde_json::{Value, json};

use crate::harness::lambda::Outcome;
use crate::harness::{HUB, Site, World};

/// The event of `tests/events/lambda-ecs-updater.testevent-{name}.json`.
fn event(name: &str) -> Value {
    let path = format!("{}/tests/events/lambda-ecs-updater.testevent-{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let event: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(event.get("account_id").is_none(), "they carry no account_id");
    event
}

/// The sample service in the function's own account, and the event sent to it.
async fn send(name: &str) -> (World, Outcome) {
    let world = World::with_environment(&[]).await;
    world.seed(&Site::hub());
    let outcome = world.invoke(&event(name)).await;
    (world, outcome)
}

/// The event fails with `code`, and nothing was changed.
async fn fails(name: &str, code: &str, text: &str) -> (World, String) {
    let (world, outcome) = send(name).await;
    let message = outcome.error(code).to_owned();
    assert!(message.starts_with(text), "{message}");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert!(world.records(&Site::hub()).is_empty());
    assert_eq!(world.cloud().revisions(&Site::hub(), "web").len(), 1);
    (world, message)
}

#[tokio::test]
async fn base_sets_image_and_tag() {
    assert_eq!(
        event("base"),
        json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "ecs_image_name": "nginx",
               "ecs_tag": {"updated-tag-name": "updated-tag-value"}})
    );
    let (world, outcome) = send("base").await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["account_id"], HUB);
    assert_eq!((&body["BEFORE"]["serviceImage"], &body["AFTER"]["serviceImage"]), (&json!("busybox"), &json!("nginx")));
    assert_eq!(body["BEFORE"]["tags"], json!([{"key": "old-custom-tag-name", "value": "old-custom-tag-value"}]));
    assert_eq!(body["AFTER"]["tags"], json!([{"key": "updated-tag-name", "value": "updated-tag-value"}]));
    for key in [
        "clusterArn",
        "serviceArn",
        "taskDefinitionName",
        "taskDefinitionFamily",
        "taskDefinitionArn",
        "serviceImage",
        "serviceMemory",
        "tags",
        "updatedOn",
    ] {
        for state in ["BEFORE", "AFTER"] {
            assert!(body[state].get(key).is_some(), "{state}.{key}");
        }
    }
    assert_eq!(world.kinds(&Site::hub()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn missing_ecs_cluster() {
    let text = "[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found";
    fails("MISSING_ECS_CLUSTER", "ClusterNotFound", text).await;
}

#[tokio::test]
async fn missing_ecs_service() {
    let text = "[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found";
    fails("MISSING_ECS_SERVICE", "ServiceNotFound", text).await;
}

#[tokio::test]
async fn multiple_tags() {
    let (_world, outcome) = send("MULTIPLE_TAGS").await;
    let tags = &outcome.status("APPLIED")["AFTER"]["tags"];
    let keys: Vec<&str> = tags.as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["updated-tag-name-1", "updated-tag-name-2"]);
}

#[tokio::test]
async fn wrong_image_name() {
    assert_eq!(event("WRONG_IMAGE_NAME")["ecs_image_name"], "@#®as_..p````");
    let text = "[ERROR][ecs_service_update] new task_definition could not be created ";
    let (world, message) = fails("WRONG_IMAGE_NAME", "InvalidImage", text).await;
    assert!(message.contains("@#®as_..p````"), "{message}");
    assert!(world.journal.calls().is_empty(), "what is no image needs no call");
}

#[tokio::test]
async fn same_initial_values() {
    let (world, outcome) = send("SAME_INITIAL_VALUES").await;
    let body = outcome.status("UNCHANGED");
    assert_eq!(body["BEFORE"], body["AFTER"]);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&Site::hub()), ["UNCHANGED"]);
}

#[tokio::test]
async fn missing_json_field() {
    assert_eq!(event("MISSING_JSON_FIELD")["MISSING"], "MISSING");
    let text = "[ERROR][json_validation] wrong input event format: ";
    let (world, message) = fails("MISSING_JSON_FIELD", "JsonValidation", text).await;
    assert!(message.contains("\"ecs_image_name\" is a required property"), "{message}");
    assert!(message.lines().next().unwrap().contains("MISSING"), "the unknown field is named: {message}");
    let needed = message.lines().nth(1).unwrap_or_default();
    assert!(needed.starts_with("[ERROR][json_validation] Needed: "), "{message}");
    for field in ["ecs_cluster_name", "ecs_service_name", "ecs_image_name", "ecs_tag"] {
        assert!(needed.contains(field), "{needed}");
    }
    assert!(world.journal.calls().is_empty());
}

#[tokio::test]
async fn wrong_json_format() {
    assert!(event("WRONG_JSON_FORMAT")["ecs_image_name"].is_object());
    let text = "[ERROR][json_validation] wrong input event format: ";
    let (world, message) = fails("WRONG_JSON_FORMAT", "JsonValidation", text).await;
    assert!(message.contains("ecs_image_name"), "the place of the fault: {message}");
    assert!(message.contains("\n[ERROR][json_validation] Needed: "), "{message}");
    assert!(world.journal.calls().is_empty());
}
