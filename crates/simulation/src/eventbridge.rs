//! What becomes of deployments, and how `EventBridge` reports it to the recorder: late, twice, out of order, or never.

use std::rc::Rc;
use std::time::Duration;

use aws_stub::Site;
use aws_stub::ecs::{RollbackForm, Started};
use serde_json::Value;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::counts::Counts;
use crate::lambda::{self, Ended};
use crate::plan::{Deviation, Fate, Of};
use crate::random::Stream;
use crate::truth::{End, Intent};
use crate::world::World;

/// Starts the lives of deployments that ECS has started since the last time, and delivers its events. `by` is the
/// intent that caused them. Returns the deployment that was started.
pub fn pump(world: &Rc<World>, by: Option<&Intent>, is_late: bool) -> Option<String> {
    let mut first = None;
    for started in world.cloud.take_started() {
        let nth = world.next(&format!("deployment {}", started.site.service));
        let name = format!("{}/{nth}", started.site.service);
        world.began(&started.site, &started.id, by.cloned(), is_late);
        world.note("ecs", &format_args!("deployment {name} is {}", started.id));
        first.get_or_insert_with(|| started.id.clone());
        spawn_local(life(Rc::clone(world), started, name, by.map(|by| format!("fate {}", by.key))));
    }
    for event in world.cloud.take_events() {
        deliver(world, &event);
    }
    first
}

fn has_end(world: &World, id: &str, end: &End) -> bool {
    world.truth.borrow().deployments.get(id).is_some_and(|deployment| deployment.end == *end)
}

fn set_end(world: &World, id: &str, end: End) {
    world.note("ecs", &format_args!("{id}: {end:?}"));
    if let Some(deployment) = world.truth.borrow_mut().deployments.get_mut(id) {
        deployment.is(end, world.now());
    }
}

/// The life of a deployment. It ends when another deployment takes its place.
async fn life(world: Rc<World>, started: Started, name: String, fate: Option<String>) {
    let Started { site, id, .. } = started;
    let mut draw = Stream::new(world.plan.seed, &format!("life {name}"));
    let told = fate.filter(|fate| world.plan.deviations.contains_key(fate));
    let fate = world.deviation(Of::Deployment, &told.unwrap_or_else(|| format!("deployment {name}")));
    let goes_on = |world: &World| world.cloud.is_primary(&site, &id) && has_end(world, &id, &End::Open);
    sleep(draw.pause(50.0, 3_000.0)).await;
    if !goes_on(&world) {
        return;
    }
    world.cloud.progress(&site, &id);
    pump(&world, None, false);
    let takes = match fate {
        Some(Deviation::Fate(Fate::Takes(millis))) => Duration::from_millis(millis),
        _ => draw.pause(3_000.0, 120_000.0),
    };
    sleep(takes).await;
    if !goes_on(&world) {
        return;
    }
    if let Some(Deviation::Fate(fate @ (Fate::FailsOldId | Fate::FailsNewId | Fate::RollbackFails))) = fate {
        Counts::one(&mut world.counts.borrow_mut().troubles, "deployment fails");
        set_end(&world, &id, End::Failed);
        world.cloud.fail(&site, &id);
        pump(&world, None, false);
        let good = world.last_good.borrow().get(&site).cloned();
        if let Some(good) = good.filter(|(good, _)| world.rolls_back(&site) && *good != id) {
            let form = if fate == Fate::FailsNewId { RollbackForm::NewId } else { RollbackForm::OldId };
            rollback(&world, &site, &id, &good, form, fate != Fate::RollbackFails, &mut draw).await;
        }
        return;
    }
    set_end(&world, &id, End::Completed);
    let service = world.cloud.service(&site);
    let definition = service["taskDefinition"].as_str().unwrap_or_default().to_owned();
    world.last_good.borrow_mut().insert(site.clone(), (id.clone(), definition));
    world.cloud.complete(&site, &id);
    pump(&world, None, false);
}

async fn rollback(
    world: &Rc<World>,
    site: &Site,
    undone: &str,
    (good, definition): &(String, String),
    form: RollbackForm,
    is_good: bool,
    draw: &mut Stream,
) {
    sleep(draw.pause(50.0, 2_000.0)).await;
    if !world.cloud.is_primary(site, undone) || !has_end(world, undone, &End::Failed) {
        return;
    }
    set_end(world, undone, End::RollingBack);
    let id = world.cloud.roll_back(site, good, definition, form);
    world.note("ecs", &format_args!("{undone} is rolled back by {id}"));
    world.truth.borrow_mut().rollbacks.insert(id.clone(), undone.to_owned());
    pump(world, None, false);
    sleep(draw.pause(2_000.0, 40_000.0)).await;
    if !world.cloud.is_primary(site, &id) || !has_end(world, undone, &End::RollingBack) {
        return;
    }
    set_end(world, undone, if is_good { End::RolledBack } else { End::RollbackFailed });
    world.cloud.rolled_back(site, &id, is_good);
    pump(world, None, false);
}

/// Delivers an event as often as the plan says.
fn deliver(world: &Rc<World>, event: &Value) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let service = text("/resources/0").rsplit('/').next().unwrap_or_default().to_owned();
    let what = text("/detail/eventName").trim_start_matches("SERVICE_DEPLOYMENT_").to_owned();
    let nth = world.next(&format!("event {service}"));
    let name = format!("{service}/e{nth}");
    world.note(
        "eventbridge",
        &format_args!("{name}: {what} of {}: {}", text("/detail/deploymentId"), text("/detail/reason")),
    );
    let usual = Stream::new(world.plan.seed, &format!("arrival {name}")).millis(100.0, 1_500.0);
    let told = about(world, text("/detail/deploymentId")).filter(|told| world.plan.deviations.contains_key(told));
    let arrivals = match world.deviation(Of::Event, &told.unwrap_or_else(|| format!("event {name}"))) {
        Some(Deviation::Arrivals(arrivals)) => {
            let kind = match arrivals.len() {
                0 => "event lost",
                1 => "event late",
                _ => "event twice",
            };
            Counts::one(&mut world.counts.borrow_mut().troubles, kind);
            arrivals
        }
        _ => vec![usual],
    };
    for (copy, after) in arrivals.into_iter().enumerate() {
        let (world, event, name) = (Rc::clone(world), event.clone(), format!("{name}.{copy}"));
        spawn_local(async move {
            sleep(Duration::from_millis(after)).await;
            hear(&world, &event, &name).await;
        });
    }
}

/// The name that a plan uses for the events about what a key deployed.
fn about(world: &World, id: &str) -> Option<String> {
    let truth = world.truth.borrow();
    let deployment = truth.deployments.get(truth.rollbacks.get(id).map_or(id, String::as_str))?;
    Some(format!("events {}", deployment.by.as_ref()?.key))
}

/// Lambda's queue: an event that fails is sent again after one and after two minutes.
async fn hear(world: &Rc<World>, event: &Value, name: &str) {
    for attempt in 1..=3 {
        let ended = lambda::recorder(world, &format!("{name}.{attempt}"), name, event).await;
        if let Ended::Answered(answer) = ended {
            let id = event["detail"]["deploymentId"].as_str().unwrap_or_default();
            let mut truth = world.truth.borrow_mut();
            // An event about a rollback does not name what is rolled back: there may have been no event about the
            // latter.
            let is_rollback = truth.rollbacks.contains_key(id);
            if let Some(deployment) = truth.deployments.get_mut(id).filter(|_| !is_rollback) {
                deployment.is_heard |= answer.get("refused").is_none();
            }
            return;
        }
        sleep(Duration::from_mins(attempt)).await;
    }
    Counts::one(&mut world.counts.borrow_mut().troubles, "event in the dead letters");
    world.note("eventbridge", &format_args!("{name} ends in the dead letters"));
}
