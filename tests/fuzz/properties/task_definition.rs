//! Task definitions: what is registered is what was described, but for the images that were asked for.

use std::collections::BTreeMap;

use domain::ecs::task_definition::TaskDefinition;
use domain::mask::Mask;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const IMAGE: &str = "registry.example:5000/app@sha256:0000000000000000000000000000000000000000000000000000000000000000";
const ONLY_IN_ANSWERS: [&str; 9] = [
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

type Members = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "taskDefinition")]
    task_definition: Members,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

pub(crate) fn check(data: &[u8]) {
    let Ok(definition) = TaskDefinition::from_answer(data) else { return };
    let _ = (definition.platform(), definition.family_and_revision());
    let names: Vec<&str> = definition.containers.iter().map(|container| container.name.as_str()).collect();
    let none = BTreeMap::new();
    let unknown = BTreeMap::from([("no such container, whatever it is called".to_owned(), IMAGE.to_owned())]);
    let first = names.first().map(|name| ((*name).to_owned(), IMAGE.to_owned())).into_iter().collect();
    let all: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), IMAGE.to_owned())).collect();
    for images in [&none, &unknown, &first, &all] {
        let document = definition.with_images(images).unwrap();
        only_images_differ(data, &document, images);
        registered(&definition, &document, images);
        let mask = Mask::default().and_of(&definition.document());
        // What is hidden stays hidden.
        if let Some(hidden) = mask.hide(&document) {
            assert_eq!(mask.hide(&hidden).as_deref(), Some(hidden.as_str()));
        }
    }
}

/// Every member is there with the text it came with, and no other.
fn only_images_differ(data: &[u8], document: &str, images: &BTreeMap<String, String>) {
    let answer: Answer = serde_json::from_slice(data).unwrap();
    let described = &answer.task_definition;
    let registered: Members = serde_json::from_str(document).unwrap();
    let tags: BTreeMap<String, String> =
        answer.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)).collect();
    let own = tags.iter().filter(|(key, _)| !key.to_ascii_lowercase().starts_with("aws:"));
    let own: BTreeMap<_, _> = own.collect();
    for (name, raw) in described {
        let is_kept = !ONLY_IN_ANSWERS.contains(&name.as_str());
        assert_eq!(registered.contains_key(name), is_kept, "{name}");
        if is_kept && name != "containerDefinitions" && (name != "tags" || own.is_empty()) {
            assert_eq!(registered[name].get(), raw.get(), "{name}");
        }
    }
    for name in registered.keys() {
        let is_added = name == "containerDefinitions" || (name == "tags" && !own.is_empty());
        assert!(described.contains_key(name) || is_added, "{name} came from nowhere");
    }
    if !own.is_empty() {
        let there: Vec<Tag> = serde_json::from_str(registered["tags"].get()).unwrap();
        assert_eq!(there.iter().map(|tag| (&tag.key, &tag.value)).collect::<BTreeMap<_, _>>(), own);
    }
    let containers = |members: &Members| -> Vec<Members> {
        members.get("containerDefinitions").map_or_else(Vec::new, |raw| serde_json::from_str(raw.get()).unwrap())
    };
    let (before, after) = (containers(described), containers(&registered));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let name = before.get("name").map(|name| serde_json::from_str::<String>(name.get()).unwrap());
        let image = name.and_then(|name| images.get(&name));
        for (name, raw) in before {
            match image {
                Some(image) if name == "image" => {
                    assert_eq!(serde_json::from_str::<String>(after[name].get()).unwrap(), *image);
                }
                _ => assert_eq!(after[name].get(), raw.get(), "{name}"),
            }
        }
        let added = after.keys().filter(|name| !before.contains_key(*name)).collect::<Vec<_>>();
        assert!(added.is_empty() || (added == ["image"] && image.is_some()), "{added:?} came from nowhere");
    }
}

/// Registered, the document describes itself: nothing is lost by going through again, and equality is told right.
fn registered(definition: &TaskDefinition, document: &str, images: &BTreeMap<String, String>) {
    let again = TaskDefinition::from_answer(format!("{{\"taskDefinition\":{document}}}").as_bytes()).unwrap();
    assert_eq!(again.with_images(&BTreeMap::new()).unwrap(), document);
    for container in &again.containers {
        if let Some(image) = images.get(&container.name).filter(|_| !container.name.is_empty()) {
            assert_eq!(container.image, *image);
        }
    }
    // Deeper than this no JSON is compared, and counts as different.
    let is_comparable = serde_json::from_str::<Value>(document).is_ok();
    assert_eq!(again.matches_registration(document), is_comparable);
    let differs = definition.containers.iter().zip(&again.containers).any(|(old, new)| old.image != new.image);
    if differs {
        assert!(!definition.matches_registration(document), "{document}");
    }
}
