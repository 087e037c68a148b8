//! Pure: what a request asks of a service as it is now.

mod changes;
pub mod continuation;
mod controller;
mod defaults;
mod deployment_configuration;
mod desired;
pub mod difference;
mod exact;
mod express;
mod images;
#[cfg(test)]
pub(crate) mod model_tests;
pub mod parameters;
pub mod restoration;
mod restore;
#[cfg(test)]
mod tests;
mod undo;
#[cfg(test)]
mod undo_tests;
pub mod update;
mod values;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::ecs::service::Snapshot;
use crate::ecs::tags::TagDifference;
use crate::ecs::task_definition::TaskDefinition;
use crate::error::{Code, Failure, Fault};
use crate::event::request::{ImageChange, UpdateRequest};
use crate::plan::changes::{changes, definition_changes};
use crate::plan::desired::{Desired, requested};
use crate::plan::difference::NotRestored;
use crate::plan::express::check_express;
use crate::plan::restoration::Restoration;
use crate::plan::restore::restored;
use crate::plan::update::Update;

/// What would be done.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Nothing differs.
    Unchanged {
        /// Containers that the request is about, with the images it names.
        targets: BTreeMap<String, String>,
        /// What a person should know.
        notes: Vec<String>,
        /// What a restore leaves as it is.
        not_restored: Vec<NotRestored>,
    },
    /// Something differs.
    Update(Box<Update>),
    /// The service cannot accept this, and nothing was touched.
    Refused(Failure),
}

/// Decides what `request` asks of the service in `snapshot`; `restore` is what its `restore` found.
#[must_use]
pub fn plan(request: &UpdateRequest, snapshot: &Snapshot, restore: Option<&Restoration>) -> Plan {
    decide(request, snapshot, restore).unwrap_or_else(Plan::Refused)
}

/// "If you update a service that isn't active", ECS refuses it, and a draining service does not become active again. Source:
/// `ServiceNotActiveException` in <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn check_active(request: &UpdateRequest, snapshot: &Snapshot) -> Result<(), Failure> {
    if snapshot.service.status() != "DRAINING" {
        return Ok(());
    }
    Err(Failure::new(
        Code::ServiceNotActive,
        format!(
            "service {} is DRAINING: it was deleted, and ECS takes no update of it. Nothing was changed. Create it anew, or name another \
             service",
            request.service_key
        ),
    ))
}

/// "The daemon scheduling strategy does not support a desired count for services."
/// Source: the refusal of UpdateService, and `schedulingStrategy` in
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Service.html>.
fn check_daemon(request: &UpdateRequest, snapshot: &Snapshot, parameters: &Map<String, Value>) -> Result<(), Failure> {
    if !parameters.contains_key("desiredCount") || !snapshot.service.is_daemon() {
        return Ok(());
    }
    Err(Failure::new(
        Code::JsonValidation,
        format!(
            "/service/desiredCount: service {} has the scheduling strategy DAEMON, which runs one task on each container instance and takes no \
             desired count. Nothing was changed. Send the event without it",
            request.service_key
        ),
    ))
}

/// "Long arn format must be used for tagging operations": ECS neither sets nor removes tags of a service with a short ARN. Sources:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TagResource.html> and
/// <https://github.com/boto/boto3/issues/2473>.
///
/// A call with the long ARN migrates the service, where the account's settings permit it, and nobody can undo this: a person has to
/// decide it.
fn check_long_arn(request: &UpdateRequest, snapshot: &Snapshot, tags: &TagDifference) -> Result<(), Failure> {
    if tags.is_empty() || !snapshot.service.has_short_arn() {
        return Ok(());
    }
    Err(Failure::new(
        Code::TagUpdateFailed,
        format!(
            "of service {}: its ARN {} is a short one, without the name of the cluster, and ECS takes no tags of such a service (\"Long arn \
             format must be used for tagging operations\"). Nothing was changed. Migrate the service to a long ARN, which keeps its tasks \
             running and cannot be undone \
             (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-arn-migration.html), or send the event without tags",
            request.service_key,
            snapshot.service.arn()
        ),
    )
    .by(Fault::Caller))
}

fn decide(request: &UpdateRequest, snapshot: &Snapshot, restore: Option<&Restoration>) -> Result<Plan, Failure> {
    check_active(request, snapshot)?;
    check_express(request, &snapshot.service, asks_for_more_than_tags(request))?;
    check_expected(request, snapshot.task_definition.as_deref())?;
    let Desired { targets, images, register, revision, parameters, tags, mut notes, not_restored } = match restore {
        Some(restore) => restored(request, snapshot, restore)?,
        None => requested(request, snapshot)?,
    };
    if register.is_none()
        && revision.is_none()
        && tags.is_empty()
        && parameters.is_empty()
        && !request.force_new_deployment
    {
        return Ok(Plan::Unchanged { targets, notes, not_restored });
    }
    check_daemon(request, snapshot, &parameters)?;
    check_long_arn(request, snapshot, &tags)?;
    let mut force_new_deployment = request.force_new_deployment;
    if parameters.contains_key("capacityProviderStrategy") && !force_new_deployment {
        force_new_deployment = true;
        notes.push(
            "ECS takes a new capacityProviderStrategy only with forceNewDeployment: a new deployment starts".to_owned(),
        );
    }
    let tags_first = parameters
        .get("propagateTags")
        .and_then(Value::as_str)
        .map_or_else(|| snapshot.service.propagates_its_tags(), |wanted| wanted == "SERVICE");
    let is_copy = restore.is_some() && register.is_some();
    let to = revision.as_ref().map(|revision| Value::from(revision.arn.as_str()));
    let revised = to.or_else(|| is_copy.then_some(Value::Null));
    let mut changes = changes(&images, revised, &tags, &parameters, force_new_deployment, snapshot);
    if restore.is_some() {
        changes.extend(definition_changes(snapshot, revision.as_deref(), register.as_ref()));
    }
    Ok(Plan::Update(Box::new(Update {
        container: images.keys().next().or_else(|| targets.keys().next()).cloned(),
        targets,
        images,
        register,
        revision,
        parameters,
        force_new_deployment,
        tags,
        tags_first,
        changes,
        notes,
        not_restored,
    })))
}

/// Whether a request asks for something that goes through `UpdateService`.
fn asks_for_more_than_tags(request: &UpdateRequest) -> bool {
    request.image != ImageChange::None
        || !request.parameters.is_empty()
        || request.force_new_deployment
        || request.restore.is_some()
}

fn check_expected(request: &UpdateRequest, definition: Option<&TaskDefinition>) -> Result<(), Failure> {
    let Some(expected) = request.expected_task_definition.as_deref() else { return Ok(()) };
    let running = definition.map_or("no task definition", TaskDefinition::family_and_revision);
    if expected == running {
        return Ok(());
    }
    Err(Failure::new(
        Code::TaskDefinitionChanged,
        format!(
            "service {} runs {running}, not expected_task_definition {expected}. Nothing was changed. \
             Look at what changed it, then send the event with what runs now",
            request.service_key
        ),
    ))
}
