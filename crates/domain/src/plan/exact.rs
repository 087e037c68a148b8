//! Pure: puts back the whole state from before a change, whoever changed it since.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::ecs::service::{IN_REVISION, PARAMETERS, Snapshot};
use crate::ecs::tags::{self, TagChange, TagMode};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::error::Failure;
use crate::event::request::UpdateRequest;
use crate::plan::controller::takes;
use crate::plan::deployment_configuration::{MERGED, put_back};
use crate::plan::desired::{Desired, checked};
use crate::plan::difference::{Difference, DifferenceKind, NotRestored};
use crate::plan::images::{differing_images, registration};
use crate::plan::parameters::same_parameter;
use crate::plan::restoration::{
    Conflict, OldDefinition, Restoration, cleared, conflicting, copied, left_by_controller, unset,
};

/// The whole state from before the change, but for the desired count.
pub(super) fn exact(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Result<Desired, Failure> {
    let mut wanted = Desired {
        notes: vec![format!("this puts back what was there before change {}", restore.change_id())],
        ..Desired::default()
    };
    let mut conflicts = Vec::new();
    let parameters = restore.before.service.get("deploymentController");
    let type_of = |controller: &Value| controller.get("type").and_then(Value::as_str).map(str::to_owned);
    let controller = match parameters.and_then(type_of).as_deref() {
        Some("ECS") => "ECS",
        _ => snapshot.service.deployment_controller(),
    };
    restore_definition(&mut wanted, &mut conflicts, snapshot, restore, controller)?;
    restore_parameters(&mut wanted, &mut conflicts, request, snapshot, restore, controller);
    if !conflicts.is_empty() {
        return Err(conflicting(request, restore, &conflicts));
    }
    let tags = restore.before.state.tags.iter().filter(|tag| !tags::is_reserved(&tag.key));
    let tags = tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    let mut difference = tags::difference(&snapshot.service.tags, &TagChange { mode: TagMode::Replace, tags });
    let included = |key: &String| {
        let (what, path, from, to) = (DifferenceKind::Tag, key.clone(), Value::Null, Value::Null);
        restore.includes(&Difference { what, path, from, to })
    };
    difference.set.retain(|key, _| included(key));
    difference.remove.retain(|key| included(key));
    wanted.tags = checked(difference, request, "Remove some first")?;
    Ok(wanted)
}

/// Puts back the old revision if services can be given it, otherwise its copy.
fn restore_definition(
    wanted: &mut Desired,
    conflicts: &mut Vec<Conflict>,
    snapshot: &Snapshot,
    restore: &Restoration,
    controller: &str,
) -> Result<(), Failure> {
    let what = DifferenceKind::Revision;
    let path = "taskDefinition";
    let (from, to) = (Value::Null, Value::Null);
    if !restore.includes(&Difference { what, path: path.to_owned(), from, to }) {
        return Ok(());
    }
    let current = snapshot.task_definition.as_deref();
    let old = &restore.before.state;
    let name = old.task_definition_arn.as_deref().map_or("its task definition", family_and_revision);
    wanted.targets.clone_from(&old.images);
    let copy = match &restore.definition {
        OldDefinition::Active(definition) | OldDefinition::Inactive(definition) => {
            Some(registration(definition, &BTreeMap::new())?)
        }
        OldDefinition::InPlace | OldDefinition::Gone => None,
    };
    let is_its_copy =
        |current: &TaskDefinition| copy.as_ref().is_some_and(|copy| current.matches_registration(&copy.document));
    if matches!(restore.definition, OldDefinition::InPlace) || current.is_some_and(is_its_copy) {
        return Ok(());
    }
    if !takes(controller, path) {
        let why = left_by_controller(controller);
        wanted.not_restored.push(NotRestored { what, path: path.to_owned(), why });
        return Ok(());
    }
    match (&restore.definition, copy) {
        (OldDefinition::Active(definition), _) => wanted.revision = Some(Arc::clone(definition)),
        (OldDefinition::Inactive(definition), copy) => {
            wanted.notes.push(copied(definition));
            wanted.register = copy;
        }
        _ => {
            // Its images are all that the records have of it. They are enough only where the change set nothing else of what runs.
            let members = restore.definition_members();
            let runs_its_revision = current.is_some_and(|it| restore.past.deployed() == Some(it.arn.as_str()));
            let sets_images = members.iter().all(|change| change.what == DifferenceKind::Image);
            let Some(current) = current.filter(|_| runs_its_revision && sets_images) else {
                let now = format!("AWS no longer has {name}, and records keep only the images of it");
                conflicts.push(Conflict::unknown(what, path, now));
                return Ok(());
            };
            wanted.notes.push(format!("AWS no longer has {name}: the definition that runs now gets the old images"));
            wanted.register = Some(registration(current, &differing_images(&wanted.targets, Some(current)))?);
        }
    }
    wanted.images = differing_images(&wanted.targets, current);
    Ok(())
}

/// Puts back parameters exactly as they were; those that were not set are cleared, if `UpdateService` can do that. What AWS has filled in
/// since then is not a difference.
fn restore_parameters(
    wanted: &mut Desired,
    conflicts: &mut Vec<Conflict>,
    request: &UpdateRequest,
    snapshot: &Snapshot,
    restore: &Restoration,
    controller: &str,
) {
    // Restoring `desiredCount` would conflict with the autoscaler; and what only a service revision shows is read only if the event names
    // it.
    for name in PARAMETERS.into_iter().filter(|name| *name != "desiredCount" && !IN_REVISION.contains(name)) {
        let what = DifferenceKind::Parameter;
        let (path, from, to) = (name.to_owned(), Value::Null, Value::Null);
        if request.parameters.contains_key(name) || !restore.includes(&Difference { what, path, from, to }) {
            continue;
        }
        let mut leaves = |path: &str, why: String| {
            wanted.not_restored.push(NotRestored { what, path: path.to_owned(), why });
        };
        let is = snapshot.service.parameter(name);
        let recorded = restore.before.service.get(name).filter(|was| !was.is_null());
        let known = recorded.map(|was| restore.known(&request.service_key, name, was, is));
        let was = match &known {
            Some(None) if request.left_alone.contains(name) || !takes(controller, name) => recorded,
            Some(None) => {
                let now = "records do not hold values that may be secret, and AWS no longer has what it was";
                conflicts.push(Conflict::unknown(what, name, now.to_owned()));
                continue;
            }
            Some(was) => was.as_ref(),
            None => None,
        };
        if same_parameter(name, is, was) {
            continue;
        }
        if !takes(controller, name) {
            leaves(name, left_by_controller(controller));
            continue;
        }
        if request.left_alone.contains(name) {
            leaves(name, "the event gives null for it".to_owned());
            continue;
        }
        if name == MERGED {
            let (back, stays) = put_back(was, is);
            wanted.parameters.extend(back.map(|back| (name.to_owned(), back)));
            for member in stays {
                let path = format!("{name}.{member}");
                wanted.not_restored.push(NotRestored { what, why: unset(&path), path });
            }
            continue;
        }
        match was.cloned().or_else(|| cleared(name)) {
            Some(was) if same_parameter(name, is, Some(&was)) => {}
            Some(was) => _ = wanted.parameters.insert(name.to_owned(), was),
            None => leaves(name, unset(name)),
        }
    }
}
