//! One change at a time, once, whatever happens: each way in which that did not hold, turned round. At the time limit that is shipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::dynamodb::STATE_TABLE;
use crate::harness::journal::{Call, Date, Fault};
use crate::harness::lambda::{Outcome, UPDATER_TIMEOUT};
use crate::harness::{Site, TARGET, World, ledger, web_definition};

fn event(key: &str, changes: Value) -> Value {
    let mut event = Site::target().event(changes);
    event["idempotency_key"] = json!(key);
    event
}

/// A refusal that passes.
fn passing() -> Fault {
    Fault::refuse(400, "InvalidParameterException", "Unable to assume role and validate the specified targetGroupArn")
}

fn expire(world: &World) {
    ledger::expire_lease(world.tables(), &Site::target().key());
}

/// The image that the service runs.
fn image(world: &World) -> String {
    let arn = world.cloud().service(&Site::target())["taskDefinition"].as_str().unwrap().to_owned();
    let number: usize = arn.rsplit(':').next().unwrap().parse().unwrap();
    world.cloud().revisions(&Site::target(), "web")[number - 1].image("web")
}

fn deployments(world: &World) -> usize {
    world.cloud().service(&Site::target())["deployments"].as_array().unwrap().len()
}

/// A plain change goes through: nothing is left locked.
async fn assert_not_locked(world: &World) {
    world.update(json!({"ecs_image_name": "nginx:last"})).await.status("APPLIED");
    ledger::assert_free(world.tables(), &Site::target().key());
}

#[test]
fn tests_have_the_time_that_the_template_gives() {
    let template = std::fs::read_to_string("infrastructure/cloudformation/hub.yaml").unwrap();
    let updater = template.split("\n  UpdaterFunction:").nth(1).expect("the updater's resource");
    let timeout = updater.split("Timeout: ").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(timeout.parse(), Ok(UPDATER_TIMEOUT.as_secs()));
}

// ---- 1, 2, 19: nothing is locked for good

#[tokio::test]
async fn a_result_that_needs_a_second_try_frees_its_lease() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_millis(600)));
    let recorder = async {
        world.journal.reached("UpdateService", 1).await;
        ledger::append_external(world.tables(), &site);
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx:1"})), recorder);
    outcome.status("APPLIED");
    ledger::assert_free(world.tables(), &site.key());
    assert_not_locked(&world).await;
}

/// As the versions before attempts left it: a lease beside its own result, by a head of their form.
#[tokio::test]
async fn a_service_that_was_left_locked_is_freed_by_the_next_change() {
    let world = World::new().await;
    let site = Site::target();
    world.update(json!({"ecs_image_name": "nginx:1"})).await.status("APPLIED");
    let head = ledger::head(world.tables(), &site.key()).unwrap();
    let text = |name: &str| json!({"S": head[name]});
    let old = json!({
        "id": text("id"), "seq": {"N": head["seq"].to_string()}, "hash": text("hash"), "record": text("record"),
        "change_id": text("highest"), "lease_change": text("highest"), "lease_key": {"S": "key#gone"},
        "lease_until": {"S": "2026-11-01T10:00:00.123Z"},
    });
    world.tables().put(STATE_TABLE, &old);
    assert_not_locked(&world).await;
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
}

/// The first environment is slow to write its result; the second one takes the change up and dies.
#[tokio::test]
async fn a_late_result_beside_an_attempt_that_died_leaves_nothing_locked() {
    let world = World::new().await;
    let site = Site::target();
    let event = event("k", json!({"ecs_image_name": "nginx:1", "ecs_tag": {"a": "1"}}));
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(2500)));
    let first = world.invoke(&event);
    let second = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        expire(&world);
        let other = world.another_process().await;
        // It has written its STARTED, and dies before its result.
        world.journal.on("ExecuteTransaction", 2, Fault::HangBefore);
        let running = world.invoke_on(&other, event.to_string().into_bytes(), world.invocation());
        let killed = async {
            world.journal.reached("ExecuteTransaction", 4).await;
            other.kill().await;
        };
        let (outcome, ()) = tokio::join!(running, killed);
        assert_eq!(outcome, Outcome::Died);
    };
    let (first, ()) = tokio::join!(first, second);
    first.status("APPLIED");
    world.journal.mend();
    assert!(world.kinds(&site).starts_with(&["STARTED".to_owned(), "STARTED".to_owned()]));
    expire(&world);
    world.invoke(&event).await.status("APPLIED");
    assert_not_locked(&world).await;
}

// ---- 3, 21: restores

#[tokio::test]
async fn a_retried_restore_completes_the_restore() {
    let world = World::new().await;
    world.update(json!({"ecs_image_name": "nginx:good", "ecs_tag": {"a": "1"}})).await.status("APPLIED");
    world.update(json!({"ecs_image_name": "nginx:bad", "ecs_tag": {"a": "2"}})).await.status("APPLIED");
    let restore = event("undo", json!({"restore": "previous"}));
    world.journal.from("TagResource", 1, Fault::server_error());
    world.invoke(&restore).await.error("TagUpdateFailed");
    assert_eq!(image(&world), "nginx:good");
    world.journal.mend();
    expire(&world);
    let outcome = world.invoke(&restore).await;
    outcome.status("APPLIED");
    assert_eq!(image(&world), "nginx:good", "it must not roll forward");
    assert_eq!(world.cloud().tags(&Site::target())["a"], "1");
}

/// AWS's clients send an event again after their read times out, as another request.
#[tokio::test]
async fn a_restore_that_is_sent_twice_undoes_one_thing_once() {
    let world = World::new().await;
    world.update(json!({"ecs_image_name": "nginx:good"})).await.status("APPLIED");
    world.update(json!({"ecs_image_name": "nginx:bad"})).await.status("APPLIED");
    world.update(json!({"restore": "previous"})).await.status("APPLIED");
    for _ in 0..3 {
        world.update(json!({"restore": "previous"})).await.status("UNCHANGED");
        assert_eq!(image(&world), "nginx:good");
    }
}

#[tokio::test]
async fn a_forced_deployment_that_is_waited_for_needs_a_key() {
    let world = World::new().await;
    let forced = json!({"force_new_deployment": true, "wait_seconds": 60});
    let outcome = world.update(forced.clone()).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("/idempotency_key") && message.contains("sends the event again"), "{message}");
    assert_eq!(world.journal.calls().len(), 0);
    let mut many = json!({"updates": [Site::target().event(forced)]});
    world.invoke(&many).await.error("JsonValidation");
    many["idempotency_key"] = json!("k");
    world.cloud().end_at_once();
    world.invoke(&many).await.many(200);
}

// ---- 4: no later change is undone

/// Another caller reads it: whose name it is stands in front, and the name begins no line.
#[tokio::test]
async fn a_name_that_fakes_a_line_and_an_identity_is_told_as_what_it_is() {
    let world = World::new().await;
    let first = event("rollout", json!({"ecs_image_name": "nginx:rollout"}));
    world.journal.on("UpdateService", 1, passing());
    world.invoke(&first).await.error("ServiceUpdateFailed");
    let forged = json!({"ecs_image_name": "nginx:hotfix", "requested_by": "x\n[ERROR] y (verified)\u{202e}"});
    world.update(forged).await.status("APPLIED");
    let outcome = world.invoke(&first).await;
    let message = outcome.error("ChangeOvertaken");
    let told = r#", requested by [claimed] "x\n[ERROR] y (verified)\u{202e}", began at "#;
    assert!(message.contains(told), "{message}");
}

#[tokio::test]
async fn a_retry_does_not_undo_a_change_that_began_meanwhile() {
    let world = World::new().await;
    let first = event("rollout", json!({"ecs_image_name": "nginx:rollout"}));
    world.journal.on("UpdateService", 1, passing());
    world.invoke(&first).await.error("ServiceUpdateFailed");
    let hotfix = json!({"ecs_image_name": "nginx:hotfix", "requested_by": "ann"});
    let hotfix = world.update(hotfix).await.status("APPLIED")["change_id"].clone();
    world.journal.forget();
    for _ in 0..2 {
        let outcome = world.invoke(&first).await;
        let message = outcome.error("ChangeOvertaken");
        assert!(message.starts_with("[ERROR][service_lease] service "), "{message}");
        assert!(
            message.contains(hotfix.as_str().unwrap()) && message.contains("requested by [claimed] \"ann\","),
            "{message}"
        );
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(image(&world), "nginx:hotfix");
}

/// Lambda sends each failed asynchronous event again, after one minute and after two, whatever the failure.
#[tokio::test]
async fn an_event_that_failed_before_it_began_does_not_undo_what_began_meanwhile() {
    for (action, fault, code) in [
        ("AssumeRole", Fault::refuse(403, "AccessDenied", "not authorized"), "AssumeRoleFailed"),
        ("AssumeRole", Fault::server_error(), "AssumeRoleFailed"),
        ("DescribeServices", Fault::server_error(), "ServiceReadFailed"),
    ] {
        let world = World::new().await;
        world.journal.from(action, 1, fault);
        let first = Site::target().event(json!({"ecs_image_name": "nginx:rollout"}));
        let again = || world.invocation().request_id("0b9d6b52-7cde-4ee8-b0b2-6fb3b1d0d1ad");
        world.invoke_with(&first, again()).await.error(code);
        world.journal.mend();
        world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
        world.invoke_with(&first, again()).await.error("ChangeOvertaken");
        assert_eq!(image(&world), "nginx:hotfix", "{action}");
        // Who still wants it sends it anew.
        world.invoke(&first).await.status("APPLIED");
    }
}

/// What made the failure final may be what the later change made right.
#[tokio::test]
async fn a_refused_plan_is_noted_too() {
    let world = World::new().await;
    let first = event("k", json!({"images": {"sidecar": "envoy:1"}}));
    world.invoke(&first).await.error("ContainerNotFound");
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    world.invoke(&first).await.error("ChangeOvertaken");
}

#[tokio::test]
async fn an_event_that_nobody_noted_is_late_by_its_own_time() {
    let world = World::new().await;
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    let sent = |ago: i64| {
        let at = Utc::now() - chrono::Duration::seconds(ago);
        json!({"ecs_image_name": "nginx:rollout", "sent_at": at.to_rfc3339()})
    };
    world.update(sent(60)).await.error("ChangeOvertaken");
    let later = event("k", sent(60));
    for _ in 0..2 {
        world.invoke(&later).await.error("ChangeOvertaken");
    }
    assert_eq!(image(&world), "nginx:hotfix");
    world.update(sent(-3600)).await.status("APPLIED");
    let outcome = world.update(json!({"ecs_image_name": "nginx", "sent_at": "yesterday"})).await;
    assert!(outcome.error("JsonValidation").contains("/sent_at"), "{outcome:?}");
}

#[tokio::test]
async fn events_of_one_sender_are_in_the_order_of_their_sending() {
    let world = World::new().await;
    let start = Utc::now();
    let sent = |ago: i64, image: &str, who: &str| {
        let at = start - chrono::Duration::seconds(ago);
        json!({"ecs_image_name": image, "requested_by": who, "sent_at": at.to_rfc3339()})
    };
    // A queue held up both: the first began after the second was sent.
    world.update(sent(60, "nginx:1", "ecr-push")).await.status("APPLIED");
    world.update(sent(59, "nginx:2", "ecr-push")).await.status("APPLIED");
    let late = world.update(sent(61, "nginx:0", "ecr-push")).await;
    assert!(late.error("ChangeOvertaken").contains("which says that it was sent at "), "{late:?}");
    // Of others' clocks nobody knows.
    world.update(sent(30, "nginx:other", "ann")).await.error("ChangeOvertaken");
    assert_eq!(image(&world), "nginx:2");
    let many = |sent: Value| json!({"updates": [Site::target().event(sent)]});
    assert_eq!(world.invoke(&many(sent(58, "nginx:3", "ecr-push"))).await.many(200)["summary"]["applied"], 1);
    // Whatever came from anybody else since is later.
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    let outcome = world.invoke(&many(sent(57, "nginx:4", "ecr-push"))).await;
    assert_eq!(outcome.many(207)["results"][0]["error"]["code"], "ChangeOvertaken");
    assert_eq!(image(&world), "nginx:hotfix");
}

/// Waiting for the change that overtook it, it would be noted with that change as its mark, and undo it.
#[tokio::test]
async fn an_old_event_does_not_wait_for_what_overtook_it() {
    let world = World::new().await;
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_millis(1500)));
    let old = event(
        "k",
        json!({"ecs_image_name": "nginx:old", "sent_at": (Utc::now() - chrono::Duration::minutes(1)).to_rfc3339()}),
    );
    let meets = async {
        world.journal.reached("UpdateService", 1).await;
        world.invoke(&old).await
    };
    let (hotfix, met) = tokio::join!(world.update(json!({"ecs_image_name": "nginx:hotfix"})), meets);
    hotfix.status("APPLIED");
    met.error("ChangeOvertaken");
    world.invoke(&old).await.error("ChangeOvertaken");
    assert_eq!(image(&world), "nginx:hotfix");
}

#[tokio::test]
async fn what_was_too_long_to_record_is_not_gone_on_with_and_not_restored() {
    let world = World::new().await;
    let long = json!({"service": {"serviceConnectConfiguration": {"enabled": true, "namespace": "n".repeat(70_000)}}});
    let event = event("k", long.clone());
    world.journal.on("UpdateService", 1, passing());
    world.invoke(&event).await.error("ServiceUpdateFailed");
    world.journal.mend();
    for _ in 0..2 {
        let again = world.invoke(&event).await;
        assert!(again.error("TaskDefinitionChanged").contains("too long to record"), "{again:?}");
    }
    world.update(long).await.status("APPLIED");
    let restored = world.update(json!({"restore": "previous"})).await;
    assert!(restored.error("JsonValidation").contains("set was too long to record"), "{restored:?}");
}

#[tokio::test]
async fn a_batch_that_is_sent_again_sets_nobodys_hotfix_back() {
    let world = World::new().await;
    let neighbour = Site::new(TARGET, "eu-west-1", "ECSCluster", "neighbour");
    world.seed(&neighbour);
    let mut batch = json!({"ecs_image_name": "nginx:rollout", "idempotency_key": "rollout"});
    batch["updates"] = json!([Site::target().event(json!({})), neighbour.event(json!({}))]);
    world.journal.about("UpdateService", "ecs-dummy-service", passing());
    world.invoke(&batch).await.many(207);
    world.journal.mend();
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    let again = world.invoke(&batch).await;
    let results = &again.many(207)["results"];
    assert_eq!(results[0]["error"]["code"], "ChangeOvertaken", "{results}");
    assert_eq!(results[1]["replayed"], true, "{results}");
    assert_eq!(image(&world), "nginx:hotfix");
}

// ---- 5, 6: one key, one effect, one answer

#[tokio::test]
async fn one_key_forces_one_deployment_whatever_fails_behind_it() {
    let world = World::new().await;
    let event = event("k", json!({"force_new_deployment": true, "ecs_tag": {"a": "1"}}));
    world.journal.on("TagResource", 1, passing());
    world.invoke(&event).await.error("TagUpdateFailed");
    let forced = world.cloud().deployment(&Site::target());
    let outcome = world.invoke(&event).await;
    assert_eq!(outcome.status("APPLIED")["deployment_id"], json!(forced));
    assert_eq!(deployments(&world), 2);
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "FAILED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_key_is_not_refused_for_what_it_did_itself() {
    let world = World::new().await;
    let changes = json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}, "expected_task_definition": "web:1"});
    let event = event("k", changes);
    world.journal.on("TagResource", 1, passing());
    world.invoke(&event).await.error("TagUpdateFailed");
    world.invoke(&event).await.status("APPLIED");
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
}

/// The same event is worked on elsewhere, and what became of it cannot be read at once.
#[tokio::test]
async fn a_refusal_whose_key_is_known_by_now_is_looked_at_again() {
    let world = World::new().await;
    let event = event("k", json!({"ecs_image_name": "nginx", "expected_task_definition": "web:1"}));
    let other = world.another_process().await;
    let go_on = Arc::new(Notify::new());
    world.journal.on("DescribeServices", 1, Fault::Hold(Arc::clone(&go_on)));
    let late = world.invoke_on(&other, event.to_string().into_bytes(), world.invocation());
    let first = async {
        world.journal.reached("DescribeServices", 1).await;
        let change_id = world.invoke(&event).await.status("APPLIED")["change_id"].clone();
        world.journal.on("BatchGetItem", 1, Fault::HangBefore);
        go_on.notify_one();
        change_id
    };
    let (late, change_id) = tokio::join!(late, first);
    let body = late.status("APPLIED");
    assert_eq!((&body["change_id"], &body["replayed"]), (&change_id, &json!(true)));
}

#[tokio::test]
async fn what_ecs_rolled_back_meanwhile_is_not_deployed_again() {
    let world = World::new().await;
    let site = Site::target();
    let event = event("k", json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}}));
    world.journal.on("TagResource", 1, passing());
    world.invoke(&event).await.error("TagUpdateFailed");
    let own = world.cloud().deployment(&site);
    let old = format!("arn:aws:ecs:eu-west-1:{TARGET}:task-definition/web:1");
    world.cloud().edit(&site, |service| {
        service["taskDefinition"] = json!(old);
        service["deployments"][0]["status"] = json!("ACTIVE");
        service["deployments"][0]["rolloutState"] = json!("FAILED");
        service["deployments"][0]["rolloutStateReason"] =
            json!("ECS deployment circuit breaker: tasks failed to start.");
        service["deployments"][1]["status"] = json!("PRIMARY");
    });
    world.journal.forget();
    for _ in 0..2 {
        let outcome = world.invoke(&event).await;
        let message = outcome.error("ServiceUpdateFailed");
        assert!(message.contains(&own) && message.contains("tasks failed to start"), "{message}");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED", "STARTED", "FAILED"], "the second time it is the same answer");
}

#[tokio::test]
async fn a_final_failure_whose_result_needs_a_second_try_is_the_answer_of_its_key() {
    let world = World::new().await;
    let site = Site::target();
    let event = event("k", json!({"ecs_image_name": "nginx"}));
    let refused = Fault::refuse(400, "InvalidParameterException", "Fargate says no.");
    world.journal.on("UpdateService", 1, refused);
    world.journal.on("ExecuteTransaction", 2, Fault::Delay(Duration::from_millis(500)));
    let recorder = async {
        world.journal.reached("ExecuteTransaction", 2).await;
        ledger::append_external(world.tables(), &site);
    };
    let (first, ()) = tokio::join!(world.invoke(&event), recorder);
    first.error("ServiceUpdateFailed");
    world.journal.forget();
    assert_eq!(world.invoke(&event).await, first);
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

// ---- 7, 17: the ledger's own calls

#[tokio::test]
async fn a_start_each_of_whose_answers_is_lost_is_known_again() {
    let world = World::new().await;
    for nth in 1..=3 {
        world.journal.on("ExecuteTransaction", nth, Fault::CutAfter);
    }
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
}

/// What becomes of a second sending does not tell what became of the first: it may be refused.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_looked_for_and_not_sent_again_blindly() {
    let world = World::new().await;
    world.journal.on("ExecuteTransaction", 1, Fault::act_then_500());
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    assert_eq!(world.journal.of("ExecuteTransaction").len(), 2, "{}", world.journal.summary());
}

/// A right that is missing for a moment, as IAM is eventually consistent, leaves no lease behind that nobody uses.
#[tokio::test]
async fn a_start_whose_answer_is_lost_is_looked_for_though_a_look_is_refused() {
    let world = World::new().await;
    world.journal.on("ExecuteTransaction", 1, Fault::CutAfter);
    world.journal.on("BatchGetItem", 2, Fault::refuse(400, "AccessDeniedException", "not authorized"));
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn keys_that_dynamodb_leaves_unprocessed_are_asked_for_again_with_pauses() {
    let world = World::new().await;
    let request = || world.journal.of("BatchGetItem")[0].json()["RequestItems"].clone();
    world.update(json!({"dry_run": true, "ecs_image_name": "nginx"})).await.status("PLANNED");
    // What it asks for is not known before it asks.
    world.update(json!({"ecs_image_name": "nginx:0"})).await.status("APPLIED");
    let body = json!({"Responses": {}, "UnprocessedKeys": request()}).to_string();
    world.journal.forget();
    for nth in 1..=4 {
        world.journal.on("BatchGetItem", nth, Fault::Answer { status: 200, body: body.clone() });
    }
    let started = Instant::now();
    world.update(json!({"ecs_image_name": "nginx:1"})).await.status("APPLIED");
    assert!(started.elapsed() > Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(world.journal.of("BatchGetItem").len(), 5);
}

// ---- 9, 13: clocks

#[tokio::test]
async fn an_environment_whose_clock_is_off_begins_nothing() {
    for (ahead, way) in [(130, "behind"), (-200, "ahead of"), (6, "behind"), (-7, "ahead of")] {
        let world = World::new().await;
        world.journal.set_date(Date::Ahead(ahead));
        for changes in [json!({"ecs_image_name": "nginx"}), json!({"ecs_image_name": "busybox"})] {
            let outcome = world.update(changes).await;
            let message = outcome.error("ClockSkewed");
            assert!(message.starts_with("[ERROR][service_lease] service ") && message.contains(way), "{message}");
        }
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
        assert!(world.records(&Site::target()).is_empty());
        world.journal.set_date(Date::Right);
        assert_not_locked(&world).await;
    }
    let world = World::new().await;
    for ahead in [-1, 1] {
        world.journal.set_date(Date::Ahead(ahead));
        assert_not_locked(&world).await;
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    }
}

#[tokio::test]
async fn what_has_begun_goes_on_to_its_result_whatever_the_clock_says() {
    let world = World::new().await;
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_millis(300)));
    let skewed = async {
        world.journal.reached("UpdateService", 1).await;
        world.journal.set_date(Date::Ahead(500));
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"ecs_image_name": "nginx"})), skewed);
    outcome.status("APPLIED");
}

#[tokio::test]
async fn an_answer_without_a_date_and_answers_that_are_slow_begin_nothing() {
    let world = World::new().await;
    world.journal.set_date(Date::Missing);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    assert!(outcome.error("HistoryUnavailable").contains("Date"), "{outcome:?}");
    world.journal.set_date(Date::Right);
    // One that took long measures nothing: it is read once more.
    world.journal.on("BatchGetItem", 1, Fault::Delay(Duration::from_millis(1300)));
    world.journal.forget();
    world.update(json!({"ecs_image_name": "nginx:1"})).await.status("APPLIED");
    assert_eq!(world.journal.of("BatchGetItem").len(), 2);
    world.journal.from("BatchGetItem", 1, Fault::Delay(Duration::from_millis(1300)));
    let outcome = world.update(json!({"ecs_image_name": "nginx:2"})).await;
    assert!(outcome.error("HistoryUnavailable").contains("clock"), "{outcome:?}");
    assert_eq!(image(&world), "nginx:1");
}

/// Without an answer it is not known whether ECS took back what a further attempt would deploy again.
#[tokio::test]
async fn nothing_is_deployed_again_where_the_role_may_not_ask_what_was_rolled_back() {
    let world = World::new().await;
    let event = event("k", json!({"ecs_image_name": "nginx"}));
    world.journal.on("UpdateService", 1, Fault::HangBefore);
    world.kill_at(&event, world.invocation(), "UpdateService", 1).await;
    expire(&world);
    world.restart().await;
    world.journal.forget();
    world.journal.on("ListServiceDeployments", 1, Fault::refuse(400, "AccessDeniedException", "not authorized"));
    let message = world.invoke(&event).await.error("ServiceReadFailed").to_owned();
    assert!(message.contains("ecs:ListServiceDeployments: AccessDeniedException"), "{message}");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    world.invoke(&event).await.status("APPLIED");
}

// ---- 10: nothing of somebody else is overwritten

#[tokio::test]
async fn a_continuation_overwrites_nothing_that_somebody_else_deployed() {
    for changes in [
        json!({"ecs_image_name": "nginx"}),
        json!({"ecs_image_name": "nginx", "expected_task_definition": "web:1"}),
        json!({"force_new_deployment": true}),
    ] {
        let world = World::new().await;
        let site = Site::target();
        let event = event("k", changes);
        world.journal.on("UpdateService", 1, Fault::HangBefore);
        world.kill_at(&event, world.invocation(), "UpdateService", 1).await;
        let theirs = world.cloud().register(&site, &web_definition("theirs").to_string(), json!([]));
        world.cloud().edit(&site, |service| service["taskDefinition"] = json!(theirs));
        world.cloud().take_over(&site, "COMPLETED", "ECS deployment completed.");
        expire(&world);
        world.restart().await;
        world.journal.forget();
        let outcome = world.invoke(&event).await;
        let message = outcome.error("TaskDefinitionChanged");
        assert!(message.contains(&theirs), "{message}");
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
        assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "FAILED"]);
        assert_eq!(world.invoke(&event).await, outcome, "it is final");
    }
}

/// What the change wanted is there, and it is known that none of its attempts did it.
#[tokio::test]
async fn what_somebody_else_did_is_not_told_as_this_changes() {
    let world = World::new().await;
    let site = Site::target();
    let event = event("k", json!({"ecs_tag": {"a": "1"}, "tag_mode": "merge"}));
    world.journal.on("TagResource", 1, passing());
    world.invoke(&event).await.error("TagUpdateFailed");
    world
        .cloud()
        .edit(&site, |service| service["tags"].as_array_mut().unwrap().push(json!({"key": "a", "value": "1"})));
    world.invoke(&event).await.status("UNCHANGED");
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED", "STARTED", "UNCHANGED"]);
}

/// A change of the count starts no deployment: the one that is there afterwards was started by somebody else meanwhile.
#[tokio::test]
async fn what_somebody_else_deploys_meanwhile_is_no_deployment_of_a_change_that_starts_none() {
    let world = World::new().await;
    let site = Site::target();
    let go_on = Arc::new(Notify::new());
    world.journal.on("UpdateService", 1, Fault::Hold(Arc::clone(&go_on)));
    let meanwhile = async {
        world.journal.reached("UpdateService", 1).await;
        world.cloud().take_over(&site, "IN_PROGRESS", "ECS deployment in progress.");
        go_on.notify_one();
    };
    let (outcome, ()) = tokio::join!(world.update(json!({"service": {"desiredCount": 5}})), meanwhile);
    let body = outcome.status("APPLIED");
    assert_eq!(body["deployment_id"], Value::Null, "{body}");
    assert_eq!(ledger::deployments(world.tables()), []);
}

/// A tag that somebody else set meanwhile stays, and is named.
#[tokio::test]
async fn a_continuation_touches_its_own_members_alone() {
    let world = World::new().await;
    let site = Site::target();
    let event = event("k", json!({"ecs_tag": {"a": "1"}}));
    world.journal.on("TagResource", 1, passing());
    world.invoke(&event).await.error("TagUpdateFailed");
    world
        .cloud()
        .edit(&site, |service| service["tags"].as_array_mut().unwrap().push(json!({"key": "new", "value": "x"})));
    world.invoke(&event).await.status("APPLIED");
    let tags: Vec<_> = world.cloud().tags(&site).into_iter().collect();
    assert_eq!(tags, [("a".to_owned(), "1".to_owned()), ("new".to_owned(), "x".to_owned())]);
}

// ---- 11, 12, 20: answers that are lost

/// Order of the calls from the nth of `action` on.
fn calls_from(world: &World, action: &str) -> Vec<String> {
    let calls: Vec<Call> = world.journal.calls();
    let first = calls.iter().position(|call| call.action == action).unwrap();
    calls[first..].iter().map(|call| call.action.clone()).collect()
}

#[tokio::test]
async fn the_lease_is_lengthened_first_where_an_answer_is_lost() {
    let world = World::new().await;
    world.journal.on("UpdateService", 1, Fault::CutBefore);
    // The lease would end too early: five seconds after the invocation.
    let event = Site::target().event(json!({"ecs_image_name": "nginx"}));
    let short = world.invocation().deadline_in(Duration::from_secs(30));
    let outcome = world.invoke_with(&event, short).await;
    let notes = outcome.status("APPLIED")["notes"].to_string();
    assert!(notes.contains("no other change of this service begins before"), "{notes}");
    let calls = calls_from(&world, "UpdateService");
    let looks = ["DescribeServices", "DescribeServices", "DescribeServices"];
    assert_eq!(calls[..6], [&["UpdateService", "ExecuteTransaction"][..], &looks, &["UpdateService"]].concat());
    // The call may still act: a later change has to wait for that.
    let other = world.update(json!({"ecs_image_name": "nginx:hotfix"})).await;
    other.error("ChangeInProgress");
    expire(&world);
    assert_not_locked(&world).await;
}

/// ECS is eventually consistent: one look at once proves nothing.
#[tokio::test]
async fn a_service_that_is_described_as_it_was_is_not_updated_twice() {
    let world = World::new().await;
    let site = Site::target();
    let stale = json!({"services": [world.cloud().service(&site)], "failures": []}).to_string();
    world.journal.on("UpdateService", 1, Fault::CutAfter);
    for nth in [2, 3] {
        world.journal.on("DescribeServices", nth, Fault::Answer { status: 200, body: stale.clone() });
    }
    world.update(json!({"force_new_deployment": true})).await.status("APPLIED");
    assert_eq!(world.journal.of("UpdateService").len(), 1);
    ledger::assert_free(world.tables(), &site.key());
}

/// What is planned behind a change rests on what that change deployed; where ECS goes on showing something else, somebody else deployed it.
#[tokio::test]
async fn a_change_is_not_planned_by_the_service_as_it_was_before_the_last_change() {
    let world = World::new().await;
    let site = Site::target();
    let stale = json!({"services": [world.cloud().service(&site)], "failures": []}).to_string();
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    world.journal.forget();
    for nth in [1, 2] {
        world.journal.on("DescribeServices", nth, Fault::Answer { status: 200, body: stale.clone() });
    }
    let outcome = world.update(json!({"ecs_tag": {"a": "1"}})).await;
    let before = &outcome.status("APPLIED")["BEFORE"];
    assert!(before["taskDefinitionArn"].as_str().unwrap().ends_with("/web:2"), "{before}");
    assert_eq!(world.journal.of("DescribeServices").len(), 3);

    let theirs = world.cloud().register(&site, &web_definition("theirs").to_string(), json!([]));
    world.cloud().edit(&site, |service| service["taskDefinition"] = json!(theirs));
    world.journal.forget();
    let outcome = world.update(json!({"ecs_tag": {"a": "2"}})).await;
    assert_eq!(outcome.status("APPLIED")["BEFORE"]["taskDefinitionArn"], theirs);
    assert_eq!(world.journal.of("DescribeServices").len(), 4);
}

#[tokio::test]
async fn tags_are_sent_one_request_at_a_time_with_a_look_between() {
    let world = World::new().await;
    world.journal.on("TagResource", 1, Fault::CutBefore);
    world.update(json!({"ecs_tag": {"a": "1"}, "tag_mode": "merge"})).await.status("APPLIED");
    let calls = calls_from(&world, "TagResource");
    // The lease is long enough as it is.
    let looks = ["DescribeServices", "DescribeServices", "DescribeServices"];
    assert_eq!(calls[..5], [&["TagResource"][..], &looks, &["TagResource"]].concat());
}

// ---- 14: stored answers

#[tokio::test]
async fn an_answer_that_a_later_version_stored_is_given_again() {
    let world = World::new().await;
    let event = event("k", json!({"ecs_image_name": "nginx"}));
    world.invoke(&event).await.status("APPLIED");
    let keys = world.tables().scan(STATE_TABLE);
    let mut key = keys.into_iter().find(|item| item["id"]["S"].as_str().unwrap().starts_with("key#")).unwrap();
    let stored: Value = serde_json::from_str(key["answer"]["S"].as_str().unwrap()).unwrap();
    let mut later = stored.clone();
    later["response"]["body"]["status"] = json!("PAUSED");
    later["response"]["body"]["evidence"] = json!({"leaf": 7});
    key["answer"]["S"] = json!(later.to_string());
    world.tables().put(STATE_TABLE, &key);
    // What a later version answers is no answer of this version's schema.
    let bytes = event.to_string().into_bytes();
    let body = world.process().invoke(bytes.clone(), world.invocation()).await.body().clone();
    assert_eq!((&body["status"], &body["evidence"]), (&json!("PAUSED"), &json!({"leaf": 7})));

    let failure =
        json!({"failure": {"code": "NotAllowed", "message": "[ERROR][guard] no", "retryable": false, "policy": "p"}});
    key["answer"]["S"] = json!(failure.to_string());
    world.tables().put(STATE_TABLE, &key);
    let outcome = world.process().invoke(bytes, world.invocation()).await;
    assert_eq!(outcome.error("NotAllowed"), "[ERROR][guard] no");

    key["answer"]["S"] = json!(r#"{"postponed":{}}"#);
    world.tables().put(STATE_TABLE, &key);
    let outcome = world.invoke(&event).await;
    assert!(outcome.error("HistoryUnavailable").contains("in the history"), "{outcome:?}");
}

/// Time to live ignores what lies more than five years back.
#[tokio::test]
async fn keys_are_removed_in_time_whatever_became_of_their_events() {
    let world = World::new().await;
    world.journal.on("UpdateService", 1, passing());
    world.invoke(&event("k", json!({"ecs_image_name": "nginx"}))).await.error("ServiceUpdateFailed");
    world.invoke(&event("l", json!({"images": {"no": "x"}}))).await.error("ContainerNotFound");
    let keys = ledger::keys(world.tables());
    assert_eq!(keys.len(), 2);
    for key in keys {
        let hours = (key["expires_at"].as_i64().unwrap() - Utc::now().timestamp()) / 3_600;
        assert!((15 * 24 - 2..=15 * 24 + 2).contains(&hours), "{key:?}");
    }
}

// ---- 15: a lease is taken when the turn has come

#[tokio::test]
async fn no_service_of_a_batch_is_leased_while_it_waits_for_its_turn() {
    let world = World::with_environment(&[]).await;
    let sites: Vec<Site> =
        (0..24).map(|n| Site::new(TARGET, "eu-west-1", "ECSCluster", &format!("service-{n:02}"))).collect();
    for site in &sites {
        let mut definition = web_definition("busybox");
        definition["family"] = json!(site.service);
        world.seed_definition(site, &definition.to_string(), json!([]), |_| {});
    }
    let updates: Vec<Value> = sites.iter().map(|site| site.event(json!({}))).collect();
    let started = Instant::now();
    world.invoke(&json!({"ecs_image_name": "nginx", "updates": updates})).await.many(200);
    // Nineteen registrations at once, and one a second after that.
    assert!(started.elapsed() > Duration::from_secs(3), "{:?}", started.elapsed());
    for site in &sites {
        let records = world.records(site);
        let at = |n: usize| DateTime::parse_from_rfc3339(records[n]["at"].as_str().unwrap()).unwrap();
        let leased = at(1) - at(0);
        assert!(leased < chrono::Duration::milliseconds(2500), "{} was leased for {leased}", site.service);
    }
}

/// The one that registers what they share fails; the next one leads.
#[tokio::test]
async fn where_the_leader_of_a_shared_revision_fails_the_next_one_leads() {
    let world = World::with_environment(&[]).await;
    let sites: Vec<Site> =
        (0..3).map(|n| Site::new(TARGET, "eu-west-1", "ECSCluster", &format!("service-{n}"))).collect();
    let arn = world.cloud().register(&sites[0], &web_definition("busybox").to_string(), json!([]));
    for site in &sites {
        world.cloud().create_service(site, &arn, |_| {});
    }
    world.journal.on("RegisterTaskDefinition", 1, Fault::refuse(400, "ClientException", "Invalid setting."));
    let updates: Vec<Value> = sites.iter().map(|site| site.event(json!({}))).collect();
    let outcome = world.invoke(&json!({"ecs_image_name": "nginx", "updates": updates})).await;
    let summary = &outcome.many(207)["summary"];
    assert_eq!((&summary["applied"], &summary["failed"]), (&json!(2), &json!(1)), "{summary}");
    assert_eq!(world.cloud().revisions(&sites[0], "web").len(), 2);
}

// ---- 16, 22: refusals that pass, and texts

#[tokio::test]
async fn refusals_of_ecs_that_pass_by_themselves_may_be_tried_again() {
    for (action, code, text) in [
        ("UpdateService", "InvalidParameterException", "5 active deployments exist, unable to create new deployment."),
        (
            "UpdateService",
            "InvalidParameterException",
            "The target group with targetGroupArn arn:x does not have an associated load balancer.",
        ),
        (
            "UpdateService",
            "InvalidParameterException",
            "Unable to assume role and validate the listeners configured on your load balancer. Please verify it.",
        ),
        (
            "RegisterTaskDefinition",
            "AccessDeniedException",
            "User: u is not authorized to perform: iam:PassRole on resource: arn:aws:iam::222222222222:role/new",
        ),
    ] {
        let world = World::new().await;
        let event = event("k", json!({"ecs_image_name": "nginx"}));
        world.journal.on(action, 1, Fault::refuse(400, code, text));
        let outcome = world.invoke(&event).await;
        let Outcome::Error { message, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(message.contains(text), "{message}");
        let record = &world.records(&Site::target())[1];
        assert_eq!(ledger::part(record, "error")["retryable"], true, "{text}");
        world.invoke(&event).await.status("APPLIED");
    }
}

/// What was registered a moment ago is not known everywhere yet.
#[tokio::test]
async fn a_new_revision_that_ecs_does_not_know_yet_is_waited_for() {
    let world = World::new().await;
    world.journal.on("UpdateService", 1, Fault::refuse(400, "ClientException", "TaskDefinition not found."));
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
}

#[tokio::test]
async fn conflicts_and_used_keys_are_told_as_what_they_are() {
    let world = World::new().await;
    world.invoke(&event("k", json!({"ecs_image_name": "nginx"}))).await.status("APPLIED");
    let outcome = world.invoke(&event("k", json!({"ecs_image_name": "httpd"}))).await;
    let message = outcome.error("IdempotencyKeyReused");
    assert!(message.contains("the idempotency key was already used with a different event"), "{message}");

    let conflict = json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict, None]",
        "CancellationReasons": [{"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}, {"Code": "None"}]});
    world.journal.from("ExecuteTransaction", 1, Fault::Answer { status: 400, body: conflict.to_string() });
    let outcome = world.update(json!({"ecs_image_name": "httpd"})).await;
    let message = outcome.error("ChangeInProgress");
    assert!(!message.contains("cannot be read") && !message.contains("change another"), "{message}");
    assert!(message.contains("TransactionConflict"), "{message}");
}
