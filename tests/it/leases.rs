//! One change at a time per service, and nothing left locked.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::journal::{Fault, Service};
use crate::harness::lambda::Outcome;
use crate::harness::{FUNCTION_ARN, Site, TARGET, World, ledger};

fn image(name: &str) -> Vec<u8> {
    Site::target().event(json!({"ecs_image_name": name})).to_string().into_bytes()
}

/// One was done, the other was told who is at work.
fn assert_one_won(world: &World, outcomes: &[Outcome; 2]) -> usize {
    let winner =
        outcomes.iter().position(|o| matches!(o, Outcome::Response(_))).unwrap_or_else(|| panic!("{outcomes:?}"));
    let body = outcomes[winner].status("APPLIED");
    let message = outcomes[1 - winner].error("ChangeInProgress");
    let text = format!(
        "[ERROR][service_lease] service {} is being changed by change {}",
        Site::target().key(),
        body["change_id"].as_str().unwrap()
    );
    assert!(message.starts_with(&text), "{message}");
    // Either says when to come again: by the lease, or where none was seen.
    assert!(message.contains("Come again "), "{message}");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
    ledger::assert_free(world.tables(), &Site::target().key());
    winner
}

#[tokio::test]
async fn of_two_invocations_one_after_the_other_began_the_second_is_told_who_is_at_work() {
    let world = World::new().await;
    let other = world.another_process().await;
    world.journal.on("RegisterTaskDefinition", 1, Fault::Delay(Duration::from_millis(1500)));
    let first = world.invoke_bytes(image("nginx:1"), world.invocation());
    let second = async {
        world.journal.reached("RegisterTaskDefinition", 1).await;
        world.invoke_on(&other, image("nginx:2"), world.invocation()).await
    };
    let outcomes: [Outcome; 2] = tokio::join!(first, second).into();
    assert_eq!(assert_one_won(&world, &outcomes), 0);
    world.invoke_on(&other, image("nginx:2"), world.invocation()).await.status("APPLIED");
}

#[tokio::test]
async fn of_two_invocations_that_read_the_same_head_one_changes_the_service() {
    let world = World::new().await;
    let other = world.another_process().await;
    // Both have read the head before either of them begins.
    world.journal.from("DescribeServices", 1, Fault::Delay(Duration::from_millis(300)));
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_millis(1500)));
    let first = world.invoke_bytes(image("nginx:1"), world.invocation());
    let second = world.invoke_on(&other, image("nginx:2"), world.invocation());
    let outcomes: [Outcome; 2] = tokio::join!(first, second).into();
    let winner = assert_one_won(&world, &outcomes);
    world.journal.mend();
    // Nothing is left locked: the other can have its turn.
    let loser = vec![image("nginx:1"), image("nginx:2")].swap_remove(1 - winner);
    world.invoke_bytes(loser, world.invocation()).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED", "STARTED", "APPLIED"]);
}

#[tokio::test]
async fn the_same_key_at_the_same_time_changes_the_service_once() {
    let world = World::new().await;
    let other = world.another_process().await;
    world.journal.from("DescribeServices", 1, Fault::Delay(Duration::from_millis(300)));
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    let bytes = || event.to_string().into_bytes();
    let first = world.invoke_bytes(bytes(), world.invocation());
    let second = world.invoke_on(&other, bytes(), world.invocation());
    let outcomes: [Outcome; 2] = tokio::join!(first, second).into();
    // The one that came second was told to wait, or came late enough for the answer.
    let applied =
        outcomes.iter().filter(|o| matches!(o, Outcome::Response(r) if r["body"]["status"] == "APPLIED")).count();
    assert!(applied >= 1, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|o| matches!(o, Outcome::Error { .. })) {
        outcome.error("ChangeInProgress");
    }
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
    world.journal.mend();
    assert_eq!(world.invoke(&event).await.status("APPLIED")["replayed"], true);
}

#[tokio::test]
async fn two_services_are_changed_at_the_same_time() {
    let world = World::new().await;
    let neighbour = Site::new(TARGET, "eu-west-1", "ECSCluster", "neighbour");
    world.seed(&neighbour);
    let process = world.another_process().await;
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(500)));
    let event = neighbour.event(json!({"ecs_image_name": "nginx"})).to_string().into_bytes();
    let first = world.invoke_bytes(image("nginx"), world.invocation());
    let second = world.invoke_on(&process, event, world.invocation());
    let (first, second) = tokio::join!(first, second);
    first.status("APPLIED");
    second.status("APPLIED");
}

#[tokio::test]
async fn a_change_that_failed_leaves_the_service_free() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, Fault::refuse(400, "InvalidParameterException", "no"));
    world.update(json!({"ecs_image_name": "nginx:1"})).await.error("ServiceUpdateFailed");
    ledger::assert_free(world.tables(), &site.key());
    world.update(json!({"ecs_image_name": "nginx:2"})).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED", "STARTED", "APPLIED"]);
}

/// A change of the sample service by a caller, under a key of its own.
fn change_by(caller: &str, image: &str) -> Vec<u8> {
    let changes =
        json!({"ecs_image_name": image, "requested_by": caller, "idempotency_key": format!("{caller}/{image}")});
    Site::target().event(changes).to_string().into_bytes()
}

/// While `holder` is at its change, until the others have asked; then its answer and theirs.
async fn meanwhile<T>(world: &World, holder: Vec<u8>, others: impl Future<Output = T>) -> (Outcome, T) {
    let (held, calls) = (Arc::new(Notify::new()), world.journal.of("UpdateService").len());
    world.journal.on("UpdateService", 1, Fault::Hold(Arc::clone(&held)));
    let others = async {
        world.journal.reached("UpdateService", calls + 1).await;
        let asked = others.await;
        held.notify_one();
        asked
    };
    tokio::join!(world.invoke_bytes(holder, world.invocation()), others)
}

/// The loop asks again as soon as it has its answer, and is always the first to do so.
#[tokio::test]
async fn who_was_refused_goes_next_though_another_changes_the_service_in_a_loop() {
    let world = World::new().await;
    let other = world.another_process().await;
    for round in 0..25 {
        let (own, waits) = (change_by("loop", &format!("l:{round}")), change_by("other", &format!("o:{round}")));
        let ask = async |event: &[u8]| world.invoke_on(&other, event.to_vec(), world.invocation()).await;
        let (first, refused) = meanwhile(&world, own, ask(&waits)).await;
        first.status("APPLIED");
        let message = refused.error("ChangeInProgress");
        assert!(message.contains("is being changed by change"), "round {round}: {message}");

        let next = change_by("loop", &format!("l:{}", round + 1));
        let outcome = world.invoke_bytes(next, world.invocation()).await;
        let message = outcome.error("ChangeInProgress");
        assert!(message.contains("another caller") && message.contains("has the next turn: until "), "{message}");
        assert!(message.contains("Come again at "), "{message}");
        ask(&waits).await.status("APPLIED");
        // The loop's own change, which let that one go first, is the next round's: it is not overtaken by it.
    }
    let changes = world.records(&Site::target());
    let by = changes.iter().filter(|record| record["kind"] == "APPLIED").map(|record| &record["requested_by"]);
    assert!(by.eq([json!("loop"), json!("other")].iter().cycle().take(50)), "{changes:#?}");
}

#[tokio::test]
async fn a_turn_is_written_once_and_costs_who_begins_no_call() {
    let world = World::new().await;
    let other = world.another_process().await;
    let ask = async |event: Vec<u8>| world.invoke_on(&other, event, world.invocation()).await;
    let asked = async {
        world.journal.forget();
        let mut written = Vec::new();
        for event in [change_by("other", "o"), change_by("other", "o"), change_by("loop", "another")] {
            ask(event).await.error("ChangeInProgress");
            written.push(world.journal.actions(Service::DynamoDb));
            world.journal.forget();
        }
        written
    };
    let (first, written) = meanwhile(&world, change_by("loop", "l"), asked).await;
    first.status("APPLIED");
    let (read, write) = ("BatchGetItem", "ExecuteTransaction");
    let noted = "its turn, and that its event came";
    assert_eq!(written[0], [read, write, write], "{noted}");
    assert_eq!(written[1], [read], "both stand");
    assert_eq!(written[2], [read, write], "that it came: nobody waits for himself");

    world.journal.forget();
    ask(change_by("other", "o")).await.status("APPLIED");
    assert_eq!(world.journal.actions(Service::DynamoDb), [read, write, write]);
    // Its turn was had, though it still stands in the table.
    world.invoke_bytes(change_by("loop", "l2"), world.invocation()).await.status("APPLIED");
}

#[tokio::test]
async fn a_turn_that_cannot_be_written_changes_no_answer() {
    for fault in [Fault::HangBefore, Fault::refuse(400, "AccessDeniedException", "no"), Fault::CutBefore] {
        let world = World::new().await;
        let other = world.another_process().await;
        let asked = async {
            world.journal.about("ExecuteTransaction", "turn#", fault.clone());
            world.invoke_on(&other, change_by("other", "o"), world.invocation()).await
        };
        let (first, refused) = meanwhile(&world, change_by("loop", "l"), asked).await;
        first.status("APPLIED");
        let message = refused.error("ChangeInProgress");
        assert!(message.contains("is being changed by change"), "{fault:?}: {message}");
        assert!(!message.contains("could not be noted"), "{fault:?}: {message}");
        world.mend().await;
        // As before: whoever comes first.
        world.invoke_bytes(change_by("loop", "l2"), world.invocation()).await.status("APPLIED");
    }
}

#[tokio::test]
async fn of_many_each_service_has_turns_of_its_own() {
    let world = World::new().await;
    let neighbour = Site::new(TARGET, "eu-west-1", "ECSCluster", "neighbour");
    world.seed(&neighbour);
    let other = world.another_process().await;
    let ask = async |event: Vec<u8>| world.invoke_on(&other, event, world.invocation()).await;
    let (first, refused) = meanwhile(&world, change_by("loop", "l"), ask(change_by("other", "o"))).await;
    first.status("APPLIED");
    refused.error("ChangeInProgress");
    let updates: Vec<Value> =
        [Site::target(), neighbour].iter().map(|site| site.event(json!({"ecs_image_name": "many"}))).collect();
    let outcome = world.invoke(&json!({"updates": updates, "requested_by": "third"})).await;
    let Outcome::Response(response) = &outcome else { panic!("{outcome:?}") };
    let results = &response["body"]["results"];
    assert_eq!(results[0]["error"]["code"], "ChangeInProgress", "{results}");
    assert_eq!(results[0]["error"]["retryable"], true, "{results}");
    assert_eq!(results[1]["status"], "APPLIED", "{results}");
    ask(change_by("other", "o")).await.status("APPLIED");
}

#[tokio::test]
async fn a_push_and_who_has_no_name_take_no_turn_and_a_dry_run_waits_for_none() {
    let world = World::new().await;
    let other = world.another_process().await;
    let ask = async |event: Vec<u8>| world.invoke_on(&other, event, world.invocation()).await;
    let image = format!("nginx@sha256:{}", "1".repeat(64));
    let push = json!({"ecs_image_name": image, "requested_by": "ecr-push", "idempotency_key": "p", "pushed_tag": "v1"});
    let push = Site::target().event(push);
    let (first, refused) = meanwhile(&world, change_by("loop", "l"), ask(push.to_string().into_bytes())).await;
    first.status("APPLIED");
    refused.error("ChangeInProgress");
    let unnamed = Site::target().event(json!({"ecs_image_name": "u", "idempotency_key": "u"}));
    let (another, refused) = meanwhile(&world, change_by("loop", "lu"), ask(unnamed.to_string().into_bytes())).await;
    another.status("APPLIED");
    refused.error("ChangeInProgress");
    let (second, refused) = meanwhile(&world, change_by("loop", "l2"), ask(change_by("other", "o"))).await;
    second.status("APPLIED");
    refused.error("ChangeInProgress");
    world.update(json!({"ecs_image_name": "third", "dry_run": true})).await.status("PLANNED");
    world.update(json!({"ecs_image_name": "third"})).await.error("ChangeInProgress");
}

/// A process that stood still past the end of its lease: what it did is recorded all the same, and the lease of the one
/// that came after it is left alone.
#[tokio::test]
async fn a_lost_lease_keeps_no_result_from_being_recorded_and_anothers_is_left_alone() {
    let world = World::new().await;
    let site = Site::target();
    let other = world.another_process().await;
    // The first one acts and waits long for its answer; the second one is in the middle of its change by then.
    world.journal.on("UpdateService", 1, Fault::Delay(Duration::from_secs(2)));
    world.journal.on("UpdateService", 2, Fault::Delay(Duration::from_millis(2500)));
    let first = world.invoke_bytes(image("nginx:1"), world.invocation());
    let second = async {
        world.journal.reached("UpdateService", 1).await;
        ledger::expire_lease(world.tables(), &site.key());
        world.invoke_on(&other, image("nginx:2"), world.invocation()).await
    };
    let (first, second) = tokio::join!(first, second);
    let first = first.status("APPLIED")["change_id"].clone();
    let second = second.status("APPLIED")["change_id"].clone();
    let records = world.records(&site);
    let said: Vec<(&Value, &Value)> = records.iter().map(|r| (&r["kind"], &r["change_id"])).collect();
    let kind = |kind: &'static str| Value::from(kind);
    let (started, abandoned, applied) = (kind("STARTED"), kind("ABANDONED"), kind("APPLIED"));
    let expected =
        [(&started, &first), (&abandoned, &first), (&started, &second), (&applied, &first), (&applied, &second)];
    assert_eq!(said, expected, "the second one still held its lease when the first one's result came");
    ledger::assert_free(world.tables(), &site.key());
}

/// The record of a change that has to be closed is gone: who closes it, whoever vouches for him, did not ask for it.
#[tokio::test]
async fn whoever_closes_a_change_whose_start_is_gone_is_not_its_author() {
    let (world, site) = (World::new().await, Site::target());
    ledger::append_external(world.tables(), &site);
    let unknown = "01a1f17d-7ec5-7d76-98b9-3fcd848f6d1b";
    ledger::lease_to(world.tables(), &site.key(), unknown, chrono::Utc::now() - chrono::Duration::minutes(5));
    let mut invocation = world.invocation();
    invocation.function_arn = format!("{FUNCTION_ARN}:api");
    let event = site.event(json!({"ecs_image_name": "nginx", "requested_by": "arn:aws:iam::111111111111:user/bob"}));
    world.invoke_with(&event, invocation).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["EXTERNAL", "ABANDONED", "STARTED", "APPLIED"]);
    let closed = &world.records(&site)[1];
    assert_eq!((&closed["change_id"], &closed["identity"]), (&json!(unknown), &json!("claimed")));
    assert_eq!(closed.get("requested_by"), None, "{closed}");
}

/// Eight environments of one service at once: how long until each has its answer. `OTHER_UPDATER` names the binary of another version,
/// which is measured in turn with this one: `cargo test --test it eight_functions -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn eight_functions_on_one_service_at_once() {
    let other = std::env::var("OTHER_UPDATER").ok();
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..20 {
        for (times, binary) in times.iter_mut().zip([None, other.as_deref()]) {
            times.push(contend(binary).await);
        }
    }
    for (name, mut times) in ["this one", "the other one"].into_iter().zip(times) {
        times.sort();
        eprintln!("{name}: median {:?}, p90 {:?}, most {:?}", times[9], times[17], times[19]);
    }
}

async fn contend(binary: Option<&str>) -> Duration {
    let world = World::without_process(&[]).await;
    world.seed(&Site::target());
    // AWS takes its time.
    for action in
        ["DescribeServices", "DescribeTaskDefinition", "RegisterTaskDefinition", "UpdateService", "AssumeRole"]
    {
        world.journal.from(action, 1, Fault::Delay(Duration::from_millis(50)));
    }
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(world.process_of(binary).await);
    }
    let started = std::time::Instant::now();
    let all = processes
        .iter()
        .enumerate()
        .map(|(n, process)| world.invoke_on(process, image(&format!("nginx:{n}")), world.invocation()));
    let outcomes = futures_util::future::join_all(all).await;
    let took = started.elapsed();
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Response(_))), "{outcomes:?}");
    took
}
