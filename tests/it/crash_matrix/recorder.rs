//! The recorder killed before and after each of its calls; then its event once more, then the sweep.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Side, Step, arm, each, steps, sweep, table};
use crate::harness::lambda::{Outcome, Process};
use crate::harness::{Site, World, ledger};
use crate::recorder::{self, COMPLETED, FAILED, IN_PROGRESS, rolls_back_to};

/// What is told to the recorder, each with the word for it in the table.
type Told = Vec<(&'static str, Value)>;

/// Events, and what there is before them.
struct Telling {
    title: &'static str,
    prepare: for<'a> fn(&'a World) -> BoxFuture<'a, Told>,
}

/// What is there at last.
#[derive(Debug, PartialEq)]
struct End {
    kinds: Vec<String>,
    /// Of each deployment: outcomes, whether it is open, whether it undoes one.
    deployments: Vec<(Value, bool, bool)>,
}

fn event(name: &str, deployment_id: &str, reason: &str) -> Value {
    recorder::event(&Site::target(), name, deployment_id, reason)
}

/// Changes the sample service; gives the new deployment.
async fn changed(world: &World, image: &str) -> String {
    let outcome = world.update(json!({"ecs_image_name": image})).await;
    outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned()
}

/// Tells the recorder; where it is killed in `at`, another one is told the same.
async fn tell(
    world: &World,
    recorder: &mut std::sync::Arc<Process>,
    event: &Value,
    at: Option<(&Step, Side)>,
) -> Outcome {
    let Some((step, side)) = at else { return world.tell_on(recorder, event).await };
    let silent = world.journal.silent();
    arm(world, step, side, &[]);
    let outcome = {
        let running = world.tell_on(recorder, event);
        tokio::pin!(running);
        tokio::select! {
            outcome = &mut running => outcome,
            () = world.journal.fell_silent(silent) => tokio::join!(recorder.kill(), running).1,
        }
    };
    world.journal.mend();
    if outcome == Outcome::Died {
        *recorder = world.another_recorder().await;
    }
    outcome
}

fn check(world: &World) {
    let site = Site::target();
    let violations = world.journal.take_violations();
    assert!(violations.is_empty(), "{violations:?}");
    let faults = ledger::faults(world.tables(), &site.key());
    assert!(faults.is_empty(), "{faults:?}");
    ledger::assert_free(world.tables(), &site.key());
    let records = world.records(&site);
    for item in ledger::deployments(world.tables()) {
        let known = item["change_id"] == "" || records.iter().any(|record| record["change_id"] == item["change_id"]);
        assert!(known, "no change has the deployment {item:?}");
        // A rollback has no outcome of its own: what it undoes has it.
        if item["undoes"] != "" {
            continue;
        }
        let recorded = records.iter().filter(|record| {
            let is_result = ["STARTED", "APPLIED"].map(Value::from).contains(&record["kind"]);
            !is_result && record["change_id"] == item["change_id"]
        });
        let outcomes: Vec<&str> = recorded.map(|record| record["kind"].as_str().unwrap()).collect();
        assert_eq!(item["outcomes"], outcomes.join(","), "records and item say the same");
    }
}

fn end(world: &World, before: usize) -> End {
    let items = ledger::deployments(world.tables());
    let deployments =
        items.iter().map(|item| (item["outcomes"].clone(), item.contains_key("open"), item["undoes"] != ""));
    let mut deployments: Vec<_> = deployments.collect();
    deployments.sort_by_key(|deployment| format!("{deployment:?}"));
    End { kinds: ledger::kinds(&world.records(&Site::target())).split_off(before), deployments }
}

/// What an answer of the recorder says, in the words of the tables.
fn answered(outcome: &Outcome) -> String {
    let answer = outcome.response();
    let swept = &answer["swept"];
    if let Some(kind) = answer["recorded"].as_str() {
        format!("{kind} recorded")
    } else if answer.get("rollback_of").is_some() {
        "rollback noted".to_owned()
    } else if swept["settled"] == 1 {
        "settled".to_owned()
    } else if swept["open"] == 1 {
        "put off".to_owned()
    } else {
        assert!(answer.get("nothing").is_some() || swept["asked"] == 0, "{answer}");
        "known".to_owned()
    }
}

async fn begin(telling: &Telling) -> (World, Told, usize) {
    let world = World::new().await;
    let told = (telling.prepare)(&world).await;
    world.journal.forget();
    let before = world.records(&Site::target()).len();
    (world, told, before)
}

async fn undisturbed(telling: &Telling) -> (Vec<Step>, End) {
    let (world, told, before) = begin(telling).await;
    let mut recorder = world.another_recorder().await;
    let mut all = Vec::new();
    for (n, (word, event)) in told.iter().enumerate() {
        world.journal.forget();
        tell(&world, &mut recorder, event, None).await.response();
        let labelled = steps(&world.journal.calls(), &[], n).into_iter().map(|step| {
            let label = if told.len() > 1 { format!("{word}: {}", step.label) } else { step.label };
            Step { label, ..step }
        });
        all.extend(labelled);
        check(&world);
    }
    sweep(&world).await;
    (all, end(&world, before))
}

async fn cell(telling: &Telling, step: &Step, side: Side, expected: &End) -> String {
    let (world, told, before) = begin(telling).await;
    let mut recorder = world.another_recorder().await;
    let mut text = String::new();
    for (n, (_, event)) in told.iter().enumerate() {
        if n == step.event {
            let (had, known) = (world.records(&Site::target()).len(), ledger::deployments(world.tables()));
            let killed = tell(&world, &mut recorder, event, Some((step, side))).await;
            assert_eq!(killed, Outcome::Died, "the call came");
            check(&world);
            let found = ledger::kinds(&world.records(&Site::target())).split_off(had);
            let found = match found.as_slice() {
                [] if ledger::deployments(world.tables()) == known => "nothing".to_owned(),
                [] => "noted".to_owned(),
                found => found.join(", "),
            };
            let again = tell(&world, &mut recorder, event, None).await;
            text = format!("{found}: {}", answered(&again));
        } else {
            tell(&world, &mut recorder, event, None).await.response();
        }
        check(&world);
    }
    sweep(&world).await;
    check(&world);
    assert_eq!(end(&world, before), *expected, "what it leaves behind is what an undisturbed recorder leaves behind");
    text
}

async fn matrix(telling: Telling) {
    let (steps, expected) = undisturbed(&telling).await;
    let cells = each(&steps, |step, side| cell(&telling, step, side, &expected)).await;
    let kinds = match expected.kinds.as_slice() {
        [] => "no record".to_owned(),
        kinds => format!("{}, once", kinds.join(", ")),
    };
    let open = expected.deployments.iter().filter(|(_, open, _)| *open).count();
    let all = format!("Undisturbed as in each cell: {kinds}; deployments still open: {open}; no lease.");
    table::show(telling.title, &steps, &cells, &all);
}

#[tokio::test]
async fn a_deployment_completes() {
    matrix(Telling {
        title: "The recorder: a deployment completes",
        prepare: |world| {
            async move {
                let own = changed(world, "nginx").await;
                vec![("COMPLETED", event(COMPLETED, &own, ""))]
            }
            .boxed()
        },
    })
    .await;
}

#[tokio::test]
async fn a_deployment_fails_and_is_rolled_back() {
    matrix(Telling {
        title: "The recorder: a deployment fails and is rolled back",
        prepare: |world| {
            async move {
                let before = world.cloud().deployment(&Site::target());
                let own = changed(world, "nginx").await;
                let reason = rolls_back_to(&before);
                vec![
                    ("FAILED", event(FAILED, &own, "ECS deployment circuit breaker: tasks failed to start.")),
                    ("rollback begins", event(IN_PROGRESS, &before, &reason)),
                    ("rollback COMPLETED", event(COMPLETED, &before, "")),
                ]
            }
            .boxed()
        },
    })
    .await;
}

#[tokio::test]
async fn a_deployment_that_no_change_started() {
    matrix(Telling {
        title: "The recorder: a deployment that no change started",
        prepare: |world| {
            async move {
                let own = changed(world, "nginx").await;
                world.tell(&event(COMPLETED, &own, "")).await.response();
                vec![
                    ("begins", event(IN_PROGRESS, "ecs-svc/5", "by hand")),
                    ("COMPLETED", event(COMPLETED, "ecs-svc/5", "")),
                ]
            }
            .boxed()
        },
    })
    .await;
}

#[tokio::test]
async fn the_sweep_finds_an_end() {
    matrix(Telling {
        title: "The sweep: another deployment took over",
        prepare: |world| {
            async move {
                let own = changed(world, "nginx").await;
                let newer = changed(world, "httpd").await;
                for (id, status) in [(&own, "STOPPED"), (&newer, "IN_PROGRESS")] {
                    world.cloud().tell(&Site::target(), id, status, &json!({}));
                }
                ledger::make_due(world.tables(), &own);
                vec![("sweep", json!({"sweep": {}}))]
            }
            .boxed()
        },
    })
    .await;
}

#[tokio::test]
async fn the_sweep_finds_it_open() {
    matrix(Telling {
        title: "The sweep: the deployment goes on",
        prepare: |world| {
            async move {
                let own = changed(world, "nginx").await;
                world.cloud().tell(&Site::target(), &own, "IN_PROGRESS", &json!({}));
                ledger::make_due(world.tables(), &own);
                vec![("sweep", json!({"sweep": {}}))]
            }
            .boxed()
        },
    })
    .await;
}
