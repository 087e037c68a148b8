//! Outcomes go to the change that they are of: events that are late, twice or out of order, deployments by hand, functions that died.

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::ledger::{self, part};
use crate::harness::{Site, World};
use crate::recorder::{COMPLETED, FAILED, IN_PROGRESS, event, rolls_back_to};

/// An event of another time than now.
fn dated(mut event: Value, at: chrono::DateTime<chrono::Utc>) -> Value {
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    event["time"] = at.as_str().into();
    event["detail"]["updatedAt"] = at.into();
    event
}

/// Changes the sample service; gives the new deployment.
async fn changed(world: &World, image: &str) -> String {
    let outcome = world.update(json!({"ecs_image_name": image})).await;
    outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned()
}

/// A change whose function dies behind its UpdateService. Gives the deployment that it started, and its event.
async fn died(world: &World) -> (String, Value) {
    let site = Site::target();
    let change = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.journal.on("ExecuteTransaction", 2, Fault::HangBefore);
    world.kill_at(&change, world.invocation(), "ExecuteTransaction", 2).await;
    (world.cloud().deployment(&site), change)
}

async fn sweep(world: &World, deployment_id: &str) -> Value {
    ledger::make_due(world.tables(), deployment_id);
    world.tell(&json!({"sweep": {}})).await.response()["swept"].clone()
}

#[tokio::test]
async fn a_late_rollback_event_does_not_end_a_newer_change() {
    let (world, site) = (World::new().await, Site::target());
    let before = world.cloud().deployment(&site);
    let first = changed(&world, "nginx").await;
    let began = chrono::Utc::now();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let second = changed(&world, "httpd").await;
    world.tell(&dated(event(&site, IN_PROGRESS, &before, &rolls_back_to(&before)), began)).await.response();
    // Both are of the time before the newer change: behind its beginning the rollback would be overtaken, and have no end.
    world.tell(&dated(event(&site, COMPLETED, &before, ""), began)).await.response();
    world.tell(&event(&site, COMPLETED, &second, "")).await.response();
    let records = world.records(&site);
    let of = |id: &str| {
        let kinds = records
            .iter()
            .filter(|record| record["deployment_id"] == id)
            .map(|record| record["kind"].as_str().unwrap());
        kinds.collect::<Vec<_>>()
    };
    assert_eq!((of(&first), of(&second)), (vec!["APPLIED", "ROLLED_BACK"], vec!["APPLIED", "COMPLETED"]));
}

#[tokio::test]
async fn a_late_duplicate_is_not_the_rollbacks_end() {
    let (world, site) = (World::new().await, Site::target());
    let first = changed(&world, "nginx").await;
    let ended = chrono::Utc::now();
    world.tell(&event(&site, COMPLETED, &first, "")).await.response();
    let _second = changed(&world, "httpd").await;
    world.tell(&event(&site, IN_PROGRESS, &first, &rolls_back_to(&first))).await.response();
    world.tell(&dated(event(&site, COMPLETED, &first, ""), ended)).await.response();
    assert!(!world.kinds(&site).contains(&"ROLLED_BACK".to_owned()));
    world.tell(&event(&site, FAILED, &first, "tasks failed to start")).await.response();
    assert_eq!(world.kinds(&site).last().unwrap(), "ROLLBACK_FAILED");
}

#[tokio::test]
async fn what_is_deployed_by_hand_in_a_dead_changes_lease_is_external() {
    let (world, site) = (World::new().await, Site::target());
    let change = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.journal.on("UpdateService", 1, Fault::HangBefore);
    world.kill_at(&change, world.invocation(), "UpdateService", 1).await;
    let by_hand = world.cloud().take_over(&site, "IN_PROGRESS", "");
    // It runs what ran before, and the change wanted another image: nothing to wait for, though the lease stands.
    let told = world.tell(&event(&site, IN_PROGRESS, &by_hand, "")).await;
    assert_eq!(told.response()["recorded"], "EXTERNAL", "{told:?}");
}

#[tokio::test]
async fn an_end_that_comes_first_is_of_the_change_whose_function_died() {
    let (world, site) = (World::new().await, Site::target());
    let (own, change) = died(&world).await;
    for name in [COMPLETED, IN_PROGRESS] {
        let began = std::time::Instant::now();
        world.tell(&event(&site, name, &own, "")).await.error("TooEarly");
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    }
    ledger::expire_lease(world.tables(), &site.key());
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "COMPLETED"]);
    let records = world.records(&site);
    assert_eq!(records[0]["image"], records[1]["image"], "who asks by image is told the same");
    world.restart().await;
    world.invoke(&change).await.status("APPLIED");
}

#[tokio::test]
async fn a_deployment_noted_for_a_dead_change_is_settled_by_the_sweep() {
    let (world, site) = (World::new().await, Site::target());
    let before = world.cloud().deployment(&site);
    let (own, _) = died(&world).await;
    ledger::expire_lease(world.tables(), &site.key());
    world.tell(&event(&site, IN_PROGRESS, &own, "")).await.response();
    let item = ledger::deployments(world.tables())
        .into_iter()
        .find(|item| item["id"].as_str().unwrap().ends_with(&own))
        .unwrap();
    assert_eq!(item["before"], before.as_str());
    assert_ne!(item["repositories"], "[]");
    world.cloud().roll_out(&site, "COMPLETED");
    assert_eq!(sweep(&world, &own).await["settled"], 1);
    assert_eq!(world.kinds(&site), ["STARTED", "COMPLETED"]);
}

#[tokio::test]
async fn what_took_over_between_two_attempts_is_not_the_changes() {
    let (world, site) = (World::new().await, Site::target());
    let forced = json!({"force_new_deployment": true, "ecs_tag": {"release": "1"}, "idempotency_key": "k"});
    let change = site.event(forced);
    world.journal.from("TagResource", 1, Fault::refuse(500, "ServerException", "try again"));
    world.invoke(&change).await.error("TagUpdateFailed");
    world.journal.mend();
    ledger::expire_lease(world.tables(), &site.key());
    let own = world.cloud().deployment(&site);
    // As after a rollback: another deployment, and it runs what ran before, which is what a forced deployment wants.
    let other = world.cloud().take_over(&site, "COMPLETED", "");
    world.invoke(&change).await.status("APPLIED");
    let named =
        world.records(&site).into_iter().filter_map(|record| record["deployment_id"].as_str().map(str::to_owned));
    let named: Vec<String> = named.filter(|id| !id.is_empty()).collect();
    assert_eq!(named, [own], "and not {other}");
}

#[tokio::test]
async fn a_change_that_is_closed_keeps_its_deployment() {
    let (world, site) = (World::new().await, Site::target());
    let (own, _) = died(&world).await;
    ledger::expire_lease(world.tables(), &site.key());
    world.restart().await;
    changed(&world, "httpd").await;
    let records = world.records(&site);
    assert_eq!((&records[1]["kind"], &records[1]["deployment_id"]), (&json!("ABANDONED"), &json!(own)));
    assert_eq!(sweep(&world, &own).await["settled"], 1);
    let last = world.records(&site).pop().unwrap();
    assert_eq!((&last["kind"], &last["change_id"]), (&json!("SUPERSEDED"), &records[0]["change_id"]));
    assert!(!world.kinds(&site).contains(&"EXTERNAL".to_owned()));
}

#[tokio::test]
async fn a_service_made_anew_is_another_one() {
    let (world, site) = (World::new().await, Site::target());
    let old = changed(&world, "nginx").await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    world.cloud().edit(&site, |service| service["createdAt"] = aws_stub::seconds(chrono::Utc::now()).into());
    let anew = world.cloud().take_over(&site, "COMPLETED", "");
    world.cloud().edit(&site, |service| service["deployments"].as_array_mut().unwrap().truncate(1));
    let told = world.tell(&event(&site, COMPLETED, &anew, "")).await;
    assert_eq!(told.response()["recorded"], "EXTERNAL", "{told:?}");
    assert_eq!(sweep(&world, &old).await["settled"], 1);
    let last = world.records(&site).pop().unwrap();
    assert_eq!(
        (&last["kind"], part(&last, "outcome")["reason"].as_str()),
        (&json!("STOPPED"), Some("the service was deleted"))
    );
}

#[tokio::test]
async fn an_id_that_no_deployment_can_have_is_not_understood() {
    let (world, site) = (World::new().await, Site::target());
    let told = world.tell(&event(&site, COMPLETED, &format!("ecs-svc/{}", "1".repeat(3_000)), "")).await;
    told.error("EventNotUnderstood");
}

#[tokio::test]
async fn external_events_of_a_busy_service_are_recorded() {
    let (world, site) = (World::new().await, Site::target());
    for nth in 1..=4 {
        world.journal.on("ExecuteTransaction", nth, Fault::refuse(400, "TransactionConflictException", "busy"));
    }
    let told = world.tell(&event(&site, IN_PROGRESS, "ecs-svc/5", "by hand")).await;
    assert_eq!(told.response()["recorded"], "EXTERNAL", "{told:?}");
    assert_eq!(world.kinds(&site), ["EXTERNAL"]);
}
