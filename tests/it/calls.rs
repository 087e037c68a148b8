//! Which calls a change costs, and in which order.

use std::time::{Duration, Instant};

use ecs_updater::runtime::DOOR_WAITS;
use serde_json::{Value, json};

use crate::harness::journal::{Fault, Service};
use crate::harness::lambda::Outcome;
use crate::harness::ledger::{append_external, kinds};
use crate::harness::{FUNCTION_ARN, Site, World, ledger};

#[tokio::test]
async fn image_and_tags_take_one_sts_five_ecs_and_three_dynamodb_calls() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| service["tags"] = json!([]));
    let changes = json!({"ecs_image_name": "nginx", "ecs_tag": {"updated-tag-name": "updated-tag-value"}});
    world.update(changes).await.status("APPLIED");
    assert_eq!(world.journal.actions(Service::Sts), ["AssumeRole"]);
    assert_eq!(
        world.journal.actions(Service::Ecs),
        ["DescribeServices", "DescribeTaskDefinition", "RegisterTaskDefinition", "UpdateService", "TagResource"]
    );
    assert_eq!(world.journal.actions(Service::DynamoDb), ["BatchGetItem", "ExecuteTransaction", "ExecuteTransaction"]);
}

/// That somebody waits is said in the transaction that records the result, and only where somebody does.
#[tokio::test]
async fn to_wait_takes_no_write_of_its_own() {
    for (seconds, calls) in [(0, &["BatchGetItem", "ExecuteTransaction", "ExecuteTransaction"][..]), (2, &WAITS[..])] {
        let world = World::with_environment(&[]).await;
        world.seed(&Site::target());
        world.cloud().end_at_once();
        let outcome = world.update(json!({"ecs_image_name": "nginx", "wait_seconds": seconds})).await;
        outcome.status(if seconds > 0 { "COMPLETED" } else { "APPLIED" });
        assert_eq!(world.journal.actions(Service::DynamoDb), calls);
        assert_eq!(ledger::keys(world.tables())[0].contains_key("waiter_until"), seconds > 0);
    }
}

/// Those of a change, what is noted of its deployment, and the outcome.
const WAITS: [&str; 7] = [
    "BatchGetItem",
    "ExecuteTransaction",
    "ExecuteTransaction",
    "BatchGetItem",
    "BatchGetItem",
    "Query",
    "ExecuteTransaction",
];

#[tokio::test]
async fn a_tag_that_goes_takes_a_sixth_ecs_call_after_the_tag_that_comes() {
    let world = World::new().await;
    let changes = json!({"ecs_image_name": "nginx", "ecs_tag": {"updated-tag-name": "updated-tag-value"}});
    world.update(changes).await.status("APPLIED");
    assert_eq!(world.journal.actions(Service::Sts), ["AssumeRole"]);
    assert_eq!(
        world.journal.actions(Service::Ecs),
        [
            "DescribeServices",
            "DescribeTaskDefinition",
            "RegisterTaskDefinition",
            "UpdateService",
            "TagResource",
            "UntagResource"
        ]
    );
    assert_eq!(world.journal.actions(Service::DynamoDb), ["BatchGetItem", "ExecuteTransaction", "ExecuteTransaction"]);
}

#[tokio::test]
async fn an_unchanged_service_takes_one_sts_two_ecs_and_two_dynamodb_calls() {
    let world = World::new().await;
    let changes = json!({"ecs_image_name": "busybox", "ecs_tag": {"old-custom-tag-name": "old-custom-tag-value"}});
    let outcome = world.update(changes).await;
    let body = outcome.status("UNCHANGED");
    assert_eq!(body["BEFORE"], body["AFTER"]);
    assert_eq!(body["deployment_id"], json!(null));
    assert_eq!(world.journal.actions(Service::Sts), ["AssumeRole"]);
    assert_eq!(world.journal.actions(Service::Ecs), ["DescribeServices", "DescribeTaskDefinition"]);
    assert_eq!(world.journal.actions(Service::DynamoDb), ["BatchGetItem", "ExecuteTransaction"]);
    assert_eq!(world.kinds(&Site::target()), ["UNCHANGED"]);
    ledger::assert_free(world.tables(), &Site::target().key());
}

#[tokio::test]
async fn only_what_differs_is_called() {
    let world = World::new().await;
    world.update(json!({"ecs_tag": {"a": "1", "old-custom-tag-name": "old-custom-tag-value"}})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["TagResource"]);
    world.journal.forget();
    world.update(json!({"ecs_tag": {"a": "1"}})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["UntagResource"]);
    world.journal.forget();
    world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["RegisterTaskDefinition", "UpdateService"]);
    world.journal.forget();
    world.update(json!({"ecs_image_name": "nginx", "service": {"desiredCount": 5}})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["UpdateService"]);
}

#[tokio::test]
async fn a_dry_run_tells_the_plan_and_touches_and_writes_nothing() {
    let world = World::new().await;
    let before = world.cloud().service(&Site::target());
    let changes = json!({"dry_run": true, "ecs_image_name": "nginx", "ecs_tag": {"new": "tag"},
                         "service": {"desiredCount": 7}});
    let outcome = world.update(changes).await;
    let body = outcome.status("PLANNED");
    let planned = body["changes"].to_string();
    for piece in ["busybox", "nginx", "old-custom-tag-name", "new", "desiredCount", "7"] {
        assert!(planned.contains(piece), "{piece} is not in the plan: {planned}");
    }
    assert_eq!(body["BEFORE"]["serviceImage"], "busybox");
    assert_eq!(world.journal.actions(Service::Ecs), ["DescribeServices", "DescribeTaskDefinition"]);
    assert_eq!(world.journal.actions(Service::DynamoDb), Vec::<String>::new(), "a dry run reads neither table");
    assert_eq!(world.cloud().service(&Site::target()), before);
}

/// API Gateway gives up after 29 seconds, and the door says then that a change goes on: of a plan that would be a lie.
#[tokio::test]
async fn a_plan_that_the_door_waits_for_ends_before_it_gives_up_and_nothing_else_does() {
    /// What the event got for an answer, and after how many seconds, where STS and ECS are slow: some ten seconds each call.
    async fn answered(alias: &str, event: Value) -> (Outcome, Duration) {
        let world = World::new().await;
        for action in ["AssumeRole", "DescribeServices", "DescribeTaskDefinition"] {
            // A call is sent again after five seconds.
            world.journal.on(action, 1, Fault::HangBefore);
            world.journal.on(action, 2, Fault::Delay(Duration::from_millis(4_500)));
        }
        let mut invocation = world.invocation();
        invocation.function_arn = format!("{FUNCTION_ARN}:{alias}");
        let begun = Instant::now();
        let outcome = world.invoke_with(&event, invocation).await;
        (outcome, begun.elapsed())
    }
    let plan = Site::target().event(json!({"ecs_image_name": "nginx", "dry_run": true}));
    let change = Site::target().event(json!({"ecs_image_name": "nginx"}));
    let many = json!({"updates": [plan]});
    let (by_api, of_many, by_live, changed) = tokio::join!(
        answered("api", plan.clone()),
        answered("api", many),
        answered("live", plan.clone()),
        answered("api", change)
    );
    for (outcome, took) in [by_api, of_many] {
        let message = outcome.error("ServiceReadFailed");
        assert!(message.contains("within 27 seconds. Nothing was changed. Ask again"), "{message}");
        assert!((DOOR_WAITS..Duration::from_secs(29)).contains(&took), "{took:?}");
    }
    // Nobody cuts off who waits elsewhere, or a change that has begun.
    assert_eq!(by_live.0.status("PLANNED")["changes"][0]["to"], "nginx");
    changed.0.status("APPLIED");
    assert!(by_live.1 > DOOR_WAITS && changed.1 > DOOR_WAITS, "{:?} {:?}: too fast", by_live.1, changed.1);
}

#[tokio::test]
async fn a_dry_run_where_nothing_differs_plans_no_changes() {
    let world = World::new().await;
    let outcome = world.update(json!({"dry_run": true, "ecs_image_name": "busybox"})).await;
    assert_eq!(outcome.status("PLANNED")["changes"], json!([]));
    assert_eq!(world.journal.actions(Service::DynamoDb), Vec::<String>::new());
}

#[tokio::test]
async fn a_dry_run_refuses_what_the_change_would_refuse() {
    let world = World::new().await;
    let changes = json!({"dry_run": true, "ecs_image_name": "nginx", "expected_task_definition": "web:9"});
    world.update(changes).await.error("TaskDefinitionChanged");
    assert_eq!(world.journal.actions(Service::DynamoDb), Vec::<String>::new());
}

/// A head that is read after the snapshot would bless a stale plan.
#[tokio::test]
async fn the_head_is_read_consistently_beside_assume_role_and_before_the_snapshot() {
    let world = World::new().await;
    world.journal.on("BatchGetItem", 1, Fault::Delay(Duration::from_millis(600)));
    world.journal.on("AssumeRole", 1, Fault::Delay(Duration::from_millis(300)));
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let (read, assume) = (world.journal.only("BatchGetItem"), world.journal.only("AssumeRole"));
    let arrived = read.answered.unwrap().0;
    assert!(assume.at < arrived && read.at < assume.answered.unwrap().0, "one waited for the other");
    assert!(
        arrived <= world.journal.only("DescribeServices").at,
        "the snapshot was asked for before the head was there"
    );
    let request = read.json();
    for table in request["RequestItems"].as_object().unwrap().values() {
        assert_eq!(table["ConsistentRead"], true, "{request}");
    }
}

/// The recorder writes to the same ledger. What it wrote after the head was read makes the plan stale.
#[tokio::test]
async fn a_head_that_moved_before_started_makes_the_change_plan_again() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("DescribeTaskDefinition", 1, Fault::Delay(Duration::from_millis(400)));
    let other = async {
        world.journal.reached("DescribeTaskDefinition", 1).await;
        append_external(world.tables(), &site);
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), other);
    outcome.status("APPLIED");
    assert_eq!(world.journal.of("DescribeServices").len(), 2, "the snapshot is read again");
    assert_eq!(world.kinds(&site), ["EXTERNAL", "STARTED", "APPLIED"]);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
}

#[tokio::test]
async fn a_head_that_moved_after_started_keeps_no_result_from_being_recorded() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_millis(400)));
    let other = async {
        world.journal.reached("UpdateService", 1).await;
        append_external(world.tables(), &site);
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), other);
    outcome.status("APPLIED");
    assert_eq!(kinds(&world.records(&site)), ["STARTED", "EXTERNAL", "APPLIED"]);
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn a_head_that_always_moves_ends_in_change_in_progress_after_five_attempts() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.from("DescribeServices", 1, Fault::Delay(Duration::from_millis(150)));
    let other = async {
        for attempt in 1..=5 {
            world.journal.reached("DescribeServices", attempt).await;
            append_external(world.tables(), &site);
        }
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), other);
    let message = outcome.error("ChangeInProgress");
    assert!(message.starts_with("[ERROR][service_lease] service "), "{message}");
    assert!(message.ends_with("Come again in 5 seconds"), "{message}");
    assert_eq!(world.journal.of("DescribeServices").len(), 5);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["EXTERNAL"; 5]);
}
