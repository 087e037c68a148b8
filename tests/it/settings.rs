//! A missing or wrong setting fails at start, naming the variable.

use serde_json::json;

use crate::harness::{Site, World};

#[tokio::test]
async fn a_missing_or_wrong_setting_ends_the_start_and_is_named() {
    for (name, value) in [
        ("HISTORY_TABLE", ""),
        ("STATE_TABLE", ""),
        ("AWS_REGION", ""),
        ("HISTORY_TABLE", "a\" SET x"),
        ("TARGET_ROLE_NAME", "a role"),
        ("ALLOWED_ACCOUNTS", "222222222222,3"),
        ("CALLER_EVENTS_PER_MINUTE", "many"),
    ] {
        let world = World::without_process(&[(name, value)]).await;
        let process = world.spawn_process().await;
        let (reported, post_mortem) = process.init_failure().await;
        assert!(process.ended().is_some_and(|status| status != "exit status: 0"), "{name}={value:?}: {post_mortem}");
        let told = format!("{}{post_mortem}", reported.unwrap_or_default());
        assert!(told.contains(name), "{name}={value:?} is not named: {told}");
        assert!(world.journal.calls().is_empty());
    }
}

#[tokio::test]
async fn an_event_without_account_needs_a_function_arn_to_know_its_own() {
    let world = World::with_environment(&[]).await;
    world.seed(&Site::hub());
    let mut invocation = world.invocation();
    invocation.function_arn = "nonsense".into();
    let event =
        json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "ecs_image_name": "nginx"});
    let outcome = world.invoke_with(&event, invocation).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("account_id"), "{message}");
    assert!(world.journal.calls().is_empty());
}
