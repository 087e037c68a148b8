//! `rollout` with `resolve_digest`: what the tags of its images stand for is looked up once, before it starts, so that every wave gets the
//! same bytes.

use std::collections::BTreeMap;

use domain::image::ImageReference;
use serde_json::{Map, Value, json};

use crate::answers::{Updated, read};
use crate::failure::CommandFailure;
use crate::function::Function;
use crate::lambda::Functions;

/// How many targets are tried: that a service is not there is no reason not to start a rollout of others.
const TRIED: usize = 3;
/// Failures that the images have themselves, for whichever service they are looked up.
const OF_IMAGES: [&str; 4] = ["ImageNotFound", "InvalidImage", "RegistryUnavailable", "JsonValidation"];
/// Which service and which image an event is about.
const PLACE: [&str; 4] = ["account_id", "region", "ecs_cluster_name", "ecs_service_name"];
const IMAGE: [&str; 3] = ["ecs_image_name", "images", "container_name"];

/// The events whose dry runs tell what the tags of a rollout's images stand for, one for each of its first services; none where nothing has to be
/// looked up, or no service is in the input itself.
pub(super) fn lookups(document: &Value) -> Vec<Value> {
    let Some(change) = document.get("change").and_then(Value::as_object) else { return Vec::new() };
    let has_tags = images(change).any(|image| ImageReference::parse(image).is_ok_and(|image| image.digest().is_none()));
    if change.get("resolve_digest") != Some(&Value::Bool(true)) || !has_tags {
        return Vec::new();
    }
    let event = |target: &Map<String, Value>| {
        let mut event =
            Map::from_iter([("resolve_digest".to_owned(), json!(true)), ("dry_run".to_owned(), json!(true))]);
        let of = |members: &Map<String, Value>, names: &[&str]| -> Vec<(String, Value)> {
            members
                .iter()
                .filter(|(name, _)| names.contains(&name.as_str()))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect()
        };
        event.extend(of(change, &PLACE));
        event.extend(of(change, &IMAGE));
        event.extend(of(target, &PLACE));
        Value::Object(event)
    };
    targets(document).take(TRIED).map(event).collect()
}

/// Asks the updater with these events, one after the other, until one tells what the images are.
///
/// # Errors
///
/// If the images cannot be looked up, or none of the services can be planned for.
pub(super) async fn looked_up(
    functions: &Functions,
    events: &[Value],
) -> Result<BTreeMap<String, String>, CommandFailure> {
    let mut failed = None;
    for event in events {
        match functions.ask(Function::Updater, event, true).await {
            Ok(answer) => {
                let body: Updated = read(answer.get("body").unwrap_or(&Value::Null));
                return Ok(body.resolved_images.unwrap_or_default());
            }
            Err(failure) => {
                let is_final = failure.code.as_deref().is_none_or(|code| OF_IMAGES.contains(&code));
                failed = Some(failure);
                if is_final {
                    break;
                }
            }
        }
    }
    match failed {
        Some(failure) => {
            Err(failure.advise("Nothing was started: what the tags stand for is looked up before a rollout."))
        }
        None => Ok(BTreeMap::new()),
    }
}

/// Puts the digests in the place of the tags. Waves look up no image any more, unless targets have images of their own.
pub(super) fn pin(document: &mut Value, digests: &BTreeMap<String, String>) {
    let waves = document.get("waves").and_then(Value::as_array).into_iter().flatten();
    let is_object = waves.into_iter().any(Value::is_object);
    let have_own = is_object || targets(document).any(|target| images(target).next().is_some());
    let Some(change) = document.get_mut("change").and_then(Value::as_object_mut) else { return };
    let pinned = |image: &mut Value| {
        if let Some(digest) = image.as_str().and_then(|image| digests.get(image)) {
            *image = digest.as_str().into();
        }
    };
    change.get_mut("ecs_image_name").into_iter().for_each(pinned);
    change.get_mut("images").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut).for_each(pinned);
    let are_pinned = images(change).all(|image| image.contains('@'));
    if are_pinned && !have_own {
        change.remove("resolve_digest");
    }
}

/// The services that are in the input itself.
fn targets(document: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let waves = document.get("waves").and_then(Value::as_array).into_iter().flatten();
    waves.filter_map(Value::as_array).flatten().filter_map(Value::as_object)
}

/// The images that a change names.
fn images(change: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let several = change.get("images").and_then(Value::as_object).into_iter().flat_map(Map::values);
    change.get("ecs_image_name").into_iter().chain(several).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(change: &Value, waves: &Value) -> Value {
        json!({"change": change, "waves": waves})
    }

    #[test]
    fn tags_are_looked_up_for_the_first_services() {
        let change =
            json!({"ecs_image_name": "nginx:1", "resolve_digest": true, "ecs_cluster_name": "prod", "reason": "r"});
        let target =
            |name: &str| json!({"account_id": "222222222222", "ecs_service_name": name, "ecs_image_name": "own:1"});
        let waves = json!([{"key": "inputs/a"}, [target("a"), target("b")], [target("c"), target("d")]]);
        let events = lookups(&input(&change, &waves));
        assert_eq!(events.len(), TRIED);
        let expected = json!({"account_id": "222222222222", "ecs_cluster_name": "prod", "ecs_service_name": "a",
            "ecs_image_name": "nginx:1", "resolve_digest": true, "dry_run": true});
        assert_eq!(events[0], expected);
        let pinned = format!("nginx@sha256:{}", "0".repeat(64));
        for change in [
            json!({"ecs_image_name": "nginx:1"}),
            json!({"ecs_image_name": pinned, "resolve_digest": true}),
            json!({"ecs_tag": {}, "resolve_digest": true}),
        ] {
            assert_eq!(lookups(&input(&change, &waves)), Vec::<Value>::new(), "{change}");
        }
        let change = json!({"images": {"web": "nginx:1"}, "resolve_digest": true});
        assert_eq!(lookups(&input(&change, &json!([{"key": "inputs/a"}]))), Vec::<Value>::new());
    }

    #[test]
    fn digests_take_the_place_of_tags() {
        let digests = BTreeMap::from([("nginx:1".to_owned(), "nginx@sha256:0".to_owned())]);
        let pinned = |change: Value, waves: Value| {
            let mut document = input(&change, &waves);
            pin(&mut document, &digests);
            document["change"].take()
        };
        let waves = || json!([[{"account_id": "222222222222"}]]);
        let one = pinned(json!({"ecs_image_name": "nginx:1", "resolve_digest": true}), waves());
        assert_eq!(one, json!({"ecs_image_name": "nginx@sha256:0"}));
        let some = pinned(json!({"images": {"web": "nginx:1", "log": "fluent:1"}, "resolve_digest": true}), waves());
        assert_eq!(some, json!({"images": {"web": "nginx@sha256:0", "log": "fluent:1"}, "resolve_digest": true}));
        for own in [json!([[{"ecs_image_name": "own:1"}]]), json!([[{}], {"key": "inputs/a"}])] {
            let kept = pinned(json!({"ecs_image_name": "nginx:1", "resolve_digest": true}), own);
            assert_eq!(kept, json!({"ecs_image_name": "nginx@sha256:0", "resolve_digest": true}));
        }
    }
}
