//! Results that come late, twice, or through a ledger that has no room.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::ledger;
use crate::harness::{Site, World};

fn throttled_transaction() -> Fault {
    let reasons =
        json!([{"Code": "None"}, {"Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity"}]);
    let body = json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ThrottlingError]",
        "CancellationReasons": reasons});
    Fault::Answer { status: 400, body: body.to_string() }
}

#[tokio::test]
async fn a_result_that_the_ledger_has_no_room_for_is_written_again() {
    let world = World::new().await;
    world.journal.on("ExecuteTransaction", 2, throttled_transaction());
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_start_that_the_ledger_has_no_room_for_is_written_again() {
    let world = World::new().await;
    world.journal.on("ExecuteTransaction", 1, throttled_transaction());
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_start_that_the_ledger_never_has_room_for_is_worth_another_try() {
    let world = World::new().await;
    world.journal.from("ExecuteTransaction", 1, throttled_transaction());
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("HistoryUnavailable");
    assert!(message.contains("Try again") && message.contains("could not be noted"), "{message}");
    assert!(world.records(&Site::target()).is_empty());
}

/// Without its code nobody knows what was refused, and whether that passes: a conflict and a throttling are refusals with status 400, too.
#[tokio::test]
async fn a_refusal_that_cannot_be_read_is_worth_another_try() {
    for nth in [1, 2] {
        let world = World::new().await;
        world.journal.on("ExecuteTransaction", nth, Fault::Answer { status: 400, body: "<html>".to_owned() });
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
        assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    }
}

/// A change whose update fails late: meanwhile its lease ended and another change closed it.
#[tokio::test]
async fn a_late_failure_does_not_open_its_key_again() {
    let world = World::new().await;
    let site = Site::target();
    let slow = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "slow"}));
    // Retryable, and fails at once.
    world.journal.on(
        "UpdateService",
        1,
        Fault::refuse(400, "InvalidParameterException", "Unable to assume role and validate"),
    );
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(2500)));
    let process = world.process();
    let late = world.invoke_on(&process, slow.to_string().into_bytes(), world.invocation());
    let meanwhile = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        ledger::expire_lease(world.tables(), &site.key());
        let other = world.another_process().await;
        let event = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "other"}));
        let outcome = world.invoke_on(&other, event.to_string().into_bytes(), world.invocation()).await;
        outcome.status("APPLIED");
    };
    let (late, ()) = tokio::join!(late, meanwhile);
    late.error("ServiceUpdateFailed");
    assert_eq!(world.kinds(&site), ["STARTED", "ABANDONED", "STARTED", "APPLIED", "FAILED"]);

    let again = world.invoke(&slow).await;
    let message = again.error("ServiceUpdateFailed");
    assert!(message.contains("another change came after it"), "{message}");
    let definition = world.cloud().service(&site)["taskDefinition"].clone();
    let revisions = world.cloud().revisions(&site, "web");
    let running = revisions.iter().find(|revision| revision.json()["taskDefinitionArn"] == definition);
    assert!(running.is_none_or(|running| running.image("web") == "nginx"), "{definition}");
    ledger::assert_free(world.tables(), &site.key());
}

/// One key has one answer: that of the attempt that ended the change.
#[tokio::test]
async fn a_late_failure_answers_what_a_later_attempt_answered() {
    let world = World::new().await;
    let site = Site::target();
    let event = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "k"}));
    world.journal.on("UpdateService", 1, Fault::refuse(400, "InvalidParameterException", "No."));
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(2500)));
    let process = world.process();
    let late = world.invoke_on(&process, event.to_string().into_bytes(), world.invocation());
    let meanwhile = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        ledger::expire_lease(world.tables(), &site.key());
        let other = world.another_process().await;
        let outcome = world.invoke_on(&other, event.to_string().into_bytes(), world.invocation()).await;
        outcome.status("APPLIED")["change_id"].clone()
    };
    let (late, change_id) = tokio::join!(late, meanwhile);
    let body = late.status("APPLIED");
    assert_eq!((&body["change_id"], &body["replayed"]), (&change_id, &json!(true)));
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED", "FAILED"]);
}

/// What was answered as done stays the answer of its key, whatever a later attempt, which had begun before, finds.
#[tokio::test]
async fn a_late_success_is_the_answer_of_its_key() {
    let world = World::new().await;
    let site = Site::target();
    let event = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "k"}));
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(2500)));
    let process = world.process();
    let late = world.invoke_on(&process, event.to_string().into_bytes(), world.invocation());
    let meanwhile = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        // Somebody else deploys, and the lease ends: the further attempt has nothing to do any more.
        let theirs = world.cloud().register(&site, &crate::harness::web_definition("theirs").to_string(), json!([]));
        world.cloud().edit(&site, |service| service["taskDefinition"] = json!(theirs));
        world.cloud().take_over(&site, "COMPLETED", "ECS deployment completed.");
        ledger::expire_lease(world.tables(), &site.key());
        world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_secs(4)));
        let other = world.another_process().await;
        world.invoke_on(&other, event.to_string().into_bytes(), world.invocation()).await
    };
    let (late, further) = tokio::join!(late, meanwhile);
    let change_id = late.status("APPLIED")["change_id"].clone();
    assert_eq!(further.status("APPLIED")["change_id"], change_id);
    assert_eq!(world.invoke(&event).await.status("APPLIED")["change_id"], change_id);
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED", "FAILED"]);
}

#[tokio::test]
async fn a_failure_that_could_not_be_recorded_is_worth_another_try() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "httpd", "idempotency_key": "k"}));
    world.journal.on("UpdateService", 1, Fault::refuse(400, "InvalidParameterException", "No."));
    world.journal.on("ExecuteTransaction", 2, Fault::refuse(400, "AccessDeniedException", "not authorized"));
    let message = world.invoke(&event).await.error("ServiceUpdateFailed").to_owned();
    assert!(message.contains("could not be recorded") && message.contains("goes on with it"), "{message}");
    let logs = world.logs().join("\n");
    assert!(logs.contains("\"retryable\":true"), "{logs}");
    ledger::expire_lease(world.tables(), &Site::target().key());
    world.invoke(&event).await.status("APPLIED");
}

#[tokio::test]
async fn a_resumption_that_fails_says_what_its_change_had_already_done() {
    let world = World::new().await;
    let site = Site::target();
    let event = site.event(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}, "idempotency_key": "k"}));
    world.journal.on("TagResource", 1, Fault::HangBefore);
    world.kill_at(&event, world.invocation(), "TagResource", 1).await;
    ledger::expire_lease(world.tables(), &site.key());
    world.restart().await;
    world.journal.on("TagResource", 1, Fault::refuse(400, "AccessDeniedException", "no"));
    let outcome = world.invoke(&event).await;
    let message = outcome.error("TagUpdateFailed");
    assert!(message.contains("since this change began, the service was updated and runs"), "{message}");
    assert!(!message.contains("Nothing was changed"), "{message}");
}

#[tokio::test]
async fn a_lost_answer_about_tags_is_read_back() {
    let world = World::new().await;
    let site = Site::target();
    for nth in 1..4 {
        world.journal.on("TagResource", nth, Fault::CutAfter);
    }
    let outcome = world.update(json!({"ecs_tag": {"a": "1", "old-custom-tag-name": "old-custom-tag-value"}})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["AFTER"]["tags"][0], json!({"key": "a", "value": "1"}));
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn no_level_of_the_log_shows_requests() {
    // The world itself looks for secrets in every line.
    let world = World::with_environment(&[("AWS_LAMBDA_LOG_LEVEL", "trace")]).await;
    world.seed(&Site::target());
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let lines: Vec<Value> = world.logs().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(!lines.is_empty());
}
