//! What a plan says to a person: the differences that it makes, one by one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::ecs::definition_difference::differences;
use crate::ecs::service::Snapshot;
use crate::ecs::tags::TagDifference;
use crate::ecs::task_definition::TaskDefinition;
use crate::plan::difference::{Difference, DifferenceKind};
use crate::plan::update::Registration;

pub(super) fn changes(
    images: &BTreeMap<String, (String, String)>,
    revised: Option<Value>,
    tags: &TagDifference,
    parameters: &Map<String, Value>,
    force_new_deployment: bool,
    snapshot: &Snapshot,
) -> Vec<Difference> {
    let tag = |key: &String| snapshot.service.tags.get(key).map_or(Value::Null, |value| value.as_str().into());
    let change = |what, path: &str, from, to| Difference { what, path: path.to_owned(), from, to };
    let images = images.iter().map(|(container, (from, to))| {
        change(DifferenceKind::Image, container, from.as_str().into(), to.as_str().into())
    });
    // A revision brings its whole content, which no list of images shows. The number of a copy is not known in advance.
    let revision = revised.map(|to| {
        let from = snapshot.service.task_definition_arn().map_or(Value::Null, Value::from);
        change(DifferenceKind::Revision, "taskDefinition", from, to)
    });
    let set = tags.set.iter().map(|(key, value)| change(DifferenceKind::Tag, key, tag(key), value.as_str().into()));
    let removed = tags.remove.iter().map(|key| change(DifferenceKind::Tag, key, tag(key), Value::Null));
    let parameters = parameters.iter().map(|(name, wanted)| {
        let from = snapshot.service.parameter(name).cloned().unwrap_or_default();
        change(DifferenceKind::Parameter, name, from, wanted.clone())
    });
    let forced = force_new_deployment
        .then(|| change(DifferenceKind::Deployment, "forceNewDeployment", Value::Null, Value::Bool(true)));
    images.chain(revision).chain(set).chain(removed).chain(parameters).chain(forced).collect()
}

/// What another revision changes in addition to the images.
pub(super) fn definition_changes(
    snapshot: &Snapshot,
    revision: Option<&TaskDefinition>,
    register: Option<&Registration>,
) -> Vec<Difference> {
    let to = match (revision, register) {
        (Some(revision), _) => revision.document(),
        (None, Some(copy)) => serde_json::from_str(&copy.document).unwrap_or_default(),
        (None, None) => return Vec::new(),
    };
    let from = snapshot.task_definition.as_deref().map(TaskDefinition::document).unwrap_or_default();
    differences(&from, &to)
}
