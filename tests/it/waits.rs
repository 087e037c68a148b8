//! `wait_seconds`: the deployment of a change, followed to its end.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::journal::{Fault, Service};
use crate::harness::lambda::Outcome;
use crate::harness::ledger::{self, part};
use crate::harness::{Site, World};

/// Changes the sample service and waits; `then` is what becomes of the deployment once it is there.
async fn waited(world: &World, changes: Value, then: impl FnOnce(&World, &str)) -> Outcome {
    let site = Site::target();
    let before = world.cloud().deployment(&site);
    let update = world.update(changes);
    let ends = async {
        loop {
            let now = world.cloud().deployment(&site);
            if now != before {
                return then(world, &now);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(update, ends).0
}

fn wanted() -> Value {
    json!({"ecs_image_name": "nginx", "wait_seconds": 30, "idempotency_key": "k"})
}

/// The last record is of `kind`, and the answer and it say the same.
#[track_caller]
fn assert_recorded(world: &World, body: &Value, kind: &str) {
    let record = world.records(&Site::target()).pop().unwrap();
    assert_eq!(record["kind"], kind);
    assert_eq!(part(&record, "outcome"), body["outcome"]);
    assert_eq!((&record["change_id"], &record["deployment_id"]), (&body["change_id"], &body["deployment_id"]));
    let deployments = ledger::deployments(world.tables());
    let own = deployments.iter().find(|item| item["change_id"] == body["change_id"]).unwrap();
    assert_eq!((&own["outcomes"], own.get("open")), (&json!(kind), None));
}

#[tokio::test]
async fn each_ending_is_answered_and_recorded() {
    let site = Site::target();
    let breaker = json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}, "statusReason": "tasks failed to start"});
    let rolled_back = json!({"rollback": {"reason": "circuit breaker", "serviceRevisionArn": "arn:revision/1"}});
    for (status, more, expected) in [
        ("SUCCESSFUL", json!({}), "COMPLETED"),
        ("ROLLBACK_SUCCESSFUL", rolled_back, "ROLLED_BACK"),
        ("ROLLBACK_FAILED", breaker.clone(), "ROLLBACK_FAILED"),
        ("STOPPED", json!({}), "STOPPED"),
        ("STOPPED", breaker, "DEPLOYMENT_FAILED"),
    ] {
        let world = World::new().await;
        let outcome = waited(&world, wanted(), |world, own| world.cloud().tell(&site, own, status, &more)).await;
        let body = outcome.status(expected).clone();
        assert_recorded(&world, &body, expected);
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", expected]);
        if expected == "ROLLED_BACK" {
            assert_eq!(body["outcome"]["reason"], "circuit breaker");
            assert_eq!(body["outcome"]["rolled_back_to"]["service_revision"], "arn:revision/1");
        }
        // The same key answers so again, without looking.
        world.journal.forget();
        let again = world.update(wanted()).await;
        let again = again.status(expected);
        assert_eq!((&again["replayed"], &again["outcome"]), (&json!(true), &body["outcome"]));
        assert!(world.journal.actions(Service::Ecs).is_empty());
        assert_eq!(world.records(&site).len(), 3);
    }
}

#[tokio::test]
async fn a_circuit_breaker_rollback_as_the_service_shows_it() {
    let (world, site) = (World::new().await, Site::target());
    let before = world.cloud().deployment(&site);
    let old = world.cloud().service(&site)["taskDefinition"].clone();
    let outcome = waited(&world, wanted(), |world, own| {
        // ECS takes up the deployment from before, newly created.
        let back = world.cloud().take_over(&site, "COMPLETED", "ECS deployment completed.");
        world.cloud().edit(&site, |service| {
            let deployments = service["deployments"].as_array_mut().unwrap();
            for deployment in deployments.iter_mut() {
                if deployment["id"] == back {
                    deployment["id"] = before.as_str().into();
                    deployment["taskDefinition"] = old.clone();
                } else if deployment["id"] == own {
                    deployment["rolloutState"] = "FAILED".into();
                    deployment["rolloutStateReason"] = "ECS deployment circuit breaker: tasks failed to start.".into();
                }
            }
            deployments.truncate(2);
            service["deploymentConfiguration"]["deploymentCircuitBreaker"] = json!({"enable": true, "rollback": true});
        });
    })
    .await;
    let body = outcome.status("ROLLED_BACK").clone();
    assert_eq!(body["outcome"]["rolled_back_to"]["deployment_id"], before.as_str());
    assert_eq!(body["outcome"]["rolled_back_to"]["task_definition"], old);
    assert!(body["outcome"]["reason"].as_str().unwrap().contains("tasks failed to start"));
    assert_recorded(&world, &body, "ROLLED_BACK");
}

#[tokio::test]
async fn a_newer_deployment_takes_over() {
    let (world, site) = (World::new().await, Site::target());
    let waits = waited(&world, wanted(), |_, _| {});
    let other = async {
        // Nothing is leased while it waits.
        world.journal.reached("ListServiceDeployments", 1).await;
        let other = world.another_process().await;
        let event = site.event(json!({"ecs_image_name": "httpd"}));
        world.invoke_on(&other, event.to_string().into_bytes(), world.invocation()).await
    };
    let (outcome, newer) = tokio::join!(waits, other);
    let (body, newer) = (outcome.status("SUPERSEDED"), newer.status("APPLIED").clone());
    let by = &body["outcome"]["superseded_by"];
    assert_eq!((&by["deployment_id"], &by["change_id"]), (&newer["deployment_id"], &newer["change_id"]));
    assert_eq!(by["task_definition"], newer["AFTER"]["taskDefinitionArn"]);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED", "SUPERSEDED"]);
}

#[tokio::test]
async fn a_deployment_that_vanishes_times_out_or_is_superseded() {
    let (world, site) = (World::new().await, Site::target());
    let mut asked = wanted();
    asked["wait_seconds"] = 3.into();
    let outcome = waited(&world, asked, |world, _| {
        world.cloud().edit(&site, |service| {
            service["deployments"][0]["id"] = "ecs-svc/other".into();
            service["deployments"][0]["createdAt"] = 1_763_600_000.5.into();
        });
    })
    .await;
    let body = outcome.status("TIMED_OUT");
    assert!(body["notes"][0].as_str().unwrap().contains("not among the service's deployments"), "{body}");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn what_times_out_can_be_waited_for_again() {
    let (world, site) = (World::new().await, Site::target());
    let mut asked = wanted();
    asked["wait_seconds"] = 2.into();
    let began = std::time::Instant::now();
    let outcome = world.update(asked.clone()).await;
    let body = outcome.status("TIMED_OUT").clone();
    assert!((2..6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(
        body["notes"][0].as_str().unwrap().contains("1 of 2 tasks run")
            || body["notes"][0].as_str().unwrap().contains("IN_PROGRESS"),
        "{body}"
    );
    assert_eq!(body.get("outcome"), None);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    ledger::assert_free(world.tables(), &site.key());

    world.cloud().roll_out(&site, "COMPLETED");
    // However long is waited, it is the same event.
    asked["wait_seconds"] = 20.into();
    let again = world.update(asked).await;
    let again = again.status("COMPLETED");
    assert_eq!((&again["replayed"], &again["change_id"]), (&json!(true), &body["change_id"]));
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    assert_eq!(world.journal.of("UpdateService").len(), 1);
}

/// Who died counts as waiting until the time that it had, and no longer.
#[tokio::test]
async fn who_dies_while_waiting_waits_on_with_the_same_key() {
    let (world, site) = (World::new().await, Site::target());
    let mut asked = wanted();
    asked["wait_seconds"] = 8.into();
    world.journal.on("ListServiceDeployments", 1, Fault::HangBefore);
    world.kill_at(&site.event(asked.clone()), world.invocation(), "ListServiceDeployments", 1).await;
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    let until = waiter_until(&world);
    assert!(until - Utc::now() < TimeDelta::seconds(8), "{until}");
    world.restart().await;
    assert_told_at_once(&world.update(asked.clone()).await);
    tokio::time::sleep((until - Utc::now()).to_std().unwrap_or_default()).await;
    // From now on this one waits, and says so.
    let (again, ()) = tokio::join!(world.update(asked), async {
        let marked = async {
            while waiter_until(&world) <= until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), marked).await.expect("a mark of its own");
        world.cloud().roll_out(&site, "COMPLETED");
    });
    again.status("COMPLETED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn who_cannot_follow_a_deployment_keeps_nobody_from_it() {
    let world = World::new().await;
    world.journal.on("DescribeServices", 2, Fault::refuse(400, "AccessDeniedException", "explicit deny in an SCP"));
    let first = world.update(wanted()).await;
    let notes = first.status("TIMED_OUT")["notes"].to_string();
    assert!(notes.contains("it cannot be followed"), "{notes}");
    assert!(waiter_until(&world) <= Utc::now());
    world.cloud().roll_out(&Site::target(), "COMPLETED");
    world.update(wanted()).await.status("COMPLETED");
}

/// Until when somebody waits, by the one key that there is.
fn waiter_until(world: &World) -> DateTime<Utc> {
    let keys = ledger::keys(world.tables());
    assert_eq!(keys.len(), 1);
    keys[0]["waiter_until"].as_str().unwrap().parse().unwrap()
}

#[track_caller]
fn assert_told_at_once(outcome: &Outcome) {
    let body = outcome.status("TIMED_OUT");
    let notes = body["notes"].to_string();
    assert!(notes.contains("another invocation waits for this deployment already, until 20"), "{body}");
    assert!(notes.contains("at the latest") && notes.contains("ask the history function"), "{body}");
    assert_eq!(body["replayed"], true);
}

#[tokio::test]
async fn who_waits_beside_another_is_told_the_state_at_once() {
    let (world, site) = (World::new().await, Site::target());
    let first = world.update(wanted());
    let others = async {
        world.journal.reached("ListServiceDeployments", 1).await;
        let other = world.another_process().await;
        world.journal.forget();
        for seconds in [30, 840] {
            let mut asked = site.event(wanted());
            asked["wait_seconds"] = seconds.into();
            let began = std::time::Instant::now();
            let told = world.invoke_on(&other, asked.to_string().into_bytes(), world.invocation()).await;
            assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
            assert_told_at_once(&told);
            assert!(told.body()["notes"].to_string().contains("tasks run"), "{told:?}");
        }
        // Looked at, and not written.
        assert!(world.journal.of("ExecuteTransaction").is_empty());
        let asked = site.event(wanted()).to_string().into_bytes();
        world.cloud().roll_out(&site, "COMPLETED");
        // What has ended is told as it ended, whoever waits.
        world.invoke_on(&other, asked, world.invocation()).await.status("COMPLETED");
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.status("COMPLETED")["replayed"], false);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

/// The first event asked for no waiting, as the key of an earlier version, which knows no waiters.
#[tokio::test]
async fn of_several_who_come_to_wait_one_does() {
    let (world, site) = (World::new().await, Site::target());
    let mut asked = wanted();
    asked["wait_seconds"] = 0.into();
    world.update(asked).await.status("APPLIED");
    assert_eq!(ledger::keys(world.tables())[0].get("waiter_until"), None);
    let mut asked = site.event(wanted());
    asked["wait_seconds"] = 4.into();
    let bytes = || asked.to_string().into_bytes();
    let processes = [world.another_process().await, world.another_process().await, world.another_process().await];
    // Each has read that nobody waits before anybody says so.
    world.journal.from("ExecuteTransaction", 1, Fault::Delay(Duration::from_millis(500)));
    let all = processes.iter().map(|process| world.invoke_on(process, bytes(), world.invocation()));
    let told = futures_util::future::join_all(all).await;
    let waits = |outcome: &&Outcome| !outcome.status("TIMED_OUT")["notes"].to_string().contains("another invocation");
    assert_eq!(told.iter().filter(waits).count(), 1, "{told:#?}");
}

#[tokio::test]
async fn no_tasks_wanted_is_told_apart_from_success() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| service["desiredCount"] = 0.into());
    let outcome = waited(&world, wanted(), |world, _| {
        world.cloud().edit(&site, |service| service["deployments"][0]["desiredCount"] = 0.into());
        world.cloud().roll_out(&site, "COMPLETED");
    })
    .await;
    let body = outcome.status("COMPLETED");
    assert_eq!(body["outcome"]["no_tasks_wanted"], true);
    assert!(body["notes"][0].as_str().unwrap().contains("no tasks are wanted"), "{body}");
}

#[tokio::test]
async fn where_no_deployment_was_started_there_is_nothing_to_wait_for() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = world.update(json!({"ecs_tag": {"a": "1"}, "wait_seconds": 30})).await;
    let body = outcome.status("APPLIED");
    assert!(body["notes"][0].as_str().unwrap().contains("nothing to wait for"), "{body}");
    world.update(json!({"ecs_tag": {"a": "1"}, "wait_seconds": 30})).await.status("UNCHANGED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "UNCHANGED"]);
}

#[tokio::test]
async fn throttling_and_a_refused_list_are_survived() {
    let (world, site) = (World::new().await, Site::target());
    world.journal.on("ListServiceDeployments", 1, Fault::refuse(400, "AccessDeniedException", "no"));
    let outcome = waited(&world, wanted(), |world, _| {
        for nth in 1..8 {
            world.journal.on("DescribeServices", nth, Fault::refuse(400, "ThrottlingException", "Rate exceeded"));
        }
        world.cloud().roll_out(&site, "COMPLETED");
    })
    .await;
    outcome.status("COMPLETED");
    assert_eq!(world.journal.mend(), 8);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
}

#[tokio::test]
async fn the_invocations_end_bounds_the_waiting() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "wait_seconds": 840}));
    let began = std::time::Instant::now();
    let outcome = world.invoke_with(&event, world.invocation().deadline_in(Duration::from_secs(16))).await;
    outcome.status("TIMED_OUT");
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_the_recorder_wrote_first_stands_once() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, own| {
        world.cloud().tell(&site, own, "IN_PROGRESS", &json!({"lifecycleStage": "SCALE_UP"}));
    });
    let recorder = async {
        world.journal.reached("DescribeServiceDeployments", 1).await;
        let own = world.cloud().deployment(&site);
        world.cloud().tell(&site, &own, "SUCCESSFUL", &json!({}));
        ledger::make_due(world.tables(), &own);
        world.tell(&json!({"sweep": {}})).await.response().clone()
    };
    let (outcome, swept) = tokio::join!(outcome, recorder);
    outcome.status("COMPLETED");
    assert_eq!(swept["swept"]["settled"], 1);
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "COMPLETED"]);
    world.update(wanted()).await.status("COMPLETED");
}

#[tokio::test]
async fn many_wait_beside_each_other_and_keep_no_place() {
    let world = World::with_environment(&[("MAX_CONCURRENCY", "2")]).await;
    let sites: Vec<Site> = (0..12)
        .map(|n| Site::new(crate::harness::TARGET, crate::harness::REGION, "prod", &format!("s{n:02}")))
        .collect();
    let before: Vec<String> = sites
        .iter()
        .map(|site| {
            world.seed(site);
            world.cloud().deployment(site)
        })
        .collect();
    let updates: Vec<Value> = sites.iter().map(|site| json!({"ecs_service_name": site.service})).collect();
    let event = json!({"account_id": crate::harness::TARGET, "ecs_cluster_name": "prod", "ecs_image_name": "nginx",
        "wait_seconds": 25, "updates": updates});
    let batch = world.invoke(&event);
    // Nobody's deployment ends before all have begun: who waits must not keep the others from beginning.
    let ends = async {
        while sites.iter().zip(&before).any(|(site, before)| world.cloud().deployment(site) == *before) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (n, site) in sites.iter().enumerate().take(11) {
            let status = if n == 3 { "ROLLBACK_SUCCESSFUL" } else { "SUCCESSFUL" };
            world.cloud().tell(site, &world.cloud().deployment(site), status, &json!({}));
        }
    };
    let (outcome, ()) = tokio::join!(batch, ends);
    let body = outcome.many(207);
    let expected = json!({"applied": 10, "unchanged": 0, "failed": 1, "not_started": 0, "timed_out": 1});
    assert_eq!(body["summary"], expected);
    assert_eq!(body["results"][3]["status"], "ROLLED_BACK");
    assert_eq!(body["results"][11]["status"], "TIMED_OUT");
    assert_eq!(world.kinds(&sites[3]), ["STARTED", "APPLIED", "ROLLED_BACK"]);
    // Each looked at the beginning and now and then: no more calls than ECS gives.
    assert!(world.journal.of("DescribeServiceDeployments").len() < 12 * 12);
}
