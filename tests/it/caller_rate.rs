//! How many events a caller of the API door may send in a minute.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::lambda::{Outcome, Process};
use crate::harness::{FUNCTION_ARN, Site, World};

fn event(who: &str, changes: Value) -> Value {
    let mut event = Site::target().event(changes);
    event["requested_by"] = json!(who);
    event
}

/// An event as the API door hands it over.
async fn send(world: &World, process: &Process, event: &Value) -> Outcome {
    let mut invocation = world.invocation();
    invocation.function_arn = format!("{FUNCTION_ARN}:api");
    world.invoke_on(process, event.to_string().into_bytes(), invocation).await
}

async fn limited(limit: &str) -> World {
    World::with_environment(&[("CALLER_EVENTS_PER_MINUTE", limit)]).await
}

/// Nothing of the test depends on when a minute ends.
async fn early_in_a_minute() {
    let second = chrono::Utc::now().timestamp() % 60;
    if second > 40 {
        tokio::time::sleep(std::time::Duration::from_secs(u64::try_from(60 - second).unwrap())).await;
    }
}

#[tokio::test]
async fn who_sends_too_much_is_refused_before_anything_is_looked_at_and_others_are_not() {
    let world = limited("3").await;
    world.seed(&Site::target());
    let processes: Vec<Arc<Process>> = vec![world.process(), world.another_process().await];
    early_in_a_minute().await;
    // Changes, plans and batches alike, whichever environment they come to.
    send(&world, &processes[0], &event("ann", json!({"ecs_tag": {"a": "1"}}))).await.status("APPLIED");
    send(&world, &processes[1], &event("ann", json!({"ecs_tag": {"a": "2"}, "dry_run": true}))).await.status("PLANNED");
    let batch = json!({"requested_by": "ann", "updates": [Site::target().event(json!({"ecs_tag": {"a": "2"}}))]});
    send(&world, &processes[0], &batch).await.many(200);
    world.journal.forget();
    for process in &processes {
        for more in [json!({"ecs_tag": {"a": "3"}}), json!({"ecs_tag": {"a": "3"}, "dry_run": true})] {
            let outcome = send(&world, process, &event("ann", more)).await;
            let message = outcome.error("CallerThrottled");
            assert!(
                message.starts_with("[ERROR][caller_rate] caller \"ann\" sent more events than the 3 in a minute"),
                "{message}"
            );
            assert!(message.contains("nothing was changed. Come again at "), "{message}");
        }
        let batch = json!({"requested_by": "ann", "updates": [Site::target().event(json!({"ecs_tag": {"a": "3"}}))]});
        send(&world, process, &batch).await.error("CallerThrottled");
    }
    let actions = world.journal.calls().iter().map(|call| call.action.clone()).collect::<Vec<_>>();
    assert!(actions.iter().all(|action| action == "BatchGetItem"), "{actions:?}");
    send(&world, &processes[0], &event("bob", json!({"ecs_tag": {"a": "4"}}))).await.status("APPLIED");
    // Who comes by another way is not vouched for, and not counted.
    for tag in ["5", "6", "7", "8"] {
        world.invoke(&event("ann", json!({"ecs_tag": {"a": tag}}))).await.status("APPLIED");
    }
}

#[tokio::test]
async fn events_of_one_caller_that_come_at_once_are_each_counted() {
    let world = limited("4").await;
    world.seed(&Site::target());
    let process = world.process();
    let other = world.another_process().await;
    early_in_a_minute().await;
    let plan = event("ann", json!({"ecs_tag": {"a": "2"}, "dry_run": true}));
    let mut planned = 0;
    for _ in 0..3 {
        let (one, another) = tokio::join!(send(&world, &process, &plan), send(&world, &other, &plan));
        planned += [one, another].iter().filter(|outcome| matches!(outcome, Outcome::Response(_))).count();
    }
    assert_eq!(planned, 4);
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted_and_what_cannot_be_counted_goes_on() {
    let world = limited("0").await;
    world.seed(&Site::target());
    send(&world, &world.process(), &event("ann", json!({"ecs_tag": {"a": "1"}}))).await.status("APPLIED");
    assert_eq!(world.journal.of("BatchGetItem").len(), 1);

    let world = limited("3").await;
    world.seed(&Site::target());
    world.journal.on("BatchGetItem", 1, Fault::refuse(400, "AccessDeniedException", "not authorized"));
    send(&world, &world.process(), &event("ann", json!({"ecs_tag": {"a": "1"}}))).await.status("APPLIED");
}
