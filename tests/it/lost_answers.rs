//! RegisterTaskDefinition and UpdateService have no client token. Where an answer is lost, what was done is read back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::ecs::tag_list;
use crate::harness::journal::Fault;
use crate::harness::{Site, World, ledger, web_definition};

const CONCURRENT: &str = "Too many concurrent attempts to create a new revision of the specified family.";

/// One change of the image, whose answer to `action` is lost once: exactly one revision, one deployment, one result.
async fn survives(action: &str, fault: Fault) {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on(action, 1, fault.clone());
    let outcome = world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}})).await;
    let body = outcome.status("APPLIED");
    let seen = format!("{action} {fault:?}; calls:\n{}", world.journal.summary());
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2, "exactly one new revision: {seen}");
    assert_eq!(world.cloud().revisions(&site, "web")[1].image("web"), "nginx");
    let service = world.cloud().service(&site);
    assert!(service["taskDefinition"].as_str().unwrap().ends_with("/web:2"), "{seen}");
    assert_eq!(service["deployments"].as_array().unwrap().len(), 2, "exactly one new deployment: {seen}");
    assert_eq!(body["deployment_id"], world.cloud().deployment(&site), "{seen}");
    assert!(body["AFTER"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:2"), "{body}");
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "APPLIED"], "{seen}");
    assert!(ledger::part(&records[1], "after").to_string().contains("web:2"));
    if is_unsettled(&fault) {
        assert_kept(&world, &site, &body["notes"].to_string());
    } else {
        ledger::assert_free(world.tables(), &site.key());
    }
}

/// Whether the answer is lost and the call was not seen to have acted: it may still act.
fn is_unsettled(fault: &Fault) -> bool {
    matches!(fault, Fault::CutBefore) || format!("{fault:?}") == format!("{:?}", Fault::server_error())
}

/// Nobody else begins while the lost call may still act; the answer says until when.
#[track_caller]
fn assert_kept(world: &World, site: &Site, told: &str) {
    let until = ledger::head(world.tables(), &site.key()).unwrap()["lease_until"].as_str().unwrap().to_owned();
    let until = chrono::DateTime::parse_from_rfc3339(&until).unwrap().to_utc();
    let left = (until - chrono::Utc::now()).num_seconds();
    assert!((40..=125).contains(&left), "{left}");
    let free = (until + chrono::Duration::seconds(5)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert!(told.contains(&free), "{told}");
}

#[tokio::test]
async fn a_500_before_register_task_definition_acted_leads_to_one_revision() {
    survives("RegisterTaskDefinition", Fault::server_error()).await;
}

#[tokio::test]
async fn a_500_after_register_task_definition_acted_leads_to_one_revision() {
    survives("RegisterTaskDefinition", Fault::act_then_500()).await;
}

#[tokio::test]
async fn a_cut_before_register_task_definition_acted_leads_to_one_revision() {
    survives("RegisterTaskDefinition", Fault::CutBefore).await;
}

#[tokio::test]
async fn a_cut_after_register_task_definition_acted_leads_to_one_revision() {
    survives("RegisterTaskDefinition", Fault::CutAfter).await;
}

#[tokio::test]
async fn a_500_before_update_service_acted_leads_to_one_deployment() {
    survives("UpdateService", Fault::server_error()).await;
}

#[tokio::test]
async fn a_500_after_update_service_acted_leads_to_one_deployment() {
    survives("UpdateService", Fault::act_then_500()).await;
}

#[tokio::test]
async fn a_cut_before_update_service_acted_leads_to_one_deployment() {
    survives("UpdateService", Fault::CutBefore).await;
}

#[tokio::test]
async fn a_cut_after_update_service_acted_leads_to_one_deployment() {
    survives("UpdateService", Fault::CutAfter).await;
}

/// AWS gives back environment, secrets and tags of a revision in an order of its own.
#[tokio::test]
async fn a_lost_revision_is_known_again_though_its_lists_come_back_in_another_order() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    let mut definition = web_definition("busybox");
    definition["containerDefinitions"][0]["environment"] =
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]);
    definition["containerDefinitions"][0]["secrets"] =
        json!([{"name": "X", "valueFrom": "arn:x"}, {"name": "Y", "valueFrom": "arn:y"}]);
    world.seed_definition(&site, &definition.to_string(), tag_list([("a", "1"), ("b", "2")]), |_| {});
    world.journal.on("RegisterTaskDefinition", 1, Fault::CutAfter);
    let reorder = async {
        world.journal.reached("RegisterTaskDefinition", 1).await;
        world.cloud().reorder();
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), reorder);
    outcome.status("APPLIED");
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2, "exactly one new revision");
}

/// A call times out after at most ten seconds.
#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_and_read_back() {
    let started = Instant::now();
    tokio::join!(survives("RegisterTaskDefinition", Fault::HangAfter), survives("UpdateService", Fault::HangAfter));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn throttling_and_concurrent_revisions_are_waited_out() {
    for (action, code, message) in [
        ("RegisterTaskDefinition", "ThrottlingException", "Rate exceeded"),
        ("RegisterTaskDefinition", "ClientException", CONCURRENT),
        ("UpdateService", "ThrottlingException", "Rate exceeded"),
    ] {
        survives(action, Fault::refuse(400, code, message)).await;
    }
}

#[tokio::test]
async fn concurrent_revisions_twice_in_a_row_are_waited_out() {
    let world = World::new().await;
    for nth in [1, 2] {
        world.journal.on("RegisterTaskDefinition", nth, Fault::refuse(400, "ClientException", CONCURRENT));
    }
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
}

async fn forces_one_deployment(changes: &Value, fault: Fault) {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, fault.clone());
    let outcome = world.update(changes.clone()).await;
    assert_eq!(outcome.status("APPLIED")["deployment_id"], world.cloud().deployment(&site));
    let service = world.cloud().service(&site);
    assert_eq!(service["deployments"].as_array().unwrap().len(), 2, "{fault:?}: exactly one new deployment");
    if let Some(count) = changes["service"].get("desiredCount") {
        assert_eq!(&service["desiredCount"], count);
    }
}

/// Neither is a forced deployment started twice or not at all, nor a parameter beside it lost.
#[tokio::test]
async fn a_forced_deployment_whose_answer_is_lost_is_started_once() {
    let alone = json!({"force_new_deployment": true});
    let beside = json!({"force_new_deployment": true, "service": {"desiredCount": 4}});
    tokio::join!(
        forces_one_deployment(&alone, Fault::CutAfter),
        forces_one_deployment(&alone, Fault::act_then_500()),
        forces_one_deployment(&alone, Fault::CutBefore),
        forces_one_deployment(&alone, Fault::server_error()),
        forces_one_deployment(&beside, Fault::CutAfter),
        forces_one_deployment(&beside, Fault::CutBefore),
    );
}

async fn sets_the_count(fault: Fault) {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, fault);
    let outcome = world.update(json!({"service": {"desiredCount": 9}})).await;
    assert_eq!(outcome.status("APPLIED")["deployment_id"], Value::Null);
    assert_eq!(world.cloud().service(&site)["desiredCount"], 9);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn parameters_whose_answer_is_lost_are_read_back() {
    tokio::join!(
        sets_the_count(Fault::CutAfter),
        sets_the_count(Fault::act_then_500()),
        sets_the_count(Fault::CutBefore),
        sets_the_count(Fault::server_error()),
    );
}

/// Whatever keeps failing ends in time, says so, and can be tried again with the same key.
async fn gives_up(action: &'static str, fault: Fault, code: &str) {
    let world = World::new().await;
    let site = Site::target();
    world.journal.from(action, 1, fault.clone());
    let event = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    let started = Instant::now();
    let deadline = Duration::from_secs(9);
    let outcome = world.invoke_with(&event, world.invocation().deadline_in(deadline)).await;
    let message = outcome.error(code).to_owned();
    assert!(started.elapsed() < deadline, "{action} {fault:?} took {:?}", started.elapsed());
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "FAILED"]);
    assert_eq!(ledger::part(&records[1], "error")["retryable"], true, "{}", records[1]);
    let revisions = if action == "UpdateService" { 2 } else { 1 };
    assert_eq!(world.cloud().revisions(&site, "web").len(), revisions);
    if is_unsettled(&fault) {
        assert_kept(&world, &site, &message);
        ledger::expire_lease(world.tables(), &site.key());
    } else {
        ledger::assert_free(world.tables(), &site.key());
    }
    assert!(world.journal.mend() >= 1);

    let outcome = world.invoke(&event).await;
    assert_eq!(outcome.status("APPLIED")["replayed"], false, "a retryable failure is no answer");
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_server_error_that_stays_fails_retryable_and_releases_its_key() {
    tokio::join!(
        gives_up("RegisterTaskDefinition", Fault::server_error(), "TaskDefinitionRejected"),
        gives_up("UpdateService", Fault::server_error(), "ServiceUpdateFailed"),
        gives_up("UpdateService", Fault::CutBefore, "ServiceUpdateFailed"),
    );
}

#[tokio::test]
async fn throttling_that_stays_fails_retryable_and_releases_its_key() {
    let throttled = || Fault::refuse(400, "ThrottlingException", "Rate exceeded");
    tokio::join!(
        gives_up("RegisterTaskDefinition", Fault::refuse(400, "ClientException", CONCURRENT), "TaskDefinitionRejected"),
        gives_up("RegisterTaskDefinition", throttled(), "TaskDefinitionRejected"),
        gives_up("UpdateService", throttled(), "ServiceUpdateFailed"),
    );
}

#[tokio::test]
async fn what_ecs_refuses_by_itself_is_not_tried_again() {
    for (action, code) in
        [("RegisterTaskDefinition", "TaskDefinitionRejected"), ("UpdateService", "ServiceUpdateFailed")]
    {
        let world = World::new().await;
        let site = Site::target();
        world.journal.from(
            action,
            1,
            Fault::refuse(400, "AccessDeniedException", "User is not authorized to perform it"),
        );
        let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
        let message = outcome.error(code);
        assert!(message.contains("AccessDeniedException"), "{message}");
        assert_eq!(world.journal.of(action).len(), 1);
        assert_eq!(ledger::part(&world.records(&site)[1], "error")["retryable"], false);
    }
}

async fn read_fails(action: &str) {
    let world = World::new().await;
    world.journal.from(action, 1, Fault::server_error());
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("ServiceReadFailed");
    let text = "[ERROR][ecs_service_read] reading ecs service unexpected error: ";
    assert!(message.starts_with(text) && message.contains("ServerException"), "{message}");
    assert!((2..=5).contains(&world.journal.of(action).len()), "retries are bounded");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert!(world.records(&Site::target()).is_empty(), "what fails before STARTED is not recorded");
}

#[tokio::test]
async fn reads_that_keep_failing_end_in_service_read_failed() {
    tokio::join!(read_fails("DescribeServices"), read_fails("DescribeTaskDefinition"));
}

#[tokio::test]
async fn reads_that_fail_once_are_repeated_and_those_that_are_refused_name_what_is_missing() {
    let world = World::new().await;
    world.journal.on("DescribeServices", 1, Fault::server_error());
    world.journal.on("DescribeTaskDefinition", 1, Fault::CutBefore);
    world.update(json!({"ecs_image_name": "nginx:1"})).await.status("APPLIED");
    let fault = Fault::refuse(400, "AccessDeniedException", "not authorized to perform: ecs:DescribeServices");
    world.journal.from("DescribeServices", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx:2"})).await;
    assert!(outcome.error("ServiceReadFailed").contains("ecs:DescribeServices"), "{outcome:?}");
}

#[tokio::test]
async fn no_mutating_call_starts_where_too_little_time_is_left() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx"}));
    let invocation = world.invocation().deadline_in(Duration::from_secs(2));
    let outcome = world.invoke_with(&event, invocation).await;
    outcome.error("ServiceUpdateFailed");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    ledger::assert_free(world.tables(), &Site::target().key());
}

#[tokio::test]
async fn a_change_that_runs_out_of_time_stops_between_calls_and_says_how_far_it_got() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("RegisterTaskDefinition", 1, Fault::Delay(Duration::from_millis(2700)));
    let event = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    let invocation = world.invocation().deadline_in(Duration::from_millis(5500));
    let outcome = world.invoke_with(&event, invocation).await;
    let message = outcome.error("ServiceUpdateFailed");
    assert!(message.contains("web:2"), "the revision that was registered: {message}");
    assert_eq!(world.journal.mutating_ecs_calls(), ["RegisterTaskDefinition"]);
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED"]);
    world.invoke(&event).await.status("APPLIED");
}
