//! AWS, as calls see it: what is done when a call arrives, and what is noted of it.

use std::rc::Rc;
use std::time::Duration;

use aws_stub::Site;
use aws_stub::sts::{Session, assume_role, form};
use serde_json::{Value, json};

use crate::eventbridge;
use crate::fault::is_read;
use crate::invariants;
use crate::lambda;
use crate::network::Call;
use crate::tables::items_of;
use crate::trace::body_hash;
use crate::truth::{Began, Held, Mutation, UnderWay};
use crate::world::World;

/// Does what a call requests, and returns status and body.
pub async fn act(world: &Rc<World>, call: &Call, lag: Duration, is_late: bool) -> (u16, String) {
    let (status, body) = match call.service {
        "dynamodb" => dynamodb(world, call),
        "sts" => sts(world, call),
        "lambda" => lambda::invoked(world, call).await,
        "ecr" => ecr(call),
        _ => ecs(world, call, lag, is_late),
    };
    if world.trace.borrow().is_kept() {
        world.note(&call.invocation, &format_args!("* {} {status} {}", call.action, body_hash(&body)));
    }
    (status, body)
}

fn dynamodb(world: &World, call: &Call) -> (u16, String) {
    let (status, body) = world.tables.act(&call.action, &call.body);
    if status == 200 && call.action == "ExecuteTransaction" {
        watch(world, call);
    }
    (status, body)
}

/// Notes what a transaction did to leases and keys.
fn watch(world: &World, call: &Call) {
    let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let services = items_of(&body, "service#");
    let purpose = world.purposes.borrow().get(&call.invocation).cloned();
    let now = world.now();
    let mut truth = world.truth.borrow_mut();
    let intent = |service: &str| {
        let purpose = purpose.as_ref()?;
        let site = purpose.sites.iter().find(|site| site.key() == service)?;
        Some(purpose.intent(site))
    };
    for service in services {
        let Some(lease) = world.tables.lease(&service) else {
            truth.held.remove(&service);
            continue;
        };
        let before = truth.held.get(&service);
        if before.is_some_and(|held| held.identity == lease.identity) {
            continue;
        }
        if let Some(held) = truth.held.get_mut(&service)
            && held.by == call.invocation
            && held.change_id == lease.change_id
        {
            (held.until, held.identity) = (lease.until, lease.identity);
            let until = held.until;
            let lengthened = |other: &&mut UnderWay| other.invocation == call.invocation && other.site.key() == service;
            truth.under_way.values_mut().filter(lengthened).for_each(|other| other.lease_until = Some(until));
            continue;
        }
        let intent = intent(&service);
        if let Some(intent) = &intent {
            truth.seen(intent, now);
        }
        let (invocation, change_id) = (call.invocation.clone(), lease.change_id.clone());
        if let Some(site) = world.sites().into_iter().find(|site| site.key() == service) {
            truth.began.push(Began { at: now, change_id, site, invocation, intent });
        }
        let held = Held {
            by: call.invocation.clone(),
            change_id: lease.change_id,
            identity: lease.identity,
            until: lease.until,
            since: now,
            is_used: false,
            faults: 0,
        };
        truth.held.insert(service, held);
    }
}

fn sts(world: &World, call: &Call) -> (u16, String) {
    match assume_role(&form(call.body.as_bytes()), &world.sessions) {
        Ok(xml) => (200, xml.replace("{request_id}", "r")),
        Err(message) => (400, aws_stub::sts::error("r", "ValidationError", &message)),
    }
}

/// The registry has every tag, and derives the digest from the tag's name.
fn ecr(call: &Call) -> (u16, String) {
    let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let tag = input["imageIds"][0]["imageTag"].as_str().unwrap_or("0");
    let digest = digest_of(tag);
    let image = json!({"imageId": {"imageDigest": digest, "imageTag": tag}, "repositoryName": input["repositoryName"],
        "registryId": "111111111111",
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json", "imageManifest": "{}"});
    (200, json!({"images": [image], "failures": []}).to_string())
}

/// The digest of the image that a tag names.
#[must_use]
pub fn digest_of(tag: &str) -> String {
    format!("sha256:{tag:0>64}")
}

fn ecs(world: &Rc<World>, call: &Call, lag: Duration, is_late: bool) -> (u16, String) {
    let session = world.sessions.of(&call.key);
    let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
    let site = site_of(world, call);
    if call.action == "DescribeServices" {
        looked(world, call, session.as_deref(), &input, lag);
    }
    if let Some(site) = site.as_ref().filter(|_| !is_read(&call.action)) {
        invariants::at_acting(world, call, site, is_late);
    }
    let answer = world.cloud.act_late(session.as_deref(), &world.region, &call.action, &call.body, lag);
    if let Some(site) = site.filter(|_| !is_read(&call.action)) {
        noted(world, call, site, &input, answer.is_ok(), is_late);
    }
    match answer {
        Ok(body) => (200, body),
        Err((code, message)) => (400, json!({"__type": code, "message": message}).to_string()),
    }
}

/// Notes that somebody read services, and what was visible to that read.
fn looked(world: &World, call: &Call, session: Option<&Session>, input: &Value, lag: Duration) {
    let seen = world.now() - lag;
    let mut purposes = world.purposes.borrow_mut();
    let Some(purpose) = purposes.get_mut(&call.invocation) else { return };
    for service in input["services"].as_array().into_iter().flatten() {
        let account = session.map_or("", |session| session.account.as_str());
        let cluster = input["cluster"].as_str().unwrap_or_default();
        let site = Site::new(account, &world.region, cluster, service.as_str().unwrap_or_default());
        purpose.looked.insert(site, seen);
    }
}

/// Notes what a mutating call did.
fn noted(world: &Rc<World>, call: &Call, site: Site, input: &Value, is_done: bool, is_late: bool) {
    let image = match call.action.as_str() {
        "RegisterTaskDefinition" => input["containerDefinitions"][0]["image"].as_str().map(str::to_owned),
        "UpdateService" => running_image(world, &site),
        _ => None,
    };
    let purpose = world.purposes.borrow().get(&call.invocation).cloned();
    let intent = purpose.as_ref().map(|purpose| purpose.intent(&site));
    let started = eventbridge::pump(world, intent.as_ref(), is_late);
    let now = world.now();
    let mutation = Mutation {
        at: now,
        sent: world.truth.borrow().under_way.get(&call.number).map_or(now, |own| own.sent),
        invocation: call.invocation.clone(),
        intent,
        looked: purpose.and_then(|purpose| purpose.looked.get(&site).copied()),
        site,
        action: call.action.clone(),
        is_done,
        is_late,
        started,
        image,
    };
    invariants::after_acting(world, &mutation);
    let mut truth = world.truth.borrow_mut();
    truth.under_way.remove(&call.number);
    truth.mutations.push(mutation);
}

/// The service that a call to ECS concerns. A registration concerns the service that has the name of its family.
#[must_use]
pub fn site_of(world: &World, call: &Call) -> Option<Site> {
    let account = world.sessions.of(&call.key)?.account.clone();
    let input: Value = serde_json::from_str(&call.body).ok()?;
    let (cluster, service) = match input["resourceArn"].as_str() {
        Some(arn) => arn.split_once(":service/")?.1.split_once('/')?,
        None => match input["family"].as_str() {
            Some(family) => ("prod", family),
            None => (input["cluster"].as_str()?, input["service"].as_str()?),
        },
    };
    Some(Site::new(&account, &world.region, cluster, service))
}

/// The image that a service is supposed to run.
#[must_use]
pub fn running_image(world: &World, site: &Site) -> Option<String> {
    let service = world.cloud.find(site)?;
    Some(world.cloud.revision(site, service["taskDefinition"].as_str()?)?.image("web"))
}

/// What people do outside the updater. Returns the id of the deployment that it started.
pub fn past_the_door(world: &Rc<World>, site: &Site, action: &str, body: &Value) -> Option<String> {
    let session = Session { account: site.account.clone(), name: "people".to_owned(), ..Session::default() };
    let done = world.cloud.act(Some(&session), &world.region, action, &body.to_string());
    let how = done.as_ref().map_or_else(|(code, _)| (*code).to_owned(), |_| "done".to_owned());
    world.note("people", &format_args!("{action} on {}: {how}", site.service));
    let started = eventbridge::pump(world, None, false);
    let now = world.now();
    let image = if action == "UpdateService" { running_image(world, site) } else { None };
    world.truth.borrow_mut().mutations.push(Mutation {
        at: now,
        sent: now,
        invocation: "people".to_owned(),
        intent: None,
        site: site.clone(),
        action: action.to_owned(),
        is_done: done.is_ok(),
        is_late: false,
        started: started.clone(),
        image,
        looked: None,
    });
    started
}
