//! Task definitions, kept as the text that was sent.

use serde_json::{Value, json};

use super::tags::{reserved, tag_map};
use super::{Place, Refusal, includes_tags, refusal};
use crate::exact_json::{object_text, raw_members};

/// Members that are only in answers about task definitions.
pub const RESPONSE_MEMBERS: [&str; 9] = [
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

/// One revision of a family.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Its number.
    pub number: usize,
    /// What was registered, as text without `tags`.
    pub document: String,
    /// Its tags.
    pub tags: Value,
    /// Whether it is ACTIVE; INACTIVE otherwise.
    pub active: bool,
}

impl Revision {
    /// The document as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.document).expect("a task definition is JSON")
    }

    /// The image of a container.
    #[must_use]
    pub fn image(&self, container: &str) -> String {
        let document = self.json();
        let containers = document["containerDefinitions"].as_array().expect("containers");
        let found = containers.iter().find(|c| c["name"] == container).expect("the container");
        found["image"].as_str().expect("an image").to_owned()
    }
}

/// The revision that is named by an ARN, by `family:revision` or by a family (its newest active one).
pub(super) fn revision<'a>(place: &'a Place, name: &str) -> Option<(&'a str, &'a Revision)> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let (family, number) = name.split_once(':').map_or((name, None), |(f, n)| (f, n.parse::<usize>().ok()));
    let (family, revisions) = place.families.get_key_value(family)?;
    let found = match number {
        Some(number) => revisions.iter().find(|r| r.number == number),
        None if name.contains(':') => None,
        None => revisions.iter().rev().find(|r| r.active),
    };
    found.map(|revision| (family.as_str(), revision))
}

pub(super) fn revision_arn(account: &str, region: &str, family: &str, number: usize) -> String {
    format!("arn:aws:ecs:{region}:{account}:task-definition/{family}:{number}")
}

/// The document, with the additional members that answers have.
fn described(account: &str, region: &str, family: &str, revision: &Revision) -> String {
    let arn = Value::from(revision_arn(account, region, family, revision.number)).to_string();
    let registered_by = Value::from(format!("arn:aws:iam::{account}:role/admin")).to_string();
    let number = revision.number.to_string();
    let members = raw_members(&revision.document);
    let mut all: Vec<(&str, &str)> = members.iter().map(|(n, v)| (n.as_str(), v.get())).collect();
    all.extend([
        ("taskDefinitionArn", arn.as_str()),
        ("revision", &number),
        ("status", if revision.active { r#""ACTIVE""# } else { r#""INACTIVE""# }),
        ("requiresAttributes", r#"[{"name":"com.amazonaws.ecs.capability.docker-remote-api.1.18"},{"name":"ecs.capability.task-eni","value":"","targetType":"container-instance","targetId":""}]"#),
        ("compatibilities", r#"["EC2","FARGATE"]"#),
        ("registeredAt", "1.763700000123E9"),
        ("registeredBy", &registered_by),
    ]);
    if !revision.active {
        all.push(("deregisteredAt", "1763700999.5"));
        all.push(("deleteRequestedAt", "1763701999"));
    }
    object_text(all)
}

pub(super) fn describe_task_definition(
    place: &Place,
    account: &str,
    region: &str,
    input: &Value,
) -> Result<String, Refusal> {
    let name = input["taskDefinition"].as_str().unwrap_or_default();
    let Some((family, revision)) = revision(place, name) else {
        return refusal("ClientException", "Unable to describe task definition.");
    };
    let document = described(account, region, family, revision);
    // Without `include: TAGS` the member is present and empty.
    let tags = if includes_tags(input) { revision.tags.to_string() } else { "[]".into() };
    Ok(object_text([("taskDefinition", document.as_str()), ("tags", &tags)]))
}

pub(super) fn reordered(answer: &str) -> String {
    let mut answer: Value = serde_json::from_str(answer).expect("JSON");
    let reverse = |list: &mut Value| {
        if let Some(list) = list.as_array_mut() {
            list.reverse();
        }
    };
    reverse(&mut answer["tags"]);
    for container in answer["taskDefinition"]["containerDefinitions"].as_array_mut().into_iter().flatten() {
        for name in ["environment", "secrets"] {
            if let Some(list) = container.get_mut(name) {
                reverse(list);
            }
        }
    }
    answer.to_string()
}

pub(super) fn register<'a>(
    place: &'a mut Place,
    account: &str,
    region: &str,
    document: &str,
    tags: Value,
) -> (String, &'a Revision) {
    let family: Value = serde_json::from_str(document).expect("a task definition is JSON");
    let family = family["family"].as_str().expect("a task definition has a family").to_owned();
    let revisions = place.families.entry(family.clone()).or_default();
    let number = revisions.len() + 1;
    revisions.push(Revision { number, document: document.into(), tags, active: true });
    (revision_arn(account, region, &family, number), revisions.last().expect("just pushed"))
}

pub(super) fn register_task_definition(
    place: &mut Place,
    account: &str,
    region: &str,
    body: &str,
) -> Result<String, Refusal> {
    let input: Value = serde_json::from_str(body).map_err(|e| ("SerializationException", e.to_string()))?;
    let Some(family) = input["family"].as_str().filter(|f| !f.is_empty()) else {
        return refusal("ClientException", "Family should not be null or empty.");
    };
    if input["containerDefinitions"].as_array().is_none_or(Vec::is_empty) {
        return refusal("ClientException", "Container list cannot be empty.");
    }
    let tags = input.get("tags").cloned();
    if tags.as_ref().is_some_and(|t| t.as_array().is_none_or(Vec::is_empty)) {
        return refusal("InvalidParameterException", "Tags can not be empty.");
    }
    if tag_map(tags.as_ref().unwrap_or(&Value::Null)).keys().any(|k| reserved(k)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    let members = raw_members(body);
    let without_tags = object_text(members.iter().filter(|(n, _)| n != "tags").map(|(n, v)| (n.as_str(), v.get())));
    let stored_tags = tags.clone().unwrap_or_else(|| json!([]));
    let (_, revision) = register(place, account, region, &without_tags, stored_tags);
    let document = described(account, region, family, revision);
    let mut members = vec![("taskDefinition", document)];
    members.extend(tags.map(|tags| ("tags", tags.to_string())));
    Ok(object_text(members.iter().map(|(n, v)| (*n, v.as_str()))))
}
