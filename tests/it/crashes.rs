//! The process is killed at every point of a change. The same key afterwards completes it without a second revision.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::{Site, World, ledger};

fn event() -> Value {
    Site::target().event(json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}, "idempotency_key": "release-7"}))
}

/// A world whose updater was killed when it had called `action` for the `nth` time.
async fn killed_at(action: &str, nth: usize, fault: Fault) -> World {
    killed(&event(), action, nth, fault).await
}

async fn killed(event: &Value, action: &str, nth: usize, fault: Fault) -> World {
    let world = World::new().await;
    world.journal.on(action, nth, fault);
    let invocation = world.invocation().deadline_in(Duration::from_secs(15));
    world.kill_at(event, invocation, action, nth).await;
    world.journal.forget();
    world.restart().await;
    world
}

/// What one change and nothing more leaves behind, after so many attempts.
fn assert_changed_once(world: &World, body: &Value, attempts: usize) {
    let site = Site::target();
    let revisions = world.cloud().revisions(&site, "web");
    assert_eq!(revisions.len(), 2, "one revision, not a second");
    assert_eq!(revisions[1].image("web"), "nginx");
    let service = world.cloud().service(&site);
    assert!(service["taskDefinition"].as_str().unwrap().ends_with("/web:2"));
    assert_eq!(service["deployments"].as_array().unwrap().len(), 2, "one new deployment");
    assert_eq!(world.cloud().tags(&site).into_keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(body["BEFORE"]["serviceImage"], "busybox");
    assert!(body["BEFORE"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:1"));
    assert_eq!(body["BEFORE"]["tags"][0]["key"], "old-custom-tag-name", "BEFORE is before the change, not half-way");
    assert_eq!(body["AFTER"]["serviceImage"], "nginx");
    assert_eq!(body["AFTER"]["tags"], json!([{"key": "new", "value": "1"}]));
    assert_eq!(body["deployment_id"], world.cloud().deployment(&site));
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), [vec!["STARTED"; attempts], vec!["APPLIED"]].concat());
    assert!(records.iter().all(|record| record["change_id"] == body["change_id"]));
    for record in [&records[0], &records[attempts]] {
        assert!(record["before"].as_str().unwrap().contains("busybox"), "{record}");
    }
    assert_eq!(records[attempts]["deployment_id"], body["deployment_id"]);
    let deployments = ledger::deployments(world.tables());
    assert_eq!(deployments.len(), 1, "it is known whose deployment it is");
    ledger::assert_free(world.tables(), &site.key());
}

/// Killed before STARTED: as if it had never been.
async fn leaves_nothing(action: &str, fault: Fault) {
    let world = killed_at(action, 1, fault).await;
    assert!(world.records(&Site::target()).is_empty());
    ledger::assert_free(world.tables(), &Site::target().key());
    let outcome = world.invoke(&event()).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["replayed"], false);
    assert_changed_once(&world, body, 1);
}

/// Killed after STARTED: an open change, that the same key completes.
async fn is_completed(action: &str, nth: usize, fault: Fault) {
    let world = killed_at(action, nth, fault).await;
    let site = Site::target();
    assert_eq!(world.kinds(&site), ["STARTED"]);
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.invoke(&event()).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["replayed"], false);
    assert_changed_once(&world, body, 2);
    // From now on the answer stands.
    let again = world.invoke(&event()).await;
    assert_eq!(again.body()["replayed"], true);
    assert_changed_once(&world, again.body(), 2);
}

#[tokio::test]
async fn killed_while_it_reads_the_head() {
    leaves_nothing("BatchGetItem", Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_while_it_assumes_the_role() {
    leaves_nothing("AssumeRole", Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_while_it_reads_the_service() {
    leaves_nothing("DescribeServices", Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_before_started_was_written() {
    leaves_nothing("ExecuteTransaction", Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_started_was_written() {
    is_completed("ExecuteTransaction", 1, Fault::HangAfter).await;
}

#[tokio::test]
async fn killed_before_the_definition_was_registered() {
    is_completed("RegisterTaskDefinition", 1, Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_the_definition_was_registered() {
    is_completed("RegisterTaskDefinition", 1, Fault::HangAfter).await;
}

#[tokio::test]
async fn killed_before_the_service_was_updated() {
    is_completed("UpdateService", 1, Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_the_service_was_updated() {
    is_completed("UpdateService", 1, Fault::HangAfter).await;
}

#[tokio::test]
async fn killed_before_tags_were_added() {
    is_completed("TagResource", 1, Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_tags_were_added() {
    is_completed("TagResource", 1, Fault::HangAfter).await;
}

#[tokio::test]
async fn killed_before_tags_were_removed() {
    is_completed("UntagResource", 1, Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_tags_were_removed() {
    is_completed("UntagResource", 1, Fault::HangAfter).await;
}

#[tokio::test]
async fn killed_before_the_result_was_written() {
    is_completed("ExecuteTransaction", 2, Fault::HangBefore).await;
}

#[tokio::test]
async fn killed_after_the_result_was_written_the_answer_is_replayed() {
    let world = killed_at("ExecuteTransaction", 2, Fault::HangAfter).await;
    let outcome = world.invoke(&event()).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["replayed"], true);
    assert_changed_once(&world, body, 1);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn killed_twice_it_is_completed_by_the_third() {
    let world = killed_at("RegisterTaskDefinition", 1, Fault::HangAfter).await;
    let site = Site::target();
    ledger::expire_lease(world.tables(), &site.key());
    world.journal.on("UpdateService", 1, Fault::HangAfter);
    world.kill_at(&event(), world.invocation(), "UpdateService", 1).await;
    world.restart().await;
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.invoke(&event()).await;
    assert_changed_once(&world, outcome.status("APPLIED"), 3);
}

#[tokio::test]
async fn a_forced_deployment_that_was_killed_is_not_started_twice() {
    let event = Site::target().event(json!({"force_new_deployment": true, "idempotency_key": "k"}));
    let world = killed(&event, "UpdateService", 1, Fault::HangAfter).await;
    let site = Site::target();
    let deployment = world.cloud().deployment(&site);
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.invoke(&event).await;
    assert_eq!(outcome.status("APPLIED")["deployment_id"], deployment);
    assert_eq!(world.cloud().service(&site)["deployments"].as_array().unwrap().len(), 2);
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED"]);
}

/// The expectation was for what the change met at first, not for what it did itself.
#[tokio::test]
async fn a_change_that_expected_a_definition_can_be_completed() {
    let event = Site::target()
        .event(json!({"ecs_image_name": "nginx", "expected_task_definition": "web:1", "idempotency_key": "k"}));
    let world = killed(&event, "UpdateService", 1, Fault::HangAfter).await;
    ledger::expire_lease(world.tables(), &Site::target().key());
    world.invoke(&event).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn while_the_lease_of_a_killed_change_lives_other_changes_wait() {
    let world = killed_at("UpdateService", 1, Fault::HangBefore).await;
    let site = Site::target();
    let change = world.records(&site)[0]["change_id"].as_str().unwrap().to_owned();
    for other in
        [json!({"ecs_image_name": "httpd"}), json!({"ecs_tag": {"old-custom-tag-name": "old-custom-tag-value"}})]
    {
        let outcome = world.update(other).await;
        let message = outcome.error("ChangeInProgress");
        let text = format!("[ERROR][service_lease] service {} is being changed by change {change}", site.key());
        assert!(message.starts_with(&text), "{message}");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["STARTED"], "a live lease refuses an unchanged one too");
}

/// The lease ends by itself: nobody has to lift it.
#[tokio::test]
async fn the_lease_of_a_killed_change_ends_by_itself() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("RegisterTaskDefinition", 1, Fault::HangBefore);
    let invocation = world.invocation().deadline_in(Duration::from_secs(6));
    world.kill_at(&event(), invocation, "RegisterTaskDefinition", 1).await;
    let until = world.records(&site)[0]["lease_until"].as_str().unwrap().to_owned();
    let until = chrono::DateTime::parse_from_rfc3339(&until).unwrap();
    world.restart().await;
    world.update(json!({"ecs_image_name": "httpd"})).await.error("ChangeInProgress");
    let left = (until.to_utc() - chrono::Utc::now()).to_std().unwrap();
    assert!(left < Duration::from_secs(11), "{left:?}");
    // Nobody takes a lease before it has been over for five seconds.
    tokio::time::sleep(left).await;
    world.update(json!({"ecs_image_name": "httpd"})).await.error("ChangeInProgress");
    tokio::time::sleep(Duration::from_millis(5050)).await;
    world.update(json!({"ecs_image_name": "httpd"})).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "ABANDONED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn another_change_closes_the_orphan_and_its_key_is_not_done_again() {
    let world = killed_at("UpdateService", 1, Fault::HangAfter).await;
    let site = Site::target();
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.update(json!({"ecs_image_name": "httpd", "idempotency_key": "release-8"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["BEFORE"]["serviceImage"], "nginx", "what the orphan had done already");
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "ABANDONED", "STARTED", "APPLIED"]);
    let orphan = &records[1];
    assert_eq!(orphan["change_id"], records[0]["change_id"]);
    let after = ledger::part(orphan, "after").to_string();
    assert!(after.contains("nginx") && after.contains("web:2"), "what the service looks like now: {after}");
    assert_ne!(records[2]["change_id"], records[0]["change_id"]);

    // Its retry, late: it must not undo the change that came after it.
    world.journal.forget();
    for _ in 0..2 {
        let outcome = world.invoke(&event()).await;
        let message = outcome.error("ServiceUpdateFailed");
        assert!(message.contains(orphan["change_id"].as_str().unwrap()), "{message}");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.records(&site).len(), 4);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 3);
    let keys = ledger::keys(world.tables());
    let orphaned = keys.iter().find(|k| k["change_id"] == orphan["change_id"]).unwrap();
    let answer: Value = serde_json::from_str(orphaned["answer"].as_str().unwrap()).unwrap();
    assert!(answer.to_string().contains(r#""retryable":false"#), "{answer}");
}

/// What the recorder heard of meanwhile began nothing: it overtakes nobody.
#[tokio::test]
async fn a_killed_change_goes_on_though_an_external_deployment_stands_behind_it() {
    let world = killed_at("UpdateService", 1, Fault::HangBefore).await;
    let site = Site::target();
    ledger::append_external(world.tables(), &site);
    ledger::expire_lease(world.tables(), &site.key());
    world.invoke(&event()).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "EXTERNAL", "STARTED", "APPLIED"]);
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn killed_while_it_closes_the_orphan_the_closing_is_done_once() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        let world = killed_at("UpdateService", 1, Fault::HangBefore).await;
        let site = Site::target();
        ledger::expire_lease(world.tables(), &site.key());
        let other = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "release-8"}));
        world.journal.on("ExecuteTransaction", 1, fault);
        world.kill_at(&other, world.invocation(), "ExecuteTransaction", 1).await;
        world.restart().await;
        world.invoke(&other).await.status("APPLIED");
        assert_eq!(world.kinds(&site), ["STARTED", "ABANDONED", "STARTED", "APPLIED"]);
        ledger::assert_free(world.tables(), &site.key());
    }
}

#[tokio::test]
async fn an_unchanged_request_closes_the_orphan_too() {
    let world = killed_at("RegisterTaskDefinition", 1, Fault::HangBefore).await;
    let site = Site::target();
    ledger::expire_lease(world.tables(), &site.key());
    world.update(json!({"ecs_image_name": "busybox"})).await.status("UNCHANGED");
    assert_eq!(world.kinds(&site), ["STARTED", "ABANDONED", "UNCHANGED"]);
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn the_key_of_a_killed_change_is_refused_for_another_event() {
    let world = killed_at("UpdateService", 1, Fault::HangBefore).await;
    let site = Site::target();
    ledger::expire_lease(world.tables(), &site.key());
    let other = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "release-7"}));
    world.invoke(&other).await.error("IdempotencyKeyReused");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    let outcome = world.invoke(&event()).await;
    assert_changed_once(&world, outcome.status("APPLIED"), 2);
}

/// Someone registers another revision of the family between the kill and the retry: it is not taken for ours.
#[tokio::test]
async fn a_revision_of_somebody_else_is_not_taken_for_ones_own() {
    let world = killed_at("RegisterTaskDefinition", 1, Fault::HangBefore).await;
    let site = Site::target();
    let mut theirs = crate::harness::web_definition("nginx");
    theirs["containerDefinitions"][0]["command"] = json!(["rm", "-rf", "/"]);
    world.cloud().register(&site, &theirs.to_string(), json!([]));
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.invoke(&event()).await;
    assert!(outcome.status("APPLIED")["AFTER"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:3"));
    assert_eq!(
        world.cloud().revisions(&site, "web")[2].json()["containerDefinitions"][0]["command"],
        json!(["sleep", "1000"])
    );
}
