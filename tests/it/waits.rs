//! `wait_seconds`: the deployment of a change, followed to its end.

use std::time::Duration;

use aws_stub::ecs::digest_of;
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

/// The digests of the images that the sample service runs after a change.
fn digests(body: &Value) -> Value {
    let images = body["AFTER"]["images"].as_object().unwrap().iter();
    images.map(|(container, image)| (container.clone(), digest_of(image.as_str().unwrap()))).collect()
}

#[tokio::test]
async fn what_completed_says_which_digests_run() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, own| world.cloud().tell(&site, own, "SUCCESSFUL", &json!({}))).await;
    let body = outcome.status("COMPLETED").clone();
    assert_eq!(body["outcome"]["running_images"], digests(&body));
    assert_recorded(&world, &body, "COMPLETED");
}

/// A service deployment whose revision has another number than the deployment. Gives its ARN.
fn unnumbered(world: &World, own: &str, status: &str) -> String {
    let site = Site::target();
    let revision = json!({"arn": site.arn("service-revision", Some("77")), "requestedTaskCount": 2});
    world.cloud().tell(&site, own, status, &json!({"targetServiceRevision": revision}));
    site.arn("service-deployment", Some(&format!("sd{}", own.rsplit('/').next().unwrap())))
}

#[tokio::test]
async fn a_service_deployment_is_the_changes_where_the_service_names_it_so() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, own| {
        let named = unnumbered(world, own, "SUCCESSFUL");
        world.cloud().edit(&site, |service| {
            service["currentServiceDeployment"] = named.into();
            service["deployments"][0]["rolloutState"] = "COMPLETED".into();
        });
    })
    .await;
    let body = outcome.status("COMPLETED").clone();
    let named = &world.cloud().service(&site)["currentServiceDeployment"];
    assert_eq!((&body["outcome"]["service_deployment"], &body["outcome"]["running_images"]), (named, &digests(&body)));
    assert_recorded(&world, &body, "COMPLETED");
}

#[tokio::test]
async fn a_service_deployment_that_is_only_near_in_time_is_not_the_changes() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, own| {
        unnumbered(world, own, "ROLLBACK_SUCCESSFUL");
        world.cloud().roll_out(&site, "COMPLETED");
    })
    .await;
    let body = outcome.status("COMPLETED");
    assert_eq!(body["outcome"], json!({}));
    assert!(
        body["notes"].to_string().contains("ECS connects no service deployment with deployment ecs-svc/"),
        "{body}"
    );
}

#[tokio::test]
async fn a_service_that_is_deleted_while_it_is_waited_for_was_stopped() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, _| world.cloud().deleted(&site)).await;
    let body = outcome.status("STOPPED").clone();
    assert_eq!(body["outcome"]["reason"], "the service was deleted");
    assert_recorded(&world, &body, "STOPPED");
}

/// As DescribeServices shows a service behind a Classic Load Balancer: without a rollout state.
fn without_rollout_state(service: &mut Value) {
    for deployment in service["deployments"].as_array_mut().unwrap() {
        deployment.as_object_mut().unwrap().retain(|name, _| !name.starts_with("rollout"));
    }
}

#[tokio::test]
async fn behind_a_classic_load_balancer_what_runs_as_wanted_has_completed() {
    let (world, site) = (World::new().await, Site::target());
    let waits = waited(&world, wanted(), |world, _| world.cloud().edit(&site, without_rollout_state));
    let ends = async {
        world.journal.reached("DescribeServices", 4).await;
        // As long as the deployment from before has tasks, nothing has ended.
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
        world.cloud().edit(&site, |service| service["deployments"].as_array_mut().unwrap().truncate(1));
    };
    let (outcome, ()) = tokio::join!(waits, ends);
    let body = outcome.status("COMPLETED").clone();
    assert_recorded(&world, &body, "COMPLETED");
}

/// The deployment failed, and ECS had no deployment to roll it back to: it fails for `seconds` already.
fn fail_with_nothing_to_go_back_to(world: &World, seconds: i64) {
    world.cloud().edit(&Site::target(), |service| {
        service["deploymentConfiguration"]["deploymentCircuitBreaker"] = json!({"enable": true, "rollback": true});
        service["deployments"].as_array_mut().unwrap().truncate(1);
        let own = &mut service["deployments"][0];
        own["rolloutState"] = "FAILED".into();
        own["rolloutStateReason"] = "ECS deployment circuit breaker: tasks failed to start.".into();
        own["updatedAt"] = aws_stub::seconds(Utc::now() - TimeDelta::seconds(seconds)).into();
    });
}

#[tokio::test]
async fn what_failed_with_nothing_to_go_back_to_ends_with_its_reason() {
    let (world, site) = (World::new().await, Site::target());
    let outcome = waited(&world, wanted(), |world, _| fail_with_nothing_to_go_back_to(world, 61)).await;
    let body = outcome.status("DEPLOYMENT_FAILED").clone();
    assert_eq!(
        body["outcome"]["reason"],
        "ECS deployment circuit breaker: tasks failed to start. It was not rolled back: there is no completed deployment to go back to"
    );
    assert_recorded(&world, &body, "DEPLOYMENT_FAILED");
    // ECS says it of the service deployment.
    let (world, breaker) =
        (World::new().await, "Service deployment rolled back because the circuit breaker threshold was exceeded.");
    let none = "No rollback candidate was found to run the rollback.";
    let more = json!({"statusReason": none, "rollback": {"reason": breaker}});
    let outcome = waited(&world, wanted(), |world, own| {
        fail_with_nothing_to_go_back_to(world, 0);
        world.cloud().tell(&site, own, "ROLLBACK_FAILED", &more);
    })
    .await;
    let body = outcome.status("ROLLBACK_FAILED").clone();
    assert_eq!(body["outcome"]["reason"], format!("{breaker} {none}"));
    assert_recorded(&world, &body, "ROLLBACK_FAILED");
}

#[tokio::test]
async fn a_rollback_that_was_seen_is_not_taken_for_another_deployment_later() {
    let (world, site) = (World::new().await, Site::target());
    let before = world.cloud().deployment(&site);
    let waits = waited(&world, wanted(), |world, own| {
        let reason = format!("ECS deployment circuit breaker: rolling back to deploymentId {before}.");
        world.cloud().take_over(&site, "IN_PROGRESS", &reason);
        world.cloud().edit(&site, |service| {
            service["deploymentConfiguration"]["deploymentCircuitBreaker"] = json!({"enable": true, "rollback": true});
            let deployments = service["deployments"].as_array_mut().unwrap();
            // It is created later than the one that it undoes, by more than a clock shows.
            deployments[0]["createdAt"] = aws_stub::seconds(Utc::now() + TimeDelta::milliseconds(50)).into();
            let own = deployments.iter_mut().find(|deployment| deployment["id"] == own).unwrap();
            own["rolloutState"] = "FAILED".into();
        });
    });
    let ends = async {
        world.journal.reached("DescribeServices", 4).await;
        // It has completed, and nothing says any more what it was.
        world.cloud().edit(&site, |service| {
            service["deployments"].as_array_mut().unwrap().truncate(1);
            service["deployments"][0]["rolloutState"] = "COMPLETED".into();
            service["deployments"][0]["rolloutStateReason"] = "ECS deployment completed.".into();
        });
        world.cloud().deployment(&site)
    };
    let (outcome, back) = tokio::join!(waits, ends);
    let body = outcome.status("ROLLED_BACK").clone();
    assert_eq!(body["outcome"]["rolled_back_to"]["deployment_id"], back);
    assert_recorded(&world, &body, "ROLLED_BACK");
}

#[tokio::test]
async fn who_may_list_service_deployments_and_not_describe_them_is_told_the_end() {
    for (status, rollout, expected) in
        [("SUCCESSFUL", "COMPLETED", "COMPLETED"), ("ROLLBACK_SUCCESSFUL", "FAILED", "ROLLED_BACK")]
    {
        let (world, site) = (World::new().await, Site::target());
        world.journal.from(
            "DescribeServiceDeployments",
            1,
            Fault::refuse(400, "AccessDeniedException", "not authorized to perform: ecs:DescribeServiceDeployments"),
        );
        let outcome = waited(&world, wanted(), |world, own| {
            world.cloud().tell(&site, own, status, &json!({"statusReason": "tasks failed to start"}));
            world.cloud().edit(&site, |service| service["deployments"][0]["rolloutState"] = rollout.into());
        })
        .await;
        let body = outcome.status(expected).clone();
        let images = if expected == "COMPLETED" { digests(&body) } else { Value::Null };
        assert_eq!(body["outcome"]["running_images"], images);
        assert!(body["outcome"]["service_deployment"].as_str().unwrap().contains(":service-deployment/"), "{body}");
        assert_recorded(&world, &body, expected);
        // It is asked once, and never again.
        assert_eq!(world.journal.of("DescribeServiceDeployments").len(), 1);
    }
}

#[tokio::test]
async fn a_wait_that_goes_badly_says_why_while_it_lasts_and_at_its_end() {
    const SAID: &str = "was unable to place a task because no container instance met all of its requirements.";
    let (world, site) = (World::new().await, Site::target());
    let definition = world.cloud().service(&site)["taskDefinition"].as_str().unwrap().to_owned();
    let definition = world.cloud().revision(&site, &definition).unwrap().json();
    let secret =
        definition.pointer("/containerDefinitions/0/environment/0/value").unwrap().as_str().unwrap().to_owned();
    let service = site.service.clone();
    let mut asked = wanted();
    asked["wait_seconds"] = 3.into();
    let outcome = waited(&world, asked, |world, _| {
        world.cloud().complain(&site, 3, SAID);
        world.cloud().complain(&site, 3, &format!("exec: {secret}"));
    })
    .await;
    let body = outcome.status("TIMED_OUT");
    let note = body["notes"][0].as_str().unwrap();
    let said = format!("(service {service}) {SAID}");
    assert!(note.contains("; 3 of its tasks failed; the service says, newest first: (service "), "{note}");
    assert!(note.contains(&said) && !note.contains(&secret) && note.contains("***"), "{note}");
    let more = json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}, "statusReason": "tasks failed to start"});
    world.cloud().tell(&site, body["deployment_id"].as_str().unwrap(), "STOPPED", &more);
    let again = world.update(wanted()).await;
    let body = again.status("DEPLOYMENT_FAILED").clone();
    let events = body["outcome"]["events"].as_array().unwrap();
    assert_eq!((&body["outcome"]["failed_tasks"], events.len(), &events[1]), (&json!(3), 2, &json!(said)));
    assert!(!body.to_string().contains(&secret));
    assert_recorded(&world, &body, "DEPLOYMENT_FAILED");
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
