//! Who changes services: callers of the updater with their habits, and people who do not use the updater.

use std::rc::Rc;
use std::time::Duration;

use aws_stub::Site;
use serde_json::{Value, json};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::aws::{digest_of, past_the_door};
use crate::counts::Counts;
use crate::invariants;
use crate::lambda::{self, Ended, HUB};
use crate::plan::{Act, Change, Sent, What};
use crate::truth::{End, Told};
use crate::world::{Purpose, World, image};

/// After this time boto3 stops waiting for an answer and sends its event again.
const BOTO_PATIENCE: Duration = Duration::from_mins(1);
/// How often boto3 sends an event in total.
const BOTO_ATTEMPTS: u32 = 3;

/// Performs an act of the plan to its end.
pub async fn perform(world: Rc<World>, act: Act) {
    sleep(Duration::from_millis(act.at)).await;
    let name = act.name.as_str();
    match &act.what {
        What::Change(change) => request(&world, name, change).await,
        What::Deploy { service, image } => deploy(&world, &world.site(*service), *image),
        What::Tag { service } => {
            let site = world.site(*service);
            let body = json!({"resourceArn": site.service_arn(), "tags": [{"key": "people", "value": name}]});
            past_the_door(&world, &site, "TagResource", &body);
        }
        What::Stop { service } => stop(&world, &world.site(*service)),
        What::Delete { service, gone } => delete(&world, &world.site(*service), *gone).await,
        What::Sweep => sweep(&world, name).await,
        What::Ask { service } => invariants::ask(&world, name, &world.site(*service)).await,
        What::Push { service, image } => push(&world, name, &world.site(*service), *image).await,
    }
}

/// The recorder's schedule: an event that Lambda sends again if it fails.
pub async fn sweep(world: &World, name: &str) {
    for attempt in 1..=3 {
        let ended = lambda::recorder(world, &format!("{name}.{attempt}"), name, &json!({"sweep": {}})).await;
        if matches!(ended, Ended::Answered(_)) {
            return;
        }
        sleep(Duration::from_mins(attempt)).await;
    }
}

fn deploy(world: &Rc<World>, site: &Site, tag: u32) {
    let Some(service) = world.cloud.find(site).filter(|service| service["status"] == "ACTIVE") else { return };
    let running = service["taskDefinition"].as_str().unwrap_or_default();
    let Some(mut document) = world.cloud.revision(site, running).map(|revision| revision.json()) else { return };
    document["containerDefinitions"][0]["image"] = image(site, tag).into();
    let definition = world.cloud.register(site, &document.to_string(), json!([]));
    let body = json!({"cluster": site.cluster, "service": site.service, "taskDefinition": definition});
    past_the_door(world, site, "UpdateService", &body);
}

fn stop(world: &World, site: &Site) {
    let Some(service) = world.cloud.find(site) else { return };
    let id = service["deployments"][0]["id"].as_str().unwrap_or_default();
    let mut truth = world.truth.borrow_mut();
    if let Some(deployment) = truth.deployments.get_mut(id).filter(|deployment| deployment.end == End::Open) {
        deployment.is(End::Stopped, world.now());
        world.note("people", &format_args!("stop {id}"));
        world.cloud.stop(site);
    }
}

async fn delete(world: &Rc<World>, site: &Site, gone: u64) {
    if world.cloud.find(site).is_none_or(|service| service["status"] != "ACTIVE") {
        return;
    }
    world.note("people", &format_args!("delete {}", site.service));
    world.cloud.delete(site);
    let now = world.now();
    {
        let mut truth = world.truth.borrow_mut();
        truth.deleted.entry(site.clone()).or_default().push(now);
        let open = |end: &End| matches!(end, End::Open | End::RollingBack);
        for deployment in
            truth.deployments.values_mut().filter(|deployment| deployment.site == *site && open(&deployment.end))
        {
            deployment.is(End::Deleted, now);
        }
    }
    sleep(Duration::from_millis(gone / 2)).await;
    world.cloud.deleted(site);
    sleep(Duration::from_millis(gone / 2)).await;
    world.note("people", &format_args!("create {} anew", site.service));
    world.make_anew(site);
}

/// Which of three callers sends a change.
fn caller(change: &Change) -> u32 {
    let key = change.key.as_deref().unwrap_or_default();
    key.bytes().map(u32::from).sum::<u32>().wrapping_add(change.image.unwrap_or_default()) % 3
}

/// The event of a change. It is the same event if its key was sent before with the same change.
fn event(world: &World, change: &Change) -> Value {
    let remembered = serde_json::to_string(&Change { sent: Sent::Once, ..change.clone() }).unwrap_or_default();
    if change.key.is_some()
        && let Some(event) = world.events.borrow().get(&remembered)
    {
        return event.clone();
    }
    let sites: Vec<Site> = change.services.iter().map(|n| world.site(*n)).collect();
    let mut updates: Vec<Value> = sites.iter().map(|site| site.event(fields(world, site, change))).collect();
    let mut event = if updates.len() == 1 { updates.remove(0) } else { json!({ "updates": updates }) };
    if let Some(key) = &change.key {
        event["idempotency_key"] = key.as_str().into();
    }
    event["requested_by"] = format!("caller-{}", caller(change)).into();
    world.events.borrow_mut().insert(remembered, event.clone());
    event
}

fn fields(world: &World, site: &Site, change: &Change) -> Value {
    let mut fields = json!({});
    if let Some(tag) = change.image {
        fields["ecs_image_name"] = image(site, tag).into();
    }
    if let Some(tag) = change.tag {
        fields["ecs_tag"] = json!({"n": tag.to_string(), "owner": "shop"});
    }
    if let Some(count) = change.count {
        fields["service"] = json!({ "desiredCount": count });
    }
    if change.force {
        fields["force_new_deployment"] = true.into();
    }
    if change.expect
        && let Some(service) = world.cloud.find(site)
    {
        let running = service["taskDefinition"].as_str().unwrap_or_default();
        fields["expected_task_definition"] = running.rsplit('/').next().unwrap_or_default().into();
    }
    if let Some(restore) = &change.restore {
        let known = world.changes.borrow().get(restore).cloned();
        fields = json!({"restore": known.unwrap_or_else(|| "previous".to_owned())});
    }
    if change.wait > 0 {
        fields["wait_seconds"] = change.wait.into();
    }
    fields
}

async fn request(world: &Rc<World>, name: &str, change: &Change) {
    let event = event(world, change);
    world.note(name, &format_args!("sends {event}"));
    match change.sent {
        Sent::Once => drop(send(world, &format!("{name}.1"), name, &event).await),
        Sent::Queued => queued(world, name, name, &event).await,
        Sent::Impatient => impatient(world, name, &event).await,
        Sent::Doubled(apart) => {
            let (again, second) = (Rc::clone(world), event.clone());
            let copy = name.to_owned();
            let later = spawn_local(async move {
                sleep(Duration::from_millis(apart)).await;
                queued(&again, &format!("{copy}.copy"), &copy, &second).await;
            });
            queued(world, name, name, &event).await;
            drop(later.await);
        }
    }
    if let Some(told) =
        world.truth.borrow().told.iter().rev().find(|told| told.invocation.starts_with(&format!("{name}.")))
        && let Some(id) = told.body["change_id"].as_str()
    {
        world.changes.borrow_mut().insert(name.to_owned(), id.to_owned());
    }
}

/// Lambda's queue: an event that fails is sent again after one and after two minutes, under the same request id,
/// whatever the failure was.
async fn queued(world: &Rc<World>, name: &str, request_id: &str, event: &Value) {
    for attempt in 1..=3 {
        if let Ended::Answered(_) = send(world, &format!("{name}.{attempt}"), request_id, event).await {
            return;
        }
        sleep(Duration::from_mins(attempt)).await;
    }
}

/// boto3: if there is no answer within a minute, the event is sent again as another invocation. The first one
/// continues.
async fn impatient(world: &Rc<World>, name: &str, event: &Value) {
    let mut running = Vec::new();
    for attempt in 1..=BOTO_ATTEMPTS {
        let (world, event) = (Rc::clone(world), event.clone());
        let (invocation, request_id) = (format!("{name}.{attempt}"), format!("{name}-{attempt}"));
        let mut sent = spawn_local(async move { send(&world, &invocation, &request_id, &event).await });
        if timeout(BOTO_PATIENCE, &mut sent).await.is_ok() {
            break;
        }
        running.push(sent);
    }
    for sent in running {
        drop(sent.await);
    }
}

/// Invokes the updater, and notes its answer for each service.
pub async fn send(world: &World, invocation: &str, request_id: &str, event: &Value) -> Ended {
    let updates = event["updates"].as_array().cloned().unwrap_or_else(|| vec![event.clone()]);
    let sites: Vec<Site> = updates.iter().filter_map(|update| site_of(world, update)).collect();
    let key = event["idempotency_key"].as_str().unwrap_or(request_id).to_owned();
    let purpose = Purpose { key, sites: sites.clone(), ..Purpose::default() };
    world.purposes.borrow_mut().insert(invocation.to_owned(), purpose.clone());
    world.sent.borrow_mut().insert(invocation.to_owned(), (request_id.to_owned(), event.clone()));
    for site in &sites {
        world.truth.borrow_mut().came.entry(purpose.intent(site)).or_insert_with(|| world.now());
    }
    let ended = lambda::updater(world, invocation, request_id, event).await;
    let told = |site: &Site, body: Value, code: Option<String>, is_retryable: bool| {
        let outcome = code.clone().unwrap_or_else(|| body["status"].as_str().unwrap_or("no status").to_owned());
        Counts::one(&mut world.counts.borrow_mut().answers, &outcome);
        let intent = purpose.intent(site);
        Told { at: world.now(), invocation: invocation.to_owned(), intent, body, code, is_retryable }
    };
    let mut all = Vec::new();
    match &ended {
        Ended::Died => {}
        Ended::Answered(answer) => match answer.pointer("/body/results").and_then(Value::as_array) {
            None => all.extend(sites.first().map(|site| told(site, answer["body"].clone(), None, false))),
            Some(results) => {
                for (site, body) in sites.iter().zip(results) {
                    let code = body.pointer("/error/code").and_then(Value::as_str).map(str::to_owned);
                    let may_pass = body.pointer("/error/retryable") == Some(&true.into());
                    all.push(told(site, body.clone(), code, may_pass));
                }
            }
        },
        Ended::Failed { code, message, is_retryable } => {
            for site in &sites {
                all.push(told(site, json!({"message": message}), Some(code.clone()), *is_retryable));
            }
        }
    }
    seen(world, invocation, &all);
    invariants::at_answering(world, &all);
    world.truth.borrow_mut().told.extend(all);
    ended
}

/// An attempt that failed by itself, and whose calls to DynamoDB met no fault, has noted its event: what begins after its answer is later.
/// What began while it ran was concurrent with it, and either of the two may be first.
fn seen(world: &World, invocation: &str, all: &[Told]) {
    if world.purposes.borrow().get(invocation).is_none_or(Purpose::is_hampered) {
        return;
    }
    for told in all.iter().filter(|told| told.code.as_deref().is_some_and(|code| code != "JsonValidation")) {
        world.truth.borrow_mut().seen(&told.intent, told.at);
    }
}

fn site_of(world: &World, update: &Value) -> Option<Site> {
    let text = |name: &str| update[name].as_str();
    Some(Site::new(text("account_id")?, &world.region, text("ecs_cluster_name")?, text("ecs_service_name")?))
}

/// An image is pushed, and the queue delivers the message to the trigger until the trigger has processed it.
async fn push(world: &Rc<World>, name: &str, site: &Site, tag: u32) {
    let name_of_it = format!("shop/{}", site.service);
    let repository = format!("{HUB}.dkr.ecr.{}.amazonaws.com/{name_of_it}", world.region);
    let target =
        json!({"account_id": site.account, "ecs_cluster_name": site.cluster, "ecs_service_name": site.service});
    let mapping = json!([{"repository": repository, "tags": ["*"], "targets": [target]}]);
    let event = json!({
        "version": "0", "id": format!("push-{name}"), "detail-type": "ECR Image Action", "source": "aws.ecr",
        "account": HUB, "region": world.region, "time": world.now().to_rfc3339(),
        "detail": {"action-type": "PUSH", "result": "SUCCESS", "repository-name": name_of_it,
                   "image-tag": tag.to_string(), "image-digest": digest_of(&tag.to_string())},
    });
    let messages = json!({"Records": [{"messageId": "m", "body": event.to_string()}]});
    for attempt in 1..=3 {
        let ended = lambda::trigger(world, &format!("{name}.{attempt}"), &mapping, &messages).await;
        if let Ended::Answered(again) = ended
            && again["batchItemFailures"].as_array().is_none_or(Vec::is_empty)
        {
            return;
        }
        // The queue's visibility timeout.
        sleep(Duration::from_mins(16)).await;
    }
}
