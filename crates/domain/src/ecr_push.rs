//! Pushes of images to Amazon ECR, and the changes that they start. Pure: the trigger function acts on them.
//!
//! An event of ECR names no principal, and its time is in whole seconds. So the tag itself shows which of several pushes of it is the
//! newest: the one whose digest the tag has now. Which of several tags is the newest is decided by the times at which ECR says their images
//! were pushed ([`Mapping::changes`]), and within one second by the order of the queue ([`groups`]). The time is also precise enough for
//! `sent_at`, which distinguishes a push from what somebody changed after it, however late or often it is delivered.
//!
//! A push goes through the queue twice: the templates' rule puts all pushes into one group, and the trigger function passes each on to the
//! group of its repository ([`Mapping::passes_on`]), where it is processed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use chrono::{DateTime, TimeDelta, Utc};
use jsonschema::Validator;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use wildmatch::WildMatch;

use crate::event::parse::{Defaults, Event, parse};
use crate::event::request::ImageChange;
use crate::event::update_event::{BatchEvent, UpdateEvent};
use crate::ids::ServiceKey;
use crate::image::ImageReference;
use crate::registry::Location;
use crate::registry::Tagged;
use crate::registry::manifest::is_image_type;
use crate::registry::manifest::is_tag_of_artifact;
use crate::text::{hex, rfc3339};

/// The requester that a change by a push names.
pub const REQUESTED_BY: &str = "ecr-push";

/// The maximum number of services in one event: `maxItems` of `updates` in the update event's schema.
const MAX_UPDATES: usize = 500;

/// The maximum length of an event's id, in bytes: EventBridge uses UUIDs.
const MAX_ID: usize = 100;

/// Type and action of the events about an image that was stored under a tag. A replication has an event of its own, in the account and
/// region to which it copies the image. Source: "Event for a completed image replication" in
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>.
const ACTIONS: [(&str, &str); 2] = [("ECR Image Action", "PUSH"), ("ECR Replication Action", "REPLICATE")];

/// How often the queue delivers a message: `maxReceiveCount` of the templates; a test checks that the two agree.
pub const DELIVERIES: u32 = 3;

/// The group into which the templates' rule puts every push, as a test checks: a rule's target has one fixed group. Source:
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_SqsParameters.html>. From there, each push is passed on to the group of
/// its repository ([`Mapping::passes_on`]).
pub const ARRIVALS: &str = "pushes";

/// The maximum length of a group's id, in characters. Source:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>. The names of a registry and a
/// repository may be longer.
const MAX_GROUP: usize = 128;

static SCHEMA: OnceLock<Result<Validator, String>> = OnceLock::new();

/// Which pushes change which services: a document of `schema/trigger-mapping.schema.json`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Rule {
    repository: String,
    tags: Vec<String>,
    targets: Vec<Target>,
    /// The containers that the targets stand for, in the order of the targets.
    #[serde(skip)]
    places: Vec<MappedContainer>,
    /// The fields that apply to all targets.
    #[serde(flatten)]
    shared: Target,
}

/// The fields of an update event that a rule or one of its targets may have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Target {
    account_id: Option<String>,
    region: Option<String>,
    ecs_cluster_name: Option<String>,
    ecs_service_name: Option<String>,
    container_name: Option<String>,
}

impl Target {
    fn event(&self) -> UpdateEvent {
        let Self { account_id, region, ecs_cluster_name, ecs_service_name, container_name } = self.clone();
        UpdateEvent { account_id, region, ecs_cluster_name, ecs_service_name, container_name, ..UpdateEvent::default() }
    }
}

/// What receives an image: a named container of a service, or without a name the one that has an image of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MappedContainer {
    service: ServiceKey,
    container: Option<String>,
}

/// What a push leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The events for the updater.
    pub events: Vec<BatchEvent>,
    /// How many services already have a newer image, or will have one soon.
    pub overtaken: usize,
}

impl Mapping {
    /// Reads a mapping, and checks that the updater accepts each of its changes.
    ///
    /// # Errors
    ///
    /// Every fault with its place.
    pub fn parse(text: &str, defaults: &Defaults) -> Result<Self, String> {
        let mapping: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let validator = SCHEMA
            .get_or_init(|| {
                let schema = serde_json::from_str(include_str!("../../../schema/trigger-mapping.schema.json"));
                let schema: Value = schema.map_err(|error| error.to_string())?;
                jsonschema::validator_for(&schema).map_err(|error| error.to_string())
            })
            .as_ref()?;
        let faults: Vec<String> = validator
            .iter_errors(&mapping)
            .take(20)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        let mut mapping = Self(serde_json::from_value(mapping).map_err(|error| error.to_string())?);
        for (index, rule) in mapping.0.iter_mut().enumerate() {
            let image = ImageReference::parse(&rule.repository);
            // If it had a tag or a digest, no push would ever match it.
            let is_repository = image.is_ok_and(|image| {
                image.repository() == rule.repository && matches!(Location::of(&image), Location::Ecr { .. })
            });
            if !is_repository {
                return Err(format!("/{index}/repository: {} is no private repository of Amazon ECR", rule.repository));
            }
            let push = Push {
                id: "0".to_owned(),
                repository: rule.repository.clone(),
                tag: "0".to_owned(),
                digest: format!("sha256:{}", "0".repeat(64)),
                at: Some(DateTime::UNIX_EPOCH),
            };
            let mut places = Vec::new();
            for event in rule.events(&push, &rule.targets) {
                let event = serde_json::to_vec(&event).map_err(|error| format!("/{index}: {error}"))?;
                let event = parse(&event, defaults).map_err(|failure| format!("/{index}: {}", failure.message))?;
                let Event::Many(batch) = event else { continue };
                places.extend(batch.updates.into_iter().map(|request| MappedContainer {
                    container: match request.image {
                        ImageChange::Containers(images) => images.into_keys().next(),
                        _ => None,
                    },
                    service: request.service_key,
                }));
            }
            rule.places = places;
        }
        Ok(mapping)
    }

    /// What `push` leads to, if the repositories of [`Mapping::rivals`] have these images: a service is left out if a newer image is mapped
    /// to it, under whichever tag. An image counts as newer if it was pushed after the second of the push: within the same second, the
    /// order of the queue has to decide.
    #[must_use]
    pub fn changes(&self, push: &Push, images: &BTreeMap<String, Vec<Tagged>>) -> Changes {
        let mut changes = Changes::default();
        let own = images.get(&push.repository).into_iter().flatten().find(|image| image.digest == push.digest);
        let since = push.counts_since(own.map(|image| image.pushed_at));
        for rule in self.0.iter().filter(|rule| rule.is_about(push)) {
            let is_overtaken = |place: &MappedContainer| {
                since.is_some_and(|since| {
                    self.of(place).any(|rival| {
                        let images = images.get(&rival.repository).into_iter().flatten();
                        let mut newer = images.filter(|image| image.digest != push.digest && image.pushed_at > since);
                        newer.any(|image| image.tags.iter().any(|tag| rival.names(tag)))
                    })
                })
            };
            let targets: Vec<_> = rule.targets.iter().zip(&rule.places).collect();
            let left: Vec<_> =
                targets.iter().filter(|(_, place)| !is_overtaken(place)).map(|(target, _)| (*target).clone()).collect();
            changes.overtaken += targets.len() - left.len();
            changes.events.extend(rule.events(push, &left));
        }
        changes
    }

    /// The repositories that have to be read before [`Mapping::changes`]: those in which another tag than that of the push could be newer.
    #[must_use]
    pub fn rivals(&self, push: &Push) -> BTreeSet<String> {
        let places = self.0.iter().filter(|rule| rule.is_about(push)).flat_map(|rule| &rule.places);
        let rules = places.flat_map(|place| self.of(place));
        rules.filter(|rule| rule.has_more_than(&push.tag)).map(|rule| rule.repository.clone()).collect()
    }

    /// The mapping, if the pushes of all its repositories are received: that is so only for the repositories in `names`, which the
    /// template's rule names.
    ///
    /// # Errors
    ///
    /// A sentence that names a repository whose pushes are not received.
    pub fn heard(self, names: &BTreeSet<String>) -> Result<Self, String> {
        let name = |rule: &Rule| rule.repository.split_once('/').map(|(_, name)| name.to_owned());
        let is_heard = |rule: &&Rule| names.is_empty() || name(rule).is_some_and(|name| names.contains(&name));
        match self.0.iter().find(|rule| !is_heard(rule)) {
            Some(rule) => {
                Err(format!("{} is not one of TRIGGER_REPOSITORIES, and its pushes do not come here", rule.repository))
            }
            None => Ok(self),
        }
    }

    /// The queue's group for a message that arrived: that of its repository; `None` if it is not a push, or changes nothing.
    ///
    /// Groups are processed concurrently, and have no service in common. So two pushes for one service are never processed at the same
    /// time: otherwise the first one to look up the newest image could be the last one to act, and of two pushes for two containers one
    /// would be refused as overtaken.
    #[must_use]
    pub fn passes_on(&self, body: &str) -> Option<String> {
        let push = serde_json::from_str(body).ok().as_ref().and_then(Push::read)?;
        self.is_about(&push).then(|| self.group(&push.repository))
    }

    /// The queue's group for a repository: the name of its family, or if that is too long, its beginning and a hash.
    #[must_use]
    pub fn group(&self, repository: &str) -> String {
        let family = self.family(repository);
        if family.chars().count() <= MAX_GROUP {
            return family;
        }
        let hash = hex(&Sha256::digest(&family)[..8]);
        let beginning: String = family.chars().take(MAX_GROUP - 1 - hash.len()).collect();
        format!("{beginning}~{hash}")
    }

    /// A name for all repositories that have images for the same services as this one, directly or through other repositories: their pushes
    /// are kept in one order. Of two simultaneous changes of a service, one would be refused as overtaken, even if each sets another
    /// container.
    #[must_use]
    pub fn family(&self, repository: &str) -> String {
        let mut family = BTreeSet::from([repository]);
        loop {
            let members = self.0.iter().filter(|rule| family.contains(rule.repository.as_str()));
            let services: Vec<_> = members.flat_map(|rule| rule.places.iter().map(|place| &place.service)).collect();
            let is_kin = |rule: &&Rule| rule.places.iter().any(|place| services.contains(&&place.service));
            let kin: BTreeSet<_> = self.0.iter().filter(is_kin).map(|rule| rule.repository.as_str()).collect();
            if kin.is_subset(&family) {
                return family.first().copied().unwrap_or_default().to_owned();
            }
            family.extend(kin);
        }
    }

    /// Whether the mapping has images for several containers of a service, which is given by the name that records use.
    fn is_shared(&self, service: &str) -> bool {
        let places = self.0.iter().flat_map(|rule| &rule.places);
        let containers: BTreeSet<_> =
            places.filter(|place| place.service.to_string() == service).map(|place| &place.container).collect();
        containers.len() > 1
    }

    /// The rules that have images for this container.
    fn of<'a>(&'a self, place: &'a MappedContainer) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().filter(|rule| rule.places.contains(place))
    }

    /// Whether a rule is about `push`.
    #[must_use]
    pub fn is_about(&self, push: &Push) -> bool {
        self.0.iter().any(|rule| rule.is_about(push))
    }
}

impl Rule {
    fn is_about(&self, push: &Push) -> bool {
        self.repository == push.repository && self.names(&push.tag)
    }

    /// Whether images under this tag belong to the rule; signatures and similar artifacts never do.
    fn names(&self, tag: &str) -> bool {
        !is_tag_of_artifact(tag) && self.tags.iter().any(|pattern| WildMatch::new(pattern).matches(tag))
    }

    /// Whether the rule is about other tags as well.
    fn has_more_than(&self, tag: &str) -> bool {
        self.tags.iter().any(|pattern| pattern != tag || pattern.contains(['*', '?']))
    }

    /// The part of a key that distinguishes rules for named containers, as a hash: the names themselves could be too long for a key.
    fn containers(&self) -> String {
        let names: BTreeSet<&str> = self.places.iter().filter_map(|place| place.container.as_deref()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join("/");
        if names.is_empty() { names } else { format!("/{}", hex(&Sha256::digest(names)[..8])) }
    }

    fn events(&self, push: &Push, targets: &[Target]) -> Vec<BatchEvent> {
        let image = format!("{}@{}", push.repository, push.digest);
        let reason = format!("push of {}:{} (event {})", push.repository, push.tag, push.id);
        // An event that is delivered again receives the first answer again; one for another container of the same service receives its own.
        let key = format!("{REQUESTED_BY}/{}/{}{}", push.digest, push.id, self.containers());
        targets
            .chunks(MAX_UPDATES)
            .map(|targets| BatchEvent {
                shared: UpdateEvent {
                    ecs_image_name: Some(image.clone()),
                    requested_by: Some(REQUESTED_BY.to_owned()),
                    reason: Some(reason.clone()),
                    idempotency_key: Some(key.clone()),
                    pushed_tag: Some(push.tag.clone()),
                    sent_at: push.at.map(rfc3339),
                    ..self.shared.event()
                },
                summary_only: true,
                updates: targets.iter().map(Target::event).collect(),
            })
            .collect()
    }
}

/// How an event of the updater ended.
#[derive(Debug, PartialEq, Eq)]
pub struct UpdaterVerdict {
    /// Whether nothing is left to do: the services have the image, or the push would undo a later change or a restore, which another
    /// delivery of it does not alter. If the mapping has images for several containers of the service, that change may have been about
    /// another container: somebody has to look.
    pub is_done: bool,
    /// How many services have a later change or a restore.
    pub overtaken: usize,
}

impl UpdaterVerdict {
    /// Reads the updater's answer to the `updates` of a mapping.
    #[must_use]
    pub fn read(answer: &Value, mapping: &Mapping) -> Self {
        let results = answer.pointer("/body/results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let service = |result: &Value| {
            let names = ["account_id", "region", "ecs_cluster_name", "ecs_service_name"];
            names.map(|name| result.get(name).and_then(Value::as_str).unwrap_or_default()).join("/")
        };
        let is_overtaken = |result: &&Value| {
            result.pointer("/error/code") == Some(&"ChangeOvertaken".into()) && !mapping.is_shared(&service(result))
        };
        let overtaken = results.iter().filter(is_overtaken).count();
        let failed =
            |name: &str| answer.pointer(&format!("/body/summary/{name}")).and_then(Value::as_u64).unwrap_or_default();
        let left = failed("failed") + failed("not_started") + failed("timed_out");
        let is_done = match answer.get("statusCode").and_then(Value::as_u64) {
            Some(200) => true,
            Some(207) => overtaken > 0 && left == overtaken as u64,
            _ => false,
        };
        Self { is_done, overtaken }
    }
}

/// One image that was pushed under one tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Push {
    /// Id of the event; the same if the event is delivered twice.
    pub id: String,
    /// Registry and repository, as images name them.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// `sha256:…`.
    pub digest: String,
    /// When it was pushed; the same if the event is delivered again.
    pub at: Option<DateTime<Utc>>,
}

impl Push {
    /// Reads an EventBridge event; `None` if it is neither a successful push of an image under a tag nor the replication of one. Source:
    /// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>.
    #[must_use]
    pub fn read(event: &Value) -> Option<Self> {
        let text = |place: &str| event.pointer(place)?.as_str();
        let action = (text("/detail-type")?, text("/detail/action-type")?);
        let is_push =
            text("/source")? == "aws.ecr" && ACTIONS.contains(&action) && text("/detail/result")? == "SUCCESS";
        let (account, region) = (text("/account")?, text("/region")?);
        let suffix = match region.split('-').next()? {
            "cn" => "amazonaws.com.cn",
            "eusc" => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        let push = Self {
            id: text("/id")?.to_owned(),
            repository: format!("{account}.dkr.ecr.{region}.{suffix}/{}", text("/detail/repository-name")?),
            tag: text("/detail/image-tag").filter(|tag| !tag.is_empty())?.to_owned(),
            digest: text("/detail/image-digest")?.to_owned(),
            // A push without a time is still a push.
            at: text("/time").and_then(|time| time.parse().ok()),
        };
        let is_image =
            push.image().is_some() && ImageReference::parse(&format!("{}@{}", push.repository, push.digest)).is_ok();
        // Not every event has this type, and not every type says what the artifact is: the manifest is checked, too.
        let may_run = text("/detail/artifact-media-type").is_none_or(is_image_type);
        // The id is part of the idempotency key, which may have at most 256 characters.
        let is_id = (1..=MAX_ID).contains(&push.id.len()) && !push.id.contains(char::is_control);
        (is_push && is_image && may_run && is_id).then_some(push)
    }

    /// The time from which the push counts, if its image was first pushed at the time `image`. ECR does not say when a tag was set, except
    /// through the event: an image that is older than its event received another tag then, at some time within that second.
    fn counts_since(&self, image: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let end_of_second = self.at.map(|at| at + TimeDelta::milliseconds(999));
        match (self.at, image) {
            (Some(at), Some(image)) if at.timestamp() == image.timestamp() => Some(image),
            _ => end_of_second.max(image),
        }
    }

    /// The image under its tag.
    #[must_use]
    pub fn image(&self) -> Option<ImageReference> {
        ImageReference::parse(&format!("{}:{}", self.repository, self.tag)).ok()
    }
}

/// One message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// An event of EventBridge.
    pub body: String,
    /// How often it was delivered, this time included.
    pub received: u32,
    /// Its group, if it came from a FIFO queue.
    pub group: Option<String>,
}

/// A push and the message that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Id of the message.
    pub message: String,
    /// Whether the message will not be delivered again, whatever happens to this delivery.
    pub is_last: bool,
    /// The push.
    pub push: Push,
}

/// The messages of a queue: the pushes of each family of repositories in the order in which they arrived, and the ids of the messages that
/// hold no push.
#[must_use]
pub fn groups(
    messages: impl IntoIterator<Item = Message>,
    mapping: &Mapping,
) -> (Vec<Vec<Delivery>>, BTreeSet<String>) {
    let mut groups: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for Message { id, body, received, .. } in messages {
        match serde_json::from_str(&body).ok().as_ref().and_then(Push::read) {
            Some(push) => {
                let is_last = received >= DELIVERIES;
                groups.entry(mapping.family(&push.repository)).or_default().push(Delivery {
                    message: id,
                    is_last,
                    push,
                });
            }
            None => _ = others.insert(id),
        }
    }
    (groups.into_values().collect(), others)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::Region;

    const REPOSITORY: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app";

    fn defaults() -> Defaults {
        Defaults {
            account_id: None,
            region: Region::parse("eu-west-1").unwrap(),
            identity: crate::ids::Identity::Claimed,
        }
    }

    fn digest(n: u32) -> String {
        format!("sha256:{n:064x}")
    }

    fn event(id: &str, tag: &str, digest: &str) -> Value {
        json!({"version": "0", "id": id, "detail-type": "ECR Image Action", "source": "aws.ecr", "account": "111111111111",
            "time": "2026-11-22T09:30:00Z", "region": "eu-west-1", "resources": [],
            "detail": {"result": "SUCCESS", "repository-name": "team/app", "image-digest": digest, "action-type": "PUSH",
                "image-tag": tag}})
    }

    fn mapping() -> Value {
        json!([{"repository": REPOSITORY, "tags": ["release-*"], "ecs_cluster_name": "prod", "ecs_service_name": "app",
            "targets": [{"account_id": "222222222222"}, {"account_id": "333333333333", "ecs_service_name": "app-2"}]}])
    }

    #[test]
    fn a_push_changes_the_services_that_are_mapped() {
        let mapping = Mapping::parse(&mapping().to_string(), &defaults()).unwrap();
        let push = |tag: &str| Push::read(&event("e-1", tag, &digest(1))).unwrap();
        let events = |push: &Push| mapping.changes(push, &BTreeMap::new()).events;
        assert!(events(&push("latest")).is_empty() && !mapping.is_about(&push("latest")));
        let events = events(&push("release-7"));
        assert_eq!(
            serde_json::to_value(events).unwrap(),
            json!([
                {"ecs_cluster_name": "prod", "ecs_service_name": "app", "requested_by": "ecr-push", "summary_only": true,
                "pushed_tag": "release-7",
                "ecs_image_name": format!("{REPOSITORY}@{}", digest(1)),
                "reason": format!("push of {REPOSITORY}:release-7 (event e-1)"), "sent_at": "2026-11-22T09:30:00.000Z",
                "idempotency_key": format!("ecr-push/{}/e-1", digest(1)),
                "updates": [{"account_id": "222222222222"}, {"account_id": "333333333333", "ecs_service_name": "app-2"}]}
            ])
        );
    }

    #[test]
    fn what_a_later_change_stands_against_does_not_come_again() {
        let answer = |status: u16, failed: u64, codes: &[&str]| {
            let results: Vec<Value> =
                codes.iter().map(|code| json!({"status": "FAILED", "error": {"code": code}})).collect();
            let answer = json!({"statusCode": status, "body": {"summary": {"failed": failed, "not_started": 0, "timed_out": 0},
                "results": results}});
            UpdaterVerdict::read(&answer, &Mapping::parse(&mapping().to_string(), &defaults()).unwrap())
        };
        assert_eq!(answer(200, 0, &[]), UpdaterVerdict { is_done: true, overtaken: 0 });
        assert_eq!(
            answer(207, 2, &["ChangeOvertaken", "ChangeOvertaken"]),
            UpdaterVerdict { is_done: true, overtaken: 2 }
        );
        assert_eq!(
            answer(207, 2, &["ChangeOvertaken", "ChangeInProgress"]),
            UpdaterVerdict { is_done: false, overtaken: 1 }
        );
        assert!(!answer(207, 0, &[]).is_done && !answer(500, 0, &[]).is_done);
        // The later change may be about another container or about this one: that is not known.
        let mut mapping = mapping();
        mapping[0]["container_name"] = "web".into();
        let rule = mapping[0].clone();
        mapping.as_array_mut().unwrap().push(rule);
        mapping[1]["container_name"] = "sidecar".into();
        mapping[1]["targets"] = json!([{"account_id": "222222222222"}]);
        let mapping = Mapping::parse(&mapping.to_string(), &defaults()).unwrap();
        let ended = |account: &str| {
            let result = json!({"account_id": account, "region": "eu-west-1", "ecs_cluster_name": "prod",
                "ecs_service_name": if account == "222222222222" { "app" } else { "app-2" }, "error": {"code": "ChangeOvertaken"}});
            UpdaterVerdict::read(
                &json!({"statusCode": 207, "body": {"summary": {"failed": 1}, "results": [result]}}),
                &mapping,
            )
        };
        assert_eq!(ended("222222222222"), UpdaterVerdict { is_done: false, overtaken: 0 });
        assert_eq!(ended("333333333333"), UpdaterVerdict { is_done: true, overtaken: 1 });
        // Each has a key of its own.
        let push = Push::read(&event("e-1", "release-7", &digest(1))).unwrap();
        let keys: BTreeSet<String> = mapping
            .changes(&push, &BTreeMap::new())
            .events
            .iter()
            .map(|event| event.shared.idempotency_key.clone().unwrap())
            .collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
    }

    #[test]
    fn repositories_of_one_service_keep_one_order() {
        let mut mapping = mapping();
        for (index, (name, account)) in
            [("team/sidecar", "333333333333"), ("team/log", "444444444444"), ("team/other", "555555555555")]
                .into_iter()
                .enumerate()
        {
            let mut rule = mapping[0].clone();
            rule["repository"] = REPOSITORY.replace("team/app", name).into();
            rule["container_name"] = format!("c{index}").into();
            rule["targets"] = json!([{"account_id": account, "ecs_service_name": "app-2"}]);
            mapping.as_array_mut().unwrap().push(rule);
        }
        mapping[2]["targets"]
            .as_array_mut()
            .unwrap()
            .push(json!({"account_id": "333333333333", "ecs_service_name": "app-2"}));
        let mapping = Mapping::parse(&mapping.to_string(), &defaults()).unwrap();
        let family = |name: &str| mapping.family(&REPOSITORY.replace("team/app", name));
        assert_eq!(family("team/app"), family("team/sidecar"));
        assert_eq!(family("team/app"), family("team/log"));
        assert_ne!(family("team/app"), family("team/other"));
        assert_eq!(family("team/unknown"), REPOSITORY.replace("team/app", "team/unknown"));
    }

    #[test]
    fn a_mapping_that_the_updater_would_refuse_is_refused() {
        for (place, value, why) in [
            ("/0/repository", json!("nginx"), "no private repository of Amazon ECR"),
            ("/0/repository", json!(format!("{REPOSITORY}:1")), "no private repository of Amazon ECR"),
            ("/0/repository", json!(format!("{REPOSITORY}@{}", digest(1))), "no private repository of Amazon ECR"),
            ("/0/tags", json!([]), "/0/tags"),
            ("/0/targets", json!([{"account_id": "2"}]), "/updates/0/account_id"),
            ("/0/targets", json!([{"account_id": "222222222222"}, {"account_id": "222222222222"}]), "same service"),
            ("/0/ecs_service_name", json!("arn:aws:ecs:x"), "/ecs_service_name: \"arn:aws:ecs:x\" is an ARN"),
        ] {
            let mut mapping = mapping();
            *mapping.pointer_mut(place).unwrap() = value;
            let fault = Mapping::parse(&mapping.to_string(), &defaults()).unwrap_err();
            assert!(fault.contains(why), "{place}: {fault}");
        }
        let mut unknown = mapping();
        unknown[0]["dry_run"] = true.into();
        assert!(Mapping::parse(&unknown.to_string(), &defaults()).is_err());
        assert!(Mapping::parse("{", &defaults()).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn a_push_without_a_time_is_a_push() {
        let mapping = Mapping::parse(&mapping().to_string(), &defaults()).unwrap();
        for time in [Value::Null, json!("yesterday"), json!(1_795_000_000)] {
            let mut event = event("e-1", "release-7", &digest(1));
            event["time"] = time;
            let changes = mapping.changes(&Push::read(&event).unwrap(), &BTreeMap::new());
            assert_eq!(changes.events[0].shared.sent_at, None);
        }
    }

    #[test]
    fn what_is_no_push_of_a_tag_starts_nothing() {
        for (place, value) in [
            ("/id", json!("")),
            ("/id", json!("i".repeat(MAX_ID + 1))),
            ("/id", json!("e-1\0")),
            ("/source", json!("aws.ecs")),
            ("/detail-type", json!("ECR Image Scan")),
            ("/detail/action-type", json!("DELETE")),
            ("/detail/action-type", json!("REPLICATE")),
            ("/detail/artifact-media-type", json!("application/vnd.cncf.helm.config.v1+json")),
            ("/detail/result", json!("FAILURE")),
            ("/detail/image-tag", json!("")),
            ("/detail/image-digest", json!("sha256:1")),
            ("/detail/repository-name", json!("../x")),
        ] {
            let mut event = event("e-1", "release-7", &digest(1));
            event["detail"]["artifact-media-type"] = "application/vnd.oci.image.config.v1+json".into();
            assert!(Push::read(&event).is_some());
            *event.pointer_mut(place).unwrap() = value;
            assert_eq!(Push::read(&event), None, "{place}");
        }
    }

    #[test]
    fn the_replication_of_an_image_is_a_push_where_it_comes_to() {
        let mut event = event("e-1", "release-7", &digest(1));
        event["detail-type"] = "ECR Replication Action".into();
        event["detail"]["action-type"] = "REPLICATE".into();
        event["detail"]["source-account"] = "999999999999".into();
        event["detail"]["source-region"] = "us-east-1".into();
        assert_eq!(Push::read(&event).unwrap().repository, REPOSITORY);
    }

    #[test]
    fn a_signature_starts_nothing_whatever_the_mapping_says() {
        let mut every = mapping();
        every[0]["tags"] = json!(["*"]);
        let mapping = Mapping::parse(&every.to_string(), &defaults()).unwrap();
        let push = |tag: &str| Push::read(&event("e-1", tag, &digest(1))).unwrap();
        assert!(mapping.is_about(&push("release-7")));
        for end in ["", ".sig", ".att", ".sbom"] {
            let push = push(&format!("sha256-{:064x}{end}", 7));
            assert!(!mapping.is_about(&push), "{}", push.tag);
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// An image with these tags that was pushed at this time.
    fn image(n: u32, pushed_at: &str, tags: &[&str]) -> Tagged {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Tagged { digest: digest(n), tags, pushed_at: at(pushed_at) }
    }

    fn services(changes: &Changes) -> Vec<&str> {
        let updates = changes.events.iter().flat_map(|event| &event.updates);
        updates.map(|update| update.account_id.as_deref().unwrap()).collect()
    }

    #[test]
    fn the_newest_of_all_tags_of_a_service_counts() {
        let mapping = Mapping::parse(&mapping().to_string(), &defaults()).unwrap();
        // All events are from half past nine.
        let push = Push::read(&event("e-1", "release-9", &digest(9))).unwrap();
        assert_eq!(mapping.rivals(&push), BTreeSet::from([REPOSITORY.to_owned()]));
        let counts = |images: &[Tagged]| {
            let changes = mapping.changes(&push, &BTreeMap::from([(REPOSITORY.to_owned(), images.to_vec())]));
            assert_eq!(changes.events.is_empty(), changes.overtaken == 2, "{images:?}");
            !changes.events.is_empty()
        };
        let own = image(9, "2026-11-22T09:30:00.5Z", &["release-9"]);
        assert!(counts(&[]) && counts(std::slice::from_ref(&own)));
        // The order in which the tags sort does not matter.
        for tag in ["release-10", "release-1"] {
            assert!(!counts(&[own.clone(), image(10, "2026-11-22T09:30:01Z", &["other", tag])]), "{tag}");
            assert!(counts(&[own.clone(), image(10, "2026-11-22T09:29:59Z", &[tag])]), "{tag}");
        }
        assert!(!counts(&[own.clone(), image(10, "2026-11-22T09:30:00.7Z", &["release-10"])]));
        assert!(counts(&[own.clone(), image(10, "2026-11-22T09:30:00.5Z", &["release-10"])]), "the queue decides");
        for tag in ["other", &format!("sha256-{:064x}.sig", 9)] {
            assert!(
                counts(&[own.clone(), image(10, "2026-11-22T09:31:00Z", &[tag])]),
                "no image of the mapping: {tag}"
            );
        }
        // For a tag of an image that was pushed long ago, the time of its event counts, and within that second the order of the queue.
        let old = image(9, "2026-11-01T00:00:00Z", &["release-9"]);
        assert!(counts(&[old.clone(), image(10, "2026-11-22T09:30:00.9Z", &["release-10"])]));
        assert!(!counts(&[old, image(10, "2026-11-22T09:30:01Z", &["release-10"])]));
        // For a push without a time, that of its image is used; if there is none either, the push counts.
        let timeless = Push { at: None, ..push.clone() };
        let changes =
            |images: Vec<Tagged>| mapping.changes(&timeless, &BTreeMap::from([(REPOSITORY.to_owned(), images)]));
        let later = image(10, "2026-11-22T09:30:01Z", &["release-10"]);
        assert_eq!(changes(vec![own, later.clone()]).overtaken, 2);
        assert_eq!(changes(vec![later]).overtaken, 0);
    }

    #[test]
    fn each_service_has_the_tags_of_all_its_rules() {
        let other = REPOSITORY.replace("app", "other");
        let mapping = json!([
            {"repository": REPOSITORY, "tags": ["stable"], "ecs_cluster_name": "prod", "ecs_service_name": "app",
                "targets": [{"account_id": "222222222222"}, {"account_id": "333333333333"}, {"account_id": "444444444444"}]},
            {"repository": REPOSITORY, "tags": ["release-*"], "ecs_cluster_name": "prod",
                "targets": [{"account_id": "333333333333", "ecs_service_name": "app", "region": "eu-west-1"}]},
            {"repository": other, "tags": ["*"], "ecs_cluster_name": "prod", "ecs_service_name": "app",
                "targets": [{"account_id": "444444444444"}, {"account_id": "222222222222", "container_name": "sidecar"}]}]);
        let mapping = Mapping::parse(&mapping.to_string(), &defaults()).unwrap();
        let push = Push::read(&event("e-1", "stable", &digest(1))).unwrap();
        assert_eq!(mapping.rivals(&push), BTreeSet::from([REPOSITORY.to_owned(), other.clone()]));
        let later = "2026-11-22T09:31:00Z";
        let images = |here: &[Tagged], there: &[Tagged]| {
            BTreeMap::from([(REPOSITORY.to_owned(), here.to_vec()), (other.clone(), there.to_vec())])
        };
        assert_eq!(services(&mapping.changes(&push, &images(&[], &[]))).len(), 3);
        let changes = mapping.changes(&push, &images(&[image(2, later, &["release-2"])], &[]));
        assert_eq!((services(&changes), changes.overtaken), (vec!["222222222222", "444444444444"], 1));
        // Another container of a service is a different target.
        let changes = mapping.changes(&push, &images(&[], &[image(2, later, &["x"])]));
        assert_eq!((services(&changes), changes.overtaken), (vec!["222222222222", "333333333333"], 1));
    }

    #[test]
    fn a_repository_that_the_rule_does_not_name_is_refused() {
        for (names, is_heard) in
            [(&[][..], true), (&["team/other", "team/app"], true), (&["team/other"], false), (&["app"], false)]
        {
            let mapping = Mapping::parse(&mapping().to_string(), &defaults()).unwrap();
            let heard = mapping.heard(&names.iter().map(ToString::to_string).collect());
            assert_eq!(heard.is_ok(), is_heard, "{names:?}");
            assert!(heard.err().is_none_or(|why| why.starts_with(REPOSITORY)), "{names:?}");
        }
    }

    #[test]
    fn one_tag_alone_has_no_rival() {
        let mut mapping = mapping();
        mapping[0]["tags"] = json!(["stable"]);
        let mapping = Mapping::parse(&mapping.to_string(), &defaults()).unwrap();
        let push = Push::read(&event("e-1", "stable", &digest(1))).unwrap();
        assert!(mapping.is_about(&push) && mapping.rivals(&push).is_empty(), "its own digest tells");
    }

    #[test]
    fn repositories_share_a_group_where_they_share_a_service_and_only_there() {
        let of = |account: &str, region: &str, name: &str| format!("{account}.dkr.ecr.{region}.amazonaws.com/{name}");
        let rule = |repository: &str, service: &str, container: Option<&str>| {
            let mut rule = json!({"repository": repository, "tags": ["release-*"], "ecs_cluster_name": "prod",
                "ecs_service_name": service, "targets": [{"account_id": "222222222222"}]});
            if let Some(container) = container {
                rule["container_name"] = container.into();
            }
            rule
        };
        let app = of("111111111111", "eu-west-1", "team/app");
        // Repositories of the same name, in another region and in another account.
        let [region, account] =
            [of("111111111111", "us-east-1", "team/app"), of("999999999999", "eu-west-1", "team/app")];
        let [proxy, agent] = ["team/proxy", "team/agent"].map(|name| of("111111111111", "eu-west-1", name));
        let long = of("111111111111", "eu-west-1", &format!("team/{}", "a".repeat(200)));
        let longer = format!("{long}b");
        let mapping = json!([
            rule(&app, "app", None),
            rule(&region, "app-2", None),
            rule(&account, "app-3", None),
            rule(&proxy, "proxy", Some("proxy")),
            rule(&agent, "proxy", Some("agent")),
            rule(&long, "long", None),
            rule(&longer, "longer", None),
        ]);
        let mapping = Mapping::parse(&mapping.to_string(), &defaults()).unwrap();
        assert_eq!(mapping.group(&app), app);
        assert_eq!((mapping.group(&region), mapping.group(&account)), (region.clone(), account.clone()));
        assert_eq!((mapping.group(&proxy), mapping.group(&agent)), (agent.clone(), agent));
        let groups: BTreeSet<String> = [&long, &longer].map(|repository| mapping.group(repository)).into();
        assert_eq!(groups.iter().map(String::len).collect::<Vec<_>>(), [128, 128]);
        assert!(!groups.contains(ARRIVALS));

        let mut event = event("e-1", "release-9", &digest(9));
        assert_eq!(mapping.passes_on(&event.to_string()), Some(app));
        event["account"] = "999999999999".into();
        assert_eq!(mapping.passes_on(&event.to_string()), Some(account));
        event["detail-type"] = "ECR Replication Action".into();
        event["detail"]["action-type"] = "REPLICATE".into();
        (event["account"], event["region"]) = ("111111111111".into(), "us-east-1".into());
        assert_eq!(mapping.passes_on(&event.to_string()), Some(region));
        event["detail"]["image-tag"] = "latest".into();
        assert_eq!(mapping.passes_on(&event.to_string()), None, "no rule has the tag");
        assert_eq!(mapping.passes_on("{"), None);
    }

    #[test]
    fn pushes_stay_in_the_order_of_their_repository() {
        let message = |n: usize, body: String| Message {
            id: format!("m-{n}"),
            body,
            received: u32::try_from(n).unwrap(),
            group: None,
        };
        let mut other = event("e-3", "release-8", &digest(7));
        other["detail"]["repository-name"] = "team/other".into();
        let (groups, others) = groups(
            [
                message(1, event("e-1", "release-9", &digest(9)).to_string()),
                message(2, other.to_string()),
                message(3, event("e-2", "release-10", &digest(10)).to_string()),
                message(4, "{".to_owned()),
            ],
            &Mapping::default(),
        );
        assert_eq!(others, BTreeSet::from(["m-4".to_owned()]));
        let messages: Vec<Vec<(&str, bool)>> = groups
            .iter()
            .map(|group| group.iter().map(|delivery| (delivery.message.as_str(), delivery.is_last)).collect())
            .collect();
        assert_eq!(messages, [vec![("m-1", false), ("m-3", true)], vec![("m-2", false)]]);
    }
}
