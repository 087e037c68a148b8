//! A missing or wrong setting fails at start, naming the variable.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::harness::http::{Answer, Reply, Request};
use crate::harness::registry::Registry;
use crate::harness::{OTHER_TARGET, REGION, Site, TARGET, World};

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

const UNIT: &str = "ou-a1b2-c3d4e5f6";

/// AWS Organizations: a unit with a unit below it, in which the target account is.
async fn organizations(refused: Option<&'static str>) -> Registry {
    let throttled = AtomicBool::new(refused.is_none());
    Registry::start(move |request: &Request| {
        let refuse = |code: &str| {
            Reply::Answer(Answer::new(
                400,
                "application/x-amz-json-1.1",
                json!({"__type": code, "Message": "no"}).to_string(),
            ))
        };
        let signed = request.header("authorization").unwrap_or_default();
        assert!(signed.contains("/us-east-1/organizations/aws4_request"), "{signed}");
        if let Some(code) = refused {
            return refuse(code);
        }
        if throttled.swap(false, SeqCst) {
            return refuse("TooManyRequestsException");
        }
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let of = |text: &Value| text.as_str().unwrap_or_default().to_owned();
        let action = request.header("x-amz-target").and_then(|target| target.split_once('.')).unwrap().1;
        let ids = |ids: &[&str]| -> Vec<Value> { ids.iter().map(|id| json!({"Id": id, "Status": "ACTIVE"})).collect() };
        let answer = match (action, of(&asked["ParentId"]).as_str(), of(&asked["NextToken"]).as_str()) {
            ("ListAccountsForParent", UNIT, "") => json!({"Accounts": ids(&["999999999999"])}),
            ("ListOrganizationalUnitsForParent", UNIT, "") => {
                json!({"OrganizationalUnits": ids(&["ou-a1b2-11111111"]), "NextToken": "2"})
            }
            ("ListOrganizationalUnitsForParent", UNIT, "2") => {
                json!({"OrganizationalUnits": ids(&["ou-a1b2-22222222"])})
            }
            // A page may be empty, and more follow.
            ("ListAccountsForParent", "ou-a1b2-22222222", "") => json!({"Accounts": [], "NextToken": "3"}),
            ("ListAccountsForParent", "ou-a1b2-22222222", "3") => json!({"Accounts": ids(&[TARGET])}),
            ("ListAccountsForParent", _, "") => json!({"Accounts": []}),
            ("ListOrganizationalUnitsForParent", _, "") => json!({"OrganizationalUnits": [], "NextToken": null}),
            other => panic!("{other:?}"),
        };
        Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", answer.to_string()))
    })
    .await
}

#[tokio::test]
async fn the_accounts_of_a_unit_are_those_of_the_units_below_it_too() {
    let organizations = organizations(None).await;
    let url = organizations.url();
    let allowed = format!("444444444444,{UNIT}");
    let world = World::configured(&[("AWS_ENDPOINT_URL_ORGANIZATIONS", &url), ("ALLOWED_ACCOUNTS", &allowed)]).await;
    // Read at the start.
    assert_eq!(
        organizations.requests().len(),
        9,
        "three units, two of them with two pages, and one call was throttled"
    );
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let other = Site::new(OTHER_TARGET, REGION, "prod", "web");
    let outcome = world.invoke(&other.event(json!({"ecs_image_name": "nginx"}))).await;
    let message = outcome.error("AssumeRoleFailed");
    assert!(message.contains("ALLOWED_ACCOUNTS"), "{message}");
    assert_eq!(organizations.requests().len(), 9, "not asked again for each event");
}

#[tokio::test]
async fn units_that_cannot_be_asked_about_let_nobody_in_and_say_why() {
    for (code, told) in
        [("AccessDeniedException", "delegated administrator"), ("ParentNotFoundException", "no such unit")]
    {
        let organizations = organizations(Some(code)).await;
        let url = organizations.url();
        let settings = [("AWS_ENDPOINT_URL_ORGANIZATIONS", url.as_str()), ("ALLOWED_ACCOUNTS", UNIT)];
        let world = World::configured(&settings).await;
        let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
        let message = outcome.error("AssumeRoleFailed");
        for piece in ["ALLOWED_ACCOUNTS", UNIT, code, told] {
            assert!(message.contains(piece), "{piece}: {message}");
        }
        assert!(world.sessions().is_empty(), "no role was assumed");
    }
}
