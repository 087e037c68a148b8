//! Tags of the service: what goes, what comes, in which order, and what is left when it fails.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::ecs::tag_list;
use crate::harness::journal::Fault;
use crate::harness::ledger::{self, part};
use crate::harness::{Site, World};

/// A service with these tags.
async fn world_with(tags: &[(String, String)]) -> World {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["tags"] = tag_list(tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    });
    world
}

fn numbered(start: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("{start}-{n:02}"), "v".into())).collect()
}

fn as_event(tags: &[(String, String)]) -> Value {
    Value::Object(tags.iter().map(|(k, v)| (k.clone(), json!(v))).collect())
}

fn as_map(tags: &[(String, String)]) -> BTreeMap<String, String> {
    tags.iter().cloned().collect()
}

#[tokio::test]
async fn replace_leaves_exactly_the_tags_asked_for_and_calls_for_the_difference_only() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| {
        service["tags"] = tag_list([("gone", "1"), ("kept", "2"), ("changed", "3"), ("aws:ecs:x", "y")]);
    });
    let outcome = world.update(json!({"ecs_tag": {"kept": "2", "changed": "new", "added": ""}})).await;
    let body = outcome.status("APPLIED");
    let tag = world.journal.only("TagResource").json();
    assert_eq!(tag["resourceArn"], site.service_arn());
    let mut sent = tag["tags"].as_array().unwrap().clone();
    sent.sort_by_key(|t| t["key"].to_string());
    assert_eq!(Value::from(sent), tag_list([("added", ""), ("changed", "new")]));
    assert_eq!(world.journal.only("UntagResource").json()["tagKeys"], json!(["gone"]));
    assert_eq!(world.journal.mutating_ecs_calls(), ["TagResource", "UntagResource"]);
    let expected = [("added", ""), ("aws:ecs:x", "y"), ("changed", "new"), ("kept", "2")];
    assert_eq!(world.cloud().tags(&site), expected.map(|(k, v)| (k.into(), v.into())).into());
    let after: Vec<&str> =
        body["AFTER"]["tags"].as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap()).collect();
    assert!(after.is_sorted(), "{after:?}");
}

/// As the SDK's model has it, the value of a tag is optional.
#[tokio::test]
async fn a_tag_without_a_value_is_seen_and_replaced() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["tags"] = json!([{"key": "bare", "value": null}, {"key": "old", "value": "1"}]);
    });
    let outcome = world.update(json!({"ecs_tag": {"new": "2"}})).await;
    let before = &outcome.status("APPLIED")["BEFORE"]["tags"];
    assert_eq!(*before, json!([{"key": "bare", "value": ""}, {"key": "old", "value": "1"}]));
    assert_eq!(world.journal.only("UntagResource").json()["tagKeys"], json!(["bare", "old"]));
}

#[tokio::test]
async fn merge_adds_and_changes_and_removes_nothing() {
    let world = World::new().await;
    let site = Site::target();
    world.update(json!({"ecs_tag": {"a": "1"}, "tag_mode": "merge"})).await.status("APPLIED");
    let expected = [("a", "1"), ("old-custom-tag-name", "old-custom-tag-value")];
    assert_eq!(world.cloud().tags(&site), expected.map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(world.journal.mutating_ecs_calls(), ["TagResource"]);
    world.update(json!({"ecs_tag": {}, "tag_mode": "merge"})).await.status("UNCHANGED");
}

#[tokio::test]
async fn no_tags_at_all_removes_all_but_those_of_aws() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| {
        service["tags"] = tag_list([("a", "1"), ("AWS:x", "y"), ("aws:z", "y"), ("b", "2")]);
    });
    world.update(json!({"ecs_tag": {}})).await.status("APPLIED");
    assert_eq!(world.cloud().tags(&site).into_keys().collect::<Vec<_>>(), ["AWS:x", "aws:z"]);
    assert_eq!(world.journal.mutating_ecs_calls(), ["UntagResource"]);
}

#[tokio::test]
async fn tags_left_out_stay() {
    let world = World::new().await;
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.cloud().tags(&Site::target()).into_keys().collect::<Vec<_>>(), ["old-custom-tag-name"]);
    assert!(world.journal.of("TagResource").is_empty() && world.journal.of("UntagResource").is_empty());
}

#[tokio::test]
async fn fifty_tags_are_replaced_by_fifty_others_those_that_go_first() {
    let (old, new) = (numbered("old", 50), numbered("new", 50));
    let world = world_with(&old).await;
    world.update(json!({"ecs_tag": as_event(&new)})).await.status("APPLIED");
    assert_eq!(world.cloud().tags(&Site::target()), as_map(&new));
    let calls = world.journal.mutating_ecs_calls();
    assert_eq!(calls.first().map(String::as_str), Some("UntagResource"), "{calls:?}");
}

#[tokio::test]
async fn tags_that_fit_together_come_before_those_that_go() {
    let (old, new) = (numbered("old", 25), numbered("new", 25));
    let world = world_with(&old).await;
    world.update(json!({"ecs_tag": as_event(&new)})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["TagResource", "UntagResource"]);
    assert_eq!(world.cloud().tags(&Site::target()), as_map(&new));
}

#[tokio::test]
async fn changed_values_take_no_room_of_their_own() {
    let old = numbered("tag", 50);
    let world = world_with(&old).await;
    let changed: Vec<_> = old.iter().map(|(k, _)| (k.clone(), "changed".to_owned())).collect();
    world.update(json!({"ecs_tag": as_event(&changed)})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["TagResource"]);
}

#[tokio::test]
async fn a_merge_past_fifty_is_refused_before_anything_is_touched() {
    let world = world_with(&numbered("old", 50)).await;
    let outcome =
        world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"one": "more"}, "tag_mode": "merge"})).await;
    let message = outcome.error("TagUpdateFailed");
    assert!(message.contains("51") || message.contains("50"), "{message}");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_that_propagates_its_tags_gets_them_before_its_new_tasks_start() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["tags"] = tag_list([("old", "1")]);
        service["propagateTags"] = json!("SERVICE");
    });
    world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}})).await.status("APPLIED");
    let calls = world.journal.mutating_ecs_calls();
    let at = |name: &str| calls.iter().position(|c| c == name).unwrap_or_else(|| panic!("no {name}: {calls:?}"));
    assert!(at("TagResource") < at("UpdateService") && at("UntagResource") < at("UpdateService"), "{calls:?}");
}

#[tokio::test]
async fn tags_refused_after_the_service_was_updated_say_what_the_service_runs_now() {
    let world = World::new().await;
    let site = Site::target();
    let fault = Fault::refuse(400, "AccessDeniedException", "not authorized to perform: ecs:TagResource");
    world.journal.from("TagResource", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}})).await;
    let message = outcome.error("TagUpdateFailed");
    assert!(message.starts_with("[ERROR][ecs_service_update] service tags could not be updated "), "{message}");
    let deployment = world.cloud().deployment(&site);
    let call = world.journal.only("TagResource");
    for piece in ["AccessDeniedException", "ecs:TagResource", call.request_id.as_str(), "web:2"] {
        assert!(message.contains(piece), "{piece:?} is not in {message}");
    }
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "FAILED"]);
    let after = part(&records[1], "after").to_string();
    assert!(after.contains("web:2") && after.contains("nginx") && after.contains("old-custom-tag-name"), "{after}");
    let error = part(&records[1], "error").to_string();
    assert!(error.contains("TagUpdateFailed") && error.contains("web:2"), "{error}");
    assert_eq!(records[1]["deployment_id"], json!(deployment), "the deployment this change started");
    assert_eq!(ledger::deployments(world.tables()).len(), 1, "it is known whose deployment it is");
    assert_eq!(world.cloud().tags(&site).into_keys().collect::<Vec<_>>(), ["old-custom-tag-name"], "no tag is lost");
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn a_tag_that_cannot_go_leaves_those_that_came_and_the_record_says_so() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.from("UntagResource", 1, Fault::refuse(400, "AccessDeniedException", "no"));
    let outcome = world.update(json!({"ecs_tag": {"new": "1"}})).await;
    let message = outcome.error("TagUpdateFailed");
    assert!(message.contains("new"), "what was done stands in the message: {message}");
    let after = part(&world.records(&site)[1], "after").to_string();
    assert!(after.contains("\"new\"") && after.contains("old-custom-tag-name"), "what AWS accepted: {after}");
}

#[tokio::test]
async fn where_the_service_cannot_be_asked_for_its_tags_the_first_versions_text_says_so() {
    let world = World::new().await;
    world.journal.from("TagResource", 1, Fault::CutBefore);
    let outcome = world.update(json!({"ecs_tag": {"new": "1", "old-custom-tag-name": "old-custom-tag-value"}})).await;
    let message = outcome.error("TagUpdateFailed");
    assert!(message.starts_with("[ERROR][ecs_service_update] updating service tag unexpected error: "), "{message}");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "FAILED"]);
}

async fn survives(fault: Fault) {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("TagResource", 1, fault.clone());
    world.journal.on("UntagResource", 1, fault);
    world.update(json!({"ecs_tag": {"new": "1"}})).await.status("APPLIED");
    assert_eq!(world.cloud().tags(&site).into_keys().collect::<Vec<_>>(), ["new"]);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_lost_answer_about_tags_is_asked_for_again() {
    tokio::join!(
        survives(Fault::CutAfter),
        survives(Fault::CutBefore),
        survives(Fault::act_then_500()),
        survives(Fault::server_error()),
    );
}
