//! Pushes of images to Amazon ECR, and the changes that they start. Pure, but for [`function`].
//!
//! An event of ECR names no principal, and its time is in whole seconds. So which of several pushes of a tag is the newest is
//! told by the tag itself: the one whose digest it has now. The time is good enough for `sent_at`, which tells a push from what
//! somebody changed after it, however late or often the push is delivered.

pub mod function;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wildmatch::WildMatch;

use crate::image::ImageReference;
use crate::registry::Location;
use crate::request::{self, Defaults};
use crate::snapshot::rfc3339;

/// Who a change by a push says asked for it.
pub const REQUESTED_BY: &str = "ecr-push";

/// The most services of one event: `maxItems` of `updates` in the update event's schema.
const MAX_UPDATES: usize = 500;

/// The longest id of an event, in bytes: EventBridge gives UUIDs.
const LONGEST_ID: usize = 100;

static SCHEMA: OnceLock<Result<Validator, String>> = OnceLock::new();

/// Which pushes change which services: a document of `schema/trigger-mapping.schema.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Rule {
    repository: String,
    tags: Vec<String>,
    targets: Vec<Map<String, Value>>,
    /// Fields of an update event, for all targets.
    #[serde(flatten)]
    shared: Map<String, Value>,
}

impl Mapping {
    /// Reads a mapping, and checks that each of its changes is one that the updater takes.
    ///
    /// # Errors
    ///
    /// Every fault with its place.
    pub fn parse(text: &str, defaults: &Defaults) -> Result<Self, String> {
        let mapping: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let validator = SCHEMA
            .get_or_init(|| {
                let schema = serde_json::from_str(include_str!("../schema/trigger-mapping.schema.json"));
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
        let mapping = Self(serde_json::from_value(mapping).map_err(|error| error.to_string())?);
        for (index, rule) in mapping.0.iter().enumerate() {
            let image = ImageReference::parse(&rule.repository);
            // With a tag or digest, no push would ever be its.
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
            for event in rule.events(&push) {
                request::parse(event.to_string().as_bytes(), defaults)
                    .map_err(|failure| format!("/{index}: {}", failure.message))?;
            }
        }
        Ok(mapping)
    }

    /// The events for the updater that `push` leads to; none where no rule is about it.
    #[must_use]
    pub fn events(&self, push: &Push) -> Vec<Value> {
        self.0.iter().filter(|rule| rule.is_about(push)).flat_map(|rule| rule.events(push)).collect()
    }

    /// Whether a rule is about `push`.
    #[must_use]
    pub fn is_about(&self, push: &Push) -> bool {
        self.0.iter().any(|rule| rule.is_about(push))
    }
}

impl Rule {
    fn is_about(&self, push: &Push) -> bool {
        self.repository == push.repository && self.tags.iter().any(|tag| WildMatch::new(tag).matches(&push.tag))
    }

    fn events(&self, push: &Push) -> Vec<Value> {
        let image = format!("{}@{}", push.repository, push.digest);
        let reason = format!("push of {}:{} (event {})", push.repository, push.tag, push.id);
        self.targets
            .chunks(MAX_UPDATES)
            .map(|targets| {
                let mut event = self.shared.clone();
                event.extend([
                    ("ecs_image_name".to_owned(), image.as_str().into()),
                    ("requested_by".to_owned(), REQUESTED_BY.into()),
                    ("reason".to_owned(), reason.as_str().into()),
                    // An event that is delivered again gets the first answer again.
                    ("idempotency_key".to_owned(), format!("{REQUESTED_BY}/{}/{}", push.digest, push.id).into()),
                    ("summary_only".to_owned(), true.into()),
                    ("updates".to_owned(), json!(targets)),
                ]);
                event.extend(push.at.map(|at| ("sent_at".to_owned(), rfc3339(at).into())));
                Value::Object(event)
            })
            .collect()
    }
}

/// One image that was pushed under one tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Push {
    /// Id of the event; the same where the event is delivered twice.
    pub id: String,
    /// Registry and repository, as images name them.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// `sha256:…`.
    pub digest: String,
    /// When it was; the same where the event is delivered again.
    pub at: Option<DateTime<Utc>>,
}

impl Push {
    /// Reads an EventBridge event; none where it is no successful push of a tag.
    /// Source: "Amazon ECR events and EventBridge" in the Amazon ECR user guide.
    #[must_use]
    pub fn read(event: &Value) -> Option<Self> {
        let text = |place: &str| event.pointer(place)?.as_str();
        let is_push = text("/source")? == "aws.ecr"
            && text("/detail-type")? == "ECR Image Action"
            && text("/detail/action-type")? == "PUSH"
            && text("/detail/result")? == "SUCCESS";
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
            // A push without a time is a push all the same.
            at: text("/time").and_then(|time| time.parse().ok()),
        };
        let is_image =
            push.image().is_some() && ImageReference::parse(&format!("{}@{}", push.repository, push.digest)).is_ok();
        // The id stands in the idempotency key, which an event may have at most 256 characters of.
        let is_id = (1..=LONGEST_ID).contains(&push.id.len()) && !push.id.contains(char::is_control);
        (is_push && is_image && is_id).then_some(push)
    }

    /// The image under its tag.
    #[must_use]
    pub fn image(&self) -> Option<ImageReference> {
        ImageReference::parse(&format!("{}:{}", self.repository, self.tag)).ok()
    }
}

/// The pushes of one tag that came together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushes {
    /// They, by the id of the message that brought each.
    pub by_message: BTreeMap<String, Push>,
}

impl Pushes {
    /// The one that counts, where the tag has `digest` now: of several with that digest the first by id, so that a repeated
    /// delivery chooses the same. None where the tag has moved on: the event of that push is on its way.
    #[must_use]
    pub fn newest(&self, digest: &str) -> Option<&Push> {
        self.by_message.values().filter(|push| push.digest == digest).min()
    }
}

/// The messages of a queue: pushes by their tag, and the messages that hold none.
#[must_use]
pub fn folded(messages: impl IntoIterator<Item = (String, String)>) -> (Vec<Pushes>, BTreeSet<String>) {
    let mut pushes: BTreeMap<(String, String), Pushes> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for (message, body) in messages {
        match serde_json::from_str(&body).ok().as_ref().and_then(Push::read) {
            Some(push) => {
                let tag = (push.repository.clone(), push.tag.clone());
                pushes.entry(tag).or_default().by_message.insert(message, push);
            }
            None => _ = others.insert(message),
        }
    }
    (pushes.into_values().collect(), others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Region;

    const REPOSITORY: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app";

    fn defaults() -> Defaults {
        Defaults {
            account_id: None,
            region: Region::parse("eu-west-1").unwrap(),
            identity: crate::ledger::record::Identity::Claimed,
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
        assert!(mapping.events(&push("latest")).is_empty() && !mapping.is_about(&push("latest")));
        let events = mapping.events(&push("release-7"));
        assert_eq!(
            events,
            [
                json!({"ecs_cluster_name": "prod", "ecs_service_name": "app", "requested_by": "ecr-push", "summary_only": true,
                "ecs_image_name": format!("{REPOSITORY}@{}", digest(1)),
                "reason": format!("push of {REPOSITORY}:release-7 (event e-1)"), "sent_at": "2026-11-22T09:30:00.000Z",
                "idempotency_key": format!("ecr-push/{}/e-1", digest(1)),
                "updates": [{"account_id": "222222222222"}, {"account_id": "333333333333", "ecs_service_name": "app-2"}]})
            ]
        );
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
            assert_eq!(mapping.events(&Push::read(&event).unwrap())[0].get("sent_at"), None);
        }
    }

    #[test]
    fn what_is_no_push_of_a_tag_starts_nothing() {
        for (place, value) in [
            ("/id", json!("")),
            ("/id", json!("i".repeat(LONGEST_ID + 1))),
            ("/id", json!("e-1\0")),
            ("/source", json!("aws.ecs")),
            ("/detail-type", json!("ECR Image Scan")),
            ("/detail/action-type", json!("DELETE")),
            ("/detail/result", json!("FAILURE")),
            ("/detail/image-tag", json!("")),
            ("/detail/image-digest", json!("sha256:1")),
            ("/detail/repository-name", json!("../x")),
        ] {
            let mut event = event("e-1", "release-7", &digest(1));
            *event.pointer_mut(place).unwrap() = value;
            assert_eq!(Push::read(&event), None, "{place}");
        }
    }

    #[test]
    fn a_hundred_pushes_in_a_second_end_with_the_newest() {
        // In any order, one of them twice, and all at the same time.
        let mut messages: Vec<(String, String)> = (0..100_u32)
            .map(|n| (format!("m-{n}"), event(&format!("e-{n}"), "release-7", &digest(n * 37 % 100)).to_string()))
            .collect();
        messages.push(("m-again".to_owned(), messages[27].1.clone()));
        messages.push(("m-other".to_owned(), event("e-o", "release-8", &digest(7)).to_string()));
        messages.push(("m-broken".to_owned(), "{".to_owned()));
        let (pushes, others) = folded(messages);
        assert_eq!((pushes.len(), others), (2, BTreeSet::from(["m-broken".to_owned()])));
        let storm = pushes.iter().find(|pushes| pushes.by_message.len() == 101).unwrap();
        assert_eq!(storm.newest(&digest(99)).unwrap().id, "e-27");
        assert_eq!(storm.newest(&digest(100)), None, "the event of the newest is on its way");
    }
}
