//! The session in the target account: which role, under which name, and how little it may do.

use std::time::Duration;

use serde_json::json;

use crate::harness::journal::{Fault, Service};
use crate::harness::policy::{Question, allows};
use crate::harness::{FUNCTION_ARN, HUB, OTHER_TARGET, REGION, Site, TARGET, World};

const TEXT: &str = "[ERROR][assume_role] role ";

#[tokio::test]
async fn the_role_of_the_target_account_is_assumed_under_the_request_id() {
    let world = World::new().await;
    let invocation = world.invocation().request_id("3c6f0b7e-64b5-49a8-8a3a-5a4be4b0c2f1");
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "requested_by": "ann"}));
    world.invoke_with(&event, invocation).await.status("APPLIED");
    let sessions = world.sessions();
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!(session.role_arn, format!("arn:aws:iam::{TARGET}:role/ecs-updater/ecs-updater-target"));
    assert_eq!(session.name, "ecsu-3c6f0b7e-64b5-49a8-8a3a-5a4be4b0c2f1");
    assert_eq!(session.source_identity, None, "what a caller claims is no identity");
    assert_eq!(session.external_id, None);
    assert!(session.tags.is_empty());
    assert!(session.duration_seconds.is_some_and(|s| s >= 900));
    assert_eq!(world.journal.only("AssumeRole").region, REGION, "the hub's regional endpoint");
}

/// The API door alone may invoke the alias `api`, and writes the caller's ARN into `requested_by`.
#[tokio::test]
async fn a_caller_that_the_api_door_vouches_for_is_the_source_identity() {
    let world = World::new().await;
    let mut invocation = world.invocation();
    invocation.function_arn = format!("{FUNCTION_ARN}:api");
    let caller = "arn:aws:sts::111111111111:assumed-role/deployers/Ann Müller@example.com";
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "requested_by": caller}));
    world.invoke_with(&event, invocation).await.status("APPLIED");
    let identity = world.sessions()[0].source_identity.clone().expect("a source identity");
    // That it is of the characters and length that STS takes, STS has checked.
    assert_eq!(identity, "Ann-M-ller@example.com,deployers");
    for record in world.records(&Site::target()) {
        assert_eq!((&record["identity"], &record["requested_by"]), (&json!("verified"), &json!(caller)));
    }
}

#[tokio::test]
async fn the_session_lasts_the_time_left_but_not_less_than_a_quarter_of_an_hour() {
    let world = World::new().await;
    for (seconds, lasts) in [(20, 900..=900), (1200, 1190..=1210), (40_000, 900..=3600)] {
        let event = Site::target().event(json!({"dry_run": true, "ecs_image_name": "nginx"}));
        let invocation = world.invocation().deadline_in(Duration::from_secs(seconds));
        world.invoke_with(&event, invocation).await.status("PLANNED");
        let session = world.sessions().pop().unwrap();
        assert!(lasts.contains(&session.duration_seconds.unwrap()), "{seconds} s left: {session:?}");
    }
}

#[tokio::test]
async fn settings_name_another_role_and_an_external_id() {
    let world = World::configured(&[("TARGET_ROLE_NAME", "platform/door"), ("EXTERNAL_ID", "a shared:secret/1")]).await;
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let session = &world.sessions()[0];
    assert_eq!(session.role_arn, format!("arn:aws:iam::{TARGET}:role/platform/door"));
    assert_eq!(session.external_id.as_deref(), Some("a shared:secret/1"));
}

#[tokio::test]
async fn the_own_account_goes_the_same_way() {
    let world = World::with_environment(&[]).await;
    world.seed(&Site::hub());
    let event =
        json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "ecs_image_name": "nginx"});
    let outcome = world.invoke(&event).await;
    assert_eq!(outcome.status("APPLIED")["account_id"], HUB);
    assert_eq!(world.sessions()[0].role_arn, format!("arn:aws:iam::{HUB}:role/ecs-updater/ecs-updater-target"));
}

#[tokio::test]
async fn the_service_is_changed_in_the_region_of_the_event() {
    let world = World::with_environment(&[]).await;
    let site = Site::new(OTHER_TARGET, "ap-southeast-2", "prod", "edge");
    world.seed(&site);
    world.invoke(&site.event(json!({"ecs_image_name": "nginx"}))).await.status("APPLIED");
    for call in world.journal.calls() {
        let region = if call.service == Service::Ecs { "ap-southeast-2" } else { REGION };
        assert_eq!(call.region, region, "{}", call.action);
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn the_partition_is_that_of_the_functions_arn() {
    let world = World::new().await;
    let mut invocation = world.invocation();
    invocation.function_arn = format!("arn:aws-cn:lambda:cn-north-1:{HUB}:function:ecs-updater:live");
    let event = Site::target().event(json!({"dry_run": true, "ecs_image_name": "nginx"}));
    world.invoke_with(&event, invocation).await.status("PLANNED");
    assert_eq!(world.sessions()[0].role_arn, format!("arn:aws-cn:iam::{TARGET}:role/ecs-updater/ecs-updater-target"));
}

#[tokio::test]
async fn the_session_may_change_this_service_and_no_other() {
    let world = World::with_environment(&[]).await;
    let site = Site::new(TARGET, REGION, "prod", "edge");
    world.seed(&site);
    world.invoke(&site.event(json!({"dry_run": true, "ecs_image_name": "nginx"}))).await.status("PLANNED");
    let session = world.sessions().remove(0);
    let policy = session.policy.expect("an inline session policy");
    assert!(session.policy_text.unwrap().len() <= 2048);
    let ask = |action: &str, resource: &str| allows(&policy, &Question { action, resource, context: vec![] });
    for action in ["ecs:UpdateService", "ecs:TagResource", "ecs:UntagResource"] {
        assert!(ask(action, &site.service_arn()), "{action}");
        for other in [
            "service/prod/edge2",
            "service/prod/edg",
            "service/dev/edge",
            "service/prod/other",
            "service/edge/prod",
            "service/edge",
            "service/edge2",
        ] {
            let arn = format!("arn:aws:ecs:{REGION}:{TARGET}:{other}");
            assert!(!ask(action, &arn), "{action} on {arn}");
        }
        let elsewhere = format!("arn:aws:ecs:us-east-1:{TARGET}:service/prod/edge");
        assert!(!ask(action, &elsewhere), "{action} on {elsewhere}");
    }
    // An ARN of the old form does not say in which cluster.
    let old = format!("arn:aws:ecs:{REGION}:{TARGET}:service/edge");
    let in_cluster = |action: &str, cluster: &str| {
        let cluster = format!("arn:aws:ecs:{REGION}:{TARGET}:cluster/{cluster}");
        allows(&policy, &Question { action, resource: &old, context: vec![("ecs:cluster", cluster)] })
    };
    assert!(in_cluster("ecs:UpdateService", "prod") && !in_cluster("ecs:UpdateService", "dev"));
    assert!(!in_cluster("ecs:TagResource", "prod"), "which AWS refuses for such ARNs");
    let own = site.service_arn();
    for action in [
        "ecs:DeleteService",
        "ecs:CreateService",
        "iam:CreateUser",
        "ecs:RunTask",
        "ecs:ExecuteCommand",
        "s3:GetObject",
    ] {
        for resource in [own.as_str(), "*"] {
            assert!(!ask(action, resource), "{action} on {resource}");
        }
    }
    assert!(ask("ecs:RegisterTaskDefinition", &format!("arn:aws:ecs:{REGION}:{TARGET}:task-definition/web:*")));
    assert!(ask("ecs:DescribeTaskDefinition", "*"));
}

#[tokio::test]
async fn a_refusal_by_sts_is_told_with_role_account_code_and_likely_cause() {
    let world = World::new().await;
    let fault = Fault::refuse(403, "AccessDenied", "User is not authorized to perform: sts:AssumeRole on resource");
    world.journal.on("AssumeRole", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("AssumeRoleFailed");
    let role = format!("arn:aws:iam::{TARGET}:role/ecs-updater/ecs-updater-target");
    let text = format!("{TEXT}{role} in account {TARGET} could not be assumed: ");
    assert!(message.starts_with(&text), "{message}");
    let call = world.journal.only("AssumeRole");
    for piece in ["AccessDenied", "sts:AssumeRole on resource", call.request_id.as_str(), "trust", "external id"] {
        assert!(message.to_lowercase().contains(&piece.to_lowercase()), "{piece:?} is not in {message}");
    }
    assert_eq!(world.journal.actions(Service::Ecs), Vec::<String>::new());
    assert!(world.records(&Site::target()).is_empty());
}

#[tokio::test]
async fn a_region_that_sts_has_disabled_is_named_as_the_likely_cause() {
    let world = World::new().await;
    let fault = Fault::refuse(403, "RegionDisabledException", "STS is not activated in this region for account");
    world.journal.from("AssumeRole", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("AssumeRoleFailed");
    assert!(message.contains("RegionDisabledException") && message.contains("region"), "{message}");
}

async fn sts_keeps_failing(fault: Fault) {
    let world = World::new().await;
    world.journal.from("AssumeRole", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    assert!(outcome.error("AssumeRoleFailed").starts_with(TEXT));
}

#[tokio::test]
async fn an_sts_that_fails_once_is_asked_again_and_one_that_keeps_failing_ends_the_update() {
    let world = World::new().await;
    world.journal.on("AssumeRole", 1, Fault::server_error());
    world.update(json!({"ecs_image_name": "nginx:1"})).await.status("APPLIED");
    tokio::join!(sts_keeps_failing(Fault::server_error()), sts_keeps_failing(Fault::CutBefore));
}

#[tokio::test]
async fn an_account_that_the_settings_do_not_allow_is_refused_without_a_call_to_it() {
    let allowed = format!("{HUB},{OTHER_TARGET}");
    let world = World::configured(&[("ALLOWED_ACCOUNTS", &allowed)]).await;
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("AssumeRoleFailed");
    assert!(message.contains("ALLOWED_ACCOUNTS") && message.contains(TARGET), "{message}");
    assert_eq!(world.journal.actions(Service::Sts), Vec::<String>::new());
    assert_eq!(world.journal.actions(Service::Ecs), Vec::<String>::new());
    let site = Site { account: OTHER_TARGET.into(), ..Site::target() };
    world.seed(&site);
    world.invoke(&site.event(json!({"ecs_image_name": "nginx"}))).await.status("APPLIED");
}

#[tokio::test]
async fn a_region_where_ecs_does_not_know_the_session_is_not_enabled() {
    let world = World::new().await;
    world.cloud().disable(TARGET, REGION);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("RegionNotEnabled");
    assert!(message.starts_with("[ERROR][ecs_service_read] "), "{message}");
    for piece in [REGION, TARGET, "UnrecognizedClientException"] {
        assert!(message.contains(piece), "{piece} is not in {message}");
    }
    assert!(world.records(&Site::target()).is_empty());
}

/// AWS may call a session expired whose end is not reached, as where the role's sessions were revoked and allowed again.
#[tokio::test]
async fn a_session_that_ecs_calls_expired_is_opened_anew_once() {
    let expired =
        || Fault::refuse(400, "ExpiredTokenException", "The security token included in the request is expired");
    let event = json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}});
    for action in
        ["DescribeServices", "DescribeTaskDefinition", "RegisterTaskDefinition", "UpdateService", "TagResource"]
    {
        let world = World::new().await;
        world.journal.on(action, 1, expired());
        world.update(event.clone()).await.status("APPLIED");
        assert_eq!(world.sessions().len(), 2, "{action}");
        assert_eq!(world.journal.of(action).len(), 2, "{action}");
        assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2, "{action}");
        assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"], "{action}");
    }
    // What stays so is told, and is not asked without end.
    for (action, code) in [("DescribeServices", "ServiceReadFailed"), ("UpdateService", "ServiceUpdateFailed")] {
        let world = World::new().await;
        world.journal.from(action, 1, expired());
        let outcome = world.update(event.clone()).await;
        let message = outcome.error(code);
        assert!(message.contains("ExpiredTokenException"), "{message}");
        assert_eq!((world.sessions().len(), world.journal.of(action).len()), (2, 2), "{action}");
    }
    // Where the role cannot be assumed anew, nothing is sent again.
    let world = World::new().await;
    world.journal.on("UpdateService", 1, expired());
    world.journal.on("AssumeRole", 2, Fault::refuse(403, "AccessDenied", "no"));
    world.update(event).await.error("ServiceUpdateFailed");
    assert_eq!((world.sessions().len(), world.journal.of("UpdateService").len()), (1, 1));
}

#[tokio::test]
async fn a_replayed_answer_needs_no_session() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.invoke(&event).await.status("APPLIED");
    world.journal.from("AssumeRole", 1, Fault::refuse(403, "AccessDenied", "no"));
    assert_eq!(world.invoke(&event).await.status("APPLIED")["replayed"], true);
}
