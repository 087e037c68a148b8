//! Deployments that wait at a pause hook for somebody, and what somebody may do to a deployment under way.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::journal::{Call, Fault, Service};
use crate::harness::ledger::{self, part};
use crate::harness::{Site, World};

/// A world in which the sample service was changed, and its deployment is under way. Gives the change and the deployment.
async fn changed() -> (World, Site, String, String) {
    let (world, site) = (World::new().await, Site::target());
    world.cloud().live();
    let outcome = world.update(json!({"ecs_image_name": "nginx", "idempotency_key": "first"})).await;
    let body = outcome.status("APPLIED");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    let (change, deployment) = (text("change_id"), text("deployment_id"));
    world.cloud().progress(&site, &deployment);
    assert_eq!(world.cloud().take_events().len(), 1);
    (world, site, change, deployment)
}

fn pause(world: &World, site: &Site, deployment: &str) -> String {
    world.cloud().pause(site, deployment, Utc::now() + TimeDelta::minutes(10), "ROLLBACK")
}

fn last(world: &World, site: &Site) -> Value {
    world.records(site).pop().unwrap()
}

#[tokio::test]
async fn a_wait_that_ends_at_a_pause_says_what_is_waited_for() {
    let (world, site, change, deployment) = changed().await;
    let hook = pause(&world, &site, &deployment);
    let wanted = json!({"ecs_image_name": "nginx", "idempotency_key": "first", "wait_seconds": 2});
    let outcome = world.update(wanted).await;
    let body = outcome.status("AWAITING_ACTION");
    let awaiting = &body["awaiting"][0];
    assert_eq!((&awaiting["hook_id"], &awaiting["then"]), (&json!(hook), &json!("ROLLBACK")));
    assert_eq!(awaiting["stage"], "POST_SCALE_UP");
    assert!(awaiting["until"].is_string(), "{awaiting}");
    let told = body["notes"].to_string();
    for part in ["ECS rolls it back by itself", "continue", change.as_str()] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"], "the answer of a wait is no record");
}

#[tokio::test]
async fn what_is_heard_of_a_pause_is_recorded_once_beside_its_change() {
    let (world, site, change, deployment) = changed().await;
    let hook = pause(&world, &site, &deployment);
    let waits = world.cloud().take_events().pop().unwrap();
    for _ in 0..3 {
        world.tell(&waits).await.response();
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "AWAITING_ACTION"]);
    let record = last(&world, &site);
    assert_eq!((&record["of"], &record["deployment_id"]), (&json!(change), &json!(deployment)));
    assert_ne!(record["change_id"], json!(change), "it has an id of its own");
    let told = part(&record, "outcome")["pause"].clone();
    // The event does not say what ECS does when the time is over: ECS was asked.
    assert_eq!((&told["hook_id"], &told["then"]), (&json!(hook), &json!("ROLLBACK")));
    assert!(told["since"].is_string() && told["until"].is_string(), "{told}");
    assert_eq!(world.logs().iter().filter(|line| line.contains("DeploymentsAwaitingAction")).count(), 1);

    world.update(json!({"continue": change})).await.status("APPLIED");
    let goes_on = world.cloud().take_events().pop().unwrap();
    for event in [&goes_on, &waits, &goes_on] {
        world.tell(event).await.response();
    }
    let kinds = world.kinds(&site);
    assert_eq!(kinds[3..], ["STARTED", "APPLIED", "PAUSE_ENDED"], "{kinds:?}");
    let ended = last(&world, &site);
    assert_eq!(ended["change_id"], record["change_id"]);
    let told = part(&ended, "outcome")["pause"].clone();
    assert_eq!((&told["ended"], &told["then"]), (&json!("HOOK_SUCCEEDED"), &json!("ROLLBACK")));
    world.cloud().complete(&site, &deployment);
    for event in world.cloud().take_events() {
        world.tell(&event).await.response();
    }
    let completed = last(&world, &site);
    assert_eq!((&completed["kind"], &completed["change_id"]), (&json!("COMPLETED"), &json!(change)));
}

#[tokio::test]
async fn an_end_that_is_heard_first_leaves_nobody_waiting() {
    let (world, site, change, deployment) = changed().await;
    pause(&world, &site, &deployment);
    world.update(json!({"continue": change})).await.status("APPLIED");
    let mut events = world.cloud().take_events();
    events.reverse();
    for event in &events {
        world.tell(event).await.response();
    }
    assert_eq!(events.len(), 2);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_pause_whose_event_is_lost_is_seen_by_the_sweep() {
    let (world, site, change, deployment) = changed().await;
    pause(&world, &site, &deployment);
    for _ in 0..2 {
        ledger::make_due(world.tables(), &deployment);
        let swept = world.tell(&json!({"sweep": {}})).await;
        assert_eq!(swept.response()["swept"]["open"], 1, "{swept:?}");
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "AWAITING_ACTION"]);
    assert_eq!(last(&world, &site)["of"], json!(change));
}

#[tokio::test]
async fn a_pause_of_a_deployment_that_no_change_started_is_nobody_s() {
    let (world, site, _, deployment) = changed().await;
    pause(&world, &site, &deployment);
    let mut event = world.cloud().take_events().pop().unwrap();
    event["detail"]["serviceDeploymentArn"] = site.arn("service-deployment", Some("another")).into();
    event["detail"]["updatedAt"] = (Utc::now() - TimeDelta::minutes(5)).to_rfc3339().into();
    let told = world.tell(&event).await;
    assert!(told.response()["nothing"].as_str().unwrap().contains("no change"), "{told:?}");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_stop_rolls_back_exactly_the_deployment_of_its_change_and_once() {
    let (world, site, change, deployment) = changed().await;
    world.journal.forget();
    let stop = json!({"stop": change, "idempotency_key": "stop", "requested_by": "ann", "reason": "errors rise"});
    let outcome = world.update(stop.clone()).await;
    let body = outcome.status("APPLIED");
    let sent = world.journal.only("StopServiceDeployment").json();
    let own = world.cloud().service(&site)["currentServiceDeployment"].clone();
    assert_eq!((&sent["serviceDeploymentArn"], &sent["stopType"]), (&own, &json!("ROLLBACK")));
    assert_eq!(world.journal.mutating_ecs_calls(), ["StopServiceDeployment"]);
    assert_eq!((&body["of"], &body["action"], &body["deployment_id"]), (&json!(change), &json!("stop"), &Value::Null));
    let difference = json!([{"what": "rollout", "path": own, "from": "IN_PROGRESS", "to": "ROLLBACK"}]);
    assert_eq!(body["changes"], difference);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
    let record = last(&world, &site);
    assert_eq!((&record["of"], &record["action"]), (&json!(change), &json!("stop")));
    assert_eq!((&record["requested_by"], &record["reason"]), (&json!("ann"), &json!("errors rise")));
    // The same again, by its key and by another one.
    assert_eq!(world.update(stop).await.status("APPLIED")["replayed"], true);
    let again = world.update(json!({"stop": change})).await;
    assert!(again.status("UNCHANGED")["notes"].to_string().contains("rolled back already"), "{again:?}");
    assert_eq!(world.journal.of("StopServiceDeployment").len(), 1);
    // How it ends is recorded for the change that started it.
    world.cloud().rolled_back(&site, &deployment, true);
    let _ = world.cloud().take_events();
    ledger::make_due(world.tables(), &deployment);
    world.tell(&json!({"sweep": {}})).await.response();
    let ended = last(&world, &site);
    assert_eq!((&ended["kind"], &ended["change_id"]), (&json!("ROLLED_BACK"), &json!(change)));
    let late = world.update(json!({"stop": change})).await;
    assert!(late.status("UNCHANGED")["notes"].to_string().contains("has ended: ROLLED_BACK"), "{late:?}");
    assert_eq!(world.journal.of("StopServiceDeployment").len(), 1);
}

#[tokio::test]
async fn a_session_for_a_deployment_may_change_nothing_else() {
    let (world, _, change, _) = changed().await;
    world.update(json!({"stop": change})).await.status("APPLIED");
    let policy = world.sessions().pop().unwrap().policy.unwrap().to_string();
    assert!(policy.contains("ecs:StopServiceDeployment") && policy.contains("service-deployment/"), "{policy}");
    for other in ["ecs:UpdateService", "ecs:UntagResource"] {
        assert!(!policy.contains(other), "{policy}");
    }
}

#[tokio::test]
async fn what_waits_for_nobody_or_is_unknown_is_left_alone() {
    let (world, site, change, deployment) = changed().await;
    world.journal.forget();
    let nobody = world.update(json!({"continue": change})).await;
    assert!(nobody.status("UNCHANGED")["notes"].to_string().contains("waits at no pause hook"), "{nobody:?}");
    let unknown = "01935321-1234-7abc-89ef-0123456789ab";
    let message = world.update(json!({"stop": unknown})).await.error("JsonValidation").to_owned();
    assert!(message.contains("/stop: ") && message.contains(unknown), "{message}");
    let tags = world.update(json!({"ecs_tag": {"a": "1"}})).await;
    let tags = tags.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    let none = world.update(json!({"stop": tags})).await;
    assert!(none.status("UNCHANGED")["notes"].to_string().contains("started no deployment"), "{none:?}");
    // Another deployment took over: the change's own has ended, and the newer one is not touched.
    world.update(json!({"ecs_image_name": "httpd"})).await.status("APPLIED");
    let over = world.update(json!({"stop": change})).await;
    assert!(over.status("UNCHANGED")["notes"].to_string().contains("STOPPED"), "{over:?}");
    assert!(world.cloud().is_primary(&site, &world.cloud().deployment(&site)));
    assert_ne!(world.cloud().deployment(&site), deployment);
    let calls = world.journal.mutating_ecs_calls();
    assert!(!calls.iter().any(|call| call.ends_with("ServiceDeployment")), "{calls:?}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_sent_and_sends_nothing() {
    let (world, site, change, deployment) = changed().await;
    let hook = pause(&world, &site, &deployment);
    world.journal.forget();
    let plan = world.update(json!({"continue": change, "dry_run": true})).await;
    let expected = json!([{"what": "hook", "path": hook, "from": "AWAITING_ACTION", "to": "CONTINUE"}]);
    assert_eq!(plan.status("PLANNED")["changes"], expected);
    assert!(world.journal.mutating_ecs_calls().is_empty());
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_lost_answer_is_read_back_and_not_sent_again() {
    for (verb, action) in [("continue", "ContinueServiceDeployment"), ("stop", "StopServiceDeployment")] {
        let (world, site, change, deployment) = changed().await;
        pause(&world, &site, &deployment);
        world.journal.on(action, 1, Fault::act_then_500());
        world.update(json!({verb: change})).await.status("APPLIED");
        assert_eq!(world.journal.of(action).len(), 1, "{verb}");
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
        ledger::assert_free(world.tables(), &site.key());
    }
}

#[tokio::test]
async fn a_retry_does_not_continue_the_next_pause() {
    let (world, site, change, deployment) = changed().await;
    let first = pause(&world, &site, &deployment);
    let event = site.event(json!({"continue": change, "idempotency_key": "k"}));
    // It dies once ECS has continued the deployment, which then comes to another pause.
    world.journal.on("ContinueServiceDeployment", 1, Fault::HangAfter);
    let invocation = world.invocation().deadline_in(std::time::Duration::from_secs(20));
    world.kill_at(&event, invocation, "ContinueServiceDeployment", 1).await;
    let second = pause(&world, &site, &deployment);
    ledger::expire_lease(world.tables(), &site.key());
    world.restart().await;
    let outcome = world.invoke(&event).await;
    outcome.status("APPLIED");
    let calls: Vec<Value> = world.journal.of("ContinueServiceDeployment").iter().map(Call::json).collect();
    assert!(calls.iter().all(|call| call["hookId"] == json!(first)), "{second} is not continued: {calls:?}");
}

#[tokio::test]
async fn a_stop_whose_function_died_is_closed_by_the_next_change_as_what_it_was() {
    let (world, site, change, _) = changed().await;
    world.journal.on("StopServiceDeployment", 1, Fault::HangAfter);
    let event = site.event(json!({"stop": change, "idempotency_key": "k"}));
    world.kill_at(&event, world.invocation(), "StopServiceDeployment", 1).await;
    ledger::expire_lease(world.tables(), &site.key());
    world.restart().await;
    world.update(json!({"ecs_tag": {"a": "1"}})).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "ABANDONED", "STARTED", "APPLIED"]);
    let closed = &world.records(&site)[3];
    assert_eq!((&closed["of"], &closed["action"]), (&json!(change), &json!("stop")));
    assert!(closed.get("deployment_id").is_none(), "what ECS rolls back to is not its deployment: {closed}");
}

#[tokio::test]
async fn what_ecs_refuses_is_told_and_recorded() {
    let (world, site, change, _) = changed().await;
    world.journal.from("StopServiceDeployment", 1, Fault::refuse(400, "AccessDeniedException", "no"));
    let outcome = world.update(json!({"stop": change})).await;
    let message = outcome.error("ServiceUpdateFailed");
    assert!(message.contains(&change) && message.contains("Nothing was changed in the target account"), "{message}");
    assert_eq!(last(&world, &site)["kind"], "FAILED");
    assert_eq!(
        world.journal.actions(Service::Ecs).iter().filter(|action| *action == "StopServiceDeployment").count(),
        1
    );
}

#[tokio::test]
async fn a_stop_is_neither_restored_nor_what_previous_means() {
    let (world, site, change, _) = changed().await;
    let outcome = world.update(json!({"stop": change})).await;
    let stopped = outcome.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    let nothing = world.update(json!({"restore": stopped, "dry_run": true})).await;
    let notes = nothing.status("PLANNED")["notes"].to_string();
    assert!(notes.contains("there is nothing to undo"), "{notes}");
    let restored = world.update(json!({"restore": "previous", "dry_run": true})).await;
    assert_eq!(restored.status("PLANNED")["restores"], json!(change));
    assert_eq!(world.kinds(&site).len(), 4);
}
