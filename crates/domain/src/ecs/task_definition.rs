//! Pure: the task definition as the JSON document that AWS sent, and the little that may be changed in it.
//!
//! SDK types drop members that they do not know. So the text of every member is kept as it was received and sent back unchanged; only the
//! image of a container is replaced.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ecs::tags;

/// Members that only responses have: `RegisterTaskDefinition` does not accept them. Everything else is sent back. Source: members of
/// `TaskDefinition` that `RegisterTaskDefinition` lacks,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html>.
pub(crate) const ONLY_IN_RESPONSES: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

const CONTAINERS: &str = "containerDefinitions";

type Members = BTreeMap<String, Box<RawValue>>;

/// What is reported of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name, unique in the task definition.
    pub name: String,
    /// Its image as written; empty where the definition names none.
    pub image: String,
    /// Its hard memory limit in MiB, where it sets one.
    pub memory: Option<i64>,
}

/// A task definition as `DescribeTaskDefinition` or `RegisterTaskDefinition` answered it.
#[derive(Debug, Clone)]
pub struct TaskDefinition {
    /// Full ARN with the revision.
    pub arn: String,
    /// The family.
    pub family: String,
    /// Whether services may be given this revision.
    pub is_active: bool,
    /// The containers in the order of the definition.
    pub containers: Vec<Container>,
    members: Members,
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "taskDefinition")]
    task_definition: Members,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Tag {
    pub(crate) key: String,
    /// "The optional part of a key-value pair": the value of a tag without it, or with null for it, is empty.
    /// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub(crate) value: String,
}

fn text_or_nothing<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct ContainerMembers {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    memory: Option<i64>,
}

impl TaskDefinition {
    /// Reads the body of an answer to `DescribeTaskDefinition` (with `include: ["TAGS"]`) or `RegisterTaskDefinition`.
    ///
    /// # Errors
    ///
    /// If the body is not such an answer.
    pub fn from_answer(body: &[u8]) -> serde_json::Result<Self> {
        let answer: Answer = serde_json::from_slice(body)?;
        let text = |name: &str| -> serde_json::Result<String> {
            answer.task_definition.get(name).map_or(Ok(String::new()), |raw| serde_json::from_str(raw.get()))
        };
        let containers: Vec<ContainerMembers> = match answer.task_definition.get(CONTAINERS) {
            Some(raw) => serde_json::from_str(raw.get())?,
            None => Vec::new(),
        };
        Ok(Self {
            arn: text("taskDefinitionArn")?,
            family: text("family")?,
            is_active: matches!(text("status")?.as_str(), "ACTIVE" | ""),
            containers: containers
                .into_iter()
                .map(|container| Container { name: container.name, image: container.image, memory: container.memory })
                .collect(),
            tags: tag_map(answer.tags.unwrap_or_default()),
            members: answer.task_definition,
        })
    }

    /// Number of the revision in its family; none where the ARN has none.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.arn.rsplit_once(':')?.1.parse().ok()
    }

    /// `family:revision`, as in `expected_task_definition`.
    #[must_use]
    pub fn family_and_revision(&self) -> &str {
        family_and_revision(&self.arn)
    }

    /// `os/architecture` that its tasks run on, in the words of images; `None` if the definition does not say.
    /// Source: `runtimePlatform` in the Amazon ECS API reference.
    #[must_use]
    pub fn platform(&self) -> Option<String> {
        let platform: Value = serde_json::from_str(self.members.get("runtimePlatform")?.get()).ok()?;
        let architecture = match platform.get("cpuArchitecture")?.as_str()? {
            "X86_64" => "amd64",
            "ARM64" => "arm64",
            _ => return None,
        };
        let os = platform.get("operatingSystemFamily").and_then(Value::as_str).unwrap_or("LINUX");
        Some(format!("{}/{architecture}", if os.starts_with("WINDOWS") { "windows" } else { "linux" }))
    }

    /// The image of every container, by container name.
    #[must_use]
    pub fn images(&self) -> BTreeMap<String, String> {
        self.containers.iter().map(|container| (container.name.clone(), container.image.clone())).collect()
    }

    /// The body for `RegisterTaskDefinition` that differs from this definition in the given images (by container name) and in nothing else.
    /// It contains the tags of the definition only if there are any: ECS refuses an empty list.
    ///
    /// # Errors
    ///
    /// Where the definition's containers cannot be read or written as JSON.
    pub fn with_images(&self, images: &BTreeMap<String, String>) -> serde_json::Result<String> {
        let mut members: BTreeMap<&str, &RawValue> = self
            .members
            .iter()
            .filter(|(name, _)| !ONLY_IN_RESPONSES.contains(&name.as_str()))
            .map(|(name, raw)| (name.as_str(), &**raw))
            .collect();
        let containers = match self.members.get(CONTAINERS) {
            Some(raw) => set_images(raw, images)?,
            None => serde_json::value::to_raw_value(&[(); 0])?,
        };
        members.insert(CONTAINERS, &containers);
        let tags: Vec<Tag> = self
            .tags
            .iter()
            .filter(|(key, _)| !tags::is_reserved(key))
            .map(|(key, value)| Tag { key: key.clone(), value: value.clone() })
            .collect();
        let tags = serde_json::value::to_raw_value(&tags)?;
        if tags.get() != "[]" {
            members.insert("tags", &tags);
        }
        serde_json::to_string(&members)
    }

    /// The member at a path of [`crate::ecs::definition_difference`]; `None` if the definition does not have it.
    #[must_use]
    pub fn member(&self, path: &str) -> Option<Box<RawValue>> {
        let Some(of) = Place::parse(path) else { return self.members.get(path).cloned() };
        let containers: Vec<Members> = serde_json::from_str(self.members.get(CONTAINERS)?.get()).ok()?;
        let container = containers.into_iter().find(|container| is_named(container, of.container))?;
        match (of.member, of.entry) {
            (None, _) => serde_json::value::to_raw_value(&container).ok(),
            (Some(member), None) => container.get(member).cloned(),
            (Some(member), Some(entry)) => {
                let entries: Vec<Members> = serde_json::from_str(container.get(member)?.get()).ok()?;
                let entry = entries.into_iter().rfind(|it| is_named(it, entry))?;
                serde_json::value::to_raw_value(&entry).ok()
            }
        }
    }

    /// The same definition with other members, by the paths of [`TaskDefinition::member`]; `None` removes a member.
    ///
    /// # Errors
    ///
    /// Where the definition's containers cannot be read or written as JSON.
    pub fn with_members(&self, set: &BTreeMap<String, Option<Box<RawValue>>>) -> serde_json::Result<Self> {
        let mut definition = self.clone();
        let raw = self.members.get(CONTAINERS).map_or("[]", |raw| raw.get());
        let mut containers: Vec<Members> = serde_json::from_str(raw)?;
        for (path, value) in set {
            let Some(of) = Place::parse(path) else {
                put(&mut definition.members, path, value.clone());
                continue;
            };
            let Some(member) = of.member else {
                containers.retain(|container| !is_named(container, of.container));
                containers.extend(value.as_ref().map(|value| serde_json::from_str(value.get())).transpose()?);
                continue;
            };
            for container in containers.iter_mut().filter(|container| is_named(container, of.container)) {
                let Some(entry) = of.entry else {
                    put(container, member, value.clone());
                    continue;
                };
                let mut entries: Vec<Members> =
                    container.get(member).map_or(Ok(Vec::new()), |raw| serde_json::from_str(raw.get()))?;
                let place = entries.iter().position(|it| is_named(it, entry)).unwrap_or(entries.len());
                entries.retain(|it| !is_named(it, entry));
                if let Some(value) = value {
                    entries.insert(place, serde_json::from_str(value.get())?);
                }
                let entries = (!entries.is_empty()).then(|| serde_json::value::to_raw_value(&entries)).transpose()?;
                put(container, member, entries);
            }
        }
        definition.members.insert(CONTAINERS.to_owned(), serde_json::value::to_raw_value(&containers)?);
        Ok(definition)
    }

    /// The definition as it would be registered anew, for code that searches it; null if it cannot be read.
    #[must_use]
    pub fn document(&self) -> Value {
        let text = self.with_images(&BTreeMap::new()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Whether registering `document` anew would make a revision equal to this one.
    #[must_use]
    pub fn matches_registration(&self, document: &str) -> bool {
        // Read through `with_images` with nothing to set, so that both sides went through the same reduction.
        let Ok(own) = self.with_images(&BTreeMap::new()) else { return false };
        match (serde_json::from_str::<Value>(&own), serde_json::from_str::<Value>(document)) {
            (Ok(own), Ok(other)) => comparable(own) == comparable(other),
            _ => false,
        }
    }
}

/// The `family:revision` at the end of a task definition's ARN.
#[must_use]
pub fn family_and_revision(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// Tags without an order.
pub(crate) fn tag_map(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

/// A place inside a container: `containers.web`, `containers.web.cpu`, or `containers.web.environment.PORT`.
struct Place<'a> {
    container: &'a str,
    member: Option<&'a str>,
    entry: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        // The names of containers and of members have no dots, unlike those of variables.
        let mut parts = path.strip_prefix("containers.")?.splitn(3, '.');
        Some(Self { container: parts.next()?, member: parts.next(), entry: parts.next() })
    }
}

fn is_named(members: &Members, name: &str) -> bool {
    members.get("name").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()).is_some_and(|it| it == name)
}

fn put(members: &mut Members, name: &str, value: Option<Box<RawValue>>) {
    match value {
        Some(value) => _ = members.insert(name.to_owned(), value),
        None => _ = members.remove(name),
    }
}

fn set_images(containers: &RawValue, images: &BTreeMap<String, String>) -> serde_json::Result<Box<RawValue>> {
    let mut containers: Vec<Members> = serde_json::from_str(containers.get())?;
    for container in &mut containers {
        let Some(name) = container.get("name") else { continue };
        let name: String = serde_json::from_str(name.get())?;
        if let Some(image) = images.get(&name) {
            container.insert("image".to_owned(), serde_json::value::to_raw_value(image)?);
        }
    }
    serde_json::value::to_raw_value(&containers)
}

/// A document whose lists of objects are sorted, so that two documents can be compared: AWS returns the environment, tags and others in
/// another order than that in which they were registered. Lists of texts (`command`) keep their order.
pub(crate) fn comparable(document: Value) -> Value {
    match document {
        Value::Array(entries) => {
            let mut entries: Vec<Value> = entries.into_iter().map(comparable).collect();
            if entries.iter().all(Value::is_object) {
                entries.sort_by_cached_key(ToString::to_string);
            }
            Value::Array(entries)
        }
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, comparable(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn described(definition: &Value, tags: &Value) -> TaskDefinition {
        let body = json!({"taskDefinition": definition, "tags": tags}).to_string();
        TaskDefinition::from_answer(body.as_bytes()).unwrap()
    }

    fn images(container: &str, image: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(container.to_owned(), image.to_owned())])
    }

    #[test]
    fn members_are_set_and_removed_and_the_rest_keeps_its_text() {
        let body = r#"{"taskDefinition": {"family": "web", "cpu": "256", "new": 1.10, "containerDefinitions": [
            {"name": "web", "image": "busybox", "new": 1.10, "environment": [{"name": "a.b", "value": "1", "new": 1.10}, {"name": "B", "value": "2"}]},
            {"name": "log", "image": "fluent"}]}}"#;
        let definition = TaskDefinition::from_answer(body.as_bytes()).unwrap();
        let raw = |text: &str| Some(RawValue::from_string(text.to_owned()).unwrap());
        let set = BTreeMap::from([
            ("cpu".to_owned(), None),
            ("memory".to_owned(), raw("\"512\"")),
            ("containers.log".to_owned(), None),
            ("containers.web.environment.a.b".to_owned(), raw(r#"{"name":"a.b","value":"3"}"#)),
            ("containers.web.environment.B".to_owned(), None),
            ("containers.web.environment.C".to_owned(), raw(r#"{"name":"C","value":"4"}"#)),
        ]);
        let other = definition.with_members(&set).unwrap();
        let expected = r#"{"containerDefinitions":[{"environment":[{"name":"a.b","value":"3"},{"name":"C","value":"4"}],"image":"busybox","name":"web","new":1.10}],"family":"web","memory":"512","new":1.10}"#;
        assert_eq!(other.with_images(&BTreeMap::new()).unwrap(), expected);
        // And back, from where the values came.
        let back: BTreeMap<_, _> = set.keys().map(|path| (path.clone(), definition.member(path))).collect();
        assert!(
            definition.matches_registration(&other.with_members(&back).unwrap().with_images(&BTreeMap::new()).unwrap())
        );
    }

    #[test]
    fn only_the_image_and_the_members_of_responses_differ() {
        let body = r#"{"taskDefinition": {
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7", "family": "web", "revision": 7,
            "status": "ACTIVE", "requiresAttributes": [], "compatibilities": [], "registeredAt": 1.0, "registeredBy": "x",
            "deregisteredAt": 1, "deleteRequestedAt": 2, "cpu": "", "volumes": [],
            "notKnownYet": {"number": 1.0, "big": 123456789012345678901234567890, "exp": 1E5, "nested": {"revision": 3}},
            "containerDefinitions": [{"name": "web", "image": "busybox", "memory": 64, "new": 1.10},
                                     {"name": "log", "image": "busybox"}]}, "tags": []}"#;
        let definition = TaskDefinition::from_answer(body.as_bytes()).unwrap();
        let document = definition.with_images(&images("web", "nginx")).unwrap();
        for kept in [
            r#""notKnownYet":{"number": 1.0, "big": 123456789012345678901234567890, "exp": 1E5, "nested": {"revision": 3}}"#,
            r#""new":1.10"#,
            r#""cpu":"""#,
            r#""volumes":[]"#,
            r#""image":"nginx""#,
            r#""image":"busybox""#,
        ] {
            assert!(document.contains(kept), "{kept} in {document}");
        }
        let document: Value = serde_json::from_str(&document).unwrap();
        for gone in ONLY_IN_RESPONSES.into_iter().chain(["tags"]) {
            assert!(document.get(gone).is_none(), "{gone}");
        }
        assert_eq!(definition.family_and_revision(), "web:7");
        assert_eq!(definition.containers[0].memory, Some(64));
        assert_eq!(definition.containers[1].memory, None);
    }

    #[test]
    fn tags_are_carried_over_but_those_of_aws() {
        let definition = described(
            &json!({"family": "web", "containerDefinitions": []}),
            &json!([{"key": "team", "value": "a"}, {"key": "aws:cloudformation:stack-name", "value": "s"}, {"key": "bare"}]),
        );
        let document: Value = serde_json::from_str(&definition.with_images(&BTreeMap::new()).unwrap()).unwrap();
        assert_eq!(document["tags"], json!([{"key": "bare", "value": ""}, {"key": "team", "value": "a"}]));
    }

    #[test]
    fn a_revision_is_recognised_by_its_content() {
        let definition = json!({"family": "web", "cpu": "256",
            "containerDefinitions": [{"name": "web", "image": "busybox", "command": ["a", "b"]}]});
        let tags = json!([{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]);
        let base = described(&definition, &tags);
        let wanted = base.with_images(&images("web", "nginx")).unwrap();
        assert!(!base.matches_registration(&wanted));

        let mut registered = definition.clone();
        registered["containerDefinitions"][0]["image"] = json!("nginx");
        registered["revision"] = json!(8);
        registered["registeredAt"] = json!(17.5);
        let reordered = json!([{"key": "b", "value": "2"}, {"key": "a", "value": "1"}]);
        assert!(described(&registered, &reordered).matches_registration(&wanted));

        registered["containerDefinitions"][0]["command"] = json!(["b", "a"]);
        assert!(!described(&registered, &tags).matches_registration(&wanted));
        registered["containerDefinitions"][0]["command"] = json!(["a", "b"]);
        assert!(described(&registered, &tags).matches_registration(&wanted));
        registered["cpu"] = json!("512");
        assert!(!described(&registered, &tags).matches_registration(&wanted));
        registered["cpu"] = json!("256");
        assert!(!described(&registered, &json!([])).matches_registration(&wanted));
    }

    #[test]
    fn what_is_no_task_definition_is_an_error() {
        for body in ["", "[]", "{}", r#"{"taskDefinition": 1}"#, r#"{"taskDefinition": {"containerDefinitions": {}}}"#]
        {
            assert!(TaskDefinition::from_answer(body.as_bytes()).is_err(), "{body}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_definition_holds_comes_through(extra in prop::collection::btree_map("x[a-zA-Z]{1,8}", any_json(), 0..6),
                                                     inside in prop::collection::btree_map("x[a-zA-Z]{1,8}", any_json(), 0..6)) {
            let mut container = json!({"name": "web", "image": "busybox"});
            container.as_object_mut().unwrap().extend(inside);
            let mut definition = json!({"family": "web", "containerDefinitions": [container]});
            definition.as_object_mut().unwrap().extend(extra);
            let document = described(&definition, &json!([])).with_images(&images("web", "nginx")).unwrap();
            definition["containerDefinitions"][0]["image"] = json!("nginx");
            prop_assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), definition);
        }
    }
}
