//! The recorder: events of deployments in every order, and the sweep.

use std::time::Duration;

use aws_stub::ecs::digest_of;
use serde_json::{Value, json};

use crate::harness::journal::{Fault, Service};
use crate::harness::ledger::{self, part};
use crate::harness::{Site, World};

pub(crate) const IN_PROGRESS: &str = "SERVICE_DEPLOYMENT_IN_PROGRESS";
pub(crate) const COMPLETED: &str = "SERVICE_DEPLOYMENT_COMPLETED";
pub(crate) const FAILED: &str = "SERVICE_DEPLOYMENT_FAILED";

/// What EventBridge tells of a deployment.
pub(crate) fn event(site: &Site, name: &str, deployment_id: &str, reason: &str) -> Value {
    let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    json!({
        "version": "0", "id": "ddca6449-b258-46c0-8653-e0e3a6EXAMPLE", "detail-type": "ECS Deployment State Change",
        "source": "aws.ecs", "account": site.account, "time": at, "region": site.region,
        "resources": [site.service_arn()],
        "detail": {"eventType": if name == FAILED { "ERROR" } else { "INFO" }, "eventName": name,
                   "deploymentId": deployment_id, "updatedAt": at, "reason": reason},
    })
}

/// The reason of a deployment that takes another one back.
pub(crate) fn rolls_back_to(deployment_id: &str) -> String {
    format!("ECS deployment circuit breaker: rolling back to deploymentId {deployment_id}.")
}

/// A world in which the sample service was changed. Gives the deployments before and of that.
async fn changed() -> (World, Site, String, String) {
    let world = World::new().await;
    let site = Site::target();
    let before = world.cloud().deployment(&site);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let own = outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned();
    (world, site, before, own)
}

fn last(world: &World, site: &Site) -> Value {
    world.records(site).pop().unwrap()
}

/// The state table's item of a deployment.
fn item(world: &World, deployment_id: &str) -> serde_json::Map<String, Value> {
    let items = ledger::deployments(world.tables());
    items.into_iter().find(|item| item["id"].as_str().unwrap().ends_with(deployment_id)).unwrap()
}

#[tokio::test]
async fn the_same_event_ten_times_is_recorded_once() {
    let (world, site, _, own) = changed().await;
    assert!(item(&world, &own).contains_key("check_shard"));
    for name in [IN_PROGRESS, COMPLETED] {
        for _ in 0..10 {
            let answer = world.tell(&event(&site, name, &own, "")).await;
            answer.response();
        }
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    let (records, record) = (world.records(&site), last(&world, &site));
    assert_eq!(record["record"], format!("{}#2", records[0]["change_id"].as_str().unwrap()));
    assert_eq!((&record["deployment_id"], &record["image"]), (&json!(own), &records[1]["image"]));
    let item = item(&world, &own);
    assert_eq!((&item["outcomes"], item.get("check_shard"), item.get("check_at")), (&json!("COMPLETED"), None, None));
    let metrics = world.logs().iter().filter(|line| line.contains("DeploymentsCompleted")).count();
    assert_eq!(metrics, 1);
}

#[tokio::test]
async fn ten_at_once_are_recorded_once() {
    let (world, site, _, own) = changed().await;
    let recorders = [world.another_recorder().await, world.another_recorder().await, world.another_recorder().await];
    let event = event(&site, COMPLETED, &own, "");
    let told = futures_util::future::join_all(recorders.iter().map(|recorder| world.tell_on(recorder, &event))).await;
    let recorded = told.iter().filter(|outcome| outcome.response()["recorded"] == "COMPLETED").count();
    assert_eq!(recorded, 1, "{told:?}");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn a_rollback_ends_the_change_it_undoes_whatever_id_it_has() {
    // As far as is known, a rollback takes up the id from before; a new one would do as well.
    for has_new_id in [false, true] {
        let (world, site, before, own) = changed().await;
        let back = if has_new_id { "ecs-svc/7777".to_owned() } else { before };
        let reason = "ECS deployment circuit breaker: tasks failed to start.";
        world.tell(&event(&site, FAILED, &own, reason)).await.response();
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "DEPLOYMENT_FAILED"]);
        assert_eq!(part(&last(&world, &site), "outcome")["reason"], reason);
        for _ in 0..2 {
            world.tell(&event(&site, IN_PROGRESS, &back, &rolls_back_to(&back))).await.response();
        }
        for _ in 0..2 {
            world.tell(&event(&site, COMPLETED, &back, "")).await.response();
        }
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "DEPLOYMENT_FAILED", "ROLLED_BACK"]);
        let record = last(&world, &site);
        assert_eq!(record["deployment_id"], own.as_str());
        assert_eq!(part(&record, "outcome")["rolled_back_to"]["deployment_id"], back.as_str());
        // What comes late changes nothing any more.
        world.tell(&event(&site, FAILED, &own, reason)).await.response();
        world.tell(&event(&site, COMPLETED, &own, "")).await.response();
        assert_eq!(world.records(&site).len(), 4);
    }
}

#[tokio::test]
async fn what_is_deployed_by_hand_during_a_rollback_is_not_that_rollback() {
    let (world, site, before, own) = changed().await;
    world.tell(&event(&site, FAILED, &own, "tasks failed to start")).await.response();
    assert_eq!(item(&world, &own).get("undone_by"), None);
    world.tell(&event(&site, IN_PROGRESS, &before, &rolls_back_to(&before))).await.response();
    assert_eq!(item(&world, &own)["undone_by"], before.as_str());
    // Its end comes first.
    let by_hand = world.tell(&event(&site, COMPLETED, "ecs-svc/5", "")).await;
    assert_eq!(by_hand.response()["recorded"], "EXTERNAL", "{by_hand:?}");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "DEPLOYMENT_FAILED", "EXTERNAL"]);
}

#[tokio::test]
async fn a_rollback_that_is_heard_of_backwards() {
    let (world, site, before, own) = changed().await;
    let back = &before;
    // Its end comes first: what ECS tells of the deployment before, which is new again, says what it is.
    let first = world.tell(&event(&site, COMPLETED, back, "")).await;
    assert_eq!(first.response()["recorded"], "ROLLED_BACK", "{first:?}");
    world.tell(&event(&site, IN_PROGRESS, back, &rolls_back_to(back))).await.response();
    world.tell(&event(&site, COMPLETED, back, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "ROLLED_BACK"]);
    world.tell(&event(&site, FAILED, &own, "late")).await.response();
    assert_eq!(world.records(&site).len(), 3);
}

#[tokio::test]
async fn a_deployment_that_no_change_started_is_external_once() {
    let (world, site, _, own) = changed().await;
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    for name in [IN_PROGRESS, IN_PROGRESS, COMPLETED, FAILED] {
        world.tell(&event(&site, name, "ecs-svc/5", "ECS deployment ecs-svc/5 in progress.")).await.response();
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED", "EXTERNAL"]);
    let record = last(&world, &site);
    assert_eq!(record["deployment_id"], "ecs-svc/5");
    assert_eq!(part(&record, "outcome")["reason"], "ECS deployment ecs-svc/5 in progress.");
    // Its rollback is no change of anybody either.
    for name in [IN_PROGRESS, COMPLETED] {
        let reason = if name == IN_PROGRESS { rolls_back_to("ecs-svc/6") } else { String::new() };
        world.tell(&event(&site, name, "ecs-svc/6", &reason)).await.response();
    }
    assert_eq!(world.records(&site).len(), 4);
    // A change goes on behind it, and a service that nobody ever changed here has its ledger too.
    world.update(json!({"ecs_image_name": "httpd"})).await.status("APPLIED");
    let other = Site::new(&site.account, &site.region, "another", "service");
    world.tell(&event(&other, COMPLETED, "ecs-svc/8", "")).await.response();
    assert_eq!(world.kinds(&other), ["EXTERNAL"]);
}

#[tokio::test]
async fn an_event_that_comes_before_its_result_waits_for_it() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_secs(1)));
    let update = world.update(json!({"ecs_image_name": "nginx"}));
    let tell = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        let own = world.cloud().deployment(&site);
        world.tell(&event(&site, COMPLETED, &own, "")).await
    };
    let (updated, told) = tokio::join!(update, tell);
    updated.status("APPLIED");
    assert_eq!(told.response()["recorded"], "COMPLETED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn an_event_whose_result_does_not_come_has_to_come_again() {
    let world = World::new().await;
    let site = Site::target();
    let change = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.journal.on("ExecuteTransaction", 2, Fault::HangBefore);
    world.kill_at(&change, world.invocation(), "ExecuteTransaction", 2).await;
    let own = world.cloud().deployment(&site);
    let begins = event(&site, IN_PROGRESS, &own, "");
    let told = world.tell(&begins).await;
    assert!(told.error("TooEarly").contains("has not ended"), "{told:?}");
    // Its function is dead, and its lease ends: nobody else could have started the deployment meanwhile.
    ledger::expire_lease_at(world.tables(), &site.key(), chrono::Utc::now() - chrono::Duration::seconds(5));
    let told = world.tell(&begins).await;
    assert!(told.response()["started_by"].is_string(), "{told:?}");
    // The change is completed by the same key, and its deployment's end is its own.
    world.restart().await;
    world.invoke(&change).await.status("APPLIED");
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn a_crash_before_its_write_and_one_after_it_leave_one_record() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        let (world, site, _, own) = changed().await;
        let completed = event(&site, COMPLETED, &own, "");
        let recorder = world.another_recorder().await;
        world.journal.forget();
        world.journal.on("ExecuteTransaction", 1, fault);
        let killed = async {
            world.journal.reached("ExecuteTransaction", 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            recorder.kill().await;
        };
        tokio::join!(world.tell_on(&recorder, &completed), killed);
        world.tell(&completed).await.response();
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    }
}

#[tokio::test]
async fn a_lost_answer_and_a_busy_table_leave_one_record() {
    let (world, site, _, own) = changed().await;
    for fault in [Fault::CutAfter, Fault::refuse(400, "ThrottlingException", "Rate exceeded")] {
        world.journal.on("ExecuteTransaction", 1, fault);
    }
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn an_outcome_of_another_service_is_refused() {
    let (world, site, _, own) = changed().await;
    let other = Site::new(&site.account, &site.region, &site.cluster, "another");
    let told = world.tell(&event(&other, COMPLETED, &own, "")).await;
    assert!(told.response()["refused"].as_str().unwrap().contains("is about"), "{told:?}");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    assert_eq!(world.records(&other).len(), 0);
}

#[tokio::test]
async fn events_of_a_service_with_a_short_arn_find_its_deployment_or_are_left_to_the_sweep() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    let short = site.service_arn().replace(&format!("/{}/", site.cluster), "/");
    world.seed_with(&site, |service| service["serviceArn"] = json!(short));
    let before = world.cloud().deployment(&site);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let own = outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned();
    let heard = async |name: &str, id: &str| {
        let mut event = event(&site, name, id, "");
        event["resources"] = json!([short]);
        world.tell(&event).await.response().clone()
    };
    for (name, id) in [(IN_PROGRESS, "ecs-svc/5"), (COMPLETED, "ecs-svc/5"), (FAILED, before.as_str())] {
        let told = heard(name, id).await;
        assert!(told["nothing"].as_str().unwrap().contains("does not name its cluster"), "{told}");
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    for _ in 0..2 {
        heard(COMPLETED, &own).await;
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn an_outcome_stands_behind_a_result_that_came_late() {
    let world = World::new().await;
    let site = Site::target();
    let slow = site.event(json!({"ecs_image_name": "httpd", "idempotency_key": "slow"}));
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_secs(1)));
    let process = world.process();
    let late = world.invoke_on(&process, slow.to_string().into_bytes(), world.invocation());
    let meanwhile = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        let own = world.cloud().deployment(&site);
        ledger::expire_lease(world.tables(), &site.key());
        let other = world.another_process().await;
        let event = site.event(json!({"ecs_tag": {"a": "1"}}));
        world.invoke_on(&other, event.to_string().into_bytes(), world.invocation()).await.status("APPLIED");
        own
    };
    let (late, own) = tokio::join!(late, meanwhile);
    late.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "ABANDONED", "STARTED", "APPLIED", "APPLIED"]);
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    let record = last(&world, &site);
    assert_eq!(record["kind"], "COMPLETED");
    assert!(record["record"].as_str().unwrap().ends_with("#3"), "{record}");
}

#[tokio::test]
async fn what_is_no_deployment_event_is_refused_with_its_reason() {
    let (world, site, _, own) = changed().await;
    let mut forged = event(&site, COMPLETED, &own, "");
    forged["account"] = "999999999999".into();
    for wrong in [json!({}), json!([]), forged] {
        world.tell(&wrong).await.error("EventNotUnderstood");
    }
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

async fn sweep(world: &World) -> Value {
    let answer = world.tell(&json!({"sweep": {}})).await;
    answer.response()["swept"].clone()
}

#[tokio::test]
async fn the_sweep_asks_about_what_is_due_and_nothing_else() {
    let (world, site, _, own) = changed().await;
    world.journal.forget();
    assert_eq!(sweep(&world).await["asked"], 0);
    assert!(world.journal.actions(Service::Ecs).is_empty());

    ledger::make_due(world.tables(), &own);
    let swept = sweep(&world).await;
    assert_eq!((&swept["asked"], &swept["open"]), (&json!(1), &json!(1)));
    // It is put off.
    assert_eq!(sweep(&world).await["asked"], 0);

    world.cloud().tell(&site, &own, "SUCCESSFUL", &json!({}));
    ledger::make_due(world.tables(), &own);
    let swept = sweep(&world).await;
    assert_eq!((&swept["asked"], &swept["settled"]), (&json!(1), &json!(1)));
    // Each that came to its end is counted: an alarm hears where none does any more.
    assert_eq!(world.logs().iter().filter(|line| line.contains("SweepsDone")).count(), 4);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    let session = world.sessions().pop().unwrap();
    assert_eq!(session.role_arn, format!("arn:aws:iam::{}:role/ecs-updater/ecs-updater-reader", site.account));
    assert!(session.name.starts_with("ecsu-"), "{}", session.name);
    assert_eq!(last(&world, &site)["session"], session.name);
    assert!(world.journal.actions(Service::DynamoDb).iter().all(|action| action != "Scan"));
}

#[tokio::test]
async fn the_sweep_settles_each_ending() {
    let breaker = json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}, "statusReason": "tasks failed to start"});
    let rolled_back = json!({"rollback": {"reason": "alarm", "serviceRevisionArn": "arn:r/1"}});
    for (status, more, expected) in [
        ("SUCCESSFUL", json!({}), "COMPLETED"),
        ("ROLLBACK_SUCCESSFUL", rolled_back, "ROLLED_BACK"),
        ("ROLLBACK_FAILED", json!({}), "ROLLBACK_FAILED"),
        ("STOPPED", json!({}), "STOPPED"),
        ("STOPPED", breaker, "DEPLOYMENT_FAILED"),
    ] {
        let (world, site, _, own) = changed().await;
        world.cloud().tell(&site, &own, status, &more);
        ledger::make_due(world.tables(), &own);
        assert_eq!(sweep(&world).await["settled"], 1, "{status}");
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", expected], "{status}");
        assert_eq!(item(&world, &own).get("check_shard"), None);
    }
}

#[tokio::test]
async fn the_sweep_names_the_change_that_took_over() {
    let (world, site, _, own) = changed().await;
    let newer = world.update(json!({"ecs_image_name": "httpd"})).await;
    let newer = newer.status("APPLIED").clone();
    ledger::make_due(world.tables(), &own);
    assert_eq!(sweep(&world).await["settled"], 1);
    let record = last(&world, &site);
    assert_eq!(record["kind"], "SUPERSEDED");
    let by = part(&record, "outcome")["superseded_by"].clone();
    assert_eq!((&by["deployment_id"], &by["change_id"]), (&newer["deployment_id"], &newer["change_id"]));
}

#[tokio::test]
async fn the_sweep_closes_what_events_left_open() {
    let (world, site, _, own) = changed().await;
    world.tell(&event(&site, FAILED, &own, "tasks failed to start")).await.response();
    assert!(item(&world, &own).contains_key("check_shard"), "a rollback may follow");
    world.cloud().tell(&site, &own, "STOPPED", &json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}}));
    ledger::make_due(world.tables(), &own);
    sweep(&world).await;
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "DEPLOYMENT_FAILED"]);
    assert_eq!(item(&world, &own).get("check_shard"), None);
}

/// The end that the sweep records of a deployment that `then` becomes of.
async fn swept_as(then: impl FnOnce(&World, &str)) -> Value {
    let (world, site, _, own) = changed().await;
    then(&world, &own);
    ledger::make_due(world.tables(), &own);
    assert_eq!(sweep(&world).await["settled"], 1, "{:?}", world.logs());
    assert_eq!(item(&world, &own).get("check_shard"), None);
    last(&world, &site)
}

#[tokio::test]
async fn the_sweep_tells_the_same_ends_as_a_wait() {
    let site = Site::target();
    let record = swept_as(|world, _| world.cloud().deleted(&site)).await;
    assert_eq!(
        (&record["kind"], &part(&record, "outcome")["reason"]),
        (&json!("STOPPED"), &json!("the service was deleted"))
    );
    let record = swept_as(|world, _| {
        world.cloud().edit(&site, |service| {
            service["deployments"].as_array_mut().unwrap().truncate(1);
            service["deployments"][0].as_object_mut().unwrap().retain(|name, _| !name.starts_with("rollout"));
        });
    })
    .await;
    assert_eq!(record["kind"], "COMPLETED");
    let record = swept_as(|world, _| {
        world.cloud().edit(&site, |service| {
            service["deploymentConfiguration"]["deploymentCircuitBreaker"] = json!({"enable": true, "rollback": true});
            service["deployments"].as_array_mut().unwrap().truncate(1);
            service["deployments"][0]["rolloutState"] = "FAILED".into();
            service["deployments"][0]["updatedAt"] =
                aws_stub::seconds(chrono::Utc::now() - chrono::TimeDelta::minutes(2)).into();
        });
    })
    .await;
    assert_eq!(record["kind"], "DEPLOYMENT_FAILED");
    let reason = part(&record, "outcome")["reason"].clone();
    assert!(reason.as_str().unwrap().ends_with("there is no completed deployment to go back to"), "{reason}");
    let record = swept_as(|world, own| {
        let denied = Fault::refuse(400, "AccessDeniedException", "not authorized");
        world.journal.from("DescribeServiceDeployments", 1, denied);
        world.cloud().tell(&site, own, "SUCCESSFUL", &json!({}));
    })
    .await;
    assert_eq!(record["kind"], "COMPLETED");
    assert!(part(&record, "outcome")["running_images"].is_object(), "{record}");
}

#[tokio::test]
async fn the_next_sweep_knows_the_rollback_that_the_one_before_saw() {
    let (world, site, before, own) = changed().await;
    let back = world.cloud().take_over(&site, "IN_PROGRESS", &rolls_back_to(&before));
    ledger::make_due(world.tables(), &own);
    assert_eq!(sweep(&world).await["open"], 1);
    assert_eq!(item(&world, &own)["undone_by"], back.as_str());
    world.cloud().edit(&site, |service| {
        service["deployments"].as_array_mut().unwrap().truncate(1);
        service["deployments"][0]["rolloutState"] = "COMPLETED".into();
        service["deployments"][0]["rolloutStateReason"] = "ECS deployment completed.".into();
    });
    ledger::make_due(world.tables(), &own);
    assert_eq!(sweep(&world).await["settled"], 1);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "ROLLED_BACK"]);
}

#[tokio::test]
async fn a_completed_deployment_that_an_event_tells_says_which_digests_run() {
    let (world, site, _, own) = changed().await;
    world.cloud().tell(&site, &own, "SUCCESSFUL", &json!({}));
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    let (record, applied) = (last(&world, &site), world.records(&site)[1].clone());
    let outcome = part(&record, "outcome");
    let images = part(&applied, "after")["images"].clone();
    let images = images.as_object().unwrap().iter();
    let digests: Value = images.map(|(name, image)| (name.clone(), digest_of(image.as_str().unwrap()))).collect();
    assert_eq!((&record["kind"], &outcome["running_images"]), (&json!("COMPLETED"), &digests));
    assert!(outcome["service_deployment"].as_str().unwrap().contains(":service-deployment/"), "{outcome}");
    // The same event again asks nothing.
    world.journal.forget();
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert!(world.journal.actions(Service::Ecs).is_empty());
}

#[tokio::test]
async fn an_end_is_recorded_where_nobody_can_be_asked_what_runs() {
    let (world, site, _, own) = changed().await;
    world.journal.about("AssumeRole", &site.account, Fault::refuse(403, "AccessDenied", "not authorized"));
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    assert_eq!(part(&last(&world, &site), "outcome").get("running_images"), None);
    assert!(world.logs().iter().any(|line| line.contains("which images run cannot be asked")));
}

#[tokio::test]
async fn what_cannot_be_asked_about_does_not_keep_the_rest_waiting() {
    let (world, site, _, own) = changed().await;
    let other = Site::new(crate::harness::OTHER_TARGET, &site.region, "prod", "edge");
    world.seed(&other);
    let outcome = world.invoke(&other.event(json!({"ecs_image_name": "nginx"}))).await;
    let others = outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned();
    for (site, id) in [(&site, &own), (&other, &others)] {
        world.cloud().tell(site, id, "SUCCESSFUL", &json!({}));
        ledger::make_due(world.tables(), id);
    }
    world.journal.about("AssumeRole", &site.account, Fault::refuse(403, "AccessDenied", "not authorized"));
    let swept = sweep(&world).await;
    assert_eq!((&swept["settled"], &swept["failed"]), (&json!(1), &json!(1)));
    assert_eq!(world.kinds(&other), ["STARTED", "APPLIED", "COMPLETED"]);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    assert!(world.logs().iter().any(|line| line.contains("could not be assumed") && line.contains("reader role")));
    assert!(world.logs().iter().any(|line| line.contains("DeploymentsNotAsked")));
}

#[tokio::test]
async fn events_of_blue_green_deployments_are_left_to_the_sweep() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| service["deploymentConfiguration"]["strategy"] = "BLUE_GREEN".into());
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let own = outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned();
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    world.cloud().tell(&site, &own, "IN_PROGRESS", &json!({"lifecycleStage": "BAKE_TIME"}));
    ledger::make_due(world.tables(), &own);
    assert_eq!(sweep(&world).await["open"], 1);
    world.cloud().tell(&site, &own, "SUCCESSFUL", &json!({}));
    ledger::make_due(world.tables(), &own);
    sweep(&world).await;
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

/// Services that somebody made up in the target account.
fn made_up(number: usize) -> Site {
    let site = Site::target();
    Site::new(&site.account, &site.region, "made-up", &format!("service-{number}"))
}

fn today() -> String {
    chrono::Utc::now().date_naive().to_string()
}

#[tokio::test]
async fn made_up_services_get_ledgers_within_a_budget_and_the_rest_is_one_count() {
    let (world, site, _, own) = changed().await;
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    let id = |number: usize| format!("ecs-svc/{}", 1000 + number);
    for number in 1..=24 {
        for name in [IN_PROGRESS, IN_PROGRESS, COMPLETED] {
            world.tell(&event(&made_up(number), name, &id(number), "made up")).await.response();
        }
    }
    let recorded = |world: &World| (1..=24).filter(|number| !world.records(&made_up(*number)).is_empty()).count();
    assert_eq!(recorded(&world), 20);
    assert_eq!(world.kinds(&made_up(20)), ["EXTERNAL"]);
    // A service that has a ledger of such records only is not known for it.
    let again = world.tell(&event(&made_up(1), COMPLETED, "ecs-svc/1", "once more")).await;
    assert_eq!(again.response()["counted"], 5, "{again:?}");
    assert!(world.logs().iter().any(|line| line.contains("DeploymentsNotRecorded")));
    // What the door knows, and what is in another account, is recorded all the same.
    let known = world.tell(&event(&site, IN_PROGRESS, "ecs-svc/2", "by hand")).await;
    assert_eq!(known.response()["recorded"], "EXTERNAL", "{known:?}");
    let elsewhere = Site::new(crate::harness::OTHER_TARGET, &site.region, "made-up", "service");
    let other = world.tell(&event(&elsewhere, IN_PROGRESS, "ecs-svc/3", "")).await;
    assert_eq!(other.response()["recorded"], "EXTERNAL", "{other:?}");
    // The day is not over.
    assert_eq!(sweep(&world).await["told"], 0);
    ledger::make_due(world.tables(), &today());
    assert_eq!(sweep(&world).await["told"], 1);
    assert_eq!(sweep(&world).await["told"], 0, "once");
    let record = last(&world, &made_up(1));
    assert_eq!((&record["kind"], &record["deployment_id"]), (&json!("EXTERNAL"), &json!("ecs-svc/1")));
    assert_eq!(part(&record, "outcome")["more"], 4);
    assert_eq!(recorded(&world), 20);
}

#[tokio::test]
async fn an_account_that_may_not_be_changed_has_a_budget_for_all_its_services() {
    let (world, site, _, own) = changed().await;
    world.tell(&event(&site, COMPLETED, &own, "")).await.response();
    world.set_variable("ALLOWED_ACCOUNTS", crate::harness::OTHER_TARGET);
    let recorder = world.another_recorder().await;
    for number in 1..=21 {
        let told = world.tell_on(&recorder, &event(&site, IN_PROGRESS, &format!("ecs-svc/{number}"), "by hand")).await;
        let expected = if number == 21 { json!({"counted": 1}) } else { told.response().clone() };
        assert_eq!(*told.response(), expected, "{number}");
    }
    assert_eq!(world.kinds(&site).iter().filter(|kind| *kind == "EXTERNAL").count(), 20);
}

#[tokio::test]
async fn events_of_one_account_that_come_at_once_use_its_budget_one_by_one() {
    let (world, _, _, _) = changed().await;
    let recorders = [world.another_recorder().await, world.another_recorder().await, world.another_recorder().await];
    let tell = async |number: usize| {
        let event = event(&made_up(number), IN_PROGRESS, &format!("ecs-svc/{number}"), "");
        world.tell_on(&recorders[number % 3], &event).await.response().clone()
    };
    let mut told = Vec::new();
    for round in 0..8 {
        let (one, two, three) = tokio::join!(tell(3 * round), tell(3 * round + 1), tell(3 * round + 2));
        told.extend([one, two, three]);
    }
    assert_eq!(told.iter().filter(|answer| answer["recorded"] == "EXTERNAL").count(), 20);
    assert_eq!(told.iter().filter(|answer| answer["counted"].is_number()).count(), 4);
}
